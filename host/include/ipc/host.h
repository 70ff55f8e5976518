#pragma once
// ipc/host.h: from a YAML file to Transports in three lines.
//
//   auto host = Host::load("orders.yaml");                       // everything checked, nothing opened
//   auto transport = host.value->create("main", Role::SERVER);   // initialised
//   transport.value->start();
//
// A Host never ends the program, and leaves the program's own logging alone. Every method may be called from any
// thread. Transports may outlive it.
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "ipc/host_config.h"
#include "ipc/result.h"
#include "ipc/transport.h"
#include "ipc/transport_registry.h"

namespace cdmf::ipc {

class Host {
 public:
  /// Reads and checks a file, and loads the plugins that it names. INVALID_CONFIG: the text has one line for each
  /// problem. options.log empty: lines go to stderr_log().
  static TransportResult<std::unique_ptr<Host>> load(const std::string& path, RegistryOptions options = {});
  /// The same for a text; `name` stands for the file in messages.
  static TransportResult<std::unique_ptr<Host>> from_text(const std::string& name, std::string_view text,
                                                          RegistryOptions options = {});

  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  /// A new Transport of the entry of that name, INITIALIZED: call start() next. An empty name means the only entry.
  /// program_role  the side that the program takes, unless the file says otherwise
  /// adjust        may change the config last: what only the program knows, such as receive = Receive::POLL
  /// INVALID_ARGUMENT: no such entry (the text lists them); INVALID_CONFIG and others: as Transport::init(), with the
  /// place in the file.
  TransportResult<std::unique_ptr<Transport>> create(std::string_view name, Role program_role,
                                                     const std::function<void(TransportConfig&)>& adjust = {});

  [[nodiscard]] const HostConfig& config() const noexcept { return loaded_.config; }
  [[nodiscard]] TransportRegistry& registry() noexcept { return *loaded_.registry; }
  /// Writes one line to the log that the host and its plugins use.
  void log(LogLevel level, std::string_view line) const noexcept;

 private:
  Host(LoadedConfig loaded, LogSink log, LogLevel log_level);

  LoadedConfig loaded_;
  LogSink log_;
  LogLevel log_level_;
};

}  // namespace cdmf::ipc
