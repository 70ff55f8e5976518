#pragma once
// registry/search_path.h: the folders that plugins are looked for in, in order (ipc/transport_registry.h), and the
// names of the files there.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/transport_registry.h"

namespace cdmf::ipc::registry {

struct SearchFolder {
  std::string path;       // Absolute.
  std::string origin;     // Who asked for it: "CDMF_PLUGIN_PATH".
  bool optional = false;  // Nobody asked for it in particular: not worth a word when it is missing.
};

struct SearchPath {
  std::vector<SearchFolder> folders;  // Each folder once, the first time it is named.
  std::vector<std::string> problems;  // What is wrong with how folders were named.
};

SearchPath make_search_path(const RegistryOptions& options);

/// "shm" for "libcdmf_shm.so"; nothing for other names.
std::optional<std::string> type_of_file(std::string_view file_name);
/// "libcdmf_shm.so" for "shm".
std::string file_of_type(std::string_view type);
/// [a-z][a-z0-9_]*, at most 64 characters.
bool is_type_name(std::string_view type);

/// Types of the plugin files directly in that folder, sorted. Empty when it cannot be read.
std::vector<std::string> types_in(const std::string& folder);

}  // namespace cdmf::ipc::registry
