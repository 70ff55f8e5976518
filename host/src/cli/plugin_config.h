#pragma once
// cli/plugin_config.h: an entry of a file, or a few options, as the C structure that a plugin's functions take.
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "ipc/config.h"
#include "ipc/plugin_abi.h"
#include "ipc/property.h"

namespace cdmf::ipc::cli {

/// Stays where it is made: the C structure points into it.
class PluginConfig {
 public:
  /// As the server of this endpoint would have it. throws  CommandError "where: key: reason; …" for options that are
  /// wrong.
  PluginConfig(const cdmf_plugin& plugin, const TransportConfig& config, const std::string& where);
  PluginConfig(const PluginConfig&) = delete;
  PluginConfig& operator=(const PluginConfig&) = delete;

  [[nodiscard]] const cdmf_config* raw() const noexcept { return &raw_; }
  /// The value in force of an option; nothing when the plugin has none of that name.
  [[nodiscard]] std::optional<std::int64_t> number(std::string_view name) const;

 private:
  TransportConfig config_;
  Settings settings_;
  cdmf_config raw_{};
};

/// The error text of one call across the boundary.
class PluginError {
 public:
  PluginError() noexcept { raw_.struct_size = sizeof raw_; }
  [[nodiscard]] cdmf_error* raw() noexcept { return &raw_; }
  /// throws  CommandError "what: CODE: text" unless the status is CDMF_OK.
  void require(cdmf_status status, const std::string& what) const;

 private:
  cdmf_error raw_{};
};

/// A text that a plugin wrote into an array, up to its NUL or the array's end, fit for a terminal: control characters,
/// which may come from another process, become '?'.
template <std::size_t size>
[[nodiscard]] std::string text_of(const char (&text)[size]) {
  std::string result(text, strnlen(text, size));
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  }
  return result;
}

/// The extension of that name; null when the plugin has none.
template <typename Extension>
[[nodiscard]] const Extension* extension_of(const cdmf_plugin& plugin, const char* name) {
  if (plugin.get_extension == nullptr) return nullptr;
  const auto* extension = static_cast<const Extension*>(plugin.get_extension(name));
  // A table that ends before its last function was written for something else.
  return extension != nullptr && extension->struct_size >= sizeof(Extension) ? extension : nullptr;
}

}  // namespace cdmf::ipc::cli
