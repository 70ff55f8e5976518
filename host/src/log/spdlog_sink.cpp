// The only file that knows spdlog.
#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <memory>

#include "ipc/log.h"

namespace cdmf::ipc {
namespace {

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::trace:
      return spdlog::level::trace;
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;  // A plugin may invent a level; better seen than lost.
}

}  // namespace

LogSink stderr_log(LogLevel level) {
  // Made directly, not through spdlog's registry: that one is shared with the program around us, which has its own
  // default logger and may have a "cdmf" logger of its own.
  auto logger = std::make_shared<spdlog::logger>("cdmf", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_level(level_of(level));
  logger->set_pattern("[%Y-%m-%d %H:%M:%S.%e] [%^%l%$] %v");
  logger->flush_on(spdlog::level::trace);
  return [logger](LogLevel line_level, std::string_view line) {
    logger->log(level_of(line_level), spdlog::string_view_t(line.data(), line.size()));
  };
}

}  // namespace cdmf::ipc
