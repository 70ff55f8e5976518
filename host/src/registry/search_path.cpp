#include "registry/search_path.h"

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): secure_getenv

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

namespace cdmf::ipc::registry {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "libcdmf_";
constexpr std::string_view kSuffix = ".so";
constexpr std::size_t kTypeBytesMax = 64;

class Builder {
 public:
  void add(const fs::path& folder, std::string origin, bool optional) {
    std::error_code error;
    // Resolved where possible, so that one folder under two names does not shadow itself.
    fs::path resolved = fs::weakly_canonical(folder, error);
    if (error) resolved = folder.lexically_normal();
    if (!resolved.has_filename() && resolved.has_parent_path()) resolved = resolved.parent_path();
    for (const SearchFolder& known : result.folders) {
      if (known.path == resolved) return;
    }
    result.folders.push_back({resolved.string(), std::move(origin), optional});
  }

  void add_named(const std::string& folder, const std::string& origin, bool relative_allowed) {
    if (folder.empty()) {
      result.problems.push_back(origin + " names an empty folder; delete the stray separator");
    } else if (folder.find('\0') != std::string::npos) {
      result.problems.push_back(origin + " names a folder with a zero byte");
    } else if (fs::path(folder).is_absolute()) {
      add(folder, origin, false);
    } else if (relative_allowed) {
      std::error_code error;
      const fs::path absolute = fs::absolute(folder, error);
      if (error) {
        result.problems.push_back(origin + " names \"" + folder + "\", and the working directory is not known");
      } else {
        add(absolute, origin, false);
      }
    } else {
      result.problems.push_back(origin + " names \"" + folder + "\", which is not absolute; start it with '/'");
    }
  }

  SearchPath result;
};

void add_environment(Builder& builder) {
  // secure_getenv: a program that runs with more rights than its caller must not load what the caller names.
  const char* text = ::secure_getenv("CDMF_PLUGIN_PATH");
  if (text == nullptr || *text == '\0') return;
  std::string_view rest = text;
  while (true) {
    const std::size_t end = rest.find(':');
    builder.add_named(std::string(rest.substr(0, end)), "CDMF_PLUGIN_PATH", false);
    if (end == std::string_view::npos) return;
    rest.remove_prefix(end + 1);
  }
}

void add_default_folders(Builder& builder) {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) {
    const fs::path folder = program.parent_path();
    builder.add(folder / ".." / "plugins", "beside the program", true);
    const fs::path relative = CDMF_RELATIVE_PLUGIN_DIR;
    if (relative.is_relative()) builder.add(folder / ".." / relative, "installed with the program", true);
  }
  builder.add(CDMF_INSTALLED_PLUGIN_DIR, "installation folder", true);
}

}  // namespace

SearchPath make_search_path(const RegistryOptions& options) {
  Builder builder;
  for (const std::string& folder : options.plugin_paths) builder.add_named(folder, "plugin path", true);
  if (options.use_environment) add_environment(builder);
  for (const std::string& folder : options.search_paths) builder.add_named(folder, "plugins.search_paths", false);
  if (options.use_default_folders) add_default_folders(builder);
  return std::move(builder.result);
}

std::optional<std::string> type_of_file(std::string_view file_name) {
  if (file_name.size() <= kPrefix.size() + kSuffix.size() || file_name.substr(0, kPrefix.size()) != kPrefix ||
      file_name.substr(file_name.size() - kSuffix.size()) != kSuffix) {
    return std::nullopt;
  }
  file_name.remove_prefix(kPrefix.size());
  file_name.remove_suffix(kSuffix.size());
  if (!is_type_name(file_name)) return std::nullopt;
  return std::string(file_name);
}

std::string file_of_type(std::string_view type) {
  return std::string(kPrefix) + std::string(type) + std::string(kSuffix);
}

bool is_type_name(std::string_view type) {
  if (type.empty() || type.size() > kTypeBytesMax || type[0] < 'a' || type[0] > 'z') return false;
  return std::all_of(type.begin(), type.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; });
}

std::vector<std::string> types_in(const std::string& folder) {
  std::vector<std::string> types;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (auto type = type_of_file(entry->path().filename().string())) types.push_back(std::move(*type));
  }
  std::sort(types.begin(), types.end());
  return types;
}

}  // namespace cdmf::ipc::registry
