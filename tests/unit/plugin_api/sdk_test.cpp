// The SDK: function table and exception barrier of CDMF_EXPORT_TRANSPORT.
#include <gtest/gtest.h>

#include "ipc/plugin.h"
#include "support/fake_transport.h"

namespace cdmf::ipc::testing {
namespace {

/// Throws everywhere but in its constructor; what is chosen by the endpoint.
class ThrowingDriver final : public Driver {
 public:
  ThrowingDriver(const DriverConfig& config, PluginHost /*host*/) : endpoint_(config.endpoint()) {
    if (endpoint_ == "constructor") throw std::runtime_error("no luck");
    if (endpoint_ == "config") throw ConfigError("a and b contradict each other; drop b");
    if (endpoint_ == "memory") throw std::bad_alloc();
    if (endpoint_ == "int") throw 7;
  }
  cdmf_status open(ErrorText&) override { return raise(); }
  cdmf_status attach(std::uint64_t, cdmf_peer&, ErrorText&) override { return raise(); }
  cdmf_status claim(cdmf_peer, std::size_t, cdmf_loan&) override { return raise(); }
  cdmf_status commit(const cdmf_loan&, std::size_t, bool) override { return raise(); }
  void abort(const cdmf_loan&) override { raise(); }
  cdmf_status flush(cdmf_peer, std::uint64_t) override { return raise(); }
  cdmf_status await_space(cdmf_peer, std::size_t, std::uint64_t) override { return raise(); }
  std::size_t receive_burst(cdmf_view*, std::size_t) override { return static_cast<std::size_t>(raise()); }
  void release_burst() override { raise(); }
  cdmf_status await_messages(std::uint64_t) override { return raise(); }
  cdmf_status hold(cdmf_peer, std::uint64_t, std::uint64_t&) override { return raise(); }
  void unhold(std::uint64_t) override { raise(); }
  int poll_fd() override { return raise(); }
  cdmf_arm_result arm() override { return static_cast<cdmf_arm_result>(raise()); }
  void interrupt() override { raise(); }
  cdmf_status disconnect(cdmf_peer, cdmf_status) override { return raise(); }
  void close() override { raise(); }
  void describe(cdmf_info&) override { raise(); }
  const void* get_extension(const char*) override {
    raise();
    return this;
  }

 private:
  [[noreturn]] cdmf_status raise() { throw std::runtime_error("kaboom in " + endpoint_); }
  std::string endpoint_;
};

constexpr TransportDescription kDescription{.type = "throwing", .summary = "throws"};
constexpr cdmf_plugin kPlugin = make_plugin<ThrowingDriver>(kDescription);

/// A host whose log the test reads.
struct LogHost {
  std::vector<std::string> lines;
  cdmf_host host{sizeof(cdmf_host),
                 CDMF_ABI_MAJOR,
                 CDMF_ABI_MINOR,
                 this,
                 [](void*) -> std::uint32_t { return CDMF_LOG_TRACE; },
                 [](void* context, std::uint32_t, const char* message, const char*, std::uint32_t) {
                   static_cast<LogHost*>(context)->lines.emplace_back(message);
                 },
                 [](void*, const char*) -> const void* { return nullptr; }};
};

cdmf_config config_for(const char* endpoint) {
  cdmf_config config{};
  config.struct_size = sizeof config;
  config.endpoint = endpoint;
  config.max_message_size = 1000;
  config.frame_size_max = 1000 + CDMF_FRAME_OVERHEAD_MAX;
  return config;
}

TEST(Sdk, AConstructorThatThrowsIsAStatusWithItsText) {
  const struct {
    const char* endpoint;
    cdmf_status status;
    const char* text;
  } cases[] = {
      {"constructor", CDMF_INTERNAL_ERROR, "the plugin threw in its constructor: no luck"},
      {"config", CDMF_INVALID_CONFIG, "a and b contradict each other; drop b"},
      {"memory", CDMF_RESOURCE_EXHAUSTED, "out of memory"},
      {"int", CDMF_INTERNAL_ERROR, "no std::exception"},
  };
  for (const auto& each : cases) {
    const cdmf_config config = config_for(each.endpoint);
    cdmf_driver driver{};
    cdmf_error error{};
    error.struct_size = sizeof error;
    EXPECT_EQ(kPlugin.create(nullptr, &config, &driver, &error), each.status) << each.endpoint;
    EXPECT_NE(std::string(error.message).find(each.text), std::string::npos) << error.message;
    EXPECT_EQ(driver.self, nullptr);
  }
}

TEST(Sdk, NoExceptionLeavesAFunctionOfTheTableAndEachIsTold) {
  LogHost log;
  const cdmf_config config = config_for("/x");
  cdmf_driver driver{};
  ASSERT_EQ(kPlugin.create(&log.host, &config, &driver, nullptr), CDMF_OK);
  const cdmf_driver_ops& ops = *driver.ops;
  void* const self = driver.self;
  EXPECT_EQ(ops.struct_size, sizeof(cdmf_driver_ops));
  cdmf_error error{};
  error.struct_size = sizeof error;
  cdmf_peer peer = 0;
  cdmf_loan loan{};
  cdmf_view view{};
  cdmf_info info{};
  info.address = "untouched";
  std::uint64_t held = 0;
  EXPECT_EQ(ops.open(self, &error), CDMF_INTERNAL_ERROR);
  EXPECT_STREQ(error.message, "the plugin threw in open: kaboom in /x");
  EXPECT_EQ(ops.attach(self, 0, &peer, &error), CDMF_INTERNAL_ERROR);
  EXPECT_STREQ(error.message, "the plugin threw in attach: kaboom in /x");
  EXPECT_TRUE(log.lines.empty());
  EXPECT_EQ(ops.claim(self, 1, 1, &loan), CDMF_INTERNAL_ERROR);
  EXPECT_EQ(ops.commit(self, &loan, 1, 1), CDMF_INTERNAL_ERROR);
  ops.abort(self, &loan);
  EXPECT_EQ(ops.flush(self, 1, 0), CDMF_INTERNAL_ERROR);
  EXPECT_EQ(ops.await_space(self, 1, 1, 0), CDMF_INTERNAL_ERROR);
  EXPECT_EQ(ops.receive_burst(self, &view, 1), 0u);
  ops.release_burst(self);
  EXPECT_EQ(ops.await_messages(self, 0), CDMF_INTERNAL_ERROR);
  EXPECT_EQ(ops.hold(self, 1, 1, &held), CDMF_INTERNAL_ERROR);
  ops.unhold(self, 1);
  EXPECT_EQ(ops.poll_fd(self), -1);
  EXPECT_EQ(ops.arm(self), CDMF_READY) << "never sleep on a descriptor that may not signal";
  ops.interrupt(self);
  EXPECT_EQ(ops.disconnect(self, 1, CDMF_OK), CDMF_INTERNAL_ERROR);
  ops.describe(self, &info);
  EXPECT_STREQ(info.address, "untouched");
  EXPECT_EQ(ops.get_extension(self, "x"), nullptr);
  ops.close(self);
  EXPECT_EQ(log.lines.size(), 17u);
  for (const std::string& line : log.lines) EXPECT_NE(line.find("kaboom in /x"), std::string::npos) << line;
  ops.destroy(self);
}

TEST(Sdk, ATransportOverADriverThatThrowsEverywhereFailsWithWords) {
  Transport transport(kPlugin);
  TransportConfig config;
  config.endpoint = "/x";
  config.role = Role::CLIENT;
  ASSERT_TRUE(transport.init(config).success());
  ASSERT_TRUE(transport.start().success());
  const auto result = transport.connect();
  EXPECT_EQ(result.error, TransportError::INTERNAL_ERROR);
  EXPECT_NE(result.error_message.find("kaboom"), std::string::npos) << result.error_message;
  transport.cleanup();
}

TEST(Sdk, TheDescriptorSaysWhatItWasBuiltFor) {
  EXPECT_EQ(kPlugin.magic, CDMF_PLUGIN_MAGIC);
  EXPECT_EQ(kPlugin.struct_size, sizeof(cdmf_plugin));
  EXPECT_EQ(kPlugin.abi_major, CDMF_ABI_MAJOR);
  EXPECT_EQ(kPlugin.abi_minor, CDMF_ABI_MINOR);
  EXPECT_STREQ(kPlugin.build->language, "C++20");
  EXPECT_STRNE(kPlugin.build->compiler, "");
  EXPECT_STRNE(kPlugin.build->standard_library, "");
  EXPECT_EQ(kPlugin.get_extension("anything"), nullptr);
}

/// Takes frames in one call. The rest is never asked for.
class PuttingDriver : public Driver {
 public:
  PuttingDriver(const DriverConfig& config, PluginHost /*host*/)
      : throws_(std::string_view(config.endpoint()) == "throws") {}
  cdmf_status put(cdmf_peer peer, const cdmf_pieces& frame, bool flush) {
    if (throws_) throw std::runtime_error("kaboom");
    return peer == 7 && frame.body_size == 3 && flush ? CDMF_OK : CDMF_INVALID_ARGUMENT;
  }
  const void* get_extension(const char* name) override { return std::string_view(name) == "own" ? this : nullptr; }
  cdmf_status open(ErrorText&) override { return CDMF_OK; }
  cdmf_status attach(std::uint64_t, cdmf_peer&, ErrorText&) override { return CDMF_OK; }
  cdmf_status claim(cdmf_peer, std::size_t, cdmf_loan&) override { return CDMF_UNSUPPORTED; }
  cdmf_status commit(const cdmf_loan&, std::size_t, bool) override { return CDMF_UNSUPPORTED; }
  void abort(const cdmf_loan&) override {}
  cdmf_status flush(cdmf_peer, std::uint64_t) override { return CDMF_OK; }
  cdmf_status await_space(cdmf_peer, std::size_t, std::uint64_t) override { return CDMF_OK; }
  std::size_t receive_burst(cdmf_view*, std::size_t) override { return 0; }
  void release_burst() override {}
  cdmf_status await_messages(std::uint64_t) override { return CDMF_OK; }
  void interrupt() override {}
  cdmf_status disconnect(cdmf_peer, cdmf_status) override { return CDMF_OK; }
  void close() override {}
  void describe(cdmf_info&) override {}

 private:
  bool throws_;
};

TEST(Sdk, ADriverWithAMethodPutOffersItAsAnExtension) {
  constexpr TransportDescription kPutting{.type = "putting", .summary = "puts"};
  const cdmf_plugin plugin = make_plugin<PuttingDriver>(kPutting);
  LogHost log;
  for (const bool throws : {false, true}) {
    cdmf_config config{};
    config.struct_size = sizeof config;
    config.endpoint = throws ? "throws" : "works";
    cdmf_driver driver{};
    ASSERT_EQ(plugin.create(&log.host, &config, &driver, nullptr), CDMF_OK);
    const auto* extension = static_cast<const cdmf_put*>(driver.ops->get_extension(driver.self, CDMF_PUT_EXTENSION));
    ASSERT_NE(extension, nullptr);
    EXPECT_EQ(extension->struct_size, sizeof(cdmf_put));
    const cdmf_pieces frame{{1, 2}, "abc", 3, nullptr, 0};
    EXPECT_EQ(extension->put(driver.self, 7, &frame, 1), throws ? CDMF_INTERNAL_ERROR : CDMF_OK);
    EXPECT_NE(driver.ops->get_extension(driver.self, "own"), nullptr);
    EXPECT_EQ(driver.ops->get_extension(driver.self, "other"), nullptr);
    driver.ops->destroy(driver.self);
  }
  ASSERT_EQ(log.lines.size(), 1u);
  EXPECT_NE(log.lines[0].find("put"), std::string::npos) << log.lines[0];
}

/// … and many at once.
class BurstDriver final : public PuttingDriver {
 public:
  using PuttingDriver::PuttingDriver;
  std::size_t put_burst(cdmf_peer peer, std::span<const cdmf_pieces> frames, bool flush) noexcept {
    std::size_t count = 0;
    while (count < frames.size() && put(peer, frames[count], flush) == CDMF_OK) ++count;
    return count;
  }
};

TEST(Sdk, AMethodForManyFramesIsOfferedWithPutAndNullWithoutIt) {
  constexpr TransportDescription kPutting{.type = "putting", .summary = "puts"};
  LogHost log;
  cdmf_config config{};
  config.struct_size = sizeof config;
  config.endpoint = "works";
  const auto offered = [&](const cdmf_plugin& plugin, auto&& look) {
    cdmf_driver driver{};
    ASSERT_EQ(plugin.create(&log.host, &config, &driver, nullptr), CDMF_OK);
    const auto* put = static_cast<const cdmf_put*>(driver.ops->get_extension(driver.self, CDMF_PUT_EXTENSION));
    ASSERT_NE(put, nullptr);
    look(driver.self, *put);
    driver.ops->destroy(driver.self);
  };
  offered(make_plugin<PuttingDriver>(kPutting), [](void*, const cdmf_put& put) { EXPECT_EQ(put.put_burst, nullptr); });
  offered(make_plugin<BurstDriver>(kPutting), [](void* self, const cdmf_put& put) {
    ASSERT_NE(put.put_burst, nullptr);
    const cdmf_pieces good{{1, 2}, "abc", 3, nullptr, 0};
    const cdmf_pieces frames[] = {good, good, {{1, 2}, "abcd", 4, nullptr, 0}, good};
    EXPECT_EQ(put.put_burst(self, 7, frames, 4, 1), 2u);
    EXPECT_EQ(put.put(self, 7, &good, 1), CDMF_OK);
  });
}

TEST(Sdk, PollTimeoutsAreRoundedUpSoThatNoWaitIsEarly) {
  EXPECT_EQ(poll_timeout_ms(kNoWait), 0);
  EXPECT_EQ(poll_timeout_ms(kForever), -1);
  EXPECT_EQ(poll_timeout_ms(1), 0) << "long past";
  EXPECT_EQ(poll_timeout_ms(monotonic_now_ns() + 500'000), 1);
  const int ms = poll_timeout_ms(monotonic_now_ns() + 10'000'000'000);
  EXPECT_GT(ms, 9000);
  EXPECT_LE(ms, 10'000);
  EXPECT_GT(poll_timeout_ms(kForever - 1), 0);
}

}  // namespace
}  // namespace cdmf::ipc::testing
