#pragma once
// ipc/property.h: the syntax of option values, and checking them against a plugin's table.
// Used by Transport::init for code, by the host for YAML, and by nobody else.
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/config.h"
#include "ipc/plugin_abi.h"

namespace cdmf::ipc {

/// Number of a value, or why it is none ("expected a size such as 64KiB, got \"64 apples\"").
struct ParsedValue {
  std::int64_t number = 0;
  std::string problem;  ///< empty: the value is good
};

[[nodiscard]] ParsedValue parse_bool(std::string_view text);
/// Decimal only: no leading zero, no `0x`, no `+`, no exponent.
[[nodiscard]] ParsedValue parse_integer(std::string_view text);
/// Bytes: a decimal integer alone or with KiB, MiB, GiB (1024) or KB, MB, GB (1000).
[[nodiscard]] ParsedValue parse_size(std::string_view text);
/// Nanoseconds: a decimal integer with ns, us, ms, s, min or h; "0" needs no unit.
[[nodiscard]] ParsedValue parse_duration(std::string_view text);

/// Checks type, range, choice and flags of one value against its row.
[[nodiscard]] ParsedValue check_value(const cdmf_property& property, std::string_view text);

/// Row of that name, or null.
[[nodiscard]] const cdmf_property* find_property(const cdmf_plugin& plugin, std::string_view name) noexcept;

/// Every row of the table with its value: given or default. Owns the texts.
struct Settings {
  std::vector<cdmf_setting> rows;            ///< pointers into `texts` and the table
  std::map<std::string, std::string> texts;  ///< stable addresses
  std::vector<std::string> problems;         ///< "key: reason", one per bad, unknown or missing key
  std::optional<bool> server;                ///< what a CDMF_PROPERTY_ROLE property said
};
/// Checks `given` against the table of a plugin: unknown keys, bad values, missing required ones; all of them.
[[nodiscard]] Settings make_settings(const cdmf_plugin& plugin, const std::map<std::string, std::string>& given);

/// The keys that every transport knows (ipc/config.h), as rows: type, default, range, meaning.
[[nodiscard]] std::span<const cdmf_property> common_properties() noexcept;
/// Sets the field of that common key. Returns what is wrong with the value; empty when it was taken.
[[nodiscard]] std::string set_common_property(TransportConfig& config, const cdmf_property& property,
                                              std::string_view text);

/// "4KiB", "1500" …: the shortest exact text, for messages.
[[nodiscard]] std::string format_size(std::uint64_t bytes);
[[nodiscard]] std::string format_duration(std::uint64_t nanoseconds);
/// The type as a word with an example, for messages and manuals: "size (bytes, e.g. 64KiB)".
[[nodiscard]] std::string describe_type(const cdmf_property& property);

}  // namespace cdmf::ipc
