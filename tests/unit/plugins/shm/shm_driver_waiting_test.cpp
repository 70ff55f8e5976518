// Waiting in the shm driver: interrupts, the descriptor of an event loop, and wake-ups that must not be lost.

#include <poll.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "driver_pair.h"

namespace cdmf::ipc::shm {
namespace {

using testing::DriverUnderTest;
using testing::in_ms;
using testing::kPatienceMs;
using testing::Pair;
using testing::unique_endpoint;

TEST(ShmDriver, InterruptEndsARunningWaitAndElseTheNext) {
  for (const char* wait : {"spin", "yield", "adaptive", "futex"}) {
    Pair pair(testing::Options{{"wait", wait}, {"ring_buffer_capacity", "32"}});
    pair.server->interrupt(pair.server.self());
    EXPECT_EQ(pair.server->await_messages(pair.server.self(), in_ms(kPatienceMs)), CDMF_INTERRUPTED) << wait;
    EXPECT_EQ(pair.server->await_messages(pair.server.self(), in_ms(20)), CDMF_TIMEOUT) << wait;
    std::thread interrupter([&] {
      std::this_thread::sleep_for(
          std::chrono::milliseconds(5));  // Most likely it waits by then; both orders are right.
      pair.server->interrupt(pair.server.self());
    });
    EXPECT_EQ(pair.server->await_messages(pair.server.self(), in_ms(kPatienceMs)), CDMF_INTERRUPTED) << wait;
    interrupter.join();
    while (pair.client.send(pair.to_server, std::string(1000, 'x')) == CDMF_OK) {
    }
    std::thread space_interrupter([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      pair.client->interrupt(pair.client.self());
    });
    EXPECT_EQ(pair.client->await_space(pair.client.self(), pair.to_server, 1000, in_ms(kPatienceMs)), CDMF_INTERRUPTED)
        << wait;
    space_interrupter.join();
  }
}

// Catches (the thread sanitizer says so) what interrupt() and unhold() touch while close() takes it away.
TEST(ShmDriver, CallsFromAnyThreadMayMeetOpenAndClose) {
  DriverUnderTest server(CDMF_ROLE_SERVER, unique_endpoint());
  ASSERT_EQ(server.open(), CDMF_OK);
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) {
      server->interrupt(server.self());
      server->unhold(server.self(), 1);
      server->disconnect(server.self(), 1, CDMF_CONNECTION_CLOSED);
    }
  });
  for (int i = 0; i < 100; ++i) {
    server.close();
    ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  }
  stop = true;
  other.join();
}

TEST(ShmDriver, PollFdBecomesReadableAfterArmedAndOnlyThen) {
  Pair pair;
  const int fd = pair.server->poll_fd(pair.server.self());
  ASSERT_GE(fd, 0);
  const auto readable = [&](int timeout_ms) {
    pollfd wait{fd, POLLIN, 0};
    return poll(&wait, 1, timeout_ms) == 1;
  };
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(pair.server->arm(pair.server.self()), CDMF_ARMED);
    ASSERT_FALSE(readable(0));
    ASSERT_EQ(pair.client.send(pair.to_server, "ring"), CDMF_OK);
    ASSERT_TRUE(readable(static_cast<int>(kPatienceMs)));
    ASSERT_EQ(pair.server->arm(pair.server.self()), CDMF_READY);
    ASSERT_EQ(pair.server.next().content, "ring");
  }
  ASSERT_EQ(pair.server->arm(pair.server.self()), CDMF_ARMED);
  pair.client.close();
  ASSERT_TRUE(readable(static_cast<int>(kPatienceMs))) << "the end of a link";
}

TEST(ShmDriver, SpinningReceiverHasNoPollFd) {
  Pair pair(testing::Options{{"wait", "spin"}});
  EXPECT_EQ(pair.server->poll_fd(pair.server.self()), -1);
  cdmf_info info{};
  info.struct_size = sizeof info;
  pair.server->describe(pair.server.self(), &info);
  EXPECT_EQ(info.capabilities & CDMF_CAP_POLL_FD, 0u);
}

// Catches a lost wake-up: each side sleeps for every message, with no spinning to hide behind.
TEST(ShmDriver, NoWakeUpIsLostWhenBothSidesSleepForEachMessage) {
  for (const int clients : {1, 2}) {  // One link sleeps on a futex, two in epoll.
    Pair pair(testing::Options{{"wait", "futex"}});
    DriverUnderTest idle(CDMF_ROLE_CLIENT, pair.endpoint);
    if (clients == 2) {
      ASSERT_EQ(idle.open(), CDMF_OK);
      ASSERT_EQ(idle.attach(), CDMF_OK);
      pair.server.next_peer();
    }
    constexpr int kRounds = 4000;
    std::thread echo([&] {
      for (int i = 0; i < kRounds; ++i) {
        if (pair.server.send(pair.to_client, pair.server.next().content) != CDMF_OK) return;
      }
    });
    for (int i = 0; i < kRounds; ++i) {
      ASSERT_EQ(pair.client.send(pair.to_server, std::to_string(i)), CDMF_OK);
      ASSERT_EQ(pair.client.next().content, std::to_string(i));
    }
    echo.join();
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm
