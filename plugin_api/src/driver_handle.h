#pragma once
// driver_handle.h: one driver of one plugin; frees it with its last reference (Transport, loans, held messages).
#include <cstddef>
#include <memory>
#include <string>

#include "ipc/property.h"
#include "ipc/put_abi.h"
#include "ipc/result.h"

namespace cdmf::ipc {

class DriverHandle {
 public:
  DriverHandle(const cdmf_driver& driver, std::shared_ptr<const void> library, Settings settings)
      : library_(std::move(library)), settings_(std::move(settings)), driver_(driver), put_(find_put()) {}
  DriverHandle(const DriverHandle&) = delete;
  DriverHandle& operator=(const DriverHandle&) = delete;
  ~DriverHandle() { driver_.ops->destroy(driver_.self); }

  [[nodiscard]] const cdmf_driver_ops& ops() const noexcept { return *driver_.ops; }
  [[nodiscard]] void* self() const noexcept { return driver_.self; }
  /// Of ipc/put_abi.h; null: the driver does not offer it.
  [[nodiscard]] auto put() const noexcept { return put_.put; }
  [[nodiscard]] auto put_burst() const noexcept { return put_.put_burst; }

 private:
  /// As far as the plugin's version of it goes; the rest stays null.
  [[nodiscard]] cdmf_put find_put() const noexcept {
    cdmf_put found{};
    const auto* offered = static_cast<const cdmf_put*>(ops().get_extension(self(), CDMF_PUT_EXTENSION));
    if (offered == nullptr) return found;
    if (offered->struct_size >= offsetof(cdmf_put, put_burst)) found.put = offered->put;
    if (offered->struct_size >= sizeof found) found.put_burst = offered->put_burst;
    return found;
  }

  std::shared_ptr<const void> library_;  // First member: outlives the code it keeps loaded.
  Settings settings_;
  cdmf_driver driver_;
  const cdmf_put put_;
};

/// A driver of this plugin, or the reason why there is none: the plugin's own words, or what its table lacks.
TransportResult<std::shared_ptr<DriverHandle>> make_driver(const cdmf_plugin& plugin,
                                                           std::shared_ptr<const void> library, const cdmf_host* host,
                                                           cdmf_config config, Settings settings);

}  // namespace cdmf::ipc
