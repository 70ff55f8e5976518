// The Unix socket driver with peers in other processes: killed ones, many, slow, and interrupted ones. Here the parent
// is the server and forks its clients before it opens; see child.h.
#include <sys/time.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "peers.h"

namespace cdmf::ipc::unix_socket {
namespace {

class Peers : public ::testing::Test {
 protected:
  const RuntimeDirectory runtime;
};

TEST_F(Peers, EverySizeComesBackAsItWasSent) {
  Child echo([] {
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/sizes");
    if (!join(client)) return 1;
    for (;;) {
      const Event event = client.next();
      if (event.is(CDMF_VIEW_PEER_DISCONNECTED)) return event.reason == CDMF_CONNECTION_CLOSED ? 0 : 2;
      if (!event.is(CDMF_VIEW_MESSAGE) || client.send(client.server, event.content) != CDMF_OK) return 3;
    }
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/sizes");
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  const Event hello = server.next();
  ASSERT_TRUE(hello.is(CDMF_VIEW_PEER_CONNECTED));
  std::vector<std::size_t> sizes;
  for (std::size_t size = 1; size <= 130; ++size) sizes.push_back(size);
  for (std::size_t size = 256; size < kLargest; size *= 2) sizes.insert(sizes.end(), {size - 1, size, size + 1});
  sizes.insert(sizes.end(), {kLargest - 1, kLargest});
  for (const std::size_t size : sizes) {
    ASSERT_EQ(server.send(hello.peer, pattern(size, size)), CDMF_OK);
    ASSERT_TRUE(server.next().is_message(pattern(size, size))) << size;
  }
  server.close();
  EXPECT_EQ(echo.wait(), 0);
}

TEST_F(Peers, WhatWasFlushedArrivesThoughTheSenderIsKilledAtOnce) {
  Child victim([] {
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/killed");
    if (!join(client)) return 1;
    for (std::uint64_t i = 0; i < 100; ++i) {
      if (client.put(client.server, pattern(500, i), false) != CDMF_OK) return 2;
    }
    if (client.flush(client.server, in(kWatchdog)) != CDMF_OK) return 3;
    if (client.put(client.server, "never flushed", false) != CDMF_OK) return 4;
    kill(getpid(), SIGKILL);
    return 5;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/killed");
  ASSERT_EQ(server.open(), CDMF_OK);
  EXPECT_EQ(victim.wait(), -SIGKILL);
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  for (std::uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(server.next().is_message(pattern(500, i))) << i;
  const Event end = server.next();
  EXPECT_TRUE(end.is(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(end.reason, CDMF_PEER_DIED);
  EXPECT_TRUE(server.poll().is(UINT32_MAX));
}

TEST_F(Peers, AKilledServerEndsItsClientsAndTheNextOneServesThem) {
  const Gate serving;
  Child first([&] {
    CDriver server(kPlugin, CDMF_ROLE_SERVER, "/again");
    if (server.open() != CDMF_OK) return 1;
    serving.open();
    return server.next().is(CDMF_VIEW_PEER_CONNECTED) && server.next().is(CDMF_VIEW_MESSAGE) ? 2 : 3;
  });
  serving.pass();
  CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/again");
  ASSERT_TRUE(join(client));
  EXPECT_EQ(first.kill_and_wait(), -SIGKILL);
  EXPECT_EQ(client.next().reason, CDMF_PEER_DIED);
  EXPECT_EQ(client.attach(), CDMF_ENDPOINT_NOT_FOUND);
  CDriver second(kPlugin, CDMF_ROLE_SERVER, "/again");
  ASSERT_EQ(second.open(), CDMF_OK) << second.error.message;  // Over the stale socket file.
  EXPECT_EQ(client.attach(), CDMF_OK) << client.error.message;
}

TEST_F(Peers, ASenderThatWaitsForRoomIsToldThatItsReceiverDied) {
  Child deaf([] {
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/deaf");
    if (!join(client) || client.send(client.server, "ready") != CDMF_OK) return 1;
    pause();
    return 2;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/deaf");
  ASSERT_EQ(server.open(), CDMF_OK);
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  const Event ready = server.next();
  ASSERT_TRUE(ready.is_message("ready"));
  while (server.put(ready.peer, pattern(10'000, 1)) == CDMF_OK) {
  }
  std::thread killer([&] { EXPECT_EQ(deaf.kill_and_wait(), -SIGKILL); });
  cdmf_status status = CDMF_OK;
  const std::uint64_t watchdog = in(kWatchdog);
  while (status == CDMF_OK && monotonic_now_ns() < watchdog) {
    status = server.ops().await_space(server.self(), ready.peer, 10'000, watchdog);
    if (status == CDMF_OK) (void)server.put(ready.peer, pattern(10'000, 1));
  }
  EXPECT_EQ(status, CDMF_PEER_DIED);
  killer.join();
  const Event end = server.next();
  EXPECT_EQ(end.reason, CDMF_PEER_DIED);
  EXPECT_GT(end.lost, 0u);
}

TEST_F(Peers, SixtyFourClientsKeepTheirOrderEach) {
  constexpr int kProcesses = 8;
  constexpr int kClientsEach = 8;
  constexpr std::uint64_t kMessages = 300;
  const auto program = [](int process) {
    std::vector<std::unique_ptr<CDriver>> clients;
    for (int i = 0; i < kClientsEach; ++i) {
      clients.push_back(std::make_unique<CDriver>(kPlugin, CDMF_ROLE_CLIENT, "/many"));
      if (!join(*clients.back())) return 1;
    }
    for (std::uint64_t m = 0; m < kMessages; ++m) {
      for (int i = 0; i < kClientsEach; ++i) {
        const std::string text = std::to_string(process * kClientsEach + i) + " " + std::to_string(m);
        if (clients[static_cast<std::size_t>(i)]->send(clients[static_cast<std::size_t>(i)]->server, text) != CDMF_OK)
          return 2;
      }
    }
    for (auto& client : clients) {
      if (!client->next().is_message("done")) return 3;
    }
    return 0;
  };
  std::vector<Child> children;
  for (int p = 0; p < kProcesses; ++p) children.emplace_back([&] { return program(p); });

  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/many");
  ASSERT_EQ(server.open(), CDMF_OK);
  std::map<cdmf_peer, std::uint64_t> received;
  std::map<cdmf_peer, std::string> names;
  std::size_t ended = 0;
  while (ended < kProcesses * kClientsEach) {
    const Event event = server.next();
    ASSERT_FALSE(event.is(UINT32_MAX)) << "nothing came for too long";
    if (event.is(CDMF_VIEW_PEER_CONNECTED)) {
      ASSERT_FALSE(received.contains(event.peer));
      received[event.peer] = 0;
    } else if (event.is(CDMF_VIEW_MESSAGE)) {
      const std::string name = event.content.substr(0, event.content.find(' '));
      if (received[event.peer] == 0) names[event.peer] = name;
      ASSERT_EQ(event.content, names[event.peer] + " " + std::to_string(received[event.peer]));
      ++received[event.peer];
      ASSERT_EQ(received[event.peer] < kMessages ? CDMF_OK : server.send(event.peer, "done"), CDMF_OK);
    } else {
      EXPECT_EQ(event.reason, CDMF_CONNECTION_CLOSED);
      EXPECT_EQ(received[event.peer], kMessages);
      ++ended;
    }
  }
  EXPECT_EQ(received.size(), static_cast<std::size_t>(kProcesses * kClientsEach));
  for (auto& child : children) EXPECT_EQ(child.wait(), 0);
}

TEST_F(Peers, AHostileLengthEndsThatLinkAlone) {
  const Gate hostile_done;
  Child hostile([&] {
    const int fd = raw_connect("/hostile");
    if (fd < 0 || !raw_hello(fd)) return 1;
    RecordHeader header;
    header.size = 0xffffffff;
    if (write(fd, &header, sizeof header) != sizeof header) return 2;
    // What this client hears of it: a goodbye that says why, then the end.
    RecordHeader goodbye;
    if (recv(fd, &goodbye, sizeof goodbye, MSG_WAITALL) != sizeof goodbye) return 3;
    if (goodbye.kind != RecordKind::kGoodbye || goodbye.reason != CDMF_PROTOCOL_ERROR) return 4;
    char rest = 0;
    return recv(fd, &rest, 1, 0) == 0 ? 0 : 5;
  });
  Child honest([&] {
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/hostile");
    if (!join(client)) return 1;
    hostile_done.pass();
    return client.send(client.server, "still here") == CDMF_OK && client.next().is_message("good") ? 0 : 2;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/hostile");
  ASSERT_EQ(server.open(), CDMF_OK);
  Event event = server.next();
  while (event.is(CDMF_VIEW_PEER_CONNECTED)) event = server.next();
  ASSERT_TRUE(event.is(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(event.reason, CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(hostile.wait(), 0);
  hostile_done.open();
  event = server.next();
  while (event.is(CDMF_VIEW_PEER_CONNECTED)) event = server.next();
  ASSERT_TRUE(event.is_message("still here"));
  EXPECT_EQ(server.send(event.peer, "good"), CDMF_OK);
  EXPECT_EQ(honest.wait(), 0);
}

TEST_F(Peers, AStreamCutInTheMiddleOfAFrameIsADeath) {
  Child cut([] {
    const int fd = raw_connect("/cut");
    if (fd < 0 || !raw_hello(fd)) return 1;
    RecordHeader header;
    header.size = 100;
    return write(fd, &header, sizeof header) == sizeof header ? 0 : 2;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/cut");
  ASSERT_EQ(server.open(), CDMF_OK);
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  EXPECT_EQ(server.next().reason, CDMF_PEER_DIED);
  EXPECT_EQ(cut.wait(), 0);
}

void on_alarm(int) {}

// Catches a system call whose EINTR is taken for an error: a timer interrupts both sides all the time.
TEST_F(Peers, SignalsDoNotDisturbAnything) {
  constexpr std::uint64_t kMessages = 3000;
  const auto storm = [](bool on) {
    struct sigaction action {};
    action.sa_handler = on_alarm;  // Without SA_RESTART.
    sigaction(SIGALRM, &action, nullptr);
    const itimerval timer{{0, on ? 500 : 0}, {0, on ? 500 : 0}};
    setitimer(ITIMER_REAL, &timer, nullptr);
  };
  Child echo([&] {
    storm(true);
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/signals", Options{{"queue_size", "128KiB"}, {"send_buffer", "32KiB"}});
    if (!join(client)) return 1;
    for (std::uint64_t i = 0; i < kMessages; ++i) {
      const Event event = client.next();
      if (!event.is_message(pattern(3000, i))) return 2;
      if (client.send(client.server, event.content) != CDMF_OK) return 3;
    }
    return client.flush(client.server, in(kWatchdog)) == CDMF_OK ? 0 : 4;
  });
  storm(true);
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/signals", Options{{"queue_size", "128KiB"}, {"send_buffer", "32KiB"}});
  const cdmf_status opened = server.open();
  const Event hello = server.next();
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  bool good = opened == CDMF_OK && hello.is(CDMF_VIEW_PEER_CONNECTED);
  while (good && received < kMessages) {
    while (sent < kMessages && sent < received + 40 && server.put(hello.peer, pattern(3000, sent)) == CDMF_OK) ++sent;
    good = server.next().is_message(pattern(3000, received));
    ++received;
  }
  storm(false);
  EXPECT_TRUE(good) << "after " << received << " messages";
  EXPECT_EQ(echo.wait(), 0);
}

TEST_F(Peers, AForkedChildThatCleansUpDoesNotEndItsParentsLinks) {
  Child echo([] {
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/forked");
    if (!join(client)) return 1;
    const Event event = client.next();
    return event.is_message("after the fork") ? 0 : 2;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/forked");
  ASSERT_EQ(server.open(), CDMF_OK);
  const Event hello = server.next();
  ASSERT_TRUE(hello.is(CDMF_VIEW_PEER_CONNECTED));
  Child careless([&] {
    server.destroy();
    return 0;
  });
  EXPECT_EQ(careless.wait(), 0);
  EXPECT_TRUE(std::filesystem::exists(endpoint_path("/forked").socket));
  EXPECT_EQ(server.put(hello.peer, "after the fork"), CDMF_OK);
  EXPECT_EQ(echo.wait(), 0);
}

/// In a child: leaves a process behind that keeps every descriptor of it open until `until` says otherwise.
void leave_a_child_behind(const Gate& until) {
  if (fork() != 0) return;
  alarm(60);
  until.pass();
  _exit(0);
}

// The socket's end never comes, as a child that was forked without exec keeps it open.
TEST_F(Peers, ADeathThatAForkedChildHidesIsNoticed) {
  for (const char* const type : {"STREAM", "SEQPACKET"}) {
    SCOPED_TRACE(type);
    const Gate finish;
    Child victim([&] {
      CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/hidden", Options{{"socket_type", type}});
      if (!join(client)) return 1;
      leave_a_child_behind(finish);
      if (client.send(client.server, "last words") != CDMF_OK) return 2;
      kill(getpid(), SIGKILL);
      return 3;
    });
    CDriver server(kPlugin, CDMF_ROLE_SERVER, "/hidden", Options{{"socket_type", type}});
    ASSERT_EQ(server.open(), CDMF_OK);
    EXPECT_EQ(victim.wait(), -SIGKILL);
    EXPECT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
    EXPECT_TRUE(server.next().is_message("last words"));  // What it had sent comes first.
    const Event end = server.next();
    EXPECT_TRUE(end.is(CDMF_VIEW_PEER_DISCONNECTED));
    EXPECT_EQ(end.reason, CDMF_PEER_DIED);
    finish.open();
  }
}

TEST_F(Peers, ADeathThatAForkedChildHidesIsNoticedByAProgramThatOnlyPolls) {
  const Gate finish;
  Child victim([&] {
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/hidden");
    if (!join(client)) return 1;
    leave_a_child_behind(finish);
    kill(getpid(), SIGKILL);
    return 2;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/hidden");
  ASSERT_EQ(server.open(), CDMF_OK);
  EXPECT_EQ(victim.wait(), -SIGKILL);
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  Event end;
  const std::uint64_t watchdog = in(kWatchdog);
  while (end.is(UINT32_MAX) && monotonic_now_ns() < watchdog) end = server.poll();
  EXPECT_EQ(end.reason, CDMF_PEER_DIED);
  finish.open();
}

TEST_F(Peers, ASenderThatWaitsForRoomIsToldThoughAForkedChildHidesTheDeath) {
  const Gate finish;
  Child deaf([&] {
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/hidden");
    if (!join(client)) return 1;
    leave_a_child_behind(finish);
    if (client.send(client.server, "ready") != CDMF_OK) return 2;
    pause();
    return 3;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/hidden");
  ASSERT_EQ(server.open(), CDMF_OK);
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  const Event ready = server.next();
  ASSERT_TRUE(ready.is_message("ready"));
  while (server.put(ready.peer, pattern(10'000, 1)) == CDMF_OK) {
  }
  std::thread killer([&] { EXPECT_EQ(deaf.kill_and_wait(), -SIGKILL); });
  cdmf_status status = CDMF_OK;
  const std::uint64_t watchdog = in(kWatchdog);
  while (status == CDMF_OK && monotonic_now_ns() < watchdog) {
    status = server.ops().await_space(server.self(), ready.peer, 10'000, watchdog);
    if (status == CDMF_OK) (void)server.put(ready.peer, pattern(10'000, 1));
  }
  EXPECT_EQ(status, CDMF_PEER_DIED);
  killer.join();
  finish.open();
}

TEST_F(Peers, AStoppedPeerIsSlowNotDead) {
  Child sleeper([] {
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/stopped");
    if (!join(client)) return 1;
    kill(getpid(), SIGSTOP);
    return client.send(client.server, "awake") == CDMF_OK && client.flush(client.server) == CDMF_OK ? 0 : 2;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/stopped");
  ASSERT_EQ(server.open(), CDMF_OK);
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  EXPECT_TRUE(server.next(200ms).is(UINT32_MAX));
  sleeper.signal(SIGCONT);
  EXPECT_TRUE(server.next().is_message("awake"));
  EXPECT_EQ(server.next().reason, CDMF_CONNECTION_CLOSED);
  EXPECT_EQ(sleeper.wait(), 0);
}

}  // namespace
}  // namespace cdmf::ipc::unix_socket
