#include "config/suggest.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace cdmf::ipc::config {
namespace {

constexpr std::size_t kWordBytesMax = 64;

std::string folded(std::string_view word) {
  std::string result;
  for (const char c : word) {
    if (c == '-' || c == '_') continue;
    result += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return result;
}

/// Damerau-Levenshtein distance in its restricted form: no place is edited twice.
std::size_t slip_count(std::string_view a, std::string_view b) {
  using Row = std::array<std::size_t, kWordBytesMax + 1>;
  Row before_last{};
  Row last{};
  Row row{};
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replaced, last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    before_last = last;
    last = row;
  }
  return last[b.size()];
}

}  // namespace

std::optional<std::string_view> nearest_word(std::string_view word, std::span<const std::string_view> known) {
  if (word.size() > kWordBytesMax) return std::nullopt;
  const std::string meant = folded(word);
  if (meant.empty()) return std::nullopt;

  std::optional<std::string_view> best;
  std::size_t best_slips = std::max<std::size_t>(1, meant.size() / 3) + 1;
  for (const std::string_view candidate : known) {
    if (candidate.size() > kWordBytesMax) continue;
    const std::string other = folded(candidate);
    if (other == meant) return candidate;
    const std::size_t slips = slip_count(meant, other);
    // A distance as long as the word means that the two share nothing.
    if (slips < best_slips && slips < meant.size()) {
      best = candidate;
      best_slips = slips;
    }
  }
  return best;
}

std::string suggestion(std::string_view word, std::span<const std::string_view> known) {
  if (const auto near = nearest_word(word, known)) return "did you mean '" + std::string(*near) + "'?";
  std::string text;
  for (const std::string_view candidate : known) {
    text += text.empty() ? "known here: " : ", ";
    text += candidate;
  }
  return text;
}

}  // namespace cdmf::ipc::config
