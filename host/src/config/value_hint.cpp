#include "config/value_hint.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "config/suggest.h"
#include "ipc/property.h"

namespace cdmf::ipc::config {
namespace {

using Spelling = std::pair<std::string_view, std::string_view>;  // As people write it, in lower case; as it is read.

constexpr Spelling kWords[] = {{"yes", "true"}, {"on", "true"},   {"true", "true"},   {"1", "true"},
                               {"no", "false"}, {"off", "false"}, {"false", "false"}, {"0", "false"}};
// "kb" is taken for what it says, 1000: nobody is given more than was asked for.
constexpr Spelling kSizeUnits[] = {{"b", ""},      {"byte", ""}, {"bytes", ""},  {"k", "KiB"},
                                   {"kib", "KiB"}, {"m", "MiB"}, {"mib", "MiB"}, {"g", "GiB"},
                                   {"gib", "GiB"}, {"kb", "KB"}, {"mb", "MB"},   {"gb", "GB"}};
constexpr Spelling kDurationUnits[] = {
    {"ns", "ns"},       {"nsec", "ns"},   {"us", "us"},     {"usec", "us"}, {"\xC2\xB5s", "us"}, {"\xCE\xBCs", "us"},
    {"ms", "ms"},       {"msec", "ms"},   {"millis", "ms"}, {"s", "s"},     {"sec", "s"},        {"secs", "s"},
    {"second", "s"},    {"seconds", "s"}, {"m", "min"},     {"min", "min"}, {"mins", "min"},     {"minute", "min"},
    {"minutes", "min"}, {"h", "h"},       {"hr", "h"},      {"hour", "h"},  {"hours", "h"}};

/// In lower case, without blanks and '_'.
std::string folded(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == ' ' || c == '_') continue;
    result += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return result;
}

std::optional<std::string_view> respelled(std::string_view word, const Spelling* first, const Spelling* last) {
  const Spelling* const found = std::find_if(first, last, [word](const Spelling& s) { return s.first == word; });
  return found == last ? std::nullopt : std::optional(found->second);
}

/// Number and unit as they are read: "08 kib" gives "8KiB".
std::optional<std::string> respelled_amount(std::string_view text, std::uint32_t type) {
  const std::string word = folded(text);
  const std::size_t digits = std::min(word.find_first_not_of("0123456789", word[0] == '+' ? 1 : 0), word.size());
  std::string number = word.substr(word[0] == '+' ? 1 : 0, digits - (word[0] == '+' ? 1 : 0));
  if (number.empty()) return std::nullopt;
  number.erase(0, std::min(number.find_first_not_of('0'), number.size() - 1));
  const std::string_view unit = std::string_view(word).substr(digits);
  if (unit.empty()) return number;
  const auto known = type == CDMF_PROPERTY_SIZE ? respelled(unit, std::begin(kSizeUnits), std::end(kSizeUnits))
                     : type == CDMF_PROPERTY_DURATION
                         ? respelled(unit, std::begin(kDurationUnits), std::end(kDurationUnits))
                         : std::nullopt;
  if (!known) return std::nullopt;
  return number + std::string(*known);
}

std::optional<std::string> meant_value(const cdmf_property& property, std::string_view text) {
  if (text.empty()) return std::nullopt;
  switch (property.type) {
    case CDMF_PROPERTY_BOOL:
      if (const auto word = respelled(folded(text), std::begin(kWords), std::end(kWords))) return std::string(*word);
      return std::nullopt;
    case CDMF_PROPERTY_CHOICE: {
      std::vector<std::string_view> words;
      for (const char* const* choice = property.choices; *choice != nullptr; ++choice) words.emplace_back(*choice);
      if (const auto near = nearest_word(text, words)) return std::string(*near);
      return std::nullopt;
    }
    case CDMF_PROPERTY_INT:
    case CDMF_PROPERTY_SIZE:
    case CDMF_PROPERTY_DURATION:
      return respelled_amount(text, property.type);
    default:
      return std::nullopt;
  }
}

std::string first_sentence(std::string_view text) {
  const std::size_t end = text.find(". ");
  return std::string(end == std::string_view::npos ? text : text.substr(0, end + 1));
}

}  // namespace

std::string value_hint(const cdmf_property& property, std::string_view text) {
  const auto meant = meant_value(property, text);
  if (meant && *meant != text && check_value(property, *meant).problem.empty()) return "did you mean '" + *meant + "'?";
  return property.summary == nullptr ? "" : first_sentence(property.summary);
}

}  // namespace cdmf::ipc::config
