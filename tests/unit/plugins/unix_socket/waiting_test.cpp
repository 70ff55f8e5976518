// Waiting for messages: with spinning first, and without.
#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "runtime_directory.h"
#include "unit/plugins/c_driver.h"
#include "unix_socket_driver.h"

namespace cdmf::ipc::unix_socket {
namespace {

using ipc::test::CDriver;
using ipc::test::in;
using ipc::test::kWatchdog;
using test::RuntimeDirectory;
using namespace std::chrono_literals;

const cdmf_plugin kPlugin = make_plugin<UnixSocketDriver>(kDescription);

/// Both ends spin as long as the test says.
class UnixSocketWaiting : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ASSERT_EQ(server_.open(), CDMF_OK) << server_.error.message;
    ASSERT_EQ(client_.open(), CDMF_OK) << client_.error.message;
    ASSERT_EQ(client_.attach(), CDMF_OK) << client_.error.message;
    ASSERT_TRUE(client_.next().is(CDMF_VIEW_PEER_CONNECTED));
    const auto connected = server_.next();
    ASSERT_TRUE(connected.is(CDMF_VIEW_PEER_CONNECTED));
    peer_ = connected.peer;
  }
  /// Sends one and waits for its answer; each end on its own thread.
  void ping_pong(int times) {
    std::thread echo([&] {
      for (int i = 0; i < times; ++i) EXPECT_EQ(server_.send(peer_, server_.next().content), CDMF_OK);
    });
    for (int i = 0; i < times; ++i) {
      const std::string text = std::to_string(i);
      EXPECT_EQ(client_.send(client_.server, text), CDMF_OK);
      EXPECT_TRUE(client_.next().is_message(text));
    }
    echo.join();
  }

  const RuntimeDirectory runtime_;
  CDriver server_{kPlugin, CDMF_ROLE_SERVER, "/waiting", {{"spin_budget", GetParam()}}};
  CDriver client_{kPlugin, CDMF_ROLE_CLIENT, "/waiting", {{"spin_budget", GetParam()}}};
  cdmf_peer peer_ = CDMF_NO_PEER;
};

TEST_P(UnixSocketWaiting, EveryMessageIsAnswered) { ping_pong(3000); }

TEST_P(UnixSocketWaiting, AWaitEndsAtItsDeadlineAndNotBefore) {
  for (const auto timeout : {50us, 2000us, 20000us}) {
    ping_pong(20);  // So that a spin has paid.
    const std::uint64_t deadline = in(timeout);
    EXPECT_EQ(client_.ops().await_messages(client_.self(), deadline), CDMF_TIMEOUT);
    EXPECT_GE(monotonic_now_ns(), deadline);
  }
}

TEST_P(UnixSocketWaiting, AnInterruptEndsAWait) {
  ping_pong(20);
  std::thread interrupter([&] {
    std::this_thread::sleep_for(1ms);  // Within the longest spin, as a rule; before the wait it counts as well.
    client_.ops().interrupt(client_.self());
  });
  EXPECT_EQ(client_.ops().await_messages(client_.self(), in(kWatchdog)), CDMF_INTERRUPTED);
  interrupter.join();
}

TEST_P(UnixSocketWaiting, AReceiverOfOnePeerNoticesASecondOneAndTheEndOfTheFirst) {
  ping_pong(20);
  CDriver second(kPlugin, CDMF_ROLE_CLIENT, "/waiting");
  std::thread comes([&] {
    EXPECT_EQ(second.open(), CDMF_OK);
    EXPECT_EQ(second.attach(), CDMF_OK);
    EXPECT_EQ(second.send(second.server, "me too"), CDMF_OK);
  });
  EXPECT_TRUE(server_.next().is(CDMF_VIEW_PEER_CONNECTED));
  EXPECT_TRUE(server_.next().is_message("me too"));
  comes.join();
  std::thread goes([&] { client_.close(); });
  const auto gone = server_.next();
  EXPECT_TRUE(gone.is(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(gone.peer, peer_);
  goes.join();
}

INSTANTIATE_TEST_SUITE_P(Budgets, UnixSocketWaiting, ::testing::Values("0", "100us", "10ms"),
                         [](const auto& test) { return "Spin" + std::string(test.param); });

}  // namespace
}  // namespace cdmf::ipc::unix_socket
