#include "rpc/pending_calls.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>
#include <vector>

namespace cdmf::ipc::rpc {
namespace {

PendingCalls::Call with_callback(CallCallback callback) { return {nullptr, std::move(callback)}; }

TEST(PendingCalls, ACallIsTakenOnceByItsId) {
  PendingCalls calls(4);
  const auto id = calls.add(with_callback([](const CallReply&) {}));
  ASSERT_NE(id, 0u);
  EXPECT_EQ(calls.in_flight(), 1u);
  PendingCalls::Call call;
  EXPECT_TRUE(calls.take(id, call));
  EXPECT_NE(call.callback, nullptr);
  EXPECT_FALSE(calls.take(id, call));
  EXPECT_EQ(calls.in_flight(), 0u);
}

TEST(PendingCalls, WhenAllSlotsAreTakenTheCallStaysTheCallers) {
  PendingCalls calls(2);
  const auto first = calls.add({});
  EXPECT_NE(calls.add({}), 0u);
  auto third = with_callback([](const CallReply&) {});
  EXPECT_EQ(calls.add(std::move(third)), 0u);
  EXPECT_NE(third.callback, nullptr);
  PendingCalls::Call call;
  ASSERT_TRUE(calls.take(first, call));
  EXPECT_NE(calls.add(std::move(third)), 0u);
}

TEST(PendingCalls, IdsOfASlotNeverReturnAndAreKnownAsGiven) {
  PendingCalls calls(1);
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    const auto id = calls.add({});
    EXPECT_TRUE(seen.insert(id).second);
    PendingCalls::Call call;
    ASSERT_TRUE(calls.take(id, call));
  }
  for (const auto id : seen) {
    PendingCalls::Call call;
    EXPECT_FALSE(calls.take(id, call));
    EXPECT_TRUE(calls.was_given(id));
  }
}

TEST(PendingCalls, IdsThatWereNeverGivenAreToldApartAndCannotBeCountedUp) {
  PendingCalls calls(1024);
  const auto first = calls.add({});
  const auto second = calls.add({});
  PendingCalls other(1024);
  EXPECT_NE(first >> 10, other.add({}) >> 10) << "two links have the same key";
  PendingCalls::Call call;
  EXPECT_FALSE(calls.take(first + 1024, call));
  EXPECT_FALSE(calls.was_given(~second));
  EXPECT_TRUE(calls.take(first, call));
  calls.renew_key();
  EXPECT_FALSE(calls.was_given(first)) << "an id of the old link";
  EXPECT_TRUE(calls.take(second, call)) << "a call that began under the old key still ends";
}

TEST(PendingCalls, OnlyCallsWhoseTimeIsUpExpire) {
  PendingCalls calls(8);
  const auto soon = calls.add({}, 100);
  const auto later = calls.add({}, 200);
  const auto never = calls.add({});
  int ended = 0;
  calls.take_expired(1000, [&](PendingCalls::Call&) { ++ended; });  // Their time begins.
  calls.take_expired(1099, [&](PendingCalls::Call&) { ++ended; });
  EXPECT_EQ(ended, 0);
  calls.take_expired(1100, [&](PendingCalls::Call&) { ++ended; });
  EXPECT_EQ(ended, 1);
  PendingCalls::Call call;
  EXPECT_FALSE(calls.take(soon, call));
  EXPECT_TRUE(calls.take(later, call));
  EXPECT_TRUE(calls.take(never, call));
}

// Would catch a slot claimed twice, a call ended twice or never, and a call that close() does not see.
TEST(PendingCalls, ManyThreadsEndEachCallExactlyOnceAndCloseEndsTheRest) {
  for (int round = 0; round < 20; ++round) {
    PendingCalls calls(16);
    std::atomic<std::uint64_t> added{0};
    std::atomic<std::uint64_t> ended{0};
    std::atomic<std::uint64_t> last{0};
    std::atomic<bool> stop{false};
    const auto end = [&](PendingCalls::Call& call) { call.callback({}); };
    {
      std::vector<std::jthread> threads;
      for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
          while (!stop) {
            const auto id = calls.add(with_callback([&](const CallReply&) { ++ended; }), 1);
            if (id == 0) continue;
            ++added;
            last = id;
            PendingCalls::Call call;
            if (calls.take(id, call)) end(call);
          }
        });
      }
      threads.emplace_back([&] {
        while (!stop) {
          calls.take_expired(2, end);
          PendingCalls::Call call;
          if (calls.take(last, call)) end(call);
        }
      });
      while (added < 2000) std::this_thread::yield();
      calls.close(end);
      EXPECT_EQ(calls.in_flight(), 0u);
      EXPECT_EQ(calls.add({}), 0u);
      stop = true;
    }
    EXPECT_EQ(ended, added);
    calls.close(end);  // Once more does nothing.
  }
}

}  // namespace
}  // namespace cdmf::ipc::rpc
