#pragma once
// ipc/log.h: where the lines of a host and of its plugins go. No logging library shows here: a program that has one
// hands in a function, and one that has none gets stderr.
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "ipc/plugin_abi.h"

namespace cdmf::ipc {

/// Lower case, because DEBUG and ERROR are macros in many a program.
enum class LogLevel : std::uint32_t {
  trace = CDMF_LOG_TRACE,
  debug = CDMF_LOG_DEBUG,
  info = CDMF_LOG_INFO,
  warning = CDMF_LOG_WARNING,
  error = CDMF_LOG_ERROR,
};
[[nodiscard]] const char* to_string(LogLevel level) noexcept;
/// The level of that name ("warning"); nothing for any other word.
[[nodiscard]] std::optional<LogLevel> parse_log_level(std::string_view name) noexcept;

/// Takes one line without line end; the text is valid during the call only. Called on any thread, several at once.
/// It may throw: the line is then lost and the caller goes on.
using LogSink = std::function<void(LogLevel level, std::string_view line)>;

/// Writes "[time] [level] line" to stderr, in colours on a terminal. Lines below `level` are dropped.
[[nodiscard]] LogSink stderr_log(LogLevel level = LogLevel::trace);

}  // namespace cdmf::ipc
