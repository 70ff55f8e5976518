#pragma once
// shm_plugin.h: which of the two drivers of type shm a config asks for.
#include "ipc/plugin.h"
#include "options.h"

namespace cdmf::ipc::shm {

/// cdmf_plugin::create. ring_type: spsc is links (ShmDriver), mpmc is a pool (PoolDriver).
cdmf_status create_shm_driver(const cdmf_host* host, const cdmf_config* config, cdmf_driver* driver,
                              cdmf_error* error) noexcept;

}  // namespace cdmf::ipc::shm
