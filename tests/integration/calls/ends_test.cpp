// How calls end when a process, a stub or a proxy does.
#include <atomic>
#include <random>
#include <thread>

#include "calls/client.h"

namespace cdmf::ipc::calls {
namespace {

/// With a server in a process of its own.
class CallsToAProcess : public Calls {
 protected:
  void SetUp() override {
    if (!subject().leaves_process()) GTEST_SKIP() << subject().type << " does not leave its process";
    Calls::SetUp();
  }
};

TEST_F(CallsToAProcess, ADeadServerEndsItsCallsAsUnknownAndTheNextServerIsFound) {
  for (const char* phase : {"die_before", "die_on_pool"}) {
    const auto result = proxy().call(phase, "");
    EXPECT_EQ(result.status, CallStatus::UNKNOWN) << phase << ": " << result.text();
    EXPECT_NE(result.error, TransportError::TIMEOUT) << phase;
    (void)server_.wait();
    server_.start();
    expect_works_again(proxy());
  }
}

TEST_F(CallsToAProcess, ARequestThatAKilledServerNeverTookIsUnknown) {
  server_.freeze();
  auto answer = proxy().callAsync("echo", "never looked at");
  server_.kill();
  EXPECT_EQ(get(proxy(), std::move(answer)).status, CallStatus::UNKNOWN);
  server_.start();
  expect_works_again(proxy());
}

TEST_F(CallsToAProcess, AReplySentBeforeDeathArrivesOrTheCallIsUnknown) {
  const auto result = proxy().call("die_after", "last words");
  if (result) {
    EXPECT_EQ(text(result), "last words");
  } else {
    EXPECT_EQ(result.status, CallStatus::UNKNOWN) << result.text();
  }
  (void)server_.wait();
  const auto next = proxy().call("echo", "", 50ms);
  EXPECT_FALSE(next.success());
  server_.start();
  expect_works_again(proxy());
}

TEST_F(CallsToAProcess, HeldCallsEndAsUnknownWhenTheServerIsKilled) {
  std::vector<std::future<CallResult<>>> futures;
  for (int i = 0; i < 100; ++i) futures.push_back(proxy().callAsync("hold", ""));
  EXPECT_TRUE(proxy().call("echo", "").success());  // They have arrived.
  server_.kill();
  for (auto& future : futures) EXPECT_EQ(get(proxy(), std::move(future)).status, CallStatus::UNKNOWN);
  EXPECT_EQ(proxy().getStats().unknown, 100u);
}

TEST_F(CallsToAProcess, AStoppedServerIsSlowNotDead) {
  server_.freeze();
  const auto late = proxy().call("echo", "early", 50ms);
  EXPECT_EQ(late.status, CallStatus::UNKNOWN);
  EXPECT_EQ(late.error, TransportError::TIMEOUT);
  server_.thaw();
  const auto reply = proxy().call("echo", "now");
  ASSERT_TRUE(reply.success()) << reply.text();
  EXPECT_EQ(text(reply), "now") << "the late reply was taken for this one";
  EXPECT_EQ(proxy().getStats().late_replies, 1u);
}

TEST_F(CallsToAProcess, EveryCallIsAccountedForWhileServersAreKilled) {
  const std::uint64_t calls = std::getenv("CDMF_CALLS_MILLION") != nullptr ? 20000 : 2000;
  std::mt19937 random(20260101);
  std::atomic<std::uint64_t> ended[4] = {};
  std::atomic<std::uint64_t> issued{0};
  std::atomic<bool> over{false};
  const auto note = [&](CallStatus status) {
    ++ended[static_cast<std::size_t>(status)];
    if (status == CallStatus::NOT_SENT) std::this_thread::sleep_for(1ms);  // Else they use up the calls.
  };
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const char* const methods[] = {"echo", "fail", "pool_remaining", "no such"};
      for (std::uint64_t i = 0; issued.fetch_add(1) < calls; ++i) {
        const char* method = methods[(i + static_cast<std::uint64_t>(t)) % 4];
        if (t % 2 == 0) {
          note(proxy().call(method, "payload", 500ms).status);
        } else {
          std::promise<CallStatus> promise;
          auto future = promise.get_future();
          proxy().callAsync(
              method, "payload", [&](const CallReply& reply) { promise.set_value(reply.status); }, 500ms);
          while (future.wait_for(0s) != std::future_status::ready) {
            if (proxy().poll() == 0) std::this_thread::sleep_for(50us);
          }
          note(future.get());
        }
      }
      over = true;
    });
  }
  int kills = 0;
  while (!over) {
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 5));
    server_.kill();
    server_.start();
    ++kills;
    // A few calls get through between two deaths.
    const std::uint64_t before = ended[0];
    const auto end = std::chrono::steady_clock::now() + kWatchdog;
    while (!over && ended[0] < before + 20 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
  }
  threads.clear();
  EXPECT_EQ(ended[0] + ended[1] + ended[2] + ended[3], calls);
  const auto stats = proxy().getStats();
  EXPECT_EQ(stats.calls, calls);
  EXPECT_EQ(stats.in_flight, 0u);
  EXPECT_EQ(stats.replies, ended[static_cast<int>(CallStatus::REPLY)]);
  EXPECT_EQ(stats.application_errors, ended[static_cast<int>(CallStatus::APPLICATION_ERROR)]);
  EXPECT_EQ(stats.not_sent, ended[static_cast<int>(CallStatus::NOT_SENT)]);
  EXPECT_EQ(stats.unknown, ended[static_cast<int>(CallStatus::UNKNOWN)]);
  EXPECT_EQ(stats.forged_replies, 0u);
  EXPECT_GT(stats.replies, 0u);
  RecordProperty("kills", kills);
  std::printf("%d servers killed; %llu replies, %llu application errors, %llu not sent, %llu unknown\n", kills,
              static_cast<unsigned long long>(stats.replies), static_cast<unsigned long long>(stats.application_errors),
              static_cast<unsigned long long>(stats.not_sent), static_cast<unsigned long long>(stats.unknown));
}

TEST_F(Calls, AHandlerMayStopItsStubAndItsAnswerStillArrives) {
  const auto bye = proxy().call("stop", "");
  ASSERT_TRUE(bye.success()) << bye.text();
  EXPECT_EQ(text(bye), "bye");
  const auto next = proxy().call("echo", "", 100ms);
  EXPECT_FALSE(next.success());
}

TEST_F(Calls, StoppingTheProxyEndsEveryCallOnce) {
  std::atomic<int> ended{0};
  std::atomic<int> closed{0};
  for (int i = 0; i < 50; ++i) {
    proxy().callAsync("hold", "", [&](const CallReply& reply) {
      ++ended;
      closed += reply.status == CallStatus::UNKNOWN && reply.error == TransportError::CONNECTION_CLOSED;
    });
  }
  std::atomic<int> waited{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] { waited += proxy().call("hold", "").status != CallStatus::REPLY; });
    }
    std::this_thread::sleep_for(10ms);  // So that most of them wait; it holds for those that do not, too.
    proxy().stop();
  }
  EXPECT_EQ(ended, 50);
  EXPECT_EQ(closed, 50);
  EXPECT_EQ(waited, 4);
  const auto after = proxy().call("echo", "");
  EXPECT_EQ(after.status, CallStatus::NOT_SENT);
  EXPECT_EQ(after.error, TransportError::CONNECTION_CLOSED);
  EXPECT_EQ(proxy().callOneWay("count", "").error, TransportError::CONNECTION_CLOSED);
}

TEST_F(Calls, ACallbackMayDestroyItsProxy) {
  std::atomic<bool> ended{false};
  auto own = connect();
  ServiceProxy* const raw = own.get();
  raw->callAsync("echo", "", [&](const CallReply&) {
    own.reset();
    ended = true;
  });
  const auto end = std::chrono::steady_clock::now() + kWatchdog;
  while (!ended && std::chrono::steady_clock::now() < end) {
    if (subject().receive == Receive::POLL)
      raw->poll();
    else
      std::this_thread::sleep_for(100us);
  }
  EXPECT_TRUE(ended);
  EXPECT_TRUE(proxy().call("echo", "").success());
}

TEST_F(Calls, ACallbackMayCallOnAndMayNotWait) {
  std::atomic<int> chain{0};
  std::atomic<TransportError> waited{TransportError::SUCCESS};
  std::function<void(const CallReply&)> next = [&](const CallReply& reply) {
    ASSERT_TRUE(reply.success());
    if (chain == 0) waited = proxy().call("echo", "").error;
    if (++chain < 100) proxy().callAsync("echo", "", next);
  };
  proxy().callAsync("echo", "", next);
  EXPECT_TRUE(wait_until(proxy(), [&] { return chain == 100; }));
  EXPECT_EQ(waited, TransportError::UNSUPPORTED);
}

TEST_F(Calls, WhatACallbackThrowsIsCountedAndTheNextReplyComes) {
  proxy().callAsync("echo", "", [](const CallReply&) { throw std::runtime_error("mine"); });
  EXPECT_TRUE(wait_until(proxy(), [&] { return proxy().getStats().callback_errors == 1; }));
  EXPECT_TRUE(proxy().call("echo", "").success());
  EXPECT_THROW((void)proxy().callView("echo", "", [](std::span<const std::byte>) { throw std::logic_error("read"); }),
               std::logic_error);
  EXPECT_TRUE(proxy().call("echo", "").success());
}

TEST_F(Calls, OneThreadWithNothingLockedWorksToo) {
  if (subject().receive == Receive::THREAD) GTEST_SKIP() << "only where the caller receives";
  ServiceProxy alone(make_transport(Role::CLIENT, server_.endpoint(), Receive::POLL, Senders::ONE));
  ASSERT_TRUE(alone.start().success());
  for (int i = 0; i < 1000; ++i) {
    const auto sum = alone.call<AddReply>("add", AddRequest{i, 1});
    ASSERT_TRUE(sum.success()) << sum.text();
    ASSERT_EQ(sum.value.sum, i + 1);
  }
  EXPECT_EQ(alone.call("sleep", "50", 10ms).error, TransportError::TIMEOUT);
  auto future = alone.callAsync("echo", "later");
  EXPECT_EQ(text(get(alone, std::move(future))), "later");
}

}  // namespace
}  // namespace cdmf::ipc::calls
