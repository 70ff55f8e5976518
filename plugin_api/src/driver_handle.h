#pragma once
// driver_handle.h: one driver of one plugin; frees it with its last reference (Transport, loans, held messages).
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
  [[nodiscard]] auto put() const noexcept { return put_; }

 private:
  [[nodiscard]] decltype(cdmf_put::put) find_put() const noexcept {
    const auto* extension = static_cast<const cdmf_put*>(ops().get_extension(self(), CDMF_PUT_EXTENSION));
    return extension != nullptr && extension->struct_size >= sizeof(cdmf_put) ? extension->put : nullptr;
  }

  std::shared_ptr<const void> library_;  // First member: outlives the code it keeps loaded.
  Settings settings_;
  cdmf_driver driver_;
  decltype(cdmf_put::put) put_;
};

/// A driver of this plugin, or the reason why there is none: the plugin's own words, or what its table lacks.
TransportResult<std::shared_ptr<DriverHandle>> make_driver(const cdmf_plugin& plugin,
                                                           std::shared_ptr<const void> library, const cdmf_host* host,
                                                           cdmf_config config, Settings settings);

}  // namespace cdmf::ipc
