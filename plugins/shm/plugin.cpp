// plugin.cpp: what libcdmf_shm.so exports.
#include "ipc/plugin.h"
#include "shm_plugin.h"

CDMF_EXPORT_PLUGIN(cdmf::ipc::make_plugin(cdmf::ipc::shm::kDescription, &cdmf::ipc::shm::create_shm_driver))
