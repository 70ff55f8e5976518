// The Unix socket driver through its C table, in one process: every clause of cdmf_driver_ops that a host can observe.
// With peers in other processes: peers_test.cpp.
#include "unix_socket_driver.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "child.h"
#include "endpoint_path.h"
#include "fd.h"
#include "runtime_directory.h"
#include "unit/plugins/c_driver.h"
#include "wire.h"

namespace cdmf::ipc::unix_socket {
namespace {

using ipc::test::CDriver;
using ipc::test::Event;
using ipc::test::in;
using ipc::test::kWatchdog;
using ipc::test::pattern;
using test::Child;
using test::RuntimeDirectory;
using namespace std::chrono_literals;

const cdmf_plugin kPlugin = make_plugin<UnixSocketDriver>(kDescription);
constexpr std::size_t kLargest = 65536 + CDMF_FRAME_OVERHEAD_MAX;

/// A server and a client that know each other. Small buffers, so that "full" is near.
class UnixSocket : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
    ASSERT_EQ(client.open(), CDMF_OK) << client.error.message;
    ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
    const Event at_server = server.next();
    ASSERT_TRUE(at_server.is(CDMF_VIEW_PEER_CONNECTED));
    client_id = at_server.peer;
    ASSERT_TRUE(client.next().is(CDMF_VIEW_PEER_CONNECTED));
  }
  /// Sends frames of that size to the server until there is no room, and returns how many there are.
  int fill(std::size_t size) {
    int count = 0;
    cdmf_status status = CDMF_OK;
    while ((status = client.put(client.server, pattern(size, static_cast<std::uint64_t>(count)))) == CDMF_OK) ++count;
    EXPECT_EQ(status, CDMF_BUFFER_FULL);
    return count;
  }

  static std::map<std::string, std::string> options() { return {{"queue_size", "128KiB"}, {"send_buffer", "64KiB"}}; }

  const RuntimeDirectory runtime;
  CDriver server{kPlugin, CDMF_ROLE_SERVER, "/orders", options()};
  CDriver client{kPlugin, CDMF_ROLE_CLIENT, "/orders", options()};
  cdmf_peer client_id = CDMF_NO_PEER;
};

TEST_F(UnixSocket, MessagesArriveInOrderBothWaysWithTheirSizes) {
  for (std::size_t i = 0; i < 50; ++i) {
    ASSERT_EQ(client.put(client.server, pattern(1 + i * 7, i)), CDMF_OK);
    ASSERT_EQ(server.put(client_id, pattern(1 + i * 3, i + 1000)), CDMF_OK);
  }
  for (std::size_t i = 0; i < 50; ++i) {
    EXPECT_TRUE(server.next().is_message(pattern(1 + i * 7, i)));
    EXPECT_TRUE(client.next().is_message(pattern(1 + i * 3, i + 1000)));
  }
}

TEST_F(UnixSocket, TheLargestFrameFitsAndOneByteMoreNeverDoes) {
  EXPECT_EQ(client.info().frame_size_max, kLargest);
  ASSERT_EQ(client.put(client.server, pattern(kLargest, 3)), CDMF_OK);
  const Event event = server.next();
  EXPECT_TRUE(event.is(CDMF_VIEW_MESSAGE));  // The rest left when the socket had room again: see the next line.
  EXPECT_EQ(event.content, pattern(kLargest, 3));
  cdmf_loan loan{};
  EXPECT_EQ(client.claim(client.server, kLargest + 1, loan), CDMF_BUFFER_OVERFLOW);
  EXPECT_EQ(client.ops().await_space(client.self(), client.server, kLargest + 1, kForever), CDMF_BUFFER_OVERFLOW);
  EXPECT_EQ(client.claim(client.server, 0, loan), CDMF_INVALID_ARGUMENT);
}

TEST_F(UnixSocket, CommittedFramesAreInvisibleUntilFlush) {
  ASSERT_EQ(client.put(client.server, "one", false), CDMF_OK);
  ASSERT_EQ(client.put(client.server, "two", false), CDMF_OK);
  (void)client.poll();  // The receiver of the client may send what is left over, but nothing that is not flushed.
  EXPECT_TRUE(server.poll().is(UINT32_MAX));
  EXPECT_EQ(server.ops().await_messages(server.self(), kNoWait), CDMF_TIMEOUT);
  EXPECT_EQ(client.flush(client.server), CDMF_OK);
  EXPECT_TRUE(server.next().is_message("one"));
  EXPECT_TRUE(server.next().is_message("two"));
  ASSERT_EQ(client.put(client.server, "three", false), CDMF_OK);
  EXPECT_EQ(client.flush(CDMF_NO_PEER), CDMF_OK);
  EXPECT_TRUE(server.next().is_message("three"));
}

TEST_F(UnixSocket, AnAbortedClaimIsNeverSeenAndAShrunkOneArrivesShort) {
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

TEST_F(UnixSocket, AFullLinkSaysSoAndEverythingAcceptedArrives) {
  const int sent = fill(10'000);
  EXPECT_GE(sent, 12);  // The queue alone holds twelve.
  EXPECT_EQ(client.flush(client.server), CDMF_BUFFER_FULL);
  EXPECT_EQ(client.flush(client.server, in(10ms)), CDMF_TIMEOUT);
  EXPECT_EQ(client.ops().await_space(client.self(), client.server, 10'000, in(10ms)), CDMF_TIMEOUT);
  std::thread flusher([&] { EXPECT_EQ(client.flush(client.server, in(kWatchdog)), CDMF_OK); });
  for (int i = 0; i < sent; ++i) {
    ASSERT_TRUE(server.next().is_message(pattern(10'000, static_cast<std::uint64_t>(i)))) << "message " << i;
  }
  flusher.join();
}

TEST_F(UnixSocket, WhatTheSocketDidNotTakeLeavesWithTheReceiversCalls) {
  const int sent = fill(10'000);
  for (int i = 0; i < sent; ++i) {
    Event event = server.poll();
    while (event.is(UINT32_MAX)) {
      EXPECT_TRUE(client.poll().is(UINT32_MAX));  // Nothing to receive; the call sends.
      event = server.poll();
    }
    ASSERT_TRUE(event.is_message(pattern(10'000, static_cast<std::uint64_t>(i)))) << "message " << i;
  }
}

TEST_F(UnixSocket, ASleepingReceiverSendsTheRestToo) {
  const int sent = fill(10'000);
  std::thread sleeper([&] { EXPECT_TRUE(client.next().is_message("that was all")); });
  for (int i = 0; i < sent; ++i) {
    ASSERT_TRUE(server.next().is_message(pattern(10'000, static_cast<std::uint64_t>(i)))) << "message " << i;
  }
  ASSERT_EQ(server.put(client_id, "that was all"), CDMF_OK);
  sleeper.join();
}

TEST_F(UnixSocket, AwaitSpaceWakesWhenTheReceiverMadesRoom) {
  const int sent = fill(10'000);
  std::thread receiver([&] {
    for (int i = 0; i < sent; ++i) EXPECT_TRUE(server.next().is(CDMF_VIEW_MESSAGE));
  });
  EXPECT_EQ(client.ops().await_space(client.self(), client.server, 10'000, in(kWatchdog)), CDMF_OK);
  EXPECT_EQ(client.flush(client.server, in(kWatchdog)), CDMF_OK);
  receiver.join();
}

TEST_F(UnixSocket, AFullLinkFlushesTheOpenBatchSoThatTheReceiverCanMakeRoom) {
  while (client.put(client.server, pattern(10'000, 1), false) == CDMF_OK) {
  }
  EXPECT_TRUE(server.next().is_message(pattern(10'000, 1)));
}

TEST_F(UnixSocket, InterruptEndsARunningAndTheNextWait) {
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

TEST_F(UnixSocket, InterruptWakesEveryThreadThatWaitsForRoom) {
  fill(10'000);
  std::atomic<int> interrupted{0};
  std::vector<std::thread> waiters;
  for (int i = 0; i < 4; ++i) {
    waiters.emplace_back([&] {
      // All of them wait on the same count, so one interrupt that comes after the last one began is for all.
      if (client.ops().await_space(client.self(), client.server, 10'000, in(kWatchdog)) == CDMF_INTERRUPTED)
        ++interrupted;
    });
  }
  const std::uint64_t watchdog = in(kWatchdog);
  while (interrupted < 4 && monotonic_now_ns() < watchdog) {
    client.ops().interrupt(client.self());
    std::this_thread::yield();
  }
  for (auto& waiter : waiters) waiter.join();
  EXPECT_EQ(interrupted, 4);
}

TEST_F(UnixSocket, AClientThatDoesNotReadDoesNotStallAnother) {
  CDriver other(kPlugin, CDMF_ROLE_CLIENT, "/orders", options());
  ASSERT_EQ(other.open(), CDMF_OK);
  ASSERT_EQ(other.attach(), CDMF_OK);
  const cdmf_peer other_id = server.next().peer;
  while (server.put(client_id, pattern(10'000, 1)) == CDMF_OK) {
  }
  ASSERT_TRUE(other.next().is(CDMF_VIEW_PEER_CONNECTED));
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(server.put(other_id, pattern(1000, 2)), CDMF_OK);
    ASSERT_EQ(other.put(other.server, pattern(1000, 3)), CDMF_OK);
    ASSERT_TRUE(server.next().is_message(pattern(1000, 3)));
    ASSERT_TRUE(other.next().is_message(pattern(1000, 2)));
  }
}

TEST_F(UnixSocket, OneBusyPeerDoesNotCrowdOutAnother) {
  CDriver other(kPlugin, CDMF_ROLE_CLIENT, "/orders", options());
  ASSERT_EQ(other.open(), CDMF_OK);
  ASSERT_EQ(other.attach(), CDMF_OK);
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  for (int i = 0; i < 100; ++i) ASSERT_EQ(client.put(client.server, "busy"), CDMF_OK);
  ASSERT_EQ(other.put(other.server, "quiet"), CDMF_OK);
  cdmf_view views[8];
  ASSERT_EQ(server.ops().receive_burst(server.self(), views, 8), 8u);
  const auto quiet = [](const cdmf_view& view) { return view.kind == CDMF_VIEW_MESSAGE && view.size == 5; };
  EXPECT_EQ(std::count_if(std::begin(views), std::end(views), quiet), 1);
  server.ops().release_burst(server.self());
}

TEST_F(UnixSocket, AHeldMessageStaysReadableWhateverComesAfterIt) {
  ASSERT_EQ(client.put(client.server, pattern(5000, 77)), CDMF_OK);
  ASSERT_EQ(server.ops().await_messages(server.self(), in(kWatchdog)), CDMF_OK);
  cdmf_view view{};
  ASSERT_EQ(server.ops().receive_burst(server.self(), &view, 1), 1u);
  std::uint64_t held = 0;
  ASSERT_EQ(server.ops().hold(server.self(), view.peer, view.token, &held), CDMF_OK);
  server.ops().release_burst(server.self());
  for (std::uint64_t i = 0; i < 500; ++i) {  // Several times the size of a block.
    ASSERT_EQ(client.put(client.server, pattern(5000, i)), CDMF_OK);
    ASSERT_TRUE(server.next().is_message(pattern(5000, i)));
  }
  client.close();
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_DISCONNECTED));
  server.close();
  EXPECT_EQ(std::string(static_cast<const char*>(view.frame), view.size), pattern(5000, 77));
  server.ops().unhold(server.self(), held);
}

TEST_F(UnixSocket, HoldsAreLimitedByTheMemoryTheyKeepAndUnholdGivesItBack) {
  std::vector<std::uint64_t> held;
  std::uint64_t id = 0;
  const auto hold_one = [&] {
    EXPECT_EQ(client.put(client.server, pattern(60'000, 5)), CDMF_OK);
    EXPECT_EQ(server.ops().await_messages(server.self(), in(kWatchdog)), CDMF_OK);
    cdmf_view view{};
    EXPECT_EQ(server.ops().receive_burst(server.self(), &view, 1), 1u);
    const cdmf_status status = server.ops().hold(server.self(), view.peer, view.token, &id);
    server.ops().release_burst(server.self());
    return status;
  };
  cdmf_status status = CDMF_OK;
  while (held.size() < 1000 && (status = hold_one()) == CDMF_OK) held.push_back(id);
  EXPECT_EQ(status, CDMF_RESOURCE_EXHAUSTED);
  EXPECT_GE(held.size(), 16u);
  EXPECT_LE(held.size(), 16u * 4u);  // Sixteen blocks of 256 KiB.
  for (const auto each : held) server.ops().unhold(server.self(), each);
  EXPECT_EQ(hold_one(), CDMF_OK);
  server.ops().unhold(server.self(), id);
}

TEST_F(UnixSocket, ClosingDeliversWhatWasFlushedAndSaysGoodbye) {
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
  cdmf_loan loan{};
  EXPECT_EQ(server.claim(client_id, 8, loan), CDMF_NOT_CONNECTED);
  EXPECT_TRUE(server.poll().is(UINT32_MAX));
}

TEST_F(UnixSocket, ClosingWaitsForAPeerThatIsBehind) {
  const int sent = fill(10'000);
  std::thread receiver([&] {
    for (int i = 0; i < sent; ++i) EXPECT_TRUE(server.next().is(CDMF_VIEW_MESSAGE));
    EXPECT_EQ(server.next().reason, CDMF_CONNECTION_CLOSED);
  });
  ASSERT_EQ(client.flush(client.server, in(kWatchdog)), CDMF_OK);
  client.close();
  receiver.join();
}

TEST_F(UnixSocket, DisconnectTellsBothEndsTheReasonAndCountsWhatIsLost) {
  ASSERT_EQ(server.put(client_id, "before the end"), CDMF_OK);
  ASSERT_EQ(server.put(client_id, "not flushed", false), CDMF_OK);
  EXPECT_EQ(server.ops().disconnect(server.self(), client_id, CDMF_PROTOCOL_ERROR), CDMF_OK);
  cdmf_loan loan{};
  EXPECT_EQ(server.claim(client_id, 8, loan), CDMF_PROTOCOL_ERROR);
  const Event at_server = server.next();
  EXPECT_TRUE(at_server.is(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(at_server.reason, CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(at_server.lost, 1u);
  EXPECT_EQ(server.ops().disconnect(server.self(), client_id, CDMF_PROTOCOL_ERROR), CDMF_NOT_CONNECTED);

  EXPECT_TRUE(client.next().is_message("before the end"));
  const Event at_client = client.next();
  EXPECT_TRUE(at_client.is(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(at_client.reason, CDMF_PROTOCOL_ERROR);
}

TEST_F(UnixSocket, SendingToAPeerThatIsGoneEndsWithAnError) {
  server.close();
  const std::uint64_t watchdog = in(kWatchdog);
  cdmf_status status = CDMF_OK;
  while (status == CDMF_OK && monotonic_now_ns() < watchdog) status = client.put(client.server, "anybody?");
  EXPECT_EQ(status, CDMF_CONNECTION_CLOSED);
  EXPECT_EQ(client.ops().await_space(client.self(), client.server, 8, kForever), CDMF_CONNECTION_CLOSED);
  EXPECT_EQ(client.next().reason, CDMF_CONNECTION_CLOSED);
}

TEST_F(UnixSocket, AnOpenClaimOutlivesCloseAndItsCommitSaysClosed) {
  cdmf_loan loan{};
  ASSERT_EQ(client.claim(client.server, 4096, loan), CDMF_OK);
  client.close();
  server.close();
  std::memset(loan.memory, 'x', loan.size);
  EXPECT_EQ(client.ops().commit(client.self(), &loan, loan.size, 1), CDMF_CONNECTION_CLOSED);
}

TEST_F(UnixSocket, ViewsOfTheBurstOutliveClose) {
  ASSERT_EQ(client.put(client.server, "still here"), CDMF_OK);
  ASSERT_EQ(server.ops().await_messages(server.self(), in(kWatchdog)), CDMF_OK);
  cdmf_view view{};
  ASSERT_EQ(server.ops().receive_burst(server.self(), &view, 1), 1u);
  server.close();
  client.close();
  EXPECT_EQ(std::string(static_cast<const char*>(view.frame), view.size), "still here");
  server.ops().release_burst(server.self());
}

TEST_F(UnixSocket, ADriverOpensAgainAndNeverReusesAPeer) {
  const cdmf_peer first = client.server;
  client.close();
  server.close();
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  EXPECT_EQ(server.open(), CDMF_ALREADY_INITIALIZED);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
  EXPECT_NE(client.server, first);
  EXPECT_EQ(client.attach(), CDMF_ALREADY_INITIALIZED);
  const Event arrived = server.next();
  EXPECT_TRUE(arrived.is(CDMF_VIEW_PEER_CONNECTED));
  EXPECT_NE(arrived.peer, client_id);
}

TEST_F(UnixSocket, AnArmedDescriptorBecomesReadableWithAMessageAndNotBefore) {
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

TEST_F(UnixSocket, ANewClientMakesTheDescriptorReadable) {
  ASSERT_EQ(server.ops().arm(server.self()), CDMF_ARMED);
  CDriver other(kPlugin, CDMF_ROLE_CLIENT, "/orders", options());
  ASSERT_EQ(other.open(), CDMF_OK);
  ASSERT_EQ(other.attach(), CDMF_OK);
  pollfd wait{server.ops().poll_fd(server.self()), POLLIN, 0};
  EXPECT_EQ(::poll(&wait, 1, 30'000), 1);
  EXPECT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
}

// Catches a lost wake-up between arm() and the sleep, on either side of a link that is full again and again.
TEST_F(UnixSocket, TwoThreadsExchangeEverythingThroughSmallBuffers) {
  constexpr std::uint64_t kMessages = 6'000;
  std::thread sender([&] {
    for (std::uint64_t i = 0; i < kMessages; ++i) {
      const cdmf_status status = client.send(client.server, pattern(9000 + i % 7, i));
      ASSERT_EQ(status, CDMF_OK) << "message " << i;
    }
    EXPECT_EQ(client.flush(client.server, in(kWatchdog)), CDMF_OK);
  });
  for (std::uint64_t i = 0; i < kMessages; ++i) {
    const Event event = server.next();
    ASSERT_TRUE(event.is_message(pattern(9000 + i % 7, i))) << "message " << i << ", kind " << event.kind;
  }
  sender.join();
}

TEST(UnixSocketEndpoint, TheServersLimitsRule) {
  const RuntimeDirectory runtime;
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/limits", {}, 1000);
  CDriver modest(kPlugin, CDMF_ROLE_CLIENT, "/limits", {}, 10);
  CDriver greedy(kPlugin, CDMF_ROLE_CLIENT, "/limits", {}, 1001);
  ASSERT_EQ(server.open(), CDMF_OK);
  ASSERT_EQ(modest.open(), CDMF_OK);
  ASSERT_EQ(greedy.open(), CDMF_OK);
  EXPECT_EQ(modest.attach(), CDMF_OK) << modest.error.message;
  EXPECT_EQ(modest.info().frame_size_max, 1000u + CDMF_FRAME_OVERHEAD_MAX);
  EXPECT_EQ(greedy.attach(), CDMF_INVALID_CONFIG);
  EXPECT_NE(std::string(greedy.error.message).find("1001"), std::string::npos) << greedy.error.message;
}

TEST(UnixSocketEndpoint, OneClientTooManyIsRefusedAndComesInWhenAnotherLeft) {
  const RuntimeDirectory runtime;
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/crowd", {{"max_clients", "1"}});
  CDriver first(kPlugin, CDMF_ROLE_CLIENT, "/crowd");
  CDriver second(kPlugin, CDMF_ROLE_CLIENT, "/crowd");
  ASSERT_EQ(server.open(), CDMF_OK);
  ASSERT_EQ(first.open(), CDMF_OK);
  ASSERT_EQ(second.open(), CDMF_OK);
  ASSERT_EQ(first.attach(), CDMF_OK);
  EXPECT_EQ(second.attach(), CDMF_RESOURCE_EXHAUSTED);
  EXPECT_NE(std::string(second.error.message).find("max_clients"), std::string::npos) << second.error.message;
  first.close();
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(second.attach(), CDMF_OK) << second.error.message;
}

TEST(UnixSocketEndpoint, AQueueThatHoldsNoMessageIsRefusedAndTheDefaultGrows) {
  const RuntimeDirectory runtime;
  CDriver small(kPlugin, CDMF_ROLE_SERVER, "/small", {{"queue_size", "64KiB"}});
  EXPECT_EQ(small.created, CDMF_INVALID_CONFIG);
  EXPECT_NE(std::string(small.error.message).find("66336"), std::string::npos) << small.error.message;
  CDriver large(kPlugin, CDMF_ROLE_SERVER, "/large", {}, 16u << 20);
  EXPECT_EQ(large.created, CDMF_OK);
}

TEST(UnixSocketEndpoint, APacketThatTheSendBufferCannotHoldIsRefusedWithWhatWouldWork) {
  const RuntimeDirectory runtime;
  std::map<std::string, std::string> options{{"socket_type", "SEQPACKET"}, {"send_buffer", "16KiB"}};
  CDriver refused(kPlugin, CDMF_ROLE_SERVER, "/packets", options, 65536);
  ASSERT_EQ(refused.open(), CDMF_INVALID_CONFIG);
  const std::string text = refused.error.message;
  const auto number_after = [&](const std::string& words) -> std::uint64_t {
    const std::size_t at = text.find(words);
    return at == std::string::npos ? 0 : std::stoull(text.substr(at + words.size()));
  };
  // Both ways out work exactly as they are told, and nothing less does.
  const std::uint64_t largest = number_after("set max_message_size to ");
  const std::uint64_t buffer = number_after("net.core.wmem_max) to ");
  ASSERT_NE(largest, 0u) << text;
  ASSERT_NE(buffer, 0u) << text;
  EXPECT_EQ(CDriver(kPlugin, CDMF_ROLE_SERVER, "/packets", options, largest).open(), CDMF_OK);
  EXPECT_EQ(CDriver(kPlugin, CDMF_ROLE_SERVER, "/packets", options, largest + 16).open(), CDMF_INVALID_CONFIG);
  options["send_buffer"] = std::to_string(buffer);
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/packets", options, 65536);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/packets", options, 65536);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
  EXPECT_EQ(client.put(client.server, pattern(kLargest, 1)), CDMF_OK);
  EXPECT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  EXPECT_TRUE(server.next().is_message(pattern(kLargest, 1)));
  options["send_buffer"] = std::to_string(buffer - 16);
  EXPECT_EQ(CDriver(kPlugin, CDMF_ROLE_SERVER, "/other", options, 65536).open(), CDMF_INVALID_CONFIG);
}

TEST(UnixSocketEndpoint, SmallMessagesShareAPacketAndLargeOnesHaveTheirOwn) {
  const RuntimeDirectory runtime;
  const std::map<std::string, std::string> options{{"socket_type", "SEQPACKET"}};
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/packets", options);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = endpoint_path("/packets").socket;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const Fd raw(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(raw.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  Hello hello;
  hello.frame_size_max = kLargest;
  ASSERT_EQ(send(raw.get(), &hello, sizeof hello, 0), static_cast<ssize_t>(sizeof hello));
  ASSERT_EQ(recv(raw.get(), &hello, sizeof hello, 0), static_cast<ssize_t>(sizeof hello));
  const Event arrived = server.next();
  ASSERT_TRUE(arrived.is(CDMF_VIEW_PEER_CONNECTED));
  for (std::uint64_t i = 0; i < 100; ++i) ASSERT_EQ(server.put(arrived.peer, pattern(64, i), false), CDMF_OK);
  ASSERT_EQ(server.put(arrived.peer, pattern(60'000, 7), false), CDMF_OK);
  ASSERT_EQ(server.flush(arrived.peer), CDMF_OK);
  std::vector<char> packet(1 << 20);
  EXPECT_EQ(recv(raw.get(), packet.data(), packet.size(), MSG_TRUNC), static_cast<ssize_t>(100 * record_bytes(64)));
  EXPECT_EQ(recv(raw.get(), packet.data(), packet.size(), MSG_TRUNC), static_cast<ssize_t>(record_bytes(60'000)));
}

TEST(UnixSocketEndpoint, OptionsThatNeedAPathAreRefusedWithoutOne) {
  for (const char* const address : {"auto", "abstract", "@name"}) {
    const CDriver moded(kPlugin, CDMF_ROLE_SERVER, "/moded", {{"address", address}, {"mode", "0660"}});
    EXPECT_EQ(moded.created, CDMF_INVALID_CONFIG);
    const CDriver grouped(kPlugin, CDMF_ROLE_SERVER, "/moded", {{"address", address}, {"group", "root"}});
    EXPECT_EQ(grouped.created, CDMF_INVALID_CONFIG);
    EXPECT_NE(std::string(grouped.error.message).find("a path"), std::string::npos) << grouped.error.message;
  }
}

TEST(UnixSocketEndpoint, TooLongAnEndpointIsRefusedBeforeAnythingOpens) {
  const RuntimeDirectory runtime;
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/" + std::string(200, 'n'));
  EXPECT_EQ(server.created, CDMF_INVALID_CONFIG);
  EXPECT_NE(std::string(server.error.message).find("107"), std::string::npos) << server.error.message;
}

int open_descriptors() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

TEST(UnixSocketEndpoint, OpeningAndClosingLeavesNoDescriptorThreadOrFileBehind) {
  const RuntimeDirectory runtime;
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/cycle");
  CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/cycle");
  const int before = open_descriptors();
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
    ASSERT_EQ(client.open(), CDMF_OK);
    ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
    ASSERT_EQ(client.put(client.server, "x"), CDMF_OK);
    if (i % 2 == 0) {
      ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
      ASSERT_TRUE(server.next().is_message("x"));
    }
    if (i % 3 == 0) client.close();
    server.close();
    client.close();
    ASSERT_EQ(open_descriptors(), before) << "cycle " << i;
  }
  EXPECT_TRUE(std::filesystem::is_empty(runtime.path() + "/cdmf"));
  int threads = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) ++threads;
  EXPECT_LE(threads, 2);  // Sanitizers run one of their own.
}

}  // namespace
}  // namespace cdmf::ipc::unix_socket
