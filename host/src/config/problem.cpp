#include "config/problem.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace cdmf::ipc::config {
namespace {

constexpr std::size_t kPrintedBytesMax = 60;

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

bool is_c1(std::string_view text, std::size_t at) {
  return text[at] == '\xC2' && at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) < 0xA0;
}

std::string without_controls(std::string_view text) {
  static constexpr std::string_view kHex = "0123456789abcdef";
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      result += "\\n";
    } else if (byte < 0x20 || byte == 0x7F || is_c1(text, i)) {
      if (byte == 0xC2) ++i;  // U+0080 to U+009F, which terminals obey as well: the second byte is its number.
      const auto number = static_cast<unsigned char>(text[i]);
      result += "\\x";
      result += kHex[number >> 4U];
      result += kHex[number & 0x0FU];
    } else {
      result += c;
    }
  }
  return result;
}

}  // namespace

std::string to_string(Position position) {
  if (position.line == 0) return {};
  return std::to_string(position.line) + ":" + std::to_string(position.column);
}

void Problems::add(Position position, std::string key, std::string reason, std::string hint) {
  if (problems_.size() == kProblemCountMax) {
    ++not_kept_;
    return;
  }
  const auto after = [](const Position& place, const Problem& problem) {
    return std::tie(place.line, place.column) < std::tie(problem.position.line, problem.position.column);
  };
  const auto at = std::upper_bound(problems_.begin(), problems_.end(), position, after);
  problems_.insert(at, Problem{position, std::move(key), std::move(reason), std::move(hint)});
}

std::vector<std::string> Problems::lines() const {
  std::vector<std::string> lines;
  for (const Problem& problem : problems_) {
    std::string line = file_;
    if (problem.position.line != 0) line += ":" + to_string(problem.position);
    line += ": ";
    if (!problem.key.empty()) line += problem.key + ": ";
    line += problem.reason;
    if (!problem.hint.empty()) line += "; " + problem.hint;
    lines.push_back(without_controls(line));
  }
  if (not_kept_ > 0) lines.push_back(file_ + ": " + std::to_string(not_kept_) + " more problems are not shown");
  return lines;
}

std::string Problems::text() const {
  std::string text;
  for (const std::string& line : lines()) {
    if (!text.empty()) text += '\n';
    text += line;
  }
  return text;
}

std::string printable(std::string_view text) {
  if (text.size() <= kPrintedBytesMax) return without_controls(text);
  std::size_t length = kPrintedBytesMax;
  while (length > 0 && is_continuation(text[length])) --length;  // Not in the middle of a character.
  return without_controls(text.substr(0, length)) + "...";
}

std::string in_quotes(std::string_view text) { return "'" + printable(text) + "'"; }

}  // namespace cdmf::ipc::config
