#include "ipc/log.h"

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "log/host_services.h"

namespace cdmf::ipc {
namespace {

TEST(LogLevel, HasANameEach) {
  for (const LogLevel level : {LogLevel::trace, LogLevel::debug, LogLevel::info, LogLevel::warning, LogLevel::error}) {
    EXPECT_EQ(parse_log_level(to_string(level)), level);
  }
  EXPECT_EQ(parse_log_level("loud"), std::nullopt);
  EXPECT_EQ(parse_log_level(""), std::nullopt);
  EXPECT_STREQ(to_string(static_cast<LogLevel>(99)), "unknown");
}

TEST(StderrLog, WritesLevelAndLineAndDropsWhatIsBelow) {
  testing::internal::CaptureStderr();
  const LogSink log = stderr_log(LogLevel::warning);
  log(LogLevel::info, "quiet");
  log(LogLevel::warning, "loud {not a format}");
  log(LogLevel::error, std::string_view("cut here", 3));
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.find("quiet"), std::string::npos) << text;
  EXPECT_NE(text.find("[warning] loud {not a format}\n"), std::string::npos) << text;
  EXPECT_NE(text.find("[error] cut\n"), std::string::npos) << text;
}

TEST(StderrLog, LeavesTheLoggersOfTheProgramAlone) {
  const auto before = spdlog::default_logger();
  const LogSink log = stderr_log();
  EXPECT_EQ(spdlog::default_logger(), before);
  EXPECT_EQ(spdlog::get("cdmf"), nullptr);
}

struct Sink {
  std::vector<std::string> lines;
  LogSink function() {
    return [this](LogLevel level, std::string_view line) {
      lines.push_back(std::string(to_string(level)) + ": " + std::string(line));
    };
  }
};

TEST(HostServices, PassLinesOfAPluginOn) {
  Sink sink;
  const HostServices services(sink.function(), LogLevel::debug);
  const cdmf_host* host = services.table();
  EXPECT_EQ(host->abi_major, CDMF_ABI_MAJOR);
  EXPECT_EQ(host->struct_size, sizeof(cdmf_host));
  EXPECT_EQ(host->log_level(host->context), static_cast<std::uint32_t>(CDMF_LOG_DEBUG));
  host->log(host->context, CDMF_LOG_TRACE, "below", nullptr, 0);
  host->log(host->context, CDMF_LOG_INFO, "plain", nullptr, 0);
  host->log(host->context, CDMF_LOG_WARNING, "placed", "x.cpp", 7);
  host->log(host->context, 1000, "invented level", nullptr, 0);
  host->log(host->context, CDMF_LOG_ERROR, nullptr, nullptr, 0);
  EXPECT_EQ(sink.lines,
            (std::vector<std::string>{"info: plain", "warning: placed (x.cpp:7)", "error: invented level"}));
  EXPECT_EQ(host->get_extension(host->context, "cdmf.none/1"), nullptr);
}

TEST(HostServices, TellPluginsWhenNothingIsLogged) {
  const HostServices services({}, LogLevel::trace);
  EXPECT_GT(services.table()->log_level(services.table()->context), static_cast<std::uint32_t>(CDMF_LOG_ERROR));
  services.table()->log(services.table()->context, CDMF_LOG_ERROR, "into the void", nullptr, 0);
}

TEST(HostServices, KeepExceptionsOfTheSinkFromThePlugin) {
  const HostServices services([](LogLevel, std::string_view) { throw std::runtime_error("disk full"); },
                              LogLevel::trace);
  const cdmf_host* host = services.table();
  EXPECT_NO_THROW(host->log(host->context, CDMF_LOG_ERROR, "x", nullptr, 0));
}

}  // namespace
}  // namespace cdmf::ipc
