#include "cli/yaml_word.h"

#include "cli/command_error.h"

namespace cdmf::ipc::cli {
namespace {

struct Place {
  std::size_t begin = 0;
  std::size_t size = 0;
};

Place find_value(std::string_view yaml, std::string_view key) {
  for (std::size_t line_begin = 0; line_begin < yaml.size();) {
    const std::size_t line_end = std::min(yaml.find('\n', line_begin), yaml.size());
    const std::string_view line = yaml.substr(line_begin, line_end - line_begin);
    const std::size_t key_begin = line.find_first_not_of(' ');
    if (key_begin != std::string_view::npos && line.substr(key_begin).starts_with(key)) {
      const std::size_t colon = key_begin + key.size();
      const std::size_t value = line.find_first_not_of(' ', colon + 1);
      const bool is_pair =
          line.substr(colon).starts_with(": ") && value != std::string_view::npos && line[value] != '#';
      if (is_pair) return {line_begin + value, std::min(line.find(' ', value), line.size()) - value};
    }
    line_begin = line_end + 1;
  }
  throw CommandError("the configuration has no line '" + std::string(key) + ": …'");
}

}  // namespace

std::string replace_value(std::string_view yaml, std::string_view key, std::string_view value) {
  const Place place = find_value(yaml, key);
  return std::string(yaml.substr(0, place.begin)).append(value).append(yaml.substr(place.begin + place.size));
}

std::string value_of(std::string_view yaml, std::string_view key) {
  const Place place = find_value(yaml, key);
  return std::string(yaml.substr(place.begin, place.size));
}

}  // namespace cdmf::ipc::cli
