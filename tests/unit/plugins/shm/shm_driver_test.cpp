// The shm driver through its C table: what ipc/plugin_abi.h promises, between two drivers.

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include "driver_under_test.h"
#include "ipc/put_abi.h"

namespace cdmf::ipc::shm {
namespace {

using testing::DriverUnderTest;
using testing::exit_code;
using testing::in_ms;
using testing::kPatienceMs;
using testing::Message;
using testing::run_in_child;
using testing::unique_endpoint;

/// A connected pair: the server has received PEER_CONNECTED, and so has the client.
struct Pair {
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  explicit Pair(const testing::Options& options = {}, std::uint64_t max_message_size = 4096)
      : endpoint(unique_endpoint()),
        server(CDMF_ROLE_SERVER, endpoint, options, max_message_size),
        client(CDMF_ROLE_CLIENT, endpoint, options, max_message_size) {
    EXPECT_EQ(server.open(), CDMF_OK) << server.error.message;
    EXPECT_EQ(client.open(), CDMF_OK) << client.error.message;
    EXPECT_EQ(client.attach(), CDMF_OK) << client.error.message;
    to_client = server.next_peer();
    EXPECT_EQ(client.next_peer(), client.peer);
    to_server = client.peer;
  }
  std::string endpoint;
  DriverUnderTest server;
  DriverUnderTest client;
  cdmf_peer to_client = CDMF_NO_PEER;
  cdmf_peer to_server = CDMF_NO_PEER;
};

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

TEST(ShmDriver, PutSendsAFrameInPiecesAndEndsLikeAClaim) {
  Pair pair(testing::Options{{"ring_buffer_capacity", "32"}});
  const auto* extension =
      static_cast<const cdmf_put*>(pair.client->get_extension(pair.client.self(), CDMF_PUT_EXTENSION));
  ASSERT_NE(extension, nullptr);
  const std::string body(4096 + CDMF_FRAME_OVERHEAD_MAX, 'b');
  const auto put = [&](cdmf_peer peer, std::size_t body_size, std::string_view tail, bool flush) {
    cdmf_pieces frame{};
    std::memcpy(frame.head, "the head has 16.", 16);
    frame.body = body_size != 0 ? body.data() : nullptr;
    frame.body_size = body_size;
    frame.tail = tail.empty() ? nullptr : tail.data();
    frame.tail_size = tail.size();
    return extension->put(pair.client.self(), peer, &frame, flush ? 1 : 0);
  };
  EXPECT_EQ(put(pair.to_server + 1, 1, "", true), CDMF_NOT_CONNECTED);
  EXPECT_EQ(put(pair.to_server, body.size() - 15, "", true), CDMF_BUFFER_OVERFLOW);
  ASSERT_EQ(put(pair.to_server, 0, "", false), CDMF_OK);
  ASSERT_EQ(put(pair.to_server, 100, "tail", false), CDMF_OK);
  EXPECT_TRUE(pair.server.take().empty());
  ASSERT_EQ(put(pair.to_server, body.size() - 20, "tail", true), CDMF_OK);
  EXPECT_EQ(pair.server.next().content, "the head has 16.");
  EXPECT_EQ(pair.server.next().content, "the head has 16." + std::string(100, 'b') + "tail");
  EXPECT_EQ(pair.server.next().content, "the head has 16." + std::string(body.size() - 20, 'b') + "tail");

  cdmf_loan loan{};
  ASSERT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 10, &loan), CDMF_OK);
  EXPECT_EQ(put(pair.to_server, 1, "", true), CDMF_RESOURCE_EXHAUSTED) << "a claim is open";
  pair.client->abort(pair.client.self(), &loan);
  int sent = 0;
  while (put(pair.to_server, 1000, "", false) == CDMF_OK) ++sent;
  EXPECT_GT(sent, 1);
  EXPECT_EQ(put(pair.to_server, 1000, "", false), CDMF_BUFFER_FULL);
  for (int i = 0; i < sent; ++i) EXPECT_EQ(pair.server.next().content.size(), 1016u) << "a full ring is flushed";
  pair.server.close();
  EXPECT_EQ(pair.client.next().kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(put(pair.to_server, 1, "", true), CDMF_NOT_CONNECTED);
}

TEST(ShmDriver, PutCopiesPiecesOfEverySizeAndNothingBesideThem) {
  for (const char* checksum : {"none", "crc32"}) {
    Pair pair(testing::Options{{"checksum", checksum}});
    const auto* extension =
        static_cast<const cdmf_put*>(pair.client->get_extension(pair.client.self(), CDMF_PUT_EXTENSION));
    ASSERT_NE(extension, nullptr);
    for (std::size_t body = 0; body <= 300; ++body) {
      for (const std::size_t tail : {0, 1, 7, 8, 13}) {
        const std::vector<char> body_bytes(body, static_cast<char>('a' + body % 26));  // Exact, for the sanitizers.
        const std::vector<char> tail_bytes(tail, 't');
        cdmf_pieces frame{};
        std::memcpy(frame.head, "the head has 16.", 16);
        frame.body = body_bytes.data();
        frame.body_size = body;
        frame.tail = tail_bytes.data();
        frame.tail_size = tail;
        ASSERT_EQ(extension->put(pair.client.self(), pair.to_server, &frame, 1), CDMF_OK);
        ASSERT_EQ(pair.server.next().content, "the head has 16." + std::string(body_bytes.begin(), body_bytes.end()) +
                                                  std::string(tail_bytes.begin(), tail_bytes.end()));
      }
    }
  }
}

TEST(ShmDriver, ABurstOfPutsEndsWhereAPutWouldAndAllBeforeArrive) {
  for (const char* checksum : {"none", "crc32"}) {
    Pair pair(testing::Options{{"checksum", checksum}, {"ring_buffer_capacity", "32"}});
    const auto* extension =
        static_cast<const cdmf_put*>(pair.client->get_extension(pair.client.self(), CDMF_PUT_EXTENSION));
    ASSERT_NE(extension, nullptr);
    ASSERT_NE(extension->put_burst, nullptr);
    const auto put_burst = [&](cdmf_peer peer, std::span<const cdmf_pieces> frames, bool flush) {
      return extension->put_burst(pair.client.self(), peer, frames.data(), frames.size(), flush ? 1 : 0);
    };
    const std::string body(4096 + CDMF_FRAME_OVERHEAD_MAX, 'b');
    std::vector<cdmf_pieces> frames;
    for (std::size_t i = 0; i < 20; ++i) {  // Of one line and of several, short and long.
      cdmf_pieces frame{};
      std::memcpy(frame.head, "the head has 16.", 16);
      frame.body = body.data();
      frame.body_size = i * i;
      frame.tail = "tail";
      frame.tail_size = i % 5;
      frames.push_back(frame);
    }
    EXPECT_EQ(put_burst(pair.to_server + 1, frames, true), 0u) << "there is no such peer";
    for (int lap = 0; lap < 30; ++lap) {  // Some times round the ring.
      const std::span<const cdmf_pieces> all = frames;
      std::size_t sent = put_burst(pair.to_server, all, false);
      ASSERT_GT(sent, 0u);
      // At the end of the ring the next one says why: nothing is in its way but the look that it takes itself.
      while (sent < all.size()) {
        ASSERT_EQ(extension->put(pair.client.self(), pair.to_server, &all[sent], 0), CDMF_OK);
        ++sent;
        if (sent < all.size()) sent += put_burst(pair.to_server, all.subspan(sent), false);
      }
      EXPECT_TRUE(pair.server.take().empty()) << "not flushed";
      ASSERT_EQ(put_burst(pair.to_server, all.first(1), true), 1u);
      for (const cdmf_pieces& frame : all) {
        ASSERT_EQ(pair.server.next().content, "the head has 16." + std::string(frame.body_size, 'b') +
                                                  std::string("tail").substr(0, frame.tail_size));
      }
      ASSERT_EQ(pair.server.next().content, "the head has 16.");
    }
    frames[2].body_size = body.size();
    EXPECT_EQ(put_burst(pair.to_server, frames, true), 2u) << "the third is too large";
    EXPECT_EQ(extension->put(pair.client.self(), pair.to_server, &frames[2], 1), CDMF_BUFFER_OVERFLOW);
    EXPECT_EQ(pair.server.next().content.size(), 16u) << "those before it are flushed";
    EXPECT_EQ(pair.server.next().content.size(), 18u);
    frames[2].body_size = 4;
    std::size_t sent = 0;
    for (std::size_t more = 1; more != 0; sent += more) {
      more = put_burst(pair.to_server, frames, false);
      if (more == 0 && extension->put(pair.client.self(), pair.to_server, &frames[0], 0) == CDMF_OK) more = 1;
    }
    EXPECT_EQ(extension->put(pair.client.self(), pair.to_server, &frames[0], 0), CDMF_BUFFER_FULL);
    for (std::size_t i = 0; i < sent; ++i) EXPECT_FALSE(pair.server.next().content.empty()) << i;
    EXPECT_TRUE(pair.server.take().empty());
    cdmf_loan loan{};
    ASSERT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 10, &loan), CDMF_OK);
    EXPECT_EQ(put_burst(pair.to_server, frames, true), 0u) << "a claim is open";
    pair.client->abort(pair.client.self(), &loan);
    pair.server.close();
    EXPECT_EQ(pair.client.next().kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
    EXPECT_EQ(put_burst(pair.to_server, frames, true), 0u);
  }
}

TEST(ShmDriver, ALargePutIsSummedInPiecesAndArrivesWhole) {
  Pair pair(testing::Options{{"checksum", "crc32"}}, 100'000);
  const auto* extension =
      static_cast<const cdmf_put*>(pair.client->get_extension(pair.client.self(), CDMF_PUT_EXTENSION));
  ASSERT_NE(extension, nullptr);
  for (const std::size_t body : {16 * 1024 - 17, 16 * 1024 - 16, 16 * 1024, 16 * 1024 + 1, 48 * 1024, 99'999}) {
    for (const std::string tail : {"", "the tail"}) {
      std::string content(body, '?');
      for (std::size_t i = 0; i < body; ++i) content[i] = static_cast<char>('a' + i * 7 % 26);
      cdmf_pieces frame{};
      std::memcpy(frame.head, "the head has 16.", 16);
      frame.body = content.data();
      frame.body_size = body;
      frame.tail = tail.data();
      frame.tail_size = tail.size();
      ASSERT_EQ(extension->put(pair.client.self(), pair.to_server, &frame, 1), CDMF_OK);
      ASSERT_TRUE(pair.server.next().content == "the head has 16." + content + tail) << body << " bytes";
    }
  }
}

TEST(ShmDriver, ALoanAndAPutInTurnBothArrive) {
  Pair pair;
  const auto* extension =
      static_cast<const cdmf_put*>(pair.client->get_extension(pair.client.self(), CDMF_PUT_EXTENSION));
  ASSERT_NE(extension, nullptr);
  for (int i = 0; i < 3; ++i) {
    cdmf_loan loan{};
    ASSERT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 4, &loan), CDMF_OK);
    std::memcpy(loan.memory, "loan", 4);
    cdmf_pieces frame{};
    std::memcpy(frame.head, "the head has 16.", 16);
    EXPECT_EQ(extension->put(pair.client.self(), pair.to_server, &frame, 1), CDMF_RESOURCE_EXHAUSTED);
    ASSERT_EQ(pair.client->commit(pair.client.self(), &loan, 4, 0), CDMF_OK);
    ASSERT_EQ(extension->put(pair.client.self(), pair.to_server, &frame, 1), CDMF_OK);
    EXPECT_EQ(pair.server.next().content, "loan");
    EXPECT_EQ(pair.server.next().content, "the head has 16.");
  }
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

TEST(ShmDriver, GoodbyeComesAfterTheLastMessage) {
  Pair pair;
  for (int i = 0; i < 10; ++i) ASSERT_EQ(pair.client.send(pair.to_server, std::to_string(i)), CDMF_OK);
  pair.client.close();
  for (int i = 0; i < 10; ++i) ASSERT_EQ(pair.server.next().content, std::to_string(i));
  const Message end = pair.server.next();
  EXPECT_EQ(end.kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(end.reason, CDMF_CONNECTION_CLOSED);
  EXPECT_EQ(end.peer, pair.to_client);
  EXPECT_EQ(end.lost, 0u);
  EXPECT_EQ(pair.server.send(pair.to_client, "late"), CDMF_NOT_CONNECTED);
}

TEST(ShmDriver, MessagesForAPeerThatLeftAreCounted) {
  Pair pair;
  for (int i = 0; i < 7; ++i) ASSERT_EQ(pair.server.send(pair.to_client, "unread"), CDMF_OK);
  pair.client.close();
  const Message end = pair.server.next();
  ASSERT_EQ(end.kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(end.lost, 7u);
}

TEST(ShmDriver, KilledPeerIsNoticedAndWhatItFlushedIsDelivered) {
  for (const char* wait : {"spin", "adaptive", "futex"}) {
    const std::string endpoint = unique_endpoint();
    const pid_t child = run_in_child([&] {
      DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint);
      if (client.open() != CDMF_OK || client.attach_when_listening() != CDMF_OK) return 1;
      for (int i = 0; i < 100; ++i) {
        if (client.send(client.peer, std::to_string(i)) != CDMF_OK) return 2;
      }
      if (client.send(client.peer, "never flushed", false) != CDMF_OK) return 3;
      kill(getpid(), SIGKILL);
      return 0;
    });
    DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, {{"wait", wait}});
    ASSERT_EQ(server.open(), CDMF_OK);
    server.next_peer();
    for (int i = 0; i < 100; ++i) ASSERT_EQ(server.next().content, std::to_string(i));
    const Message end = server.next();
    EXPECT_EQ(end.kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
    EXPECT_EQ(end.reason, CDMF_PEER_DIED);
    EXPECT_EQ(exit_code(child), 128 + SIGKILL);
  }
}

TEST(ShmDriver, DeathIsNoticedThoughAChildOfTheDeadStillHasItsSockets) {
  const std::string endpoint = unique_endpoint();
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const pid_t child = run_in_child([&] {
    DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint);
    if (client.open() != CDMF_OK || client.attach_when_listening() != CDMF_OK) return 1;
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      ::close(pipe_fds[1]);
      char byte;
      [[maybe_unused]] const ssize_t got = read(pipe_fds[0], &byte, 1);  // Until the test has ended.
      _exit(0);
    }
    kill(getpid(), SIGKILL);
    return 0;
  });
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint);
  ASSERT_EQ(server.open(), CDMF_OK);
  const cdmf_peer peer = server.next_peer();
  const Message end = server.next();
  EXPECT_EQ(end.kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(end.peer, peer);
  EXPECT_EQ(end.reason, CDMF_PEER_DIED);
  EXPECT_EQ(exit_code(child), 128 + SIGKILL);
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
}

TEST(ShmDriver, DeathOfTheServerWakesAClientThatWaitsForRoom) {
  const std::string endpoint = unique_endpoint();
  const pid_t child = run_in_child([&] {
    DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, {{"ring_buffer_capacity", "32"}});
    if (server.open() != CDMF_OK) return 1;
    pause();
    return 0;
  });
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, {{"ring_buffer_capacity", "32"}});
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach_when_listening(), CDMF_OK) << client.error.message;
  while (client.send(client.peer, std::string(1000, 'x')) == CDMF_OK) {
  }
  std::thread killer([&] { kill(child, SIGKILL); });
  const cdmf_status waited = client->await_space(client.self(), client.peer, 1000, in_ms(kPatienceMs));
  killer.join();
  EXPECT_EQ(waited, CDMF_PEER_DIED);
  EXPECT_EQ(exit_code(child), 128 + SIGKILL);
}

TEST(ShmDriver, DisconnectEndsOneLinkWithItsReason) {
  Pair pair;
  ASSERT_EQ(pair.server->disconnect(pair.server.self(), pair.to_client, CDMF_PERMISSION_DENIED), CDMF_OK);
  const Message here = pair.server.next();
  EXPECT_EQ(here.kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(here.reason, CDMF_PERMISSION_DENIED);
  const Message there = pair.client.next();
  EXPECT_EQ(there.kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(there.reason, CDMF_PERMISSION_DENIED);
  EXPECT_EQ(pair.server->disconnect(pair.server.self(), pair.to_client, CDMF_CONNECTION_CLOSED), CDMF_NOT_CONNECTED);
  ASSERT_EQ(pair.client.attach(), CDMF_OK) << "a new link after the end of the old one";
  EXPECT_NE(pair.server.next_peer(), pair.to_client) << "peer ids are never reused";
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

TEST(ShmDriver, OpenClaimOutlivesItsLink) {
  Pair pair;
  cdmf_loan loan{};
  ASSERT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 64, &loan), CDMF_OK);
  pair.server.close();
  EXPECT_EQ(pair.client.next().kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
  cdmf_loan none{};
  EXPECT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 64, &none), CDMF_NOT_CONNECTED);
  pair.client.close();
  std::memset(loan.memory, 1, loan.size);
  EXPECT_EQ(pair.client->commit(pair.client.self(), &loan, loan.size, 1), CDMF_CONNECTION_CLOSED);
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

TEST(ShmDriver, ServerOpensAgainAfterClose) {
  Pair pair;
  pair.server.close();
  EXPECT_EQ(pair.client.next().reason, CDMF_CONNECTION_CLOSED);
  ASSERT_EQ(pair.server.open(), CDMF_OK) << pair.server.error.message;
  ASSERT_EQ(pair.client.attach(), CDMF_OK) << pair.client.error.message;
  pair.server.next_peer();
  ASSERT_EQ(pair.client.send(pair.client.peer, "again"), CDMF_OK);
  EXPECT_EQ(pair.server.next().content, "again");
}

std::size_t count_entries(const char* folder) {
  std::size_t count = 0;
  DIR* const dir = opendir(folder);
  while (dir != nullptr && readdir(dir) != nullptr) ++count;
  if (dir != nullptr) closedir(dir);
  return count;
}
std::size_t count_segments() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find("memfd:cdmf-shm") != std::string::npos;
  return count;
}

TEST(ShmDriver, NothingIsLeftOfLinksThatEnded) {
  { Pair warm_up; }
  const std::size_t fds = count_entries("/proc/self/fd");
  const std::size_t threads = count_entries("/proc/self/task");
  for (int i = 0; i < 50; ++i) {
    Pair pair;
    ASSERT_EQ(pair.client.send(pair.to_server, "x"), CDMF_OK);
    ASSERT_EQ(pair.server.next().content, "x");
  }
  EXPECT_EQ(count_entries("/proc/self/fd"), fds);
  EXPECT_EQ(count_entries("/proc/self/task"), threads);
  EXPECT_EQ(count_segments(), 0u);
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
