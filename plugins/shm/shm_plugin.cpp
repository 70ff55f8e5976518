#include "shm_plugin.h"

#include "pool/pool_driver.h"
#include "shm_driver.h"

namespace cdmf::ipc::shm {

cdmf_status create_shm_driver(const cdmf_host* host, const cdmf_config* config, cdmf_driver* driver,
                              cdmf_error* error) noexcept {
  const auto ring_type = static_cast<RingType>(DriverConfig(*config).number("ring_type"));
  const DriverFactory create = ring_type == RingType::mpmc ? create_driver<PoolDriver> : create_driver<ShmDriver>;
  return create(host, config, driver, error);
}

}  // namespace cdmf::ipc::shm
