#pragma once
// config/text_check.h: is this text something that a YAML parser reads as the user sees it?
// The parser in use guesses UTF-16 from zero bytes and takes a byte 0x04 for the end of the file.
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "config/problem.h"

namespace cdmf::ipc::config {

struct TextFault {
  std::size_t offset = 0;  // Byte where the first bad character starts.
  std::string reason;
  std::string hint;
};

/// The first byte sequence that is not UTF-8, or the first control character other than tab, line feed, and carriage
/// return before a line feed.
std::optional<TextFault> find_text_fault(std::string_view text);

/// Length of the well-formed UTF-8 character that starts at offset < text.size(), 0 when there is none.
std::size_t character_bytes(std::string_view text, std::size_t offset);
bool is_utf8(std::string_view text);

/// Place of the byte at offset, which may be text.size(): lines end with '\n', columns count characters.
/// `text` is valid UTF-8 up to offset.
Position position_at(std::string_view text, std::size_t offset);

}  // namespace cdmf::ipc::config
