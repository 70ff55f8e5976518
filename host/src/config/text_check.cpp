#include "config/text_check.h"

#include <algorithm>
#include <cstdint>

namespace cdmf::ipc::config {
namespace {

unsigned byte_at(std::string_view text, std::size_t index) { return static_cast<unsigned char>(text[index]); }

bool is_continuation(unsigned byte) { return (byte & 0xC0U) == 0x80U; }

std::string hex(unsigned byte) {
  static constexpr std::string_view kDigits = "0123456789ABCDEF";
  return {kDigits[byte >> 4U], kDigits[byte & 0x0FU]};
}

}  // namespace

std::size_t character_bytes(std::string_view text, std::size_t offset) {  // Unicode 15, table 3-7.
  const unsigned first = byte_at(text, offset);
  if (first < 0x80) return 1;
  std::size_t length = 0;
  unsigned second_min = 0x80;
  unsigned second_max = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) second_min = 0xA0;  // Shorter forms exist.
    if (first == 0xED) second_max = 0x9F;  // Surrogates are not characters.
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) second_min = 0x90;
    if (first == 0xF4) second_max = 0x8F;  // Past U+10FFFF.
  }
  if (length == 0 || text.size() - offset < length) return 0;
  const unsigned second = byte_at(text, offset + 1);
  if (second < second_min || second > second_max) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if (!is_continuation(byte_at(text, offset + i))) return 0;
  }
  return length;
}

bool is_utf8(std::string_view text) {
  for (std::size_t offset = 0; offset < text.size();) {
    const std::size_t length = character_bytes(text, offset);
    if (length == 0) return false;
    offset += length;
  }
  return true;
}

std::optional<TextFault> find_text_fault(std::string_view text) {
  for (std::size_t offset = 0; offset < text.size();) {
    const std::size_t length = character_bytes(text, offset);
    const unsigned first = byte_at(text, offset);
    if (length == 0) return TextFault{offset, "byte 0x" + hex(first) + " is not UTF-8", "save the file as UTF-8"};
    const bool line_end = first == '\n' || (first == '\r' && text.substr(offset, 2) == "\r\n");
    if ((first < 0x20 && first != '\t' && !line_end) || first == 0x7F) {
      const bool utf16 = first == 0;
      return TextFault{offset, "control character 0x" + hex(first),
                       utf16 ? "save the file as UTF-8" : "delete it, or write it as an escape in double quotes"};
    }
    offset += length;
  }
  return std::nullopt;
}

Position position_at(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const auto line = static_cast<std::uint32_t>(1 + std::count(before.begin(), before.end(), '\n'));
  const std::size_t line_end = before.rfind('\n');
  const std::string_view row = line_end == std::string_view::npos ? before : before.substr(line_end + 1);
  const auto column =
      1 + std::count_if(row.begin(), row.end(), [](char c) { return !is_continuation(static_cast<unsigned char>(c)); });
  return {line, static_cast<std::uint32_t>(column)};
}

}  // namespace cdmf::ipc::config
