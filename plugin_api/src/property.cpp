// Syntax of option values and their check against a table.
#include "ipc/property.h"

#include <array>
#include <bit>
#include <charconv>
#include <limits>

namespace cdmf::ipc {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr std::array kSizeUnits = {
    Unit{"GiB", std::uint64_t{1} << 30},
    Unit{"MiB", std::uint64_t{1} << 20},
    Unit{"KiB", std::uint64_t{1} << 10},
    Unit{"GB", 1'000'000'000},
    Unit{"MB", 1'000'000},
    Unit{"KB", 1'000},
};
constexpr std::array kDurationUnits = {
    Unit{"h", 3'600'000'000'000}, Unit{"min", 60'000'000'000}, Unit{"s", 1'000'000'000},
    Unit{"ms", 1'000'000},        Unit{"us", 1'000},           Unit{"ns", 1},
};

ParsedValue problem(std::string text) { return {0, std::move(text)}; }

std::string quoted(std::string_view text) { return '"' + std::string(text) + '"'; }

ParsedValue expected(std::string_view what, std::string_view got) {
  return problem("expected " + std::string(what) + ", got " + (got.empty() ? "nothing" : quoted(got)));
}

/// Reads the digits at the front. Empty result: there are none, or they are written in a way that some YAML reader
/// takes for octal.
struct Digits {
  std::optional<std::uint64_t> number;
  std::string_view rest;
  bool leading_zero = false;
  bool too_large = false;
};
Digits read_digits(std::string_view text) {
  Digits result;
  std::size_t length = 0;
  while (length < text.size() && text[length] >= '0' && text[length] <= '9') ++length;
  result.rest = text.substr(length);
  if (length == 0) return result;
  if (length > 1 && text[0] == '0') {
    result.leading_zero = true;
    return result;
  }
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + length, number);
  if (error != std::errc{} || end != text.data() + length) {
    result.too_large = true;
  } else {
    result.number = number;
  }
  return result;
}

ParsedValue read_with_unit(std::string_view text, std::string_view what, std::span<const Unit> units,
                           bool bare_allowed) {
  const Digits digits = read_digits(text);
  if (digits.leading_zero) return problem(quoted(text) + " starts with 0, which YAML readers take for octal; drop it");
  if (digits.too_large) return problem(quoted(text) + " is too large");
  if (!digits.number) return expected(what, text);
  std::uint64_t factor = 0;
  if (digits.rest.empty() && (bare_allowed || *digits.number == 0)) factor = 1;
  for (const Unit& unit : units) {
    if (digits.rest == unit.name) factor = unit.factor;
  }
  if (factor == 0) {
    if (digits.rest.empty()) return problem(quoted(text) + " has no unit; expected " + std::string(what));
    return expected(what, text);
  }
  if (*digits.number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / factor) {
    return problem(quoted(text) + " is too large");
  }
  return {static_cast<std::int64_t>(*digits.number * factor), {}};
}

constexpr std::string_view kSizeSyntax = "a size such as 4096, 64KiB or 1MiB";
constexpr std::string_view kDurationSyntax = "a duration such as 50us, 10ms or 3s";

std::string format_with_unit(std::uint64_t number, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (number != 0 && number % unit.factor == 0) return std::to_string(number / unit.factor) + std::string(unit.name);
  }
  return std::to_string(number);
}

ParsedValue parse_as(const cdmf_property& property, std::string_view text) {
  switch (property.type) {
    case CDMF_PROPERTY_BOOL:
      return parse_bool(text);
    case CDMF_PROPERTY_INT:
      return parse_integer(text);
    case CDMF_PROPERTY_SIZE:
      return parse_size(text);
    case CDMF_PROPERTY_DURATION:
      return parse_duration(text);
    case CDMF_PROPERTY_CHOICE: {
      std::string words;
      for (std::size_t i = 0; property.choices != nullptr && property.choices[i] != nullptr; ++i) {
        if (text == property.choices[i]) return {static_cast<std::int64_t>(i), {}};
        words += (i == 0 ? "" : " | ") + std::string(property.choices[i]);
      }
      return expected("one of " + words, text);
    }
    default:
      return {};
  }
}

}  // namespace

ParsedValue parse_bool(std::string_view text) {
  if (text == "true") return {1, {}};
  if (text == "false") return {0, {}};
  return expected("true or false", text);
}

ParsedValue parse_integer(std::string_view text) {
  const bool negative = !text.empty() && text.front() == '-';
  const Digits digits = read_digits(negative ? text.substr(1) : text);
  if (digits.leading_zero) return problem(quoted(text) + " starts with 0, which YAML readers take for octal; drop it");
  if (digits.too_large ||
      (digits.number && *digits.number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))) {
    return problem(quoted(text) + " is too large");
  }
  if (!digits.number || !digits.rest.empty()) return expected("a decimal integer", text);
  const auto number = static_cast<std::int64_t>(*digits.number);
  return {negative ? -number : number, {}};
}

ParsedValue parse_size(std::string_view text) { return read_with_unit(text, kSizeSyntax, kSizeUnits, true); }

ParsedValue parse_duration(std::string_view text) {
  return read_with_unit(text, kDurationSyntax, kDurationUnits, false);
}

std::string format_size(std::uint64_t bytes) { return format_with_unit(bytes, std::span(kSizeUnits).first(3)); }

std::string format_duration(std::uint64_t nanoseconds) { return format_with_unit(nanoseconds, kDurationUnits); }

std::string describe_type(const cdmf_property& property) {
  switch (property.type) {
    case CDMF_PROPERTY_BOOL:
      return "true or false";
    case CDMF_PROPERTY_INT:
      return "integer";
    case CDMF_PROPERTY_SIZE:
      return "size (bytes, e.g. 64KiB)";
    case CDMF_PROPERTY_DURATION:
      return "duration (e.g. 10ms)";
    case CDMF_PROPERTY_CHOICE:
      return "choice";
    case CDMF_PROPERTY_TEXT:
      return "text";
    default:
      return "unknown type";
  }
}

ParsedValue check_value(const cdmf_property& property, std::string_view text) {
  if (text.find('\0') != text.npos) return problem("contains a NUL byte");  // A driver would see what stands before it.
  ParsedValue value = parse_as(property, text);
  if (!value.problem.empty()) return value;
  const auto out_of_range = [&](const char* relation, const char* limit) {
    return problem(std::string(text) + " is " + relation + ' ' + limit);
  };
  if (property.minimum != nullptr && value.number < parse_as(property, property.minimum).number) {
    return out_of_range("below the minimum", property.minimum);
  }
  if (property.maximum != nullptr && value.number > parse_as(property, property.maximum).number) {
    return out_of_range("above the maximum", property.maximum);
  }
  if ((property.flags & CDMF_PROPERTY_POWER_OF_TWO) != 0 &&
      (value.number <= 0 || (value.number & (value.number - 1)) != 0)) {
    if (value.number <= 0) return problem(std::string(text) + " is not a power of two");
    const auto below = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(value.number)));
    return problem(std::string(text) + " is not a power of two; " + std::to_string(below) + " and " +
                   std::to_string(std::uint64_t{2} * static_cast<std::uint64_t>(below)) + " are");
  }
  return value;
}

const cdmf_property* find_property(const cdmf_plugin& plugin, std::string_view name) noexcept {
  for (std::size_t i = 0; i < plugin.property_count; ++i) {
    if (name == plugin.properties[i].name) return &plugin.properties[i];
  }
  return nullptr;
}

Settings make_settings(const cdmf_plugin& plugin, const std::map<std::string, std::string>& given) {
  Settings settings;
  for (const auto& [key, text] : given) {
    if (find_property(plugin, key) == nullptr) {
      std::string known;
      for (std::size_t i = 0; i < plugin.property_count; ++i) {
        known += (i == 0 ? "" : ", ") + std::string(plugin.properties[i].name);
      }
      settings.problems.push_back(key + ": unknown property of type " + plugin.type + "; it has " +
                                  (known.empty() ? "none" : known));
    }
  }
  for (std::size_t i = 0; i < plugin.property_count; ++i) {
    const cdmf_property& property = plugin.properties[i];
    const auto found = given.find(property.name);
    const bool is_given = found != given.end();
    if (!is_given && (property.flags & CDMF_PROPERTY_REQUIRED) != 0) {
      settings.problems.push_back(std::string(property.name) + ": required, but missing; " + property.summary);
      continue;
    }
    const char* fallback = property.default_text != nullptr ? property.default_text : "";
    const std::string& text = settings.texts.emplace(property.name, is_given ? found->second : fallback).first->second;
    cdmf_setting row{property.name, text.c_str(), 0, is_given ? 1u : 0u, 0};
    if (is_given || property.default_text != nullptr) {
      const ParsedValue value = check_value(property, text);
      if (!value.problem.empty()) settings.problems.push_back(std::string(property.name) + ": " + value.problem);
      row.number = value.number;
      if (is_given && (property.flags & CDMF_PROPERTY_ROLE) != 0) settings.server = value.number != 0;
    }
    settings.rows.push_back(row);
  }
  return settings;
}

}  // namespace cdmf::ipc
