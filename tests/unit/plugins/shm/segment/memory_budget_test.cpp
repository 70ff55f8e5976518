// How memory_budget divides what there is between the clients of a server, and what a client may ask for.

#include "segment/memory_budget.h"

#include <memory>
#include <string>

#include "unit/plugins/shm/driver_under_test.h"

namespace cdmf::ipc::shm {
namespace {

using testing::DriverUnderTest;
using testing::unique_endpoint;

constexpr auto kDisconnected = static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED);

TEST(MemoryShares, AreCountedUntilTheLastCopyGoes) {
  MemoryBudget budget(100);
  MemoryBudget::Share one;
  MemoryBudget::Share two;
  ASSERT_TRUE(budget.take(60, one));
  EXPECT_FALSE(budget.take(41, two));
  EXPECT_TRUE(budget.take(40, two));
  EXPECT_EQ(budget.left(), 0u);
  MemoryBudget::Share copy = one;
  one.reset();
  EXPECT_EQ(budget.left(), 0u);
  copy.reset();
  EXPECT_EQ(budget.left(), 60u);
}

TEST(MemoryShares, OutliveTheirBudget) {
  MemoryBudget::Share share;
  ASSERT_TRUE(MemoryBudget(100).take(60, share));
  share.reset();
}

TEST(MemoryShares, WithoutALimitEverythingIsGranted) {
  MemoryBudget::Share share;
  EXPECT_TRUE(MemoryBudget(0).take(UINT64_MAX, share));
}

class MemoryOfLinks : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kRing = 64 * 512;
  static constexpr std::uint64_t kLink = 4096 + 2 * kRing;
  testing::Options options{{"ring_buffer_capacity", "64"}};

  std::uint64_t ring_bytes_of(DriverUnderTest& client) {
    cdmf_info info{};
    info.struct_size = sizeof info;
    client->describe(client.self(), &info);
    return info.buffer_bytes;
  }
  std::unique_ptr<DriverUnderTest> client_of(const std::string& endpoint, const testing::Options& its = {}) {
    auto client = std::make_unique<DriverUnderTest>(CDMF_ROLE_CLIENT, endpoint, its, 4096);
    EXPECT_EQ(client->open(), CDMF_OK);
    return client;
  }
};

TEST_F(MemoryOfLinks, ClientBeyondItGetsSmallerRingsAndThenARefusalThatSaysWhy) {
  const std::string endpoint = unique_endpoint();
  // One link, and one with rings of half the size.
  options["memory_budget"] = std::to_string(kLink + 4096 + 2 * kRing / 2);
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, options, 4096);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  auto first = client_of(endpoint);
  ASSERT_EQ(first->attach(), CDMF_OK) << first->error.message;
  EXPECT_EQ(ring_bytes_of(*first), kRing);
  server.next_peer();
  auto second = client_of(endpoint);
  ASSERT_EQ(second->attach(), CDMF_OK) << second->error.message;
  EXPECT_EQ(ring_bytes_of(*second), kRing / 2);
  const cdmf_peer second_peer = server.next_peer();
  ASSERT_EQ(second->send(second->peer, std::string(4096, 'x')), CDMF_OK) << "the largest message still fits";
  EXPECT_EQ(server.next().peer, second_peer);
  auto third = client_of(endpoint);
  EXPECT_EQ(third->attach(), CDMF_RESOURCE_EXHAUSTED);
  EXPECT_NE(std::string(third->error.message).find("memory_budget"), std::string::npos) << third->error.message;
  first->close();
  EXPECT_EQ(server.next().kind, kDisconnected);
  EXPECT_TRUE(server.take().empty());  // The receiver lets go of a link with the next look.
  EXPECT_EQ(third->attach(), CDMF_OK) << third->error.message;
  EXPECT_EQ(ring_bytes_of(*third), kRing);
}

TEST_F(MemoryOfLinks, ClientMayAskForLessThanTheServersRingsAndNotForMore) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, options, 4096);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  const auto got = [&](const char* capacity) {
    auto client = client_of(endpoint, {{"ring_buffer_capacity", capacity}});
    EXPECT_EQ(client->attach(), CDMF_OK) << client->error.message;
    server.next_peer();
    const std::uint64_t bytes = ring_bytes_of(*client);
    client->close();
    EXPECT_EQ(server.next().kind, kDisconnected);
    return bytes;
  };
  EXPECT_EQ(got("32"), kRing / 2);
  EXPECT_EQ(got("128"), kRing) << "the server's size rules";
}

}  // namespace
}  // namespace cdmf::ipc::shm
