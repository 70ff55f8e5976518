// What a call returns, whatever the handler does.
#include <atomic>
#include <thread>

#include "calls/client.h"

namespace cdmf::ipc::calls {
namespace {

TEST_F(Calls, AReplyComesBackWithItsBytes) {
  for (const std::size_t size : {0u, 1u, 32u, 1000u, 60000u}) {
    const std::string sent(size, 'x');
    const auto reply = proxy().call("echo", sent);
    ASSERT_TRUE(reply.success()) << size << ": " << reply.text();
    EXPECT_EQ(text(reply), sent);
  }
  const auto stats = proxy().getStats();
  EXPECT_EQ(stats.calls, 5u);
  EXPECT_EQ(stats.replies, 5u);
  EXPECT_EQ(stats.latency_count, 5u);
  EXPECT_GT(stats.latency_p50_ns, 0u);
}

TEST_F(Calls, TypesTravelAsTheirBytes) {
  const auto sum = proxy().call<AddReply>("add", AddRequest{40, 2});
  ASSERT_TRUE(sum.success()) << sum.text();
  EXPECT_EQ(sum.value.sum, 42);
  const auto greeting = proxy().call<std::string>("greet", std::string("you"));
  ASSERT_TRUE(greeting.success()) << greeting.text();
  EXPECT_EQ(greeting.value, "hello you");
  EXPECT_TRUE(proxy().call<void>("ignore", std::string_view("nothing comes back")).success());
  const auto later = get(proxy(), proxy().callAsync<AddReply>("add", AddRequest{1, 2}));
  ASSERT_TRUE(later.success()) << later.text();
  EXPECT_EQ(later.value.sum, 3);
}

TEST_F(Calls, AMalformedRequestOrReplyIsAnErrorOfThatCallAlone) {
  const auto request = proxy().call("add", "three");
  EXPECT_EQ(request.status, CallStatus::NOT_SENT);
  EXPECT_EQ(request.error, TransportError::INVALID_MESSAGE);
  EXPECT_NE(request.text().find("5 bytes"), std::string::npos) << request.text();
  const auto reply = proxy().call<AddReply>("echo", std::string_view("three"));
  EXPECT_EQ(reply.status, CallStatus::APPLICATION_ERROR);
  EXPECT_EQ(reply.error, TransportError::INVALID_MESSAGE);
  EXPECT_EQ(get(proxy(), proxy().callAsync<AddReply>("echo", std::string_view("three"))).error,
            TransportError::INVALID_MESSAGE);
  EXPECT_TRUE(proxy().call("echo", "still works").success());
}

TEST_F(Calls, AHandlersErrorsAndExceptionsBecomeTheCallers) {
  const auto failed = proxy().call("fail", "");
  EXPECT_EQ(failed.status, CallStatus::APPLICATION_ERROR);
  EXPECT_EQ(failed.code, 42u);
  EXPECT_EQ(failed.error_message, "as asked");
  EXPECT_EQ(failed.text(), "APPLICATION_ERROR 42: as asked");
  const auto thrown = proxy().call("throw", "");
  EXPECT_EQ(thrown.status, CallStatus::APPLICATION_ERROR);
  EXPECT_EQ(thrown.error_message, "a handler's own words");
  const auto silent = proxy().call("silent", "");
  EXPECT_EQ(silent.error_message, "the handler returned without an answer");
  const auto dropped = proxy().call("drop", "");
  EXPECT_EQ(dropped.error_message, "the service dropped this call without an answer");
  EXPECT_EQ(text(proxy().call("twice", "")), "first");
  EXPECT_EQ(proxy().getStats().application_errors, 4u);
}

TEST_F(Calls, AnUnknownMethodIsNotSentAndSaysWhatThereIs) {
  const auto missing = proxy().call("ecko", "");
  EXPECT_EQ(missing.status, CallStatus::NOT_SENT);
  EXPECT_EQ(missing.error, TransportError::UNSUPPORTED);
  EXPECT_NE(missing.error_message.find("did you mean 'echo'"), std::string::npos) << missing.text();
  EXPECT_EQ(proxy().call(std::string(257, 'm'), "").error, TransportError::INVALID_MESSAGE);
}

TEST_F(Calls, TooLargeARequestOrReplyIsRefusedAndTheNextCallWorks) {
  const auto request = proxy().call("echo", std::string(70000, 'x'));
  EXPECT_EQ(request.status, CallStatus::NOT_SENT);
  EXPECT_EQ(request.error, TransportError::BUFFER_OVERFLOW);
  const auto reply = proxy().call("big", "70000");
  EXPECT_EQ(reply.status, CallStatus::APPLICATION_ERROR);
  EXPECT_NE(reply.error_message.find("70000 bytes"), std::string::npos) << reply.text();
  EXPECT_TRUE(proxy().call("big", "60000").success());
}

TEST_F(Calls, ACallWithoutTimeIsNotSent) {
  for (const auto timeout : {0ns, -1ns}) {
    const auto waiting = proxy().call("echo", "", timeout);
    EXPECT_EQ(waiting.status, CallStatus::NOT_SENT);
    EXPECT_EQ(waiting.error, TransportError::INVALID_ARGUMENT);
    EXPECT_EQ(get(proxy(), proxy().callAsync("echo", "", timeout)).error, TransportError::INVALID_ARGUMENT);
    EXPECT_EQ(proxy().callOneWay("count", "", timeout).error, TransportError::INVALID_ARGUMENT);
  }
}

TEST_F(Calls, AnAnswerMayComeLaterFromAnyThread) { EXPECT_EQ(text(proxy().call("later", "20")), "later"); }

TEST_F(Calls, TheDeadlineEndsACallAndItsLateReplyIsCounted) {
  const auto begin = std::chrono::steady_clock::now();
  const auto late = proxy().call("sleep", "150", 30ms);
  EXPECT_EQ(late.status, CallStatus::UNKNOWN);
  EXPECT_EQ(late.error, TransportError::TIMEOUT);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 30ms);
  EXPECT_TRUE(wait_until(proxy(), [&] { return proxy().getStats().late_replies == 1; }));
  EXPECT_TRUE(proxy().call("echo", "works").success());
  const auto stats = proxy().getStats();
  EXPECT_EQ(stats.timeouts, 1u);
  EXPECT_EQ(stats.forged_replies, 0u);
}

TEST_F(Calls, AnAsynchronousCallEndsAtItsDeadlineAndNotBefore) {
  const auto begin = std::chrono::steady_clock::now();
  const auto late = get(proxy(), proxy().callAsync("hold", "", 40ms));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 40ms);
  EXPECT_EQ(late.status, CallStatus::UNKNOWN);
  EXPECT_EQ(late.error, TransportError::TIMEOUT);
  EXPECT_EQ(text(proxy().call("release", "")), "1");
  EXPECT_TRUE(wait_until(proxy(), [&] { return proxy().getStats().late_replies == 1; }));
}

TEST_F(Calls, TheHandlerSeesHowLongItsCallerWaits) {
  for (const char* method : {"remaining", "pool_remaining"}) {
    const auto reply = proxy().call(method, "", 10s);
    ASSERT_TRUE(reply.success()) << reply.text();
    const std::chrono::nanoseconds left(std::stoll(text(reply)));
    EXPECT_GT(left, 0s);
    EXPECT_LE(left, 10s * 9 / 8) << "rounded up by an eighth at most";
  }
}

TEST_F(Calls, TenThousandLateRepliesAreDroppedAndCounted) {
  constexpr std::uint64_t kCalls = 10000;
  std::atomic<std::uint64_t> timed_out{0};
  for (std::uint64_t i = 0; i < kCalls; ++i) {
    ASSERT_TRUE(wait_until(proxy(), [&] { return proxy().getStats().in_flight < 1000; }));
    proxy().callAsync(
        "hold", "", [&](const CallReply& reply) { timed_out += reply.error == TransportError::TIMEOUT; }, 20ms);
  }
  ASSERT_TRUE(wait_until(proxy(), [&] { return proxy().getStats().in_flight == 0; }));
  EXPECT_EQ(timed_out, kCalls);
  EXPECT_EQ(text(proxy().call("release", "")), std::to_string(kCalls));
  EXPECT_TRUE(wait_until(proxy(), [&] { return proxy().getStats().late_replies == kCalls; }));
  EXPECT_EQ(proxy().getStats().forged_replies, 0u);
}

TEST_F(Calls, ACancelledCallEndsOnceAndItsReplyIsLate) {
  std::atomic<int> ended{0};
  std::atomic<TransportError> error{TransportError::SUCCESS};
  const CallId id = proxy().callAsync("hold", "", [&](const CallReply& reply) {
    error = reply.error;
    ++ended;
  });
  ASSERT_NE(id, 0u);
  EXPECT_TRUE(proxy().cancel(id));
  EXPECT_FALSE(proxy().cancel(id));
  EXPECT_EQ(ended, 1);
  EXPECT_EQ(error, TransportError::INTERRUPTED);
  EXPECT_EQ(text(proxy().call("release", "")), "1");
  EXPECT_TRUE(wait_until(proxy(), [&] { return proxy().getStats().late_replies == 1; }));
  EXPECT_EQ(ended, 1);
  EXPECT_EQ(proxy().getStats().cancelled, 1u);
}

TEST_F(Calls, MoreInFlightThanAllowedIsNotSent) {
  ProxyOptions options;
  options.max_in_flight = 4;
  const auto small = connect(options);
  std::vector<std::future<CallResult<>>> futures;
  for (int i = 0; i < 4; ++i) futures.push_back(small->callAsync("hold", ""));
  const auto fifth = small->call("echo", "");
  EXPECT_EQ(fifth.status, CallStatus::NOT_SENT);
  EXPECT_EQ(fifth.error, TransportError::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(wait_until(
      *small, [&] { return text(proxy().call("cdmf.introspect", "")).find("\"open\":4,") != std::string::npos; }));
  EXPECT_EQ(text(proxy().call("release", "")), "4");
  for (auto& future : futures) EXPECT_EQ(text(get(*small, std::move(future))), "released");
  EXPECT_TRUE(small->call("echo", "").success());
}

TEST_F(Calls, AOneWayCallRunsAndNobodyAnswers) {
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(proxy().callOneWay("count", "", CallOptions{}).success());
  EXPECT_EQ(text(proxy().call("count", "")), "100");  // FIFO: it comes after them.
  ASSERT_TRUE(proxy().callOneWay("fail", "").success());
  ASSERT_TRUE(proxy().callOneWay("no such", "").success());
  EXPECT_TRUE(proxy().call("echo", "").success());
  const auto stats = proxy().getStats();
  EXPECT_EQ(stats.one_way_sent, 102u);
  EXPECT_EQ(stats.late_replies + stats.forged_replies, 0u) << "somebody answered";
}

TEST_F(Calls, AFullPoolAnswersOverloaded) {
  // Two threads and a queue of four: of ten at once at least four have no place.
  std::vector<std::future<CallResult<>>> futures;
  for (int i = 0; i < 10; ++i) futures.push_back(proxy().callAsync("pool_sleep", "200"));
  int overloaded = 0;
  for (auto& future : futures) {
    const auto result = get(proxy(), std::move(future));
    if (result) continue;
    EXPECT_EQ(result.status, CallStatus::NOT_SENT) << result.text();
    EXPECT_EQ(result.error, TransportError::RESOURCE_EXHAUSTED) << result.text();
    ++overloaded;
  }
  EXPECT_GE(overloaded, 4);
  EXPECT_LT(overloaded, 10);
}

TEST_F(Calls, ACallWhoseTimeIsUpBeforeAThreadIsFreeDoesNotRun) {
  std::vector<std::future<CallResult<>>> busy;
  for (int i = 0; i < 2; ++i) busy.push_back(proxy().callAsync("pool_sleep", "300"));
  const auto late = get(proxy(), proxy().callAsync("pool_sleep", "0", 20ms));
  EXPECT_EQ(late.error, TransportError::TIMEOUT);
  for (auto& future : busy) EXPECT_TRUE(get(proxy(), std::move(future)).success());
  const auto told = proxy().call("cdmf.introspect", "");
  ASSERT_TRUE(wait_until(proxy(), [&] {
    return text(proxy().call("cdmf.introspect", "")).find("\"too_late\":1") != std::string::npos;
  })) << text(told);
}

TEST_F(Calls, IntrospectionListsMethodsAndHealth) {
  ASSERT_TRUE(proxy().call("echo", "").success());
  const std::string json = text(proxy().call("cdmf.introspect", ""));
  EXPECT_NE(json.find("\"health\":\"serving\""), std::string::npos) << json;
  EXPECT_NE(json.find("{\"name\":\"echo\",\"runs_on\":\"receiver\",\"calls\":1,\"errors\":0}"), std::string::npos)
      << json;
  EXPECT_NE(json.find("{\"name\":\"pool_sleep\",\"runs_on\":\"pool\""), std::string::npos) << json;
}

TEST_F(Calls, ThirtyTwoThreadsShareOneConnection) {
  constexpr int kThreads = 32;
  const int each = 1'000'000 / kThreads / (std::getenv("CDMF_CALLS_MILLION") != nullptr ? 1 : 50);
  std::atomic<std::uint64_t> wrong{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < each; ++i) {
          const auto sum = proxy().call<AddReply>("add", AddRequest{t, i});
          if (!sum || sum.value.sum != t + i) ++wrong;
        }
      });
    }
  }
  EXPECT_EQ(wrong, 0u);
  const auto stats = proxy().getStats();
  EXPECT_EQ(stats.replies, static_cast<std::uint64_t>(kThreads) * static_cast<std::uint64_t>(each));
  EXPECT_EQ(stats.in_flight, 0u);
  EXPECT_EQ(stats.late_replies + stats.forged_replies, 0u);
}

TEST_F(Calls, ManyAsynchronousCallsAreAnsweredOnceEach) {
  constexpr std::uint64_t kCalls = 20000;
  std::vector<std::atomic<int>> ended(kCalls);
  std::uint64_t refused = 0;
  for (std::uint64_t i = 0; i < kCalls; ++i) {
    ASSERT_TRUE(wait_until(proxy(), [&] { return proxy().getStats().in_flight < 512; }));
    CallOptions options;
    options.flush = i % 16 == 15;
    refused += proxy().callAsync(
                   "echo", std::to_string(i),
                   [&ended, i](const CallReply& reply) {
                     if (reply && reply.payload.size() == std::to_string(i).size()) ++ended[i];
                   },
                   options) == 0;
  }
  ASSERT_TRUE(proxy().flush().success());
  EXPECT_EQ(refused, 0u);
  ASSERT_TRUE(wait_until(proxy(), [&] { return proxy().getStats().in_flight == 0; }));
  for (std::uint64_t i = 0; i < kCalls; ++i) ASSERT_EQ(ended[i], 1) << i;
}

}  // namespace
}  // namespace cdmf::ipc::calls
