#pragma once
// route/pattern.h: subjects by pattern.
#include <string_view>

namespace cdmf::ipc::route {

/// Whether text has that form: `*` stands for any bytes, none included, `?` for one. Linear but for the last `*`.
[[nodiscard]] constexpr bool matches(std::string_view pattern, std::string_view text) noexcept {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;  // The last one, which has taken text up to `taken`.
  std::size_t taken = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++taken;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace cdmf::ipc::route
