#pragma once
// ipc/transport_registry.h: finds transport plugins, checks them, loads them and makes Transports of them.
//
// A plugin of type `shm` is the file libcdmf_shm.so in one of these folders; the first that has it wins:
//   1. RegistryOptions::plugin_paths          --plugin-path of the program
//   2. CDMF_PLUGIN_PATH                       absolute folders between ':'; not read by set-user-ID programs
//   3. RegistryOptions::search_paths          plugins.search_paths of the YAML file
//   4. <folder of the program>/../plugins and <folder of the program>/../<libdir>/cdmf/1
//   5. the folder that cdmf was configured to be installed to
// Never the working directory, never the loader's own path. What wins and cannot be used is an error: a plugin further
// down is not taken instead, because the wrong version at work is harder to find than a refusal.
//
// Before the loader sees a file it must be an ELF library for this machine, complete, and nobody but root, the user of
// this process and whoever could change the program itself may be able to change it or a folder above it. After
// loading, its descriptor must fit this host; a refusal names every field that does not, with both values. Loaded code
// is never unloaded.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/log.h"
#include "ipc/plugin_abi.h"
#include "ipc/result.h"
#include "ipc/transport.h"

namespace cdmf::ipc {

/// What to do with a plugin that people could change who cannot change the program.
enum class PluginSecurity {
  STRICT,  ///< refuse it
  WARN,    ///< log a warning and use it
};

struct RegistryOptions {
  std::vector<std::string> plugin_paths;  ///< folders; a relative one starts at the working directory
  std::vector<std::string> search_paths;  ///< absolute folders
  bool use_environment = true;            ///< whether CDMF_PLUGIN_PATH counts
  bool use_default_folders = true;        ///< whether the folders 4 and 5 count
  PluginSecurity security = PluginSecurity::STRICT;
  /// Plugins linked into the program; they win over files. They outlive the registry and its Transports.
  std::vector<const cdmf_plugin*> builtin;
  LogSink log;                          ///< of the registry and of every plugin; empty: nothing is logged
  LogLevel log_level = LogLevel::info;  ///< plugins do not even format lines below it
};

enum class PluginStatus {
  LOADED,    ///< usable
  REFUSED,   ///< present, and unusable for the reason given
  SHADOWED,  ///< present, and hidden by another file of the same name, which the reason names
};
[[nodiscard]] const char* to_string(PluginStatus status) noexcept;

/// One plugin that was found, usable or not.
struct PluginRecord {
  std::string type;
  std::string path;  ///< of the file; "built in" for one linked into the program
  PluginStatus status = PluginStatus::REFUSED;
  std::string reason;                   ///< empty when LOADED
  const cdmf_plugin* plugin = nullptr;  ///< when LOADED: its descriptor, valid until the program ends
};

/// Thread-safe: every method may be called from any thread.
class TransportRegistry {
 public:
  /// Looks nowhere yet.
  explicit TransportRegistry(RegistryOptions options = {});
  ~TransportRegistry();
  TransportRegistry(const TransportRegistry&) = delete;
  TransportRegistry& operator=(const TransportRegistry&) = delete;

  /// The descriptor of that type, loaded if it was not yet; valid until the program ends.
  /// PLUGIN_ERROR: no folder has it (the text lists the folders and the nearest type), or the one that was found
  /// cannot be used (the text says why). Nothing is remembered of a failure: the next call looks again.
  TransportResult<const cdmf_plugin*> find(std::string_view type);

  /// A Transport of that type, UNINITIALIZED. Errors as find(). It may outlive the registry.
  TransportResult<std::unique_ptr<Transport>> create(std::string_view type);

  /// Every plugin in every folder, by type and then in search order. Loads what was not loaded yet, as reading a
  /// descriptor needs that; one that cannot be used is reported and does no harm to the others.
  std::vector<PluginRecord> list();

  /// Types that find() would look at, from file names alone, sorted: nothing is loaded.
  std::vector<std::string> types();

  /// Folders in search order, with a remark when one cannot be read: "/opt/acme (does not exist)".
  std::vector<std::string> searched_folders();

  /// Those of them that somebody named and that cannot be looked into, with who named them and why.
  std::vector<std::string> unusable_folders();

  /// What is wrong with the search path itself, such as an empty folder in CDMF_PLUGIN_PATH. While there is anything,
  /// find() and create() fail with it.
  const std::vector<std::string>& problems() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cdmf::ipc
