// Names of log levels.
#include <array>
#include <utility>

#include "ipc/log.h"

namespace cdmf::ipc {
namespace {

constexpr std::array<std::pair<LogLevel, const char*>, 5> kNames = {{{LogLevel::trace, "trace"},
                                                                     {LogLevel::debug, "debug"},
                                                                     {LogLevel::info, "info"},
                                                                     {LogLevel::warning, "warning"},
                                                                     {LogLevel::error, "error"}}};

}  // namespace

const char* to_string(LogLevel level) noexcept {
  for (const auto& [known, name] : kNames) {
    if (known == level) return name;
  }
  return "unknown";
}

std::optional<LogLevel> parse_log_level(std::string_view name) noexcept {
  for (const auto& [level, known] : kNames) {
    if (name == known) return level;
  }
  return std::nullopt;
}

}  // namespace cdmf::ipc
