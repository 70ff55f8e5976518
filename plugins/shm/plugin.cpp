// plugin.cpp: what libcdmf_shm.so exports.
#include "ipc/plugin.h"
#include "shm_driver.h"

CDMF_EXPORT_TRANSPORT(cdmf::ipc::shm::ShmDriver, cdmf::ipc::shm::kDescription)
