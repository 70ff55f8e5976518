#include "driver_handle.h"

#include <cstddef>

namespace cdmf::ipc {
namespace {

/// Every function of the table is required in version 1, so that no call has to look.
bool table_is_whole(const cdmf_driver& driver) noexcept {
  const cdmf_driver_ops* ops = driver.ops;
  if (driver.self == nullptr || ops == nullptr || ops->struct_size < sizeof(cdmf_driver_ops)) return false;
  return ops->open && ops->attach && ops->claim && ops->commit && ops->abort && ops->flush && ops->await_space &&
         ops->receive_burst && ops->release_burst && ops->await_messages && ops->hold && ops->unhold && ops->poll_fd &&
         ops->arm && ops->interrupt && ops->disconnect && ops->close && ops->destroy && ops->describe &&
         ops->get_extension;
}

}  // namespace

TransportResult<std::shared_ptr<DriverHandle>> make_driver(const cdmf_plugin& plugin,
                                                           std::shared_ptr<const void> library, const cdmf_host* host,
                                                           cdmf_config config, Settings settings) {
  config.settings = settings.rows.data();
  config.setting_count = settings.rows.size();
  cdmf_driver driver{};
  cdmf_error error{};
  error.struct_size = sizeof error;
  const cdmf_status status = plugin.create(host, &config, &driver, &error);
  if (status != CDMF_OK) {
    error.message[sizeof error.message - 1] = '\0';  // A plugin in C may have forgotten it.
    return {to_error(status), error.message[0] != '\0'
                                  ? error.message
                                  : std::string("plugin ") + plugin.type + " made no driver and gave no reason"};
  }
  if (!table_is_whole(driver)) {
    constexpr std::size_t kKnowsDestroy = offsetof(cdmf_driver_ops, destroy) + sizeof driver.ops->destroy;
    if (driver.self != nullptr && driver.ops != nullptr && driver.ops->struct_size >= kKnowsDestroy &&
        driver.ops->destroy != nullptr) {
      driver.ops->destroy(driver.self);
    }
    return {TransportError::PLUGIN_ERROR, std::string("plugin ") + plugin.type +
                                              " made a driver whose function table is incomplete; rebuild it with this "
                                              "version's ipc/plugin_abi.h"};
  }
  return std::make_shared<DriverHandle>(driver, std::move(library), std::move(settings));
}

}  // namespace cdmf::ipc
