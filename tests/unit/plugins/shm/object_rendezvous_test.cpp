// Links over a named object: who gets in, whose end is noticed, and what is left. Real processes where one must die.

#include <dirent.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "driver_under_test.h"
#include "object_by_hand.h"
#include "segment/named_object.h"
#include "support/eventually.h"
#include "unit/plugins/unix_socket/child.h"

namespace cdmf::ipc::shm {
namespace {

using ::cdmf::ipc::testing::eventually;
using testing::DriverUnderTest;
using testing::in_ms;
using testing::kPatienceMs;
using testing::Message;
using testing::ObjectByHand;
using testing::unique_endpoint;
using unix_socket::test::Child;
using unix_socket::test::Gate;

constexpr auto kDisconnected = static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED);
const testing::Options kPosix{{"segment", "posix"}, {"ring_buffer_capacity", "32"}};
const testing::Options kSemaphore{{"segment", "posix"}, {"ring_buffer_capacity", "32"}, {"wait", "semaphore"}};

bool says(const DriverUnderTest& driver, const char* words) {
  if (std::string(driver.error.message).find(words) != std::string::npos) return true;
  ADD_FAILURE() << '"' << driver.error.message << "\" does not say \"" << words << '"';
  return false;
}
/// Everything in /dev/shm that is of this endpoint: the object, its replacement, its semaphores.
std::vector<std::string> objects_of(const std::string& endpoint) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    const std::string name = entry.path().filename();
    if (name.find(endpoint.substr(1)) != std::string::npos) found.push_back(name);
  }
  std::sort(found.begin(), found.end());
  return found;
}
std::size_t count_files(const char* folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}
/// The only child of this process; returns when all its threads have stopped, which is some time after the signal.
void stop(const Child& child) {
  child.signal(SIGSTOP);
  siginfo_t info{};
  EXPECT_EQ(waitid(P_ALL, 0, &info, WSTOPPED), 0);
}
/// attach() in a client that was just told of the end of its server, or comes before it.
cdmf_status attach_in_time(DriverUnderTest& client) {
  const std::uint64_t deadline = in_ms(kPatienceMs);
  cdmf_status status;
  do {
    status = client.attach();
    if (status != CDMF_OK) usleep(500);
  } while (status != CDMF_OK && monotonic_now_ns() < deadline);
  return status;
}

TEST(ObjectRendezvous, SecondClientIsRefusedAndTheFirstKeepsWorking) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kPosix);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  EXPECT_EQ(objects_of(endpoint), std::vector<std::string>{endpoint.substr(1)}) << "the specification's object";
  DriverUnderTest first(CDMF_ROLE_CLIENT, endpoint, kPosix);
  DriverUnderTest second(CDMF_ROLE_CLIENT, endpoint, kPosix);
  ASSERT_EQ(first.open(), CDMF_OK);
  ASSERT_EQ(second.open(), CDMF_OK);
  ASSERT_EQ(first.attach(), CDMF_OK) << first.error.message;
  const cdmf_peer peer = server.next_peer();
  EXPECT_EQ(second.attach(), CDMF_ENDPOINT_IN_USE);
  EXPECT_TRUE(says(second, std::to_string(getpid()).c_str()));
  EXPECT_TRUE(says(second, "segment: memfd"));
  first.next_peer();
  ASSERT_EQ(first.send(first.peer, "still there"), CDMF_OK);
  EXPECT_EQ(server.next().content, "still there");
  // The place is free when the first has left.
  first.close();
  const Message end = server.next();
  EXPECT_EQ(end.kind, kDisconnected);
  EXPECT_EQ(end.peer, peer);
  EXPECT_EQ(end.reason, CDMF_CONNECTION_CLOSED);
  EXPECT_EQ(second.attach(), CDMF_OK) << second.error.message;
  EXPECT_NE(server.next_peer(), peer);
}

TEST(ObjectRendezvous, WithoutAServerAClientIsToldAtOnce) {
  DriverUnderTest client(CDMF_ROLE_CLIENT, unique_endpoint(), kPosix);
  ASSERT_EQ(client.open(), CDMF_OK);
  EXPECT_EQ(client.attach(), CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_TRUE(says(client, "start one"));
}

TEST(ObjectRendezvous, SecondServerIsRefusedAndTheFirstKeepsWorking) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kPosix);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  DriverUnderTest second(CDMF_ROLE_SERVER, endpoint, kPosix);
  EXPECT_EQ(second.open(), CDMF_ENDPOINT_IN_USE);
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kPosix);
  ASSERT_EQ(client.open(), CDMF_OK);
  EXPECT_EQ(client.attach(), CDMF_OK) << client.error.message;
}

class ObjectDeath : public ::testing::TestWithParam<testing::Options> {};

TEST_P(ObjectDeath, KilledClientIsNoticedAfterWhatItSentAndTheNextOneComes) {
  const std::string endpoint = unique_endpoint();
  std::array<Gate, 3> gates;
  Gate sent;
  const auto body = [&](const Gate& gate) {
    gate.pass();
    DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, GetParam());
    if (client.open() != CDMF_OK || attach_in_time(client) != CDMF_OK) return 1;
    if (client.send(client.peer, "last words") != CDMF_OK) return 2;
    sent.open();
    pause();
    return 3;
  };
  std::vector<Child> clients;
  for (const Gate& gate : gates) clients.emplace_back([&] { return body(gate); });
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, GetParam());
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    Child& client = clients[i];
    gates[i].open();
    sent.pass();
    EXPECT_EQ(client.kill_and_wait(), -SIGKILL);
    const cdmf_peer peer = server.next_peer();
    EXPECT_EQ(server.next().content, "last words");
    const Message end = server.next();
    EXPECT_EQ(end.kind, kDisconnected);
    EXPECT_EQ(end.peer, peer);
    EXPECT_EQ(end.reason, CDMF_PEER_DIED);
  }
  EXPECT_FALSE(objects_of(endpoint).empty());
  server.close();
  EXPECT_TRUE(objects_of(endpoint).empty());
}

TEST_P(ObjectDeath, KilledServerIsNoticedAndItsSuccessorIsFoundUnderTheSameName) {
  const std::string endpoint = unique_endpoint();
  std::array<Gate, 3> gates;
  const auto body = [&](const Gate& gate) {
    gate.pass();
    DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, GetParam());
    if (server.open() != CDMF_OK) return 1;
    const cdmf_peer peer = server.next_peer();
    if (server.send(peer, "last words") != CDMF_OK) return 2;
    pause();
    return 3;
  };
  std::vector<Child> servers;
  for (const Gate& gate : gates) servers.emplace_back([&] { return body(gate); });
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, GetParam());
  ASSERT_EQ(client.open(), CDMF_OK);
  for (std::size_t i = 0; i < servers.size(); ++i) {
    Child& server = servers[i];
    gates[i].open();
    ASSERT_EQ(attach_in_time(client), CDMF_OK) << client.error.message;
    client.next_peer();
    EXPECT_EQ(client.next().content, "last words");
    EXPECT_EQ(server.kill_and_wait(), -SIGKILL);
    const Message end = client.next();
    EXPECT_EQ(end.kind, kDisconnected);
    EXPECT_EQ(end.reason, CDMF_PEER_DIED);
    EXPECT_EQ(client.attach(), CDMF_ENDPOINT_NOT_FOUND) << "what the dead left is no server";
  }
  client.close();
  EXPECT_TRUE(objects_of(endpoint).empty()) << "who outlives a server takes its objects away";
}

TEST_P(ObjectDeath, StoppedServerIsSlowAndNotDead) {
  const std::string endpoint = unique_endpoint();
  Gate ready;
  Child child([&] {
    DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, GetParam());
    if (server.open() != CDMF_OK) return 1;
    ready.open();
    const cdmf_peer peer = server.next_peer();
    const std::string content = server.next().content;
    return server.send(peer, content) == CDMF_OK && server.next().kind == kDisconnected ? 0 : 2;
  });
  ready.pass();
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, GetParam());
  ASSERT_EQ(client.open(), CDMF_OK);
  stop(child);
  EXPECT_EQ(client.attach(50), CDMF_TIMEOUT) << client.error.message;
  child.signal(SIGCONT);
  ASSERT_EQ(attach_in_time(client), CDMF_OK) << client.error.message;
  client.next_peer();
  stop(child);
  ASSERT_EQ(client.send(client.peer, "are you there?"), CDMF_OK);
  EXPECT_EQ(client->await_messages(client.self(), in_ms(50)), CDMF_TIMEOUT) << "no news of its death";
  child.signal(SIGCONT);
  EXPECT_EQ(client.next().content, "are you there?");
  client.close();
  EXPECT_EQ(child.wait(), 0);
}

INSTANTIATE_TEST_SUITE_P(Waits, ObjectDeath, ::testing::Values(kPosix, kSemaphore),
                         [](const auto& test) { return test.param.contains("wait") ? "semaphore" : "adaptive"; });

TEST(ObjectRendezvous, DeathIsNoticedThoughAChildOfTheDeadLives) {
  const std::string endpoint = unique_endpoint();
  Gate listening;
  Gate end;
  Child child([&] {
    listening.pass();
    DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kPosix);
    if (client.open() != CDMF_OK || attach_in_time(client) != CDMF_OK) return 1;
    if (fork() == 0) {
      alarm(60);
      end.pass();
      _exit(0);
    }
    if (client.send(client.peer, "forked") != CDMF_OK) return 2;
    pause();
    return 3;
  });
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kPosix);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  listening.open();
  server.next_peer();
  EXPECT_EQ(server.next().content, "forked");
  EXPECT_EQ(child.kill_and_wait(), -SIGKILL);
  EXPECT_EQ(server.next().reason, CDMF_PEER_DIED);
  end.open();
}

TEST(ObjectRendezvous, EndMadeByEitherSideMakesRoomForANewLink) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kPosix);
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kPosix);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  ASSERT_EQ(client.open(), CDMF_OK);
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message << " in round " << round;
    const cdmf_peer peer = server.next_peer();
    client.next_peer();
    DriverUnderTest& one = round % 2 == 0 ? server : client;
    DriverUnderTest& other = round % 2 == 0 ? client : server;
    const cdmf_peer end = round % 2 == 0 ? peer : client.peer;
    ASSERT_EQ(one->disconnect(one.self(), end, CDMF_CONNECTION_CLOSED), CDMF_OK);
    EXPECT_EQ(one.next().kind, kDisconnected);
    const Message told = other.next();
    EXPECT_EQ(told.kind, kDisconnected);
    EXPECT_EQ(told.reason, CDMF_CONNECTION_CLOSED);
  }
}

TEST(ObjectRendezvous, SuccessorMayComeAsSoonAsTheClientIsToldOfTheEnd) {
  for (const testing::Options& options : {kPosix, kSemaphore}) {
    const std::string endpoint = unique_endpoint();
    DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, options);
    ASSERT_EQ(client.open(), CDMF_OK);
    auto server = std::make_unique<DriverUnderTest>(CDMF_ROLE_SERVER, endpoint, options);
    ASSERT_EQ(server->open(), CDMF_OK) << server->error.message;
    for (int round = 0; round < 20; ++round) {
      ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message << " in round " << round;
      (void)client.next_peer();
      (void)server->next_peer();
      auto next = std::make_unique<DriverUnderTest>(CDMF_ROLE_SERVER, endpoint, options);
      std::thread closing([&] { server->close(); });
      EXPECT_EQ(client.next().kind, kDisconnected);
      EXPECT_EQ(next->open(), CDMF_OK) << next->error.message << " in round " << round;
      closing.join();
      server = std::move(next);
    }
  }
}

TEST(ObjectRendezvous, EachLinkHasASegmentOfItsOwn) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kPosix);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  ino_t before = 0;
  for (std::uint64_t generation = 1; generation <= 3; ++generation) {
    DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kPosix);
    ASSERT_EQ(client.open(), CDMF_OK);
    ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
    server.next_peer();
    const int fd = shm_open(endpoint.c_str(), O_RDONLY, 0);
    ASSERT_GE(fd, 0);
    struct stat info {};
    ASSERT_EQ(fstat(fd, &info), 0);
    EXPECT_NE(info.st_ino, before);
    before = info.st_ino;
    EXPECT_EQ(info.st_mode & 07777, 0600u);
    SegmentHeader header{};
    ASSERT_EQ(pread(fd, static_cast<void*>(&header), sizeof header, 0), static_cast<ssize_t>(sizeof header));
    EXPECT_EQ(header.magic, 0xCDAF5000u);
    EXPECT_EQ(header.generation, generation);
    EXPECT_EQ(header.total_size, static_cast<std::uint64_t>(info.st_size));
    ::close(fd);
    client.close();
    EXPECT_EQ(server.next().kind, kDisconnected);
  }
}

TEST(ObjectRendezvous, SegmentOfAnotherVersionIsRefusedNamingBoth) {
  const std::string endpoint = unique_endpoint();
  const SegmentPlan plan{.ring_capacity = 64, .slot_size = 512, .frame_size_max = 4096 + CDMF_FRAME_OVERHEAD_MAX};
  const ObjectByHand made(endpoint, plan, [](SegmentControl& control) { control.header.version = 7; });
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kPosix);
  ASSERT_EQ(client.open(), CDMF_OK);
  EXPECT_EQ(client.attach(), CDMF_VERSION_MISMATCH);
  EXPECT_TRUE(says(client, "7."));
  EXPECT_TRUE(says(client, "1.1"));
}

TEST(ObjectRendezvous, HeaderThatCannotBeIsRefused) {
  const SegmentPlan plan{.ring_capacity = 64, .slot_size = 512, .frame_size_max = 4096 + CDMF_FRAME_OVERHEAD_MAX};
  const std::vector<void (*)(SegmentHeader&)> faults = {[](SegmentHeader& header) { header.total_size -= 1; },
                                                        [](SegmentHeader& header) { header.ring_capacity = 65; },
                                                        [](SegmentHeader& header) { header.ring_capacity = 128; },
                                                        [](SegmentHeader& header) { header.slot_size = 0; },
                                                        [](SegmentHeader& header) { header.tx_offset = 0; },
                                                        [](SegmentHeader& header) { header.rx_offset += 64; },
                                                        [](SegmentHeader& header) { header.frame_size_max = 0; },
                                                        [](SegmentHeader& header) { header.rx_offset = 0; },
                                                        [](SegmentHeader& header) { header.frame_size_max = 1 << 20; }};
  for (std::size_t i = 0; i < faults.size(); ++i) {
    const std::string endpoint = unique_endpoint();
    const ObjectByHand made(endpoint, plan, [&](SegmentControl& control) { faults[i](control.header); });
    DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kPosix);
    ASSERT_EQ(client.open(), CDMF_OK);
    EXPECT_EQ(client.attach(), CDMF_PROTOCOL_ERROR) << "fault " << i;
  }
}

TEST(ObjectRendezvous, ClientThatNeedsLargerMessagesIsTold) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kPosix, 1000);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kPosix, 2000);
  ASSERT_EQ(client.open(), CDMF_OK);
  EXPECT_EQ(client.attach(), CDMF_INVALID_CONFIG);
  EXPECT_TRUE(says(client, "max_message_size 2000"));
  EXPECT_TRUE(says(client, "allows 1000"));
}

TEST(ObjectRendezvous, SemaphoresAreThoseThatSemOpenFinds) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kSemaphore);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  sem_t* const tx = sem_open((endpoint + "_tx").c_str(), 0);
  sem_t* const rx = sem_open((endpoint + "_rx").c_str(), 0);
  ASSERT_NE(tx, SEM_FAILED);
  ASSERT_NE(rx, SEM_FAILED);
  int value = -1;
  EXPECT_EQ(sem_getvalue(tx, &value), 0);
  EXPECT_EQ(value, 0);
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kSemaphore);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
  server.next_peer();
  // A post from outside wakes, and nothing else: whoever is woken looks for itself.
  EXPECT_EQ(sem_post(tx), 0);
  EXPECT_EQ(server->await_messages(server.self(), in_ms(30)), CDMF_TIMEOUT);
  sem_close(tx);
  sem_close(rx);
  client.close();
  server.close();
  EXPECT_TRUE(objects_of(endpoint).empty());
}

TEST(ObjectRendezvous, EitherSideMayDoWithoutItsSemaphoreButNotWithoutItsPeers) {
  const std::string endpoint = unique_endpoint();
  {
    DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kSemaphore);
    ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
    DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kPosix);
    ASSERT_EQ(client.open(), CDMF_OK);
    ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
    const cdmf_peer peer = server.next_peer();
    client.next_peer();
    for (int i = 0; i < 100; ++i) {
      ASSERT_EQ(client.send(client.peer, "ping"), CDMF_OK);
      ASSERT_EQ(server.next().content, "ping");
      ASSERT_EQ(server.send(peer, "pong"), CDMF_OK);
      ASSERT_EQ(client.next().content, "pong");
    }
  }
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kPosix);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kSemaphore);
  ASSERT_EQ(client.open(), CDMF_OK);
  EXPECT_EQ(client.attach(), CDMF_INVALID_CONFIG);
  EXPECT_TRUE(says(client, "wait: semaphore"));
}

TEST(ObjectRendezvous, NothingIsLeftOfLinksThatEnded) {
  const std::string endpoint = unique_endpoint();
  std::size_t descriptors = 0;
  std::size_t threads = 0;
  for (int life = 0; life < 30; ++life) {
    DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, life % 2 == 0 ? kPosix : kSemaphore);
    ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
    for (int link = 0; link < 3; ++link) {
      DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kPosix);
      ASSERT_EQ(client.open(), CDMF_OK);
      ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
      server.next_peer();
      client.close();
      EXPECT_EQ(server.next().kind, kDisconnected);
    }
    server.close();
    EXPECT_TRUE(objects_of(endpoint).empty());
    if (life != 1) continue;
    descriptors = count_files("/proc/self/fd");
    threads = count_files("/proc/self/task");
  }
  EXPECT_EQ(count_files("/proc/self/fd"), descriptors);
  EXPECT_TRUE(eventually([&] { return count_files("/proc/self/task") == threads; }));
}

TEST(ObjectRendezvous, OptionsThatContradictEachOtherAreRefusedNamingBoth) {
  const auto refusal = [](const testing::Options& options) {
    const DriverUnderTest driver(CDMF_ROLE_SERVER, unique_endpoint(), options);
    EXPECT_EQ(driver.create_status, CDMF_INVALID_CONFIG);
    return std::string(driver.error.message);
  };
  const auto names = [](const std::string& text, const char* one, const char* other) {
    return text.find(one) != std::string::npos && text.find(other) != std::string::npos
               ? ::testing::AssertionSuccess()
               : ::testing::AssertionFailure() << text;
  };
  EXPECT_TRUE(names(refusal({{"wait", "semaphore"}}), "wait: semaphore", "segment: posix"));
  EXPECT_TRUE(names(refusal({{"segment", "posix"}, {"trust", "hostile"}}), "trust: hostile", "segment: posix"));
  EXPECT_TRUE(names(refusal({{"segment", "posix"}, {"address", "/tmp/x"}}), "address", "segment: posix"));
  EXPECT_TRUE(names(refusal({{"segment", "posix"}, {"memory_budget", "1GiB"}}), "memory_budget", "segment: posix"));
  EXPECT_TRUE(names(refusal({{"mode", "0660"}}), "mode", "address"));
  EXPECT_TRUE(names(refusal({{"group", "0"}}), "group", "address"));
  EXPECT_TRUE(names(refusal({{"address", "orders"}}), "address", "auto"));
  EXPECT_TRUE(names(refusal({{"memory_budget", "1KiB"}}), "memory_budget", "ring_buffer_capacity"));
  EXPECT_TRUE(names(refusal({{"allow_uids", "me"}}), "allow_uids", "id -u"));
  EXPECT_TRUE(names(refusal({{"segment", "posix"}, {"group", "no such group"}}), "group", "getent"));
}

}  // namespace
}  // namespace cdmf::ipc::shm
