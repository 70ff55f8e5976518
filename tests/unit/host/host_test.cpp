#include "ipc/host.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "unit/host/temp_folder.h"

namespace cdmf::ipc {
namespace {

/// Hosts with the plugin `good` of tests/support/plugins, which can be made and carries nothing.
class HostTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("CDMF_TEST_PLUGINS");
    ASSERT_NE(folder, nullptr) << "CDMF_TEST_PLUGINS names the folder of the test plugins";
    for (const std::string file : {"libcdmf_good.so", "libcdmf_create_fails.so"}) {
      temp_.write(file, read_bytes(std::string(folder) + "/" + file));
    }
  }

  RegistryOptions options() {
    RegistryOptions options;
    options.plugin_paths = {temp_.path()};
    options.use_environment = false;
    options.use_default_folders = false;
    options.log_level = LogLevel::info;
    options.log = [this](LogLevel level, std::string_view line) {
      lines_.push_back(std::string(to_string(level)) + ": " + std::string(line));
    };
    return options;
  }
  std::unique_ptr<Host> host(const std::string& transports) {
    auto loaded = Host::from_text("c.yaml", "version: 1\ntransports:\n" + transports, options());
    EXPECT_TRUE(loaded) << loaded.text();
    return std::move(loaded.value);
  }

  TempFolder temp_;
  std::vector<std::string> lines_;
};

TEST_F(HostTest, MakesAnInitialisedTransportFromAFile) {
  const std::string file = temp_.write("c.yaml", "version: 1\ntransports: { main: { type: good, endpoint: /e } }\n");
  auto loaded = Host::load(file, options());
  ASSERT_TRUE(loaded) << loaded.text();
  std::unique_ptr<Transport> transport;
  {
    const std::unique_ptr<Host> host = std::move(loaded.value);
    EXPECT_EQ(host->config().transports.size(), 1U);
    auto made = host->create("main", Role::CLIENT);
    ASSERT_TRUE(made) << made.text();
    transport = std::move(made.value);
  }
  // The Transport outlives its Host.
  EXPECT_EQ(transport->getState(), TransportState::INITIALIZED);
  EXPECT_EQ(transport->getInfo().type, "good");
  EXPECT_EQ(transport->getInfo().endpoint, "/e");
  EXPECT_TRUE(transport->start());
}

TEST_F(HostTest, TakesTheProgramsRoleUnlessTheFileSaysOtherwise) {
  const auto host =
      this->host("  free: { type: good, endpoint: /a }\n  fixed: { type: good, endpoint: /b, role: server }\n");
  EXPECT_EQ(host->create("free", Role::SERVER).value->getInfo().role, Role::SERVER);
  EXPECT_EQ(host->create("free", Role::CLIENT).value->getInfo().role, Role::CLIENT);
  EXPECT_EQ(host->create("fixed", Role::CLIENT).value->getInfo().role, Role::SERVER);
}

TEST_F(HostTest, LetsTheProgramAdjustTheConfigLast) {
  const auto host = this->host("  main: { type: good, endpoint: /a, max_message_size: 4KiB }\n");
  const auto made = host->create("main", Role::CLIENT, [](TransportConfig& config) {
    EXPECT_EQ(config.max_message_size, 4096U);
    EXPECT_EQ(config.role, Role::CLIENT);
    config.endpoint += "-2";
  });
  ASSERT_TRUE(made) << made.text();
  EXPECT_EQ(made.value->getInfo().endpoint, "/a-2");
}

TEST_F(HostTest, NeedsNoNameForAnOnlyTransportAndListsSeveral) {
  EXPECT_TRUE(host("  main: { type: good, endpoint: /a }\n")->create("", Role::CLIENT));
  const auto two = host("  main: { type: good, endpoint: /a }\n  side: { type: good, endpoint: /b }\n");
  const auto unnamed = two->create("", Role::CLIENT);
  EXPECT_EQ(unnamed.error, TransportError::INVALID_ARGUMENT);
  EXPECT_EQ(unnamed.error_message, "several transports are configured; name one of main, side");
  const auto unknown = two->create("mian", Role::CLIENT);
  EXPECT_EQ(unknown.error, TransportError::INVALID_ARGUMENT);
  EXPECT_EQ(unknown.error_message, "no transport \"mian\" is configured; there is main, side");
}

TEST_F(HostTest, SaysWhereInTheFileAnEntryStandsThatCannotBeMade) {
  const auto made = host("  main: { type: create_fails, endpoint: /a }\n")->create("main", Role::CLIENT);
  EXPECT_EQ(made.error, TransportError::RESOURCE_EXHAUSTED);
  EXPECT_EQ(made.error_message.substr(0, 29), "c.yaml:3:3: transports.main: ") << made.error_message;
  EXPECT_NE(made.error_message.find("no room for \"/a\""), std::string::npos) << made.error_message;
}

TEST_F(HostTest, GivesEveryProblemOfAFileALine) {
  const auto loaded = Host::from_text("c.yaml", "version: 3\n", options());
  EXPECT_EQ(loaded.error, TransportError::INVALID_CONFIG);
  EXPECT_EQ(loaded.value, nullptr);
  EXPECT_EQ(loaded.error_message,
            "c.yaml:1:1: transports: is missing; write 'transports: { main: { type: shm, endpoint: /demo } }'\n"
            "c.yaml:1:10: version: '3' is not a version that this program reads; write 'version: 1'");
  EXPECT_EQ(Host::load(temp_.path("none.yaml"), options()).error, TransportError::INVALID_CONFIG);
}

TEST_F(HostTest, LogsThroughTheSinkOfTheProgram) {
  const auto host = this->host("  main: { type: good, endpoint: /a }\n");
  host->log(LogLevel::debug, "below the level");
  host->log(LogLevel::error, "own line");
  ASSERT_TRUE(host->create("main", Role::CLIENT));
  ASSERT_EQ(lines_.size(), 2U);
  EXPECT_EQ(lines_[0], "error: own line");
  EXPECT_EQ(lines_[1].substr(0, 23), "info: a driver was made");
}

TEST_F(HostTest, LogsToStderrWhenTheProgramHasNoSink) {
  testing::internal::CaptureStderr();
  RegistryOptions plain = options();
  plain.log = nullptr;
  auto loaded = Host::from_text("c.yaml", "version: 1\ntransports: { main: { type: good, endpoint: /e } }\n", plain);
  ASSERT_TRUE(loaded) << loaded.text();
  loaded.value->log(LogLevel::warning, "to be seen");
  EXPECT_NE(testing::internal::GetCapturedStderr().find("[warning] to be seen"), std::string::npos);
}

TEST_F(HostTest, SurvivesASinkThatThrows) {
  RegistryOptions throwing = options();
  throwing.log = [](LogLevel, std::string_view) { throw std::runtime_error("full"); };
  auto loaded = Host::from_text("c.yaml", "version: 1\ntransports: { main: { type: good, endpoint: /e } }\n", throwing);
  ASSERT_TRUE(loaded) << loaded.text();
  EXPECT_NO_THROW(loaded.value->log(LogLevel::error, "x"));
  EXPECT_TRUE(loaded.value->create("main", Role::CLIENT));
}

}  // namespace
}  // namespace cdmf::ipc
