// The loopback driver through its C table: every clause of cdmf_driver_ops that a host can observe.
#include "loopback_driver.h"

#include <poll.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "unit/plugins/c_driver.h"

namespace cdmf::ipc::loopback {
namespace {

using test::CDriver;
using test::Event;
using test::in;
using test::pattern;
using namespace std::chrono_literals;

const cdmf_plugin kPlugin = make_plugin<LoopbackDriver>(kDescription);

/// A server and a client that know each other.
class Loopback : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
    ASSERT_EQ(client.open(), CDMF_OK) << client.error.message;
    ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
    const Event at_server = server.next();
    ASSERT_TRUE(at_server.is(CDMF_VIEW_PEER_CONNECTED));
    client_id = at_server.peer;
    const Event at_client = client.next();
    ASSERT_TRUE(at_client.is(CDMF_VIEW_PEER_CONNECTED));
    ASSERT_EQ(at_client.peer, client.server);
  }

  /// Fills the client's queue to the server with frames of `size` and returns how many there are.
  int fill(std::size_t size) {
    int count = 0;
    while (client.put(client.server, pattern(size, 1)) == CDMF_OK) ++count;
    return count;
  }

  CDriver server{kPlugin, CDMF_ROLE_SERVER, "/loop", {{"queue_size", "128KiB"}}};
  CDriver client{kPlugin, CDMF_ROLE_CLIENT, "/loop", {{"queue_size", "128KiB"}}};
  cdmf_peer client_id = CDMF_NO_PEER;
};

TEST_F(Loopback, MessagesArriveInOrderBothWaysWithTheirSizes) {
  for (std::size_t i = 0; i < 50; ++i) {
    ASSERT_EQ(client.put(client.server, pattern(1 + i * 7, i)), CDMF_OK);
    ASSERT_EQ(server.put(client_id, pattern(1 + i * 3, i + 1000)), CDMF_OK);
  }
  for (std::size_t i = 0; i < 50; ++i) {
    EXPECT_TRUE(server.next().is_message(pattern(1 + i * 7, i)));
    EXPECT_TRUE(client.next().is_message(pattern(1 + i * 3, i + 1000)));
  }
}

TEST_F(Loopback, TheLargestFrameFitsAndOneByteMoreNeverDoes) {
  const std::size_t largest = 65536 + CDMF_FRAME_OVERHEAD_MAX;
  EXPECT_EQ(client.info().frame_size_max, largest);
  EXPECT_EQ(client.put(client.server, pattern(largest, 3)), CDMF_OK);
  EXPECT_TRUE(server.next().is_message(pattern(largest, 3)));
  cdmf_loan loan{};
  EXPECT_EQ(client.claim(client.server, largest + 1, loan), CDMF_BUFFER_OVERFLOW);
  EXPECT_EQ(client.ops().await_space(client.self(), client.server, largest + 1, kForever), CDMF_BUFFER_OVERFLOW);
  EXPECT_EQ(client.claim(client.server, 0, loan), CDMF_INVALID_ARGUMENT);
}

TEST_F(Loopback, CommittedFramesAreInvisibleUntilFlush) {
  ASSERT_EQ(client.put(client.server, "one", false), CDMF_OK);
  ASSERT_EQ(client.put(client.server, "two", false), CDMF_OK);
  EXPECT_EQ(server.ops().await_messages(server.self(), kNoWait), CDMF_TIMEOUT);
  EXPECT_TRUE(server.poll().is(UINT32_MAX));
  EXPECT_EQ(client.flush(client.server), CDMF_OK);
  EXPECT_TRUE(server.next().is_message("one"));
  EXPECT_TRUE(server.next().is_message("two"));
  ASSERT_EQ(client.put(client.server, "three", false), CDMF_OK);
  EXPECT_EQ(client.flush(CDMF_NO_PEER), CDMF_OK);
  EXPECT_TRUE(server.next().is_message("three"));
}

TEST_F(Loopback, AnAbortedClaimIsNeverSeenAndAShrunkOneArrivesShort) {
  cdmf_loan loan{};
  ASSERT_EQ(client.claim(client.server, 64, loan), CDMF_OK);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(loan.memory) % CDMF_FRAME_ALIGNMENT, 0u);
  cdmf_loan second{};
  EXPECT_EQ(client.claim(client.server, 8, second), CDMF_RESOURCE_EXHAUSTED);
  client.ops().abort(client.self(), &loan);
  ASSERT_EQ(client.claim(client.server, 64, loan), CDMF_OK);
  std::memcpy(loan.memory, "short", 5);
  EXPECT_EQ(client.ops().commit(client.self(), &loan, 5, 1), CDMF_OK);
  EXPECT_TRUE(server.next().is_message("short"));
  EXPECT_TRUE(server.poll().is(UINT32_MAX));
}

TEST_F(Loopback, AFullQueueSaysSoAndHasRoomAgainAfterTheReceiverReleased) {
  const int sent = fill(10'000);
  EXPECT_EQ(sent, 13);  // 128 KiB hold thirteen.
  cdmf_loan loan{};
  EXPECT_EQ(client.claim(client.server, 10'000, loan), CDMF_BUFFER_FULL);
  EXPECT_EQ(client.ops().await_space(client.self(), client.server, 10'000, in(20ms)), CDMF_TIMEOUT);

  cdmf_view view{};
  ASSERT_EQ(server.ops().receive_burst(server.self(), &view, 1), 1u);
  EXPECT_EQ(client.claim(client.server, 10'000, loan), CDMF_BUFFER_FULL);  // Still the receiver's.
  server.ops().release_burst(server.self());
  EXPECT_EQ(client.ops().await_space(client.self(), client.server, 10'000, kNoWait), CDMF_OK);
  EXPECT_EQ(client.put(client.server, pattern(10'000, 2)), CDMF_OK);
}

TEST_F(Loopback, AFullQueueFlushesTheOpenBatchSoThatTheReceiverCanMakeRoom) {
  while (client.put(client.server, pattern(10'000, 1), false) == CDMF_OK) {
  }
  EXPECT_TRUE(server.poll().is_message(pattern(10'000, 1)));
}

TEST_F(Loopback, AwaitSpaceWakesWhenAnotherThreadMakesRoom) {
  fill(10'000);
  std::thread receiver([&] { EXPECT_TRUE(server.next().is(CDMF_VIEW_MESSAGE)); });
  EXPECT_EQ(client.ops().await_space(client.self(), client.server, 10'000, in(test::kWatchdog)), CDMF_OK);
  receiver.join();
}

TEST_F(Loopback, InterruptEndsARunningAndTheNextWait) {
  fill(10'000);
  std::thread waiter([&] {
    EXPECT_EQ(client.ops().await_space(client.self(), client.server, 10'000, kForever), CDMF_INTERRUPTED);
    EXPECT_EQ(client.ops().await_messages(client.self(), kForever), CDMF_INTERRUPTED);
  });
  client.ops().interrupt(client.self());
  waiter.join();
  EXPECT_EQ(client.ops().await_messages(client.self(), in(1ms)), CDMF_TIMEOUT);  // One interrupt ends one wait of each.
  EXPECT_EQ(client.ops().await_space(client.self(), client.server, 10'000, in(1ms)), CDMF_TIMEOUT);
}

TEST_F(Loopback, OneBusyPeerDoesNotCrowdOutAnother) {
  CDriver other(kPlugin, CDMF_ROLE_CLIENT, "/loop", {{"queue_size", "128KiB"}});
  ASSERT_EQ(other.open(), CDMF_OK);
  ASSERT_EQ(other.attach(), CDMF_OK);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(client.put(client.server, "busy"), CDMF_OK);
  ASSERT_EQ(other.put(other.server, "quiet"), CDMF_OK);
  cdmf_view views[8];
  const std::size_t count = server.ops().receive_burst(server.self(), views, 8);
  ASSERT_EQ(count, 8u);
  int quiet = 0;
  for (const auto& view : views) quiet += view.kind == CDMF_VIEW_MESSAGE && view.size == 5 ? 1 : 0;
  EXPECT_EQ(quiet, 1);
  server.ops().release_burst(server.self());
}

TEST_F(Loopback, AHeldMessageStaysReadableAndKeepsItsRoomUntilUnhold) {
  const int sent = fill(10'000);
  cdmf_view view{};
  ASSERT_EQ(server.ops().receive_burst(server.self(), &view, 1), 1u);
  std::uint64_t held = 0;
  ASSERT_EQ(server.ops().hold(server.self(), view.peer, view.token, &held), CDMF_OK);
  EXPECT_EQ(server.ops().hold(server.self(), view.peer, view.token, &held), CDMF_INVALID_ARGUMENT);
  server.ops().release_burst(server.self());
  cdmf_loan loan{};
  EXPECT_EQ(client.claim(client.server, 10'000, loan), CDMF_BUFFER_FULL);

  client.close();
  for (int i = 1; i < sent; ++i) ASSERT_TRUE(server.next().is(CDMF_VIEW_MESSAGE));
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_DISCONNECTED));
  server.close();
  EXPECT_EQ(std::string(static_cast<const char*>(view.frame), view.size), pattern(10'000, 1));
  server.ops().unhold(server.self(), held);
}

TEST_F(Loopback, HoldsAreLimitedAndUnholdGivesTheRoomBack) {
  ASSERT_EQ(fill(10'000), 13);
  cdmf_view views[13];
  ASSERT_EQ(server.ops().receive_burst(server.self(), views, 13), 13u);
  std::vector<std::uint64_t> held;
  for (const auto& view : views) {
    std::uint64_t id = 0;
    const cdmf_status status = server.ops().hold(server.self(), view.peer, view.token, &id);
    if (status != CDMF_OK) {
      EXPECT_EQ(status, CDMF_RESOURCE_EXHAUSTED);
      break;
    }
    held.push_back(id);
  }
  EXPECT_EQ(held.size(), 6u);  // Half of 128 KiB.
  server.ops().release_burst(server.self());
  EXPECT_EQ(fill(10'000), 7);
  for (const auto id : held) server.ops().unhold(server.self(), id);
  EXPECT_EQ(fill(10'000), 6);
}

TEST_F(Loopback, ClosingDeliversWhatWasFlushedAndCountsTheRest) {
  ASSERT_EQ(client.put(client.server, "flushed"), CDMF_OK);
  ASSERT_EQ(client.put(client.server, "only committed", false), CDMF_OK);
  ASSERT_EQ(server.put(client_id, "never read"), CDMF_OK);
  client.close();
  client.close();  // Idempotent.
  EXPECT_TRUE(client.poll().is(UINT32_MAX));
  EXPECT_TRUE(server.next().is_message("flushed"));
  const Event end = server.next();
  EXPECT_TRUE(end.is(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(end.peer, client_id);
  EXPECT_EQ(end.reason, CDMF_CONNECTION_CLOSED);
  EXPECT_EQ(end.lost, 1u);  // "never read"; what the client did not flush is the client's own knowledge.
  cdmf_loan loan{};
  EXPECT_EQ(server.claim(client_id, 8, loan), CDMF_NOT_CONNECTED);
}

TEST_F(Loopback, DisconnectTellsBothEndsTheReason) {
  ASSERT_EQ(server.put(client_id, "before the end"), CDMF_OK);
  ASSERT_EQ(client.put(client.server, "uncommitted work", false), CDMF_OK);
  EXPECT_EQ(server.ops().disconnect(server.self(), client_id, CDMF_PROTOCOL_ERROR), CDMF_OK);
  cdmf_loan loan{};
  EXPECT_EQ(client.claim(client.server, 8, loan), CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(client.ops().await_space(client.self(), client.server, 8, kForever), CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(client.flush(client.server), CDMF_PROTOCOL_ERROR);

  const Event at_server = server.next();
  EXPECT_TRUE(at_server.is(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(at_server.reason, CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(server.ops().disconnect(server.self(), client_id, CDMF_PROTOCOL_ERROR), CDMF_NOT_CONNECTED);

  EXPECT_TRUE(client.next().is_message("before the end"));
  const Event at_client = client.next();
  EXPECT_TRUE(at_client.is(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(at_client.reason, CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(at_client.lost, 1u);
}

TEST_F(Loopback, AnOpenClaimOutlivesCloseAndItsCommitSaysClosed) {
  cdmf_loan loan{};
  ASSERT_EQ(client.claim(client.server, 4096, loan), CDMF_OK);
  client.close();
  server.close();
  std::memset(loan.memory, 'x', loan.size);
  EXPECT_EQ(client.ops().commit(client.self(), &loan, loan.size, 1), CDMF_CONNECTION_CLOSED);
}

TEST_F(Loopback, ViewsOfTheBurstOutliveClose) {
  ASSERT_EQ(client.put(client.server, "still here"), CDMF_OK);
  cdmf_view view{};
  ASSERT_EQ(server.ops().receive_burst(server.self(), &view, 1), 1u);
  server.close();
  client.close();
  EXPECT_EQ(std::string(static_cast<const char*>(view.frame), view.size), "still here");
  server.ops().release_burst(server.self());
}

TEST_F(Loopback, ADriverOpensAgainAndNeverReusesAPeer) {
  const cdmf_peer first = client.server;
  client.close();
  server.close();
  ASSERT_EQ(server.open(), CDMF_OK);
  EXPECT_EQ(server.open(), CDMF_ALREADY_INITIALIZED);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK);
  EXPECT_NE(client.server, first);
  EXPECT_EQ(client.attach(), CDMF_ALREADY_INITIALIZED);
  const Event arrived = server.next();
  EXPECT_TRUE(arrived.is(CDMF_VIEW_PEER_CONNECTED));
  EXPECT_NE(arrived.peer, client_id);
}

TEST_F(Loopback, AClientAttachesAgainAfterItSawTheEnd) {
  ASSERT_EQ(server.ops().disconnect(server.self(), client_id, CDMF_CONNECTION_CLOSED), CDMF_OK);
  EXPECT_EQ(client.attach(), CDMF_ALREADY_INITIALIZED);
  ASSERT_TRUE(client.next().is(CDMF_VIEW_PEER_DISCONNECTED));
  ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
  EXPECT_TRUE(client.next().is(CDMF_VIEW_PEER_CONNECTED));
}

TEST_F(Loopback, AnArmedDescriptorBecomesReadableWithAMessageAndNotBefore) {
  const int fd = server.ops().poll_fd(server.self());
  ASSERT_GE(fd, 0);
  ASSERT_EQ(server.ops().arm(server.self()), CDMF_ARMED);
  pollfd wait{fd, POLLIN, 0};
  EXPECT_EQ(::poll(&wait, 1, 0), 0);
  ASSERT_EQ(client.put(client.server, "wake up"), CDMF_OK);
  EXPECT_EQ(::poll(&wait, 1, 0), 1);
  EXPECT_EQ(server.ops().arm(server.self()), CDMF_READY);
  EXPECT_TRUE(server.poll().is_message("wake up"));
  EXPECT_EQ(server.ops().arm(server.self()), CDMF_ARMED);
  EXPECT_EQ(::poll(&wait, 1, 0), 0);
}

TEST_F(Loopback, MessagesCarryTheTimeOfTheirFlush) {
  const auto now_us = [] {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
  };
  ASSERT_EQ(client.put(client.server, "late", false), CDMF_OK);
  const std::uint64_t before = now_us();
  ASSERT_EQ(client.flush(client.server), CDMF_OK);
  const Event event = server.next();
  EXPECT_GE(event.timestamp_us, before);
  EXPECT_LE(event.timestamp_us, now_us());
}

// Catches a lost wake-up on either side: the queue is a few frames deep, so both ends sleep again and again.
TEST_F(Loopback, TwoThreadsExchangeEverythingThroughASmallQueue) {
  constexpr std::uint64_t kMessages = 6'000;
  std::thread sender([&] {
    for (std::uint64_t i = 0; i < kMessages; ++i)
      ASSERT_EQ(client.send(client.server, pattern(9000 + i % 7, i)), CDMF_OK);
  });
  for (std::uint64_t i = 0; i < kMessages; ++i) {
    const Event event = server.next();
    ASSERT_TRUE(event.is_message(pattern(9000 + i % 7, i))) << "message " << i << ", kind " << event.kind;
  }
  sender.join();
}

TEST(LoopbackEndpoints, ANameHasOneServerAndIsFreeAfterItClosed) {
  CDriver first(kPlugin, CDMF_ROLE_SERVER, "/name");
  CDriver second(kPlugin, CDMF_ROLE_SERVER, "/name");
  ASSERT_EQ(first.open(), CDMF_OK);
  EXPECT_EQ(second.open(), CDMF_ENDPOINT_IN_USE);
  EXPECT_NE(std::string(second.error.message).find("/name"), std::string::npos);
  first.close();
  EXPECT_EQ(second.open(), CDMF_OK);
}

TEST(LoopbackEndpoints, NobodyListeningIsNotFound) {
  CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/nobody");
  EXPECT_EQ(client.attach(), CDMF_NOT_INITIALIZED);
  ASSERT_EQ(client.open(), CDMF_OK);
  EXPECT_EQ(client.attach(), CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_NE(std::string(client.error.message).find("/nobody"), std::string::npos);
}

TEST(LoopbackEndpoints, AServerThatClosesBeforeItLookedEndsItsClients) {
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/early");
  CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/early");
  ASSERT_EQ(server.open(), CDMF_OK);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK);
  server.close();
  EXPECT_TRUE(client.next().is(CDMF_VIEW_PEER_CONNECTED));
  EXPECT_EQ(client.next().reason, CDMF_CONNECTION_CLOSED);
}

TEST(LoopbackEndpoints, TheServersLimitsRule) {
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/limits", {}, 1000);
  CDriver modest(kPlugin, CDMF_ROLE_CLIENT, "/limits", {}, 10);
  CDriver greedy(kPlugin, CDMF_ROLE_CLIENT, "/limits", {}, 1001);
  ASSERT_EQ(server.open(), CDMF_OK);
  ASSERT_EQ(modest.open(), CDMF_OK);
  ASSERT_EQ(greedy.open(), CDMF_OK);
  EXPECT_EQ(modest.attach(), CDMF_OK);
  EXPECT_EQ(modest.info().frame_size_max, 1000u + CDMF_FRAME_OVERHEAD_MAX);
  EXPECT_EQ(greedy.attach(), CDMF_INVALID_CONFIG);
  EXPECT_NE(std::string(greedy.error.message).find("1001"), std::string::npos) << greedy.error.message;
}

TEST(LoopbackEndpoints, AQueueThatHoldsNoMessageIsRefusedAndTheDefaultGrows) {
  CDriver small(kPlugin, CDMF_ROLE_SERVER, "/small", {{"queue_size", "64KiB"}});
  EXPECT_EQ(small.created, CDMF_INVALID_CONFIG);
  EXPECT_NE(std::string(small.error.message).find("66320"), std::string::npos) << small.error.message;
  CDriver large(kPlugin, CDMF_ROLE_SERVER, "/large", {}, 16u << 20);
  EXPECT_EQ(large.created, CDMF_OK);
}

}  // namespace
}  // namespace cdmf::ipc::loopback
