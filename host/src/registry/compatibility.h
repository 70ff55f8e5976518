#pragma once
// registry/compatibility.h: can this host use this descriptor?
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/plugin_abi.h"

namespace cdmf::ipc::registry {

struct Mismatches {
  std::vector<std::string> fields;  // "abi_major: plugin 2, host 1"; every one that does not fit. Empty: usable.
  std::string hint;                 // What to do, when there is something plain to say.

  [[nodiscard]] bool empty() const noexcept { return fields.empty(); }
  /// All of it in one line.
  [[nodiscard]] std::string text() const;
};

/// readable_bytes   bytes behind `plugin` that may be read: the size of the symbol; 0 when it is not known
/// expected_type    as the file's name says
/// host_sanitizers  CDMF_BUILD_… whose runtimes are in this process
/// Of a descriptor with another magic or major only the fields that say so are read: the rest may mean anything.
Mismatches find_mismatches(const cdmf_plugin& plugin, std::size_t readable_bytes, std::string_view expected_type,
                           std::uint32_t host_sanitizers);

}  // namespace cdmf::ipc::registry
