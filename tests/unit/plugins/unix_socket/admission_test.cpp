// Who is let in to a server over a Unix socket, and who is not: other users, other versions, those that stall, too
// many, and everybody while no descriptor is left.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "peers.h"

namespace cdmf::ipc::unix_socket {
namespace {

class Admission : public ::testing::Test {
 protected:
  const RuntimeDirectory runtime;
};

TEST_F(Admission, ClientsThatStallInTheirHandshakeAreDroppedAndDelayNobody) {
  const Gate stalled;
  Child rude([&] {
    std::vector<int> fds;
    for (int i = 0; i < 100; ++i) {  // More than the acceptor has seats for.
      fds.push_back(raw_connect("/stall"));
      if (fds.back() < 0) return 1;
      if (i % 2 == 0 && write(fds.back(), "CDMU", 4) != 4) return 2;  // Half of a hello.
    }
    stalled.open();
    for (const int fd : fds) {
      char byte = 0;
      if (recv(fd, &byte, 1, 0) > 0) return 3;  // Hung up on, without an answer.
    }
    return 0;
  });
  Child polite([&] {
    stalled.pass();
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/stall");
    return join(client) && client.send(client.server, "hello") == CDMF_OK && client.flush(client.server) == CDMF_OK ? 0
                                                                                                                    : 1;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/stall", Options{{"handshake_timeout", "100ms"}});
  ASSERT_EQ(server.open(), CDMF_OK);
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));  // The first to come through is the polite one.
  EXPECT_TRUE(server.next().is_message("hello"));
  EXPECT_EQ(polite.wait(), 0);
  EXPECT_EQ(rude.wait(), 0);
}

TEST_F(Admission, AnotherProtocolOrVersionIsRefused) {
  Child stranger([] {
    int fd = raw_connect("/strange");
    char answer[64];
    const std::string request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if (fd < 0 || write(fd, request.data(), request.size()) != static_cast<ssize_t>(request.size())) return 1;
    if (recv(fd, answer, sizeof answer, 0) > 0) return 2;
    close(fd);
    fd = raw_connect("/strange");
    Hello hello;
    hello.version = kWireVersion + 1;
    Hello reply;
    if (write(fd, &hello, sizeof hello) != sizeof hello) return 3;
    if (recv(fd, &reply, sizeof reply, MSG_WAITALL) != sizeof reply) return 4;
    if (reply.status != CDMF_VERSION_MISMATCH || reply.version != kWireVersion) return 5;
    return recv(fd, answer, sizeof answer, 0) == 0 ? 0 : 6;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/strange");
  ASSERT_EQ(server.open(), CDMF_OK);
  EXPECT_EQ(stranger.wait(), 0);
  EXPECT_TRUE(server.poll().is(UINT32_MAX));
}

TEST_F(Admission, AClientOfAnotherUserIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  // The directory keeps others out before credentials do, so the stranger comes in by an inherited way: it connects as
  // root would, but under another user's name. The socket's own mode is opened for that.
  const Gate listening;
  Child stranger([&] {
    listening.pass();
    const std::string path = endpoint_path("/private").socket;
    if (setresuid(65534, 65534, 65534) != 0) return 1;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return 2;
    Hello answer;
    if (recv(fd, &answer, sizeof answer, MSG_WAITALL) != sizeof answer) return 3;
    return answer.status == CDMF_PERMISSION_DENIED && recv(fd, &answer, 1, 0) == 0 ? 0 : 4;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/private");
  ASSERT_EQ(server.open(), CDMF_OK);
  const EndpointPath path = endpoint_path("/private");
  ASSERT_EQ(chmod(runtime.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(path.directory.c_str(), 0755), 0);
  ASSERT_EQ(chmod(path.socket.c_str(), 0666), 0);
  listening.open();
  EXPECT_EQ(stranger.wait(), 0);
  EXPECT_TRUE(server.poll().is(UINT32_MAX));
}

TEST_F(Admission, WithoutADescriptorLeftClientsAreTurnedAwayAndComeInLater) {
  const Gate try_now;
  const Gate result;
  Child client_process([&] {
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/full");
    if (client.open() != CDMF_OK) return 1;
    try_now.pass();
    result.open(static_cast<char>(client.attach()));
    try_now.pass();
    result.open(static_cast<char>(client.attach()));
    return 0;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/full");
  ASSERT_EQ(server.open(), CDMF_OK);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  std::vector<int> taken;
  const rlimit low{128, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  for (int fd = open("/dev/null", O_RDONLY | O_CLOEXEC); fd >= 0; fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) {
    taken.push_back(fd);
  }
  try_now.open();
  const int refused = result.pass();
  for (const int fd : taken) close(fd);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(refused, CDMF_RESOURCE_EXHAUSTED);
  try_now.open();
  EXPECT_EQ(result.pass(), CDMF_OK);
  EXPECT_EQ(client_process.wait(), 0);
}

TEST_F(Admission, OneUserHasNoMoreLinksThanAllowed) {
  const Options options{{"max_clients_per_user", "2"}};
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/users", options);
  ASSERT_EQ(server.open(), CDMF_OK);
  std::vector<std::unique_ptr<CDriver>> clients;
  for (const cdmf_status wanted : {CDMF_OK, CDMF_OK, CDMF_RESOURCE_EXHAUSTED}) {
    clients.push_back(std::make_unique<CDriver>(kPlugin, CDMF_ROLE_CLIENT, "/users"));
    ASSERT_EQ(clients.back()->open(), CDMF_OK);
    EXPECT_EQ(clients.back()->attach(), wanted) << clients.back()->error.message;
  }
  EXPECT_NE(std::string(clients[2]->error.message).find("max_clients_per_user"), std::string::npos);
  clients[0]->close();
  for (Event event = server.next(); !event.is(CDMF_VIEW_PEER_DISCONNECTED); event = server.next()) {
    ASSERT_TRUE(event.is(CDMF_VIEW_PEER_CONNECTED));
  }
  EXPECT_EQ(clients[2]->attach(), CDMF_OK) << clients[2]->error.message;
}

TEST_F(Admission, ListedUsersComeInThroughAFileThatIsOpenToThem) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  const std::string address = runtime.path() + "/shared.sock";
  const Gate listening;
  Child guest([&] {
    listening.pass();
    if (setresuid(65534, 65534, 65534) != 0) return 1;
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/shared", Options{{"address", address}});
    return join(client) && client.send(client.server, "I am nobody") == CDMF_OK ? 0 : 2;
  });
  Child stranger([&] {
    listening.pass();
    if (setresuid(65533, 65533, 65533) != 0) return 1;
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/shared", Options{{"address", address}});
    return client.open() == CDMF_OK && client.attach() == CDMF_PERMISSION_DENIED ? 0 : 2;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/shared",
                 Options{{"address", address}, {"mode", "0666"}, {"allow_uids", "65534"}});
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  ASSERT_EQ(chmod(runtime.path().c_str(), 0755), 0);
  listening.open();
  listening.open();
  EXPECT_EQ(stranger.wait(), 0);
  EXPECT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  EXPECT_TRUE(server.next().is_message("I am nobody"));
  EXPECT_EQ(guest.wait(), 0);
}

// With no descriptor left, the links that are there go on, everybody else is told at once, and nothing spins.
TEST_F(Admission, WithoutADescriptorLeftTheLinksThatAreThereGoOn) {
  const Gate flood;
  Child echo([] {
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, "/exhausted");
    if (!join(client)) return 1;
    for (;;) {
      const Event event = client.next();
      if (event.is(CDMF_VIEW_PEER_DISCONNECTED)) return event.reason == CDMF_CONNECTION_CLOSED ? 0 : 2;
      if (!event.is(CDMF_VIEW_MESSAGE) || client.send(client.server, event.content) != CDMF_OK) return 3;
    }
  });
  Child many([&] {
    flood.pass();
    for (int i = 0; i < 200; ++i) {
      const int fd = raw_connect("/exhausted");
      Hello answer;
      if (fd < 0 || recv(fd, &answer, sizeof answer, MSG_WAITALL) != sizeof answer) return 1;
      if (answer.status != CDMF_RESOURCE_EXHAUSTED) return 2;
      close(fd);
    }
    return 0;
  });
  CDriver server(kPlugin, CDMF_ROLE_SERVER, "/exhausted");
  ASSERT_EQ(server.open(), CDMF_OK);
  const Event hello = server.next();
  ASSERT_TRUE(hello.is(CDMF_VIEW_PEER_CONNECTED));
  std::vector<int> taken;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit low{128, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  for (int fd = open("/dev/null", O_RDONLY | O_CLOEXEC); fd >= 0; fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) {
    taken.push_back(fd);
  }
  flood.open();
  bool good = true;
  for (std::uint64_t i = 0; i < 100 && good; ++i) {
    good = server.send(hello.peer, pattern(1000, i)) == CDMF_OK && server.next().is_message(pattern(1000, i));
  }
  EXPECT_TRUE(good);
  EXPECT_EQ(many.wait(), 0);
  const auto cpu_ns = [] {
    timespec used{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return static_cast<std::uint64_t>(used.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(used.tv_nsec);
  };
  const std::uint64_t cpu_before = cpu_ns();
  EXPECT_TRUE(server.next(300ms).is(UINT32_MAX));
  EXPECT_LT(cpu_ns() - cpu_before, 150'000'000u);  // Of 300 ms or more; a thread that spins takes all of it.
  for (const int fd : taken) close(fd);
  setrlimit(RLIMIT_NOFILE, &before);
  CDriver late(kPlugin, CDMF_ROLE_CLIENT, "/exhausted");
  ASSERT_EQ(late.open(), CDMF_OK);
  EXPECT_EQ(late.attach(), CDMF_OK) << late.error.message;
  server.close();
  EXPECT_EQ(echo.wait(), 0);
}

}  // namespace
}  // namespace cdmf::ipc::unix_socket
