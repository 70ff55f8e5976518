#include "ipc/transport_registry.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "config/suggest.h"
#include "ipc/plugin.h"
#include "log/host_services.h"
#include "registry/compatibility.h"
#include "registry/elf_check.h"
#include "registry/library.h"
#include "registry/path_safety.h"
#include "registry/sanitizer.h"
#include "registry/search_path.h"

namespace cdmf::ipc {
namespace {

namespace fs = std::filesystem;
using registry::SearchFolder;

constexpr const char* kBuiltIn = "built in";

std::string in_quotes(std::string_view text) { return '"' + std::string(text) + '"'; }

/// A descriptor that can be used, or why there is none.
struct Loaded {
  const cdmf_plugin* plugin = nullptr;
  std::string path;
  std::string reason;
};

bool exists(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;  // A dangling link is there, too, and gets its own refusal.
}

/// Says it when the plugin's symbol is missing: what is there in its place.
std::string describe_missing_symbol(const registry::Library& library, const registry::Symbol& symbol) {
  std::string text = "does not export " CDMF_PLUGIN_SYMBOL;
  if (!symbol.defined_in.empty()) {
    return text + "; the one found belongs to " + in_quotes(symbol.defined_in) +
           ", which it depends on; an author writes CDMF_EXPORT_TRANSPORT(...) in the plugin itself";
  }
  for (unsigned major = 0; major < 100; ++major) {
    const std::string other = "cdmf_plugin_v" + std::to_string(major);
    if (library.symbol(other).address == nullptr) continue;
    return text + ", but " + other + ": it was built for ABI " + std::to_string(major) + ", this host has " +
           std::to_string(CDMF_ABI_MAJOR) + "." + std::to_string(CDMF_ABI_MINOR) +
           "; rebuild it with the headers of cdmf " + std::to_string(CDMF_ABI_MAJOR) + ".x";
  }
  return text + "; an author writes CDMF_EXPORT_TRANSPORT(...) once, in the plugin's entry file";
}

/// What stands in the place of a library.
std::string describe_kind(mode_t mode) {
  const char* const kind = S_ISDIR(mode)                    ? "is a folder"
                           : S_ISFIFO(mode)                 ? "is a pipe"
                           : S_ISSOCK(mode)                 ? "is a socket"
                           : S_ISCHR(mode) || S_ISBLK(mode) ? "is a device"
                                                            : "is not a regular file";
  return std::string(kind) + "; put the built library there, or a link to it";
}

/// Checks that need no loading; empty when the loader may have the file.
std::string check_file(const std::string& path) {
  // O_NONBLOCK: a pipe would otherwise wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return "cannot be opened: " + std::generic_category().message(errno);
  struct stat status {};
  const bool examined = ::fstat(fd, &status) == 0;
  registry::ElfFacts facts;
  if (examined && S_ISREG(status.st_mode)) facts = registry::examine_elf(fd);
  ::close(fd);
  if (!examined) return "cannot be examined";
  if (!S_ISREG(status.st_mode)) return describe_kind(status.st_mode);
  return facts.problem.empty() ? registry::find_missing_runtime(facts.needed) : facts.problem;
}

}  // namespace

struct TransportRegistry::State {
  explicit State(RegistryOptions given)
      : options(std::move(given)),
        search_path(registry::make_search_path(options)),
        services(std::make_shared<HostServices>(options.log, options.log_level)) {}

  /// First file of that type in search order; null when there is none.
  const SearchFolder* folder_of(const std::string& file_name) const {
    for (const SearchFolder& folder : search_path.folders) {
      if (exists((fs::path(folder.path) / file_name).string())) return &folder;
    }
    return nullptr;
  }

  /// Nothing: safe, or allowed to be unsafe.
  std::string check_safety(const std::string& folder, const std::string& path) {
    auto unsafe = registry::find_unsafe(folder, registry::own_trust());
    if (!unsafe) unsafe = registry::find_unsafe(path, registry::own_trust());
    if (!unsafe) return {};
    if (options.security == PluginSecurity::STRICT) {
      return "is not safe to load: " + *unsafe + ", or set 'plugins: { security: warn }'";
    }
    if (warned.insert(path).second) services->log(LogLevel::warning, "plugin " + in_quotes(path) + ": " + *unsafe);
    return {};
  }

  Loaded load_file(const std::string& folder, const std::string& type) {
    Loaded loaded;
    const fs::path named = fs::path(folder) / registry::file_of_type(type);
    loaded.path = named.string();
    std::error_code error;
    const fs::path canonical_folder = fs::canonical(folder, error);
    const fs::path canonical = error ? fs::path() : fs::canonical(named, error);
    if (error) {
      loaded.reason = "cannot be opened: " + error.message();
      if (fs::is_symlink(fs::symlink_status(named, error)))
        loaded.reason += "; let the link point to the built library";
      return loaded;
    }
    struct stat status {};
    if (::stat(canonical.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
      loaded.reason = describe_kind(status.st_mode);  // Before its owner and mode: a device has none that would help.
      return loaded;
    }
    loaded.reason = check_safety(canonical_folder.string(), canonical.string());
    if (loaded.reason.empty()) loaded.reason = check_file(canonical.string());
    if (!loaded.reason.empty()) return loaded;

    const registry::LibraryResult result = registry::load_library(canonical.string());
    if (!result.library) {
      loaded.reason = "cannot be loaded: " + result.problem;
      return loaded;
    }
    const registry::Symbol symbol = result.library->symbol(CDMF_PLUGIN_SYMBOL);
    if (symbol.address == nullptr) {
      loaded.reason = describe_missing_symbol(*result.library, symbol);
      return loaded;
    }
    const auto* plugin = static_cast<const cdmf_plugin*>(symbol.address);
    const registry::Mismatches mismatches =
        registry::find_mismatches(*plugin, symbol.size_bytes, type, registry::present_sanitizers());
    if (!mismatches.empty()) {
      loaded.reason = "does not fit this host: " + mismatches.text();
      return loaded;
    }
    loaded.plugin = plugin;
    services->log(LogLevel::debug, "plugin " + type + " " + plugin->version + " loaded from " + in_quotes(loaded.path));
    return loaded;
  }

  const Loaded* find_builtin(const std::string& type) {
    for (const cdmf_plugin* plugin : options.builtin) {
      if (plugin == nullptr || plugin->type == nullptr || type != plugin->type) continue;
      Loaded& loaded = builtin[type];
      if (loaded.path.empty()) {
        loaded.path = kBuiltIn;
        const auto mismatches = registry::find_mismatches(*plugin, 0, type, registry::present_sanitizers());
        if (mismatches.empty()) {
          loaded.plugin = plugin;
        } else {
          loaded.reason = "does not fit this host: " + mismatches.text();
        }
      }
      return &loaded;
    }
    return nullptr;
  }

  /// The plugin in that folder: as loaded before, or loaded now. Failures are not kept.
  Loaded in_folder(const std::string& folder, const std::string& type) {
    const auto known = files.find({folder, type});
    if (known != files.end()) return known->second;
    Loaded loaded = load_file(folder, type);
    if (loaded.plugin != nullptr) files.emplace(std::pair(folder, type), loaded);
    return loaded;
  }

  std::vector<std::string> types() const {
    std::set<std::string> all;
    for (const cdmf_plugin* plugin : options.builtin) {
      if (plugin != nullptr && plugin->type != nullptr) all.insert(plugin->type);
    }
    for (const SearchFolder& folder : search_path.folders) {
      for (std::string& type : registry::types_in(folder.path)) all.insert(std::move(type));
    }
    return {all.begin(), all.end()};
  }

  /// Why the folder cannot be looked into; empty when it can be.
  static std::string trouble_with(const SearchFolder& folder) {
    std::error_code error;
    const bool is_folder = fs::is_directory(folder.path, error);
    if (error && error != std::errc::no_such_file_or_directory) return error.message();
    if (!is_folder) return exists(folder.path) ? "is not a folder" : "does not exist";
    return ::access(folder.path.c_str(), R_OK | X_OK) == 0 ? "" : std::generic_category().message(errno);
  }

  std::vector<std::string> folders() const {
    std::vector<std::string> texts;
    for (const SearchFolder& folder : search_path.folders) {
      const std::string trouble = trouble_with(folder);
      std::error_code error;
      if (folder.optional && !fs::is_directory(folder.path, error)) continue;
      texts.push_back(trouble.empty() ? folder.path : folder.path + " (" + trouble + ")");
    }
    return texts;
  }

  std::vector<std::string> unusable_folders() const {
    std::vector<std::string> texts;
    for (const SearchFolder& folder : search_path.folders) {
      const std::string trouble = trouble_with(folder);
      if (!folder.optional && !trouble.empty())
        texts.push_back(folder.path + ", named by " + folder.origin + ": " + trouble);
    }
    return texts;
  }

  /// "; did you mean "shm"?", or what there is.
  std::string near_text(const std::string& type) const {
    const std::vector<std::string> known = types();
    const std::vector<std::string_view> words(known.begin(), known.end());
    if (const auto near = config::nearest_word(type, words)) return "; did you mean " + in_quotes(*near) + "?";
    std::string text;
    for (const std::string& word : known) text += (text.empty() ? "; there is " : ", ") + word;
    return text;
  }

  std::string not_found_text(const std::string& type) const {
    std::string text = "no plugin of type " + in_quotes(type);
    text += near_text(type);
    std::string searched;
    for (const std::string& folder : folders()) searched += (searched.empty() ? "" : ", ") + folder;
    return text + "; " + registry::file_of_type(type) + " was looked for in " +
           (searched.empty() ? "no folder: set CDMF_PLUGIN_PATH or plugins.search_paths" : searched);
  }

  const RegistryOptions options;
  const registry::SearchPath search_path;
  const std::shared_ptr<HostServices> services;
  std::mutex mutex;
  // Guarded by mutex.
  std::map<std::string, Loaded> builtin;                        // By type.
  std::map<std::pair<std::string, std::string>, Loaded> files;  // By folder and type; usable ones only.
  std::set<std::string> warned;                                 // Paths whose lack of safety was logged.
};

TransportRegistry::TransportRegistry(RegistryOptions options) : state_(std::make_unique<State>(std::move(options))) {}
TransportRegistry::~TransportRegistry() = default;

TransportResult<const cdmf_plugin*> TransportRegistry::find(std::string_view type_name) {
  const std::string type(type_name);
  if (!problems().empty()) return {TransportError::INVALID_CONFIG, problems().front()};
  if (!registry::is_type_name(type)) {
    return {TransportError::PLUGIN_ERROR,
            in_quotes(type) + " is no name of a transport type: it is lower case letters, digits and '_'" +
                state_->near_text(type)};
  }
  const std::lock_guard lock(state_->mutex);
  Loaded loaded;
  if (const Loaded* builtin = state_->find_builtin(type)) {
    loaded = *builtin;
  } else if (const SearchFolder* folder = state_->folder_of(registry::file_of_type(type))) {
    loaded = state_->in_folder(folder->path, type);
  } else {
    return {TransportError::PLUGIN_ERROR, state_->not_found_text(type)};
  }
  if (loaded.plugin != nullptr) return loaded.plugin;
  return {TransportError::PLUGIN_ERROR, "plugin " + in_quotes(loaded.path) + ' ' + loaded.reason};
}

TransportResult<std::unique_ptr<Transport>> TransportRegistry::create(std::string_view type) {
  const auto plugin = find(type);
  if (!plugin) return {plugin.error, plugin.error_message};
  // Code stays loaded for ever; what must live as long as the Transport is the table of services.
  return std::make_unique<Transport>(*plugin.value, state_->services, state_->services->table());
}

std::vector<PluginRecord> TransportRegistry::list() {
  std::vector<PluginRecord> records;
  const std::lock_guard lock(state_->mutex);
  for (const std::string& type : state_->types()) {
    std::string winner;
    if (const Loaded* builtin = state_->find_builtin(type)) {
      winner = kBuiltIn;
      const PluginStatus status = builtin->plugin != nullptr ? PluginStatus::LOADED : PluginStatus::REFUSED;
      records.push_back({type, winner, status, builtin->reason, builtin->plugin});
    }
    for (const SearchFolder& folder : state_->search_path.folders) {
      const std::string path = (fs::path(folder.path) / registry::file_of_type(type)).string();
      if (!exists(path)) continue;
      if (!winner.empty()) {
        records.push_back({type, path, PluginStatus::SHADOWED, "hidden by " + in_quotes(winner), nullptr});
        continue;
      }
      winner = path;
      Loaded loaded = state_->in_folder(folder.path, type);
      const PluginStatus status = loaded.plugin != nullptr ? PluginStatus::LOADED : PluginStatus::REFUSED;
      records.push_back({type, path, status, std::move(loaded.reason), loaded.plugin});
    }
  }
  return records;
}

std::vector<std::string> TransportRegistry::types() { return state_->types(); }

std::vector<std::string> TransportRegistry::searched_folders() { return state_->folders(); }
std::vector<std::string> TransportRegistry::unusable_folders() { return state_->unusable_folders(); }

const std::vector<std::string>& TransportRegistry::problems() const noexcept { return state_->search_path.problems; }

const char* to_string(PluginStatus status) noexcept {
  switch (status) {
    case PluginStatus::LOADED:
      return "loaded";
    case PluginStatus::REFUSED:
      return "refused";
    case PluginStatus::SHADOWED:
      return "shadowed";
  }
  return "unknown";
}

}  // namespace cdmf::ipc
