// A thousand clients at once, with real descriptors, memory and processes.

#include <sys/resource.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "driver_under_test.h"
#include "unit/plugins/unix_socket/child.h"

namespace cdmf::ipc::shm {
namespace {

using testing::DriverUnderTest;
using testing::in_ms;
using testing::kPatienceMs;
using testing::Message;
using testing::unique_endpoint;
using unix_socket::test::Child;
using unix_socket::test::Gate;

constexpr auto kConnected = static_cast<std::uint32_t>(CDMF_VIEW_PEER_CONNECTED);
constexpr auto kDisconnected = static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED);

std::size_t count_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}
bool allow_descriptors(rlim_t count) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= count) return true;
  limit.rlim_cur = count;
  limit.rlim_max = std::max(limit.rlim_max, count);
  return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

TEST(ManyClients, AThousandAreServedAtOnceAndLeaveNothing) {
  constexpr int kProcesses = 4;
  constexpr int kClientsEach = 250;
  constexpr std::size_t kClients = kProcesses * kClientsEach;
  constexpr std::size_t kMessageBytes = 200;
  const testing::Options options{{"ring_buffer_capacity", "4"}, {"wait", "futex"}};
  if (!allow_descriptors(5 * kClients + 100)) {
    GTEST_SKIP() << "this needs " << 5 * kClients + 100 << " descriptors; raise the hard limit: `ulimit -Hn`";
  }
  const std::string endpoint = unique_endpoint();
  Gate start;
  Gate leave;
  const auto body = [&](int process) {
    start.pass();
    std::vector<std::unique_ptr<DriverUnderTest>> clients;
    for (int i = 0; i < kClientsEach; ++i) {
      auto client = std::make_unique<DriverUnderTest>(CDMF_ROLE_CLIENT, endpoint, options, kMessageBytes);
      if (client->open() != CDMF_OK || client->attach() != CDMF_OK) {
        std::fprintf(stderr, "client %d of process %d: %s\n", i, process, client->error.message);
        return 1;
      }
      client->next_peer();
      clients.push_back(std::move(client));
    }
    for (int i = 0; i < kClientsEach; ++i) {
      DriverUnderTest& client = *clients[static_cast<std::size_t>(i)];
      if (client.send(client.peer, std::to_string(process * kClientsEach + i)) != CDMF_OK) return 2;
    }
    for (int i = 0; i < kClientsEach; ++i) {
      DriverUnderTest& client = *clients[static_cast<std::size_t>(i)];
      if (client.next().content != "hello " + std::to_string(process * kClientsEach + i)) return 3;
    }
    leave.pass();
    return 0;
  };
  std::vector<Child> children;
  for (int i = 0; i < kProcesses; ++i) children.emplace_back([&, i] { return body(i); });
  const std::size_t descriptors = count_descriptors();
  {
    DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, options, kMessageBytes);
    ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
    const std::size_t without_clients = count_descriptors();
    for (int i = 0; i < kProcesses; ++i) start.open();
    std::set<cdmf_peer> peers;
    std::set<std::string> numbers;
    while (numbers.size() < kClients) {
      const Message message = server.next();
      if (message.kind == kConnected) {
        peers.insert(message.peer);
        continue;
      }
      ASSERT_EQ(message.kind, static_cast<std::uint32_t>(CDMF_VIEW_MESSAGE)) << "reason " << message.reason;
      EXPECT_TRUE(numbers.insert(message.content).second) << message.content << " came twice";
      ASSERT_EQ(server.send(message.peer, "hello " + message.content), CDMF_OK);
    }
    EXPECT_EQ(peers.size(), kClients) << "all at the same time";
    const std::size_t with_clients = count_descriptors() - without_clients;
    std::printf("%zu clients: %zu descriptors of the server\n", kClients, with_clients);
    EXPECT_LE(with_clients, 5 * kClients);
    for (int i = 0; i < kProcesses; ++i) leave.open();
    for (std::size_t gone = 0; gone < kClients; ++gone) {
      const Message end = server.next();
      ASSERT_EQ(end.kind, kDisconnected);
      EXPECT_EQ(peers.erase(end.peer), 1u);
    }
    for (Child& child : children) EXPECT_EQ(child.wait(), 0);
  }
  EXPECT_EQ(count_descriptors(), descriptors);
}

}  // namespace
}  // namespace cdmf::ipc::shm
