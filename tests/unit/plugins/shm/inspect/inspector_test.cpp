// Looking into a running server: it is seen as it is, it counts no peer for it, and it can be looked at by hostile
// observers as it can be hostile to them.
#include "inspect/inspector.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <thread>

#include "../driver_under_test.h"
#include "inspect/link_report.h"
#include "inspect/look.h"
#include "inspect/pool_report.h"
#include "pool/pool_layout.h"
#include "segment/endpoint.h"
#include "shm_plugin.h"

namespace cdmf::ipc::shm::testing {
namespace {

struct Seen {
  cdmf_status status = CDMF_OK;
  std::string error;
  cdmf_endpoint_report endpoint{};
  std::vector<cdmf_link_report> links;
  std::vector<cdmf_ring_report> rings;
};

Seen look(const std::string& endpoint, std::uint64_t patience_ms = kPatienceMs) {
  Settings settings = make_settings(plugin(), {});
  cdmf_config config{};
  config.struct_size = sizeof config;
  config.role = CDMF_ROLE_SERVER;
  config.endpoint = endpoint.c_str();
  config.max_message_size = 4096;
  config.frame_size_max = 4096 + CDMF_FRAME_OVERHEAD_MAX;
  config.settings = settings.rows.data();
  config.setting_count = settings.rows.size();
  const auto* const inspect = static_cast<const cdmf_inspect*>(plugin().get_extension(CDMF_INSPECT_EXTENSION));
  Seen seen;
  cdmf_error error{};
  error.struct_size = sizeof error;
  seen.endpoint.struct_size = sizeof seen.endpoint;
  seen.status = inspect->look(&config, in_ms(patience_ms), &seen.endpoint, &error);
  seen.error = error.message;
  if (seen.status != CDMF_OK) return seen;
  seen.links.assign(seen.endpoint.links, seen.endpoint.links + seen.endpoint.link_count);
  seen.rings.assign(seen.endpoint.rings, seen.endpoint.rings + seen.endpoint.ring_count);
  inspect->release(&seen.endpoint);
  return seen;
}

TEST(Inspector, SeesTheServerItsLinksAndEveryCounter) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, {{"ring_buffer_capacity", "32"}});
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, {{"wait", "spin"}});
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
  const cdmf_peer peer = server.next_peer();
  for (int i = 0; i < 5; ++i) ASSERT_EQ(client.send(client.peer, "hello"), CDMF_OK);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(server.next().content, "hello");

  Seen seen = look(endpoint);
  ASSERT_EQ(seen.status, CDMF_OK) << seen.error;
  EXPECT_EQ(seen.endpoint.pid, getpid());
  EXPECT_EQ(seen.endpoint.uid, geteuid());
  EXPECT_EQ(seen.endpoint.wait, static_cast<std::uint32_t>(CDMF_WAIT_ADAPTIVE));
  EXPECT_EQ(seen.endpoint.accepted, 1u);
  EXPECT_EQ(seen.endpoint.error_count, 0u);
  ASSERT_EQ(seen.links.size(), 1u);
  EXPECT_EQ(seen.links[0].peer, peer);
  EXPECT_EQ(seen.links[0].pid, getpid());
  EXPECT_GT(seen.links[0].connected_us, 0u);
  EXPECT_EQ(seen.links[0].message_size_max, 4096u);
  EXPECT_NE(seen.links[0].flags & CDMF_LINK_CHECKSUM, 0u);
  ASSERT_EQ(seen.rings.size(), 2u);
  const cdmf_ring_report& tx = seen.rings[0];
  EXPECT_STREQ(tx.name, "TX");
  EXPECT_NE(tx.flags & CDMF_RING_TO_SERVER, 0u);
  EXPECT_EQ(tx.capacity_bytes, 32u * 512);
  EXPECT_EQ(tx.pushes, 5u);
  EXPECT_EQ(tx.pops, 5u) << "one burst";
  EXPECT_EQ(tx.failed_pushes, 0u);
  EXPECT_EQ(tx.flags & (CDMF_RING_IMPLAUSIBLE | CDMF_RING_NOT_ALIGNED), 0u);
  EXPECT_NE(seen.rings[1].flags & CDMF_RING_RECEIVER_NEVER_SLEEPS, 0u) << "this client spins";

  // Until it is full.
  while (client.send(client.peer, std::string(1000, 'x')) == CDMF_OK) {
  }
  seen = look(endpoint);
  ASSERT_EQ(seen.rings.size(), 2u);
  EXPECT_EQ(seen.rings[0].failed_pushes, 1u);
  EXPECT_GE(seen.rings[0].high_water_bytes, 32u * 512 - 2048);
  EXPECT_GE(seen.rings[0].used_bytes, 32u * 512 - 2048);

  client.close();
  for (Message message = server.next(); message.kind == CDMF_VIEW_MESSAGE; message = server.next()) {
  }
  seen = look(endpoint);
  EXPECT_EQ(seen.links.size(), 0u);
  EXPECT_EQ(seen.endpoint.ended, 1u);
}

TEST(Inspector, IsNoClient) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint);
  ASSERT_EQ(server.open(), CDMF_OK);
  for (int i = 0; i < 50; ++i) ASSERT_EQ(look(endpoint).status, CDMF_OK);
  const Seen seen = look(endpoint);
  EXPECT_EQ(seen.endpoint.accepted, 0u);
  EXPECT_EQ(seen.endpoint.refused, 0u);
  EXPECT_TRUE(server.take().empty());
}

TEST(Inspector, SeesASleepingReceiverParkedAndCountsItsWakes) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, {{"wait", "futex"}});
  ASSERT_EQ(server.open(), CDMF_OK);
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK);
  (void)server.next_peer();
  std::thread receiver([&] { EXPECT_EQ(server.next().content, "wake up"); });
  const std::uint64_t deadline = in_ms(kPatienceMs);
  Seen seen;
  do {
    seen = look(endpoint);
    ASSERT_EQ(seen.rings.size(), 2u);
  } while ((seen.rings[0].flags & CDMF_RING_RECEIVER_SLEEPS) == 0 && monotonic_now_ns() < deadline);
  EXPECT_NE(seen.rings[0].flags & CDMF_RING_RECEIVER_SLEEPS, 0u);
  EXPECT_EQ(seen.rings[0].wakes, 0u);
  ASSERT_EQ(client.send(client.peer, "wake up"), CDMF_OK);
  receiver.join();
  EXPECT_EQ(look(endpoint).rings[0].wakes, 1u);
}

TEST(Inspector, SeesWhoWasRefusedAndWhy) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, {}, 1000);
  ASSERT_EQ(server.open(), CDMF_OK);
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, {}, 5000);
  ASSERT_EQ(client.open(), CDMF_OK);
  EXPECT_EQ(client.attach(), CDMF_INVALID_CONFIG);
  const Seen seen = look(endpoint);
  EXPECT_EQ(seen.endpoint.refused, 1u);
  EXPECT_EQ(seen.endpoint.error_count, 1u);
  EXPECT_EQ(seen.endpoint.last_error, CDMF_INVALID_CONFIG);
  EXPECT_NE(std::string(seen.endpoint.last_error_text).find("max_message_size"), std::string::npos);
}

TEST(Inspector, SaysThatNobodyListens) {
  const Seen seen = look(unique_endpoint());
  EXPECT_EQ(seen.status, CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_FALSE(seen.error.empty());
}

/// A member of a pool, through the plugin's own create().
class PoolMemberUnderTest {
 public:
  PoolMemberUnderTest(cdmf_role role, const std::string& endpoint) {
    Settings settings = make_settings(plugin(), {{"ring_type", "mpmc"}, {"ring_buffer_capacity", "16"}});
    cdmf_config config{};
    config.struct_size = sizeof config;
    config.role = role;
    config.endpoint = endpoint.c_str();
    config.max_message_size = 1000;
    config.frame_size_max = 1000 + CDMF_FRAME_OVERHEAD_MAX;
    config.settings = settings.rows.data();
    config.setting_count = settings.rows.size();
    error.struct_size = sizeof error;
    EXPECT_EQ(create_shm_driver(nullptr, &config, &driver, &error), CDMF_OK) << error.message;
    EXPECT_EQ(driver.ops->open(driver.self, &error), CDMF_OK) << error.message;
  }
  ~PoolMemberUnderTest() { driver.ops->destroy(driver.self); }
  PoolMemberUnderTest(const PoolMemberUnderTest&) = delete;
  PoolMemberUnderTest& operator=(const PoolMemberUnderTest&) = delete;

  cdmf_driver driver{};
  cdmf_error error{};
};

TEST(Inspector, SeesAPoolByReadingItsObject) {
  const std::string endpoint = unique_endpoint();
  PoolMemberUnderTest consumer(CDMF_ROLE_SERVER, endpoint);
  PoolMemberUnderTest producer(CDMF_ROLE_CLIENT, endpoint);
  cdmf_peer peer = CDMF_NO_PEER;
  ASSERT_EQ(producer.driver.ops->attach(producer.driver.self, in_ms(kPatienceMs), &peer, &producer.error), CDMF_OK)
      << producer.error.message;
  for (int i = 0; i < 3; ++i) {
    cdmf_loan loan{};
    ASSERT_EQ(producer.driver.ops->claim(producer.driver.self, peer, 64, &loan), CDMF_OK);
    ASSERT_EQ(producer.driver.ops->commit(producer.driver.self, &loan, 64, 1), CDMF_OK);
  }
  const Seen seen = look(endpoint);
  ASSERT_EQ(seen.status, CDMF_OK) << seen.error;
  ASSERT_EQ(seen.rings.size(), 1u);
  EXPECT_EQ(seen.rings[0].pushes, 3u);
  EXPECT_EQ(seen.rings[0].pops, 0u);
  EXPECT_EQ(seen.rings[0].producers, 1u);
  EXPECT_EQ(seen.rings[0].consumers, 1u);
  EXPECT_EQ(seen.rings[0].used_bytes * 16, seen.rings[0].capacity_bytes * 3);
  EXPECT_EQ(seen.rings[0].failed_pushes, 0u);
  EXPECT_EQ(seen.rings[0].contentions, 0u);
  EXPECT_EQ(seen.links.size(), 2u);
  for (const cdmf_link_report& link : seen.links) EXPECT_EQ(link.pid, getpid());
}

TEST(Inspector, RefusesAnObjectThatIsNoPool) {
  const std::string endpoint = unique_endpoint();
  const std::string object = endpoint + kPoolSuffix;
  const UniqueFd fd(shm_open(object.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  ASSERT_TRUE(fd);
  Snapshot snapshot;
  ErrorText none(nullptr);
  EXPECT_EQ(report_pool(endpoint.c_str(), snapshot, none), CDMF_PROTOCOL_ERROR) << "empty";
  EXPECT_EQ(ftruncate(fd.get(), kPoolRingOffset + 4096), 0);
  EXPECT_EQ(report_pool(endpoint.c_str(), snapshot, none), CDMF_PROTOCOL_ERROR) << "zeros";
  PoolHeader header{};
  header.magic = kSegmentMagic;
  header.version = kPoolVersion;
  header.kind = kPoolKind;
  header.members_max = kPoolMembersMax;
  header.members_offset = kPoolMembersOffset;
  header.ring_offset = kPoolRingOffset;
  header.ring_capacity = 1u << 20;
  header.slot_size = 1u << 20;
  header.total_size = UINT64_MAX;
  EXPECT_EQ(pwrite(fd.get(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
  EXPECT_EQ(report_pool(endpoint.c_str(), snapshot, none), CDMF_PROTOCOL_ERROR) << "larger than it is";
  shm_unlink(object.c_str());
  EXPECT_TRUE(snapshot.links.empty());
}

TEST(Inspector, CallsNumbersOfAHostilePeerImplausible) {
  RecordRingControl control;
  cdmf_ring_report ring{};
  control.tail = 64;
  control.head = 128;
  control.high_water = UINT64_MAX;
  report_ring(control, 4096, ring);
  EXPECT_NE(ring.flags & CDMF_RING_IMPLAUSIBLE, 0u);
  EXPECT_LE(ring.used_bytes, 4096u);
  EXPECT_LE(ring.high_water_bytes, 4096u);
}

/// A server that listens where one should be, and says what it likes.
class FalseServer {
 public:
  explicit FalseServer(const std::string& endpoint) {
    std::string path;
    ErrorText none(nullptr);
    EXPECT_EQ(socket_path(endpoint.c_str(), path, none), CDMF_OK);
    EXPECT_EQ(listener_.open(path, none), CDMF_OK);
  }
  /// Takes one observer's Look and does `answer` on its socket.
  template <typename Answer>
  void serve(Answer&& answer) {
    thread_ = std::thread([this, answer] {
      UniqueFd socket;
      while (!socket) socket.reset(accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
      Look look;
      (void)recv(socket.get(), &look, sizeof look, 0);
      answer(socket);
    });
  }
  ~FalseServer() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  ListeningEndpoint listener_;
  std::thread thread_;
};

template <typename Answer>
Seen look_at_false_server(Answer&& answer, std::uint64_t patience_ms = kPatienceMs) {
  const std::string endpoint = unique_endpoint();
  FalseServer server(endpoint);
  server.serve(std::forward<Answer>(answer));
  return look(endpoint, patience_ms);
}

TEST(Inspector, RefusesWhatAHostileServerSends) {
  EXPECT_EQ(look_at_false_server([](UniqueFd&) {}).status, CDMF_VERSION_MISMATCH) << "as an old server does";
  EXPECT_EQ(look_at_false_server([](UniqueFd& socket) { send(socket.get(), "hm", 2, MSG_NOSIGNAL); }).status,
            CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(look_at_false_server([](UniqueFd& socket) {
              Page page;
              send_packet(socket.get(), &page, sizeof page);
            }).status,
            CDMF_PROTOCOL_ERROR)
      << "no file";
  EXPECT_EQ(look_at_false_server([](UniqueFd& socket) {
              Page page;
              const int fd = 0;
              send_packet(socket.get(), &page, sizeof page, {&fd, 1});
            }).status,
            CDMF_PROTOCOL_ERROR)
      << "another file";
  EXPECT_EQ(look_at_false_server([](UniqueFd& socket) {
              Page page;
              page.header.major = 9;
              send_packet(socket.get(), &page, sizeof page);
            }).status,
            CDMF_VERSION_MISMATCH);
  const Seen refused = look_at_false_server([](UniqueFd& socket) {
    Page page;
    page.status = 4711;
    std::fill(std::begin(page.text), std::end(page.text), 'x');  // No NUL.
    send_packet(socket.get(), &page, sizeof page);
  });
  EXPECT_EQ(refused.status, CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(refused.error, std::string(sizeof(Page::text) - 1, 'x'));
}

TEST(Inspector, WaitsForASilentServerNoLongerThanItsPatienceAndNamesIt) {
  std::atomic<bool> done{false};
  const std::uint64_t began = monotonic_now_ns();
  const std::string endpoint = unique_endpoint();
  FalseServer server(endpoint);
  server.serve([&](UniqueFd&) { done.wait(false); });
  const Seen seen = look(endpoint, 50);
  EXPECT_GE(monotonic_now_ns() - began, 50'000'000u);
  done = true;
  done.notify_all();
  EXPECT_EQ(seen.status, CDMF_TIMEOUT);
  EXPECT_NE(seen.error.find("process " + std::to_string(getpid())), std::string::npos) << seen.error;
}

TEST(Inspector, AHostileObserverHarmsNobody) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint);
  ASSERT_EQ(server.open(), CDMF_OK);
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK);
  (void)server.next_peer();
  std::string path;
  ErrorText none(nullptr);
  ASSERT_EQ(socket_path(endpoint.c_str(), path, none), CDMF_OK);
  // Looks of every length and version, none of whose answers is read.
  for (std::size_t size = 0; size <= 128; ++size) {
    UniqueFd socket;
    ASSERT_EQ(connect_endpoint(path, in_ms(kPatienceMs), socket, none), CDMF_OK);
    std::array<std::byte, 128> bytes{};
    Look look;
    look.header.major = static_cast<std::uint16_t>(1 + size % 3);
    std::memcpy(bytes.data(), &look, sizeof look);
    send(socket.get(), bytes.data(), size, MSG_NOSIGNAL);
  }
  ASSERT_EQ(client.send(client.peer, "still there"), CDMF_OK);
  EXPECT_EQ(server.next().content, "still there");
  const Seen seen = look(endpoint);
  ASSERT_EQ(seen.status, CDMF_OK) << seen.error;
  EXPECT_EQ(seen.links.size(), 1u);
}

}  // namespace
}  // namespace cdmf::ipc::shm::testing
