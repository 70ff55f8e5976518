#pragma once
// cli/plugin_text.h: a plugin's descriptor and options as text for people. Pure: no files, no loading.
#include <string>
#include <string_view>
#include <vector>

#include "ipc/plugin_abi.h"

namespace cdmf::ipc::cli {

/// "many peers, between processes, …"; "none" without any. Unknown bits show as "bit 17".
[[nodiscard]] std::string capabilities_text(std::uint64_t capabilities);

/// Every field of the descriptor, one "name: value" a line.
[[nodiscard]] std::string descriptor_text(const cdmf_plugin& plugin, std::string_view path);

/// The option table as a manual. format  text | markdown | yaml (a section to paste, every option at its default).
[[nodiscard]] std::string options_text(const cdmf_plugin& plugin, std::string_view format);

/// Pads the columns of a table to their widest cell; the first row is the heading. Columns are two blanks apart.
[[nodiscard]] std::string table_text(const std::vector<std::vector<std::string>>& rows);

}  // namespace cdmf::ipc::cli
