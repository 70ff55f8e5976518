// plugin.cpp: what libcdmf_loopback.so exports.
#include "ipc/plugin.h"
#include "loopback_driver.h"

CDMF_EXPORT_TRANSPORT(cdmf::ipc::loopback::LoopbackDriver, cdmf::ipc::loopback::kDescription)
