// How links of the shm driver end: by goodbye, by death, by disconnect, and what is left of them.

#include <dirent.h>
#include <signal.h>

#include <fstream>
#include <string>
#include <thread>

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

}  // namespace
}  // namespace cdmf::ipc::shm
