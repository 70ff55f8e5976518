// Waiting, where the receiver itself drives gRPC: for messages, with and without spinning, and for room.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>

#include "ipc/transport.h"
#include "support/eventually.h"
#include "unit/plugins/grpc/plugin.h"

namespace cdmf::ipc {
namespace {

using namespace std::chrono_literals;
using testing::kWatchdog;

/// Both ends receive where the test says.
class GrpcWaiting : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    bring_up(server_, Role::SERVER);
    bring_up(client_, Role::CLIENT);
  }
  static void bring_up(Transport& transport, Role role) {
    TransportConfig config;
    config.endpoint = "/grpc_waiting_" + std::to_string(getpid());
    config.role = role;
    config.receive = Receive::POLL;
    config.auto_reconnect = false;
    config.properties = {{"insecure", "true"}, {"spin_budget", GetParam()}, {"linger", "100ms"}};
    ASSERT_TRUE(transport.init(config).success());
    ASSERT_TRUE(transport.start().success());
    const auto connected = transport.connect();
    ASSERT_TRUE(connected.success()) << connected.text();
  }
  template <class Handler>
  static void receive_one(Transport& transport, Handler&& handler) {
    const auto until = std::chrono::steady_clock::now() + kWatchdog;
    while (transport.poll(handler, 1) == 0) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      (void)transport.await(1s);
    }
  }
  /// Sends one and waits for its answer, as often as makes receivers drive gRPC themselves.
  void ping_pong(int times) {
    std::thread echo([&] {
      for (int i = 0; i < times; ++i) {
        receive_one(server_, [&](const MessageView& message) {
          MessageView answer;
          answer.id = message.id;
          EXPECT_TRUE(server_.send(answer).success());
        });
      }
    });
    for (int i = 1; i <= times; ++i) {
      MessageView message;
      message.id = static_cast<std::uint64_t>(i);
      EXPECT_TRUE(client_.send(message).success());
      receive_one(client_, [&](const MessageView& answer) { EXPECT_EQ(answer.id, message.id); });
    }
    echo.join();
  }

  Transport server_{plugin()};
  Transport client_{plugin()};
};

TEST_P(GrpcWaiting, EveryMessageIsAnsweredHoweverReceiversWait) { ping_pong(3000); }

TEST_P(GrpcWaiting, AWaitEndsAtItsDeadlineAndNotBefore) {
  ping_pong(100);
  for (const auto timeout : {50us, 3000us, 20000us}) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(client_.await(timeout).error, TransportError::TIMEOUT);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, timeout);
    ping_pong(1);
  }
}

TEST_P(GrpcWaiting, AnInterruptEndsAWait) {
  for (int i = 0; i < 20; ++i) {
    ping_pong(20);
    std::thread interrupter([&] { client_.interrupt(); });
    EXPECT_EQ(client_.await(kWatchdog).error, TransportError::INTERRUPTED);
    interrupter.join();
  }
}

TEST_P(GrpcWaiting, WhoWaitsForRoomInAHandlerHearsThatThePeerHasGone) {
  ping_pong(100);
  std::atomic<bool> is_full{false};
  std::atomic<TransportError> error{TransportError::SUCCESS};
  std::thread sender([&] {
    receive_one(server_, [&](const MessageView&) {
      const std::string payload(60000, 'x');
      MessageView message;
      message.payload = std::as_bytes(std::span(payload));
      while (server_.send(message, {.timeout = 0ns}).success()) continue;
      is_full = true;
      TransportResult<> sent;
      do sent = server_.send(message, {.timeout = kWatchdog});
      while (sent.success());
      error = sent.error;
    });
  });
  MessageView go;
  ASSERT_TRUE(client_.send(go).success());
  EXPECT_TRUE(testing::eventually([&] { return is_full.load(); }));
  client_.stop();
  sender.join();
  EXPECT_NE(error, TransportError::SUCCESS);
  EXPECT_NE(error, TransportError::TIMEOUT) << "it did not notice";
}

INSTANTIATE_TEST_SUITE_P(With, GrpcWaiting, ::testing::Values("0", "100us", "10ms"),
                         [](const auto& budget) { return std::string(budget.param) + "_of_spinning"; });

}  // namespace
}  // namespace cdmf::ipc
