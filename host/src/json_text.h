#pragma once
// json_text.h: text as JSON has it.
#include <cstdio>
#include <string>
#include <string_view>

namespace cdmf::ipc {

/// text between quotes; what is no printable ASCII becomes \u00NN, byte by byte.
inline std::string json_quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte >= 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", byte);
      out += escape;
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace cdmf::ipc
