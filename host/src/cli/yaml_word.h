#pragma once
// cli/yaml_word.h: changes one word of a YAML text and leaves every other byte, as `sed` would.
#include <string>
#include <string_view>

namespace cdmf::ipc::cli {

/// Replaces the value of the first line that is "key: value" at any indentation. What follows the value, such as a
/// comment, stays. throws  CommandError when there is no such line.
[[nodiscard]] std::string replace_value(std::string_view yaml, std::string_view key, std::string_view value);

/// The value that replace_value() would replace. throws  CommandError when there is no such line.
[[nodiscard]] std::string value_of(std::string_view yaml, std::string_view key);

}  // namespace cdmf::ipc::cli
