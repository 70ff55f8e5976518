// Looking into a running server: it is seen as it is, it counts no peer for it, and it can be looked at by hostile
// observers as it can be hostile to them.
#include "inspect/inspector.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <functional>
#include <thread>

#include "inspect/link_report.h"
#include "inspect/look.h"
#include "seen.h"
#include "segment/endpoint.h"
#include "shm_plugin.h"
#include "support/eventually.h"

namespace cdmf::ipc::shm::testing {
namespace {

using ipc::testing::eventually;

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
  expect_five_received(seen);
  expect_full_ring_seen(client, endpoint);

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
