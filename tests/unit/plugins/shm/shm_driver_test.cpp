// The shm driver through its C table: what ipc/plugin_abi.h promises, between two drivers. Frames in pieces, ends of
// links and waiting have files of their own: shm_driver_put_test.cpp, shm_driver_ends_test.cpp,
// shm_driver_waiting_test.cpp.

#include <signal.h>

#include <map>
#include <string>
#include <thread>
#include <vector>

#include "driver_pair.h"

namespace cdmf::ipc::shm {
namespace {

using testing::DriverUnderTest;
using testing::exit_code;
using testing::in_ms;
using testing::kPatienceMs;
using testing::Message;
using testing::Pair;
using testing::run_in_child;
using testing::unique_endpoint;

class ShmDriverModes : public ::testing::TestWithParam<testing::Options> {};

TEST_P(ShmDriverModes, MessagesGoBothWaysInOrderAndWhole) {
  Pair pair(GetParam());
  for (int i = 0; i < 500; ++i) {
    const std::string request(1 + static_cast<std::size_t>(i * 7 % 4000), static_cast<char>('a' + i % 26));
    ASSERT_EQ(pair.client.send(pair.to_server, request), CDMF_OK);
    const Message got = pair.server.next();
    ASSERT_EQ(got.content, request);
    ASSERT_EQ(got.peer, pair.to_client);
    ASSERT_EQ(pair.server.send(pair.to_client, request + "!"), CDMF_OK);
    ASSERT_EQ(pair.client.next().content, request + "!");
  }
}

TEST_P(ShmDriverModes, StreamThroughAFullRingLosesNothing) {
  constexpr int kCount = 20000;
  Pair pair([] {
    testing::Options options = GetParam();
    options["ring_buffer_capacity"] = "32";
    return options;
  }());
  std::thread sender([&] {
    for (int i = 0; i < kCount; ++i) {
      std::string content = std::to_string(i) + ' ';
      content.append(static_cast<std::size_t>(i % 900), 'x');
      if (pair.client.send_waiting(pair.to_server, content) != CDMF_OK) return;
    }
  });
  int received = 0;
  for (; received < kCount; ++received) {
    const Message message = pair.server.next();
    if (message.kind != CDMF_VIEW_MESSAGE || std::stoi(message.content) != received) break;
  }
  if (received != kCount) pair.server.close();  // Lets the sender end.
  sender.join();
  EXPECT_EQ(received, kCount);
}

INSTANTIATE_TEST_SUITE_P(Modes, ShmDriverModes,
                         ::testing::Values(testing::Options{}, testing::Options{{"wait", "spin"}},
                                           testing::Options{{"wait", "yield"}}, testing::Options{{"wait", "futex"}},
                                           testing::Options{{"checksum", "none"}, {"timestamp", "off"}},
                                           testing::Options{{"trust", "hostile"}},
                                           testing::Options{{"segment", "posix"}},
                                           testing::Options{{"segment", "posix"}, {"wait", "semaphore"}},
                                           testing::Options{{"trust", "hostile"}, {"wait", "futex"}}),
                         [](const auto& row) {
                           std::string name;
                           for (const auto& [key, value] : row.param) name += key + "_" + value + "_";
                           return name + "end";
                         });

TEST(ShmDriver, ClientWithoutServerIsToldAtOnce) {
  DriverUnderTest client(CDMF_ROLE_CLIENT, unique_endpoint());
  ASSERT_EQ(client.open(), CDMF_OK);
  EXPECT_EQ(client.attach(), CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_NE(std::string(client.error.message).find("no server is listening"), std::string::npos)
      << client.error.message;
}

TEST(ShmDriver, SecondServerOfAnEndpointIsRefusedAndTheFirstKeepsWorking) {
  Pair pair;
  DriverUnderTest second(CDMF_ROLE_SERVER, pair.endpoint);
  EXPECT_EQ(second.open(), CDMF_ENDPOINT_IN_USE);
  ASSERT_EQ(pair.client.send(pair.to_server, "still here"), CDMF_OK);
  EXPECT_EQ(pair.server.next().content, "still here");
}

TEST(ShmDriver, LeftoversOfAKilledServerAreReplaced) {
  const std::string endpoint = unique_endpoint();
  const pid_t child = run_in_child([&] {
    DriverUnderTest server(CDMF_ROLE_SERVER, endpoint);
    if (server.open() != CDMF_OK) return 1;
    kill(getpid(), SIGKILL);
    return 0;
  });
  ASSERT_EQ(exit_code(child), 128 + SIGKILL);
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint);
  ASSERT_EQ(client.open(), CDMF_OK);
  EXPECT_EQ(client.attach(), CDMF_ENDPOINT_NOT_FOUND);
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  EXPECT_EQ(client.attach(), CDMF_OK) << client.error.message;
}

TEST(ShmDriver, CommitIsSentByTheNextFlushAndAbortNever) {
  Pair pair;
  cdmf_loan loan{};
  ASSERT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 100, &loan), CDMF_OK);
  EXPECT_EQ(loan.size, 100u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(loan.memory) % CDMF_FRAME_ALIGNMENT, 0u);
  cdmf_loan second{};
  EXPECT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 1, &second), CDMF_RESOURCE_EXHAUSTED);
  std::memcpy(loan.memory, "one", 3);
  ASSERT_EQ(pair.client->commit(pair.client.self(), &loan, 3, 0), CDMF_OK);
  ASSERT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 100, &loan), CDMF_OK);
  pair.client->abort(pair.client.self(), &loan);
  EXPECT_TRUE(pair.server.take().empty());
  ASSERT_EQ(pair.client.send(pair.to_server, "two", false), CDMF_OK);
  EXPECT_TRUE(pair.server.take().empty());
  ASSERT_EQ(pair.client->flush(pair.client.self(), CDMF_NO_PEER, 0), CDMF_OK);
  EXPECT_EQ(pair.server.next().content, "one");
  EXPECT_EQ(pair.server.next().content, "two");
}

TEST(ShmDriver, SizesOutsideTheAgreementAreRefused) {
  Pair pair({}, 1000);
  cdmf_loan loan{};
  EXPECT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 1000 + CDMF_FRAME_OVERHEAD_MAX + 1, &loan),
            CDMF_BUFFER_OVERFLOW);
  EXPECT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 0, &loan), CDMF_INVALID_ARGUMENT);
  EXPECT_EQ(pair.client->claim(pair.client.self(), pair.to_server + 1, 1, &loan), CDMF_NOT_CONNECTED);
  const std::string largest(1000 + CDMF_FRAME_OVERHEAD_MAX, 'L');
  ASSERT_EQ(pair.client.send(pair.to_server, largest), CDMF_OK);
  EXPECT_EQ(pair.server.next().content, largest);
}

TEST(ShmDriver, TheServersLimitRulesAndAClientThatNeedsMoreIsToldWhenItConnects) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, {}, 1000);
  DriverUnderTest modest(CDMF_ROLE_CLIENT, endpoint, {}, 10);
  DriverUnderTest greedy(CDMF_ROLE_CLIENT, endpoint, {}, 1001);
  ASSERT_EQ(server.open(), CDMF_OK);
  ASSERT_EQ(modest.open(), CDMF_OK);
  ASSERT_EQ(greedy.open(), CDMF_OK);
  EXPECT_EQ(modest.attach(), CDMF_OK) << modest.error.message;
  EXPECT_EQ(greedy.attach(), CDMF_INVALID_CONFIG);
  EXPECT_NE(std::string(greedy.error.message).find("1001"), std::string::npos) << greedy.error.message;
}

TEST(ShmDriver, FullRingSaysSoAndTimesOutAndTakesMoreOnceReleased) {
  Pair pair(testing::Options{{"ring_buffer_capacity", "32"}});
  const std::string content(1000, 'f');
  int sent = 0;
  while (pair.client.send(pair.to_server, content) == CDMF_OK) ++sent;
  EXPECT_GE(sent, 14);
  EXPECT_EQ(pair.client.send(pair.to_server, content), CDMF_BUFFER_FULL);
  const std::uint64_t before = monotonic_now_ns();
  EXPECT_EQ(pair.client->await_space(pair.client.self(), pair.to_server, 1000, in_ms(30)), CDMF_TIMEOUT);
  EXPECT_GE(monotonic_now_ns() - before, 30'000'000u);
  for (int i = 0; i < sent; ++i) ASSERT_EQ(pair.server.next().content, content);
  EXPECT_TRUE(pair.server.take().empty());
  EXPECT_EQ(pair.client->await_space(pair.client.self(), pair.to_server, 1000, in_ms(kPatienceMs)), CDMF_OK);
  EXPECT_EQ(pair.client.send(pair.to_server, content), CDMF_OK);
}

TEST(ShmDriver, OneWayLinkCarriesNothingBack) {
  Pair pair(testing::Options{{"bidirectional", "false"}});
  ASSERT_EQ(pair.client.send(pair.to_server, "up"), CDMF_OK);
  EXPECT_EQ(pair.server.next().content, "up");
  EXPECT_EQ(pair.server.send(pair.to_client, "down"), CDMF_UNSUPPORTED);
  pair.server.close();
  const Message end = pair.client.next();
  EXPECT_EQ(end.kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
}

TEST(ShmDriver, HeldMessageStaysReadableBeyondReleaseAndTheEndOfTheLink) {
  for (const char* trust : {"cooperative", "hostile"}) {
    Pair pair(testing::Options{{"trust", trust}, {"ring_buffer_capacity", "32"}});
    ASSERT_EQ(pair.client.send(pair.to_server, "keep me"), CDMF_OK);
    ASSERT_EQ(pair.server->await_messages(pair.server.self(), in_ms(kPatienceMs)), CDMF_OK);
    cdmf_view view{};
    ASSERT_EQ(pair.server->receive_burst(pair.server.self(), &view, 1), 1u);
    std::uint64_t held = 0;
    ASSERT_EQ(pair.server->hold(pair.server.self(), view.peer, view.token, &held), CDMF_OK);
    pair.server->release_burst(pair.server.self());
    for (int i = 0; i < 40; ++i) {
      if (pair.client.send(pair.to_server, std::string(1000, 'z')) == CDMF_OK) pair.server.take();
    }
    const auto kept = [&] { return std::string(static_cast<const char*>(view.frame), view.size); };
    EXPECT_EQ(kept(), "keep me");
    pair.client.close();
    while (pair.server.next().kind != CDMF_VIEW_PEER_DISCONNECTED) {
    }
    EXPECT_EQ(kept(), "keep me");
    pair.server.close();
    EXPECT_EQ(kept(), "keep me");
    pair.server->unhold(pair.server.self(), held);
  }
}

TEST(ShmDriver, HeldSpaceGoesBackWhenAnotherThreadLetsGo) {
  Pair pair(testing::Options{{"ring_buffer_capacity", "32"}});
  ASSERT_EQ(pair.client.send(pair.to_server, "held"), CDMF_OK);
  ASSERT_EQ(pair.server->await_messages(pair.server.self(), in_ms(kPatienceMs)), CDMF_OK);
  cdmf_view view{};
  ASSERT_EQ(pair.server->receive_burst(pair.server.self(), &view, 1), 1u);
  std::uint64_t held = 0;
  ASSERT_EQ(pair.server->hold(pair.server.self(), view.peer, view.token, &held), CDMF_OK);
  pair.server->release_burst(pair.server.self());
  while (pair.client.send(pair.to_server, std::string(1000, 'x')) == CDMF_OK) {
  }
  while (!pair.server.take().empty()) {
  }
  ASSERT_EQ(pair.client.send(pair.to_server, std::string(1000, 'x')), CDMF_BUFFER_FULL) << "the held one is in the way";
  std::thread other([&] { pair.server->unhold(pair.server.self(), held); });
  std::thread receiver([&] {
    pair.server->await_messages(pair.server.self(), in_ms(kPatienceMs));
    pair.server.take();
  });
  EXPECT_EQ(pair.client.send_waiting(pair.to_server, std::string(1000, 'x')), CDMF_OK);
  other.join();
  receiver.join();
}

TEST(ShmDriver, MessageThatDoesNotMatchItsChecksumIsDiscardedAndCounted) {
  Pair pair;
  cdmf_loan loan{};
  ASSERT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 64, &loan), CDMF_OK);
  std::memset(loan.memory, 'a', 64);
  ASSERT_EQ(pair.client->commit(pair.client.self(), &loan, 64, 0), CDMF_OK);
  static_cast<char*>(loan.memory)[10] = 'b';  // As a stray pointer of the sender would.
  ASSERT_EQ(pair.client.send(pair.to_server, "intact"), CDMF_OK);
  EXPECT_EQ(pair.server.next().content, "intact");
  pair.client.close();
  EXPECT_EQ(pair.server.next().lost, 1u);
}

TEST(ShmDriver, MessagesCarryTheTimeOfSending) {
  Pair pair;
  const auto now_us = [] {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(now.tv_nsec) / 1000;
  };
  const std::uint64_t before = now_us();
  ASSERT_EQ(pair.client.send(pair.to_server, "now"), CDMF_OK);
  const std::uint64_t after = now_us();
  const std::uint64_t sent = pair.server.next().timestamp_us;
  EXPECT_GE(sent, before);
  EXPECT_LE(sent, after);
}

TEST(ShmDriver, ManyClientsAreServedTogether) {
  constexpr int kClients = 64;
  const std::string endpoint = unique_endpoint();
  std::vector<pid_t> children;
  for (int i = 0; i < kClients; ++i) {
    children.push_back(run_in_child([&] {
      DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint);
      if (client.open() != CDMF_OK || client.attach_when_listening() != CDMF_OK) return 1;
      if (client.next_peer() != client.peer) return 4;
      for (int round = 0; round < 50; ++round) {
        const std::string content = std::to_string(i) + ":" + std::to_string(round);
        if (client.send_waiting(client.peer, content) != CDMF_OK) return 2;
        if (client.next().content != content) return 3;
      }
      return 0;
    }));
  }
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, {{"ring_buffer_capacity", "32"}});
  ASSERT_EQ(server.open(), CDMF_OK);
  int connected = 0;
  int left = 0;
  std::map<cdmf_peer, int> rounds;
  while (left < kClients) {
    const Message message = server.next();
    if (message.kind == testing::kNothing) break;
    if (message.kind == CDMF_VIEW_PEER_CONNECTED) ++connected;
    if (message.kind == CDMF_VIEW_PEER_DISCONNECTED) {
      ++left;
      EXPECT_EQ(message.reason, CDMF_CONNECTION_CLOSED);
    }
    if (message.kind == CDMF_VIEW_MESSAGE) {
      EXPECT_EQ(message.content.substr(message.content.find(':') + 1), std::to_string(rounds[message.peer]++));
      EXPECT_EQ(server.send(message.peer, message.content), CDMF_OK);
    }
  }
  EXPECT_EQ(connected, kClients);
  for (const pid_t child : children) EXPECT_EQ(exit_code(child), 0);
}

TEST(ShmDriver, SizesThatContradictEachOtherAreRefusedWithWhatWouldDo) {
  const auto message = [](const testing::Options& options, std::uint64_t size) {
    const DriverUnderTest driver(CDMF_ROLE_SERVER, "/sizes", options, size);
    EXPECT_EQ(driver.create_status, CDMF_INVALID_CONFIG);
    return std::string(driver.error.message);
  };
  EXPECT_NE(message({{"ring_buffer_capacity", "64"}}, 64 * 1024).find("set 512"), std::string::npos);
  EXPECT_NE(message({{"shm_size", "1MiB"}}, 4096).find("4194304"), std::string::npos);
  EXPECT_EQ(DriverUnderTest(CDMF_ROLE_SERVER, "/sizes", {{"shm_size", "4194304"}}, 4096).create_status, CDMF_OK);
  EXPECT_EQ(DriverUnderTest(CDMF_ROLE_SERVER, "/sizes", {}, 64u << 20).create_status, CDMF_OK)
      << "a capacity nobody asked for grows with the messages";
}

}  // namespace
}  // namespace cdmf::ipc::shm
