#pragma once
// ipc/host_config.h: a YAML configuration as values. Keys, units, ranges and defaults: config/reference.yaml.
// Everything is checked against the plugins' own tables before anything starts, and all that is wrong is said at once.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/config.h"
#include "ipc/transport_registry.h"

namespace cdmf::ipc {

/// The `plugins` section.
struct PluginOptions {
  std::vector<std::string> search_paths;  ///< absolute; relative ones in the file start at the file's folder
  PluginSecurity security = PluginSecurity::STRICT;
};

/// One entry of the `transports` section.
struct TransportEntry {
  std::string name;
  std::string type;        ///< a plugin of this type was found and loaded
  TransportConfig config;  ///< properties: what the section of that type says; role: only when the file has it
  std::string place;       ///< of its name, "orders.yaml:4:3", for messages
};

/// What happens to a message that a route cannot pass on, because `to` is down or full.
enum class WhenDown {
  BLOCK,                ///< it waits, and so does everything behind it: the buffers towards its sender fill up
  DROP_NEWEST_COUNTED,  ///< it is dropped and counted
  FAIL,                 ///< its sender is told: a request is answered with an error, after anything else its link ends
};
[[nodiscard]] const char* to_string(WhenDown when) noexcept;

/// One entry of the `routes` section: see ipc/router.h.
struct RouteEntry {
  std::string from;         ///< name of a transport
  std::string to;           ///< name of another one
  std::string match = "*";  ///< subjects: `*` stands for any bytes, `?` for one
  bool both_ways = false;   ///< also what comes over `to` goes to `from`
  WhenDown when_down = WhenDown::BLOCK;
  std::string place;  ///< "bridge.yaml:9:5", for messages
};

struct HostConfig {
  int version = 1;
  PluginOptions plugins;
  std::vector<TransportEntry> transports;  ///< in the order of the file, at least one
  std::vector<RouteEntry> routes;          ///< in the order of the file

  /// The entry of that name; null when there is none. An empty name means the only entry, if it is the only one.
  [[nodiscard]] const TransportEntry* find(std::string_view name) const noexcept;
};

/// What reading gave.
struct LoadedConfig {
  /// One line for each thing that is wrong, "file:line:column: key: reason; hint", in the order of the file. While
  /// there is one, `config` is incomplete.
  std::vector<std::string> problems;
  HostConfig config;
  /// The registry that the file was checked with: `options` and the file's `plugins` section. Never null.
  std::shared_ptr<TransportRegistry> registry;

  [[nodiscard]] bool ok() const noexcept { return problems.empty(); }
};

/// Reads a file: regular, at most 256 KiB.
/// options  search_paths come before those of the file, whose `security` counts when it is given.
[[nodiscard]] LoadedConfig read_config_file(const std::string& path, RegistryOptions options = {});
/// The same for a text. `name` stands for the file in messages; relative search_paths are refused.
[[nodiscard]] LoadedConfig read_config_text(const std::string& name, std::string_view text,
                                            RegistryOptions options = {});

}  // namespace cdmf::ipc
