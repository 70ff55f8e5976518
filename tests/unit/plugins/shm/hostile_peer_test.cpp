// Peers that break the rules: in the handshake, in the rings, and by doing nothing. Each harms its own link only.

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <thread>

#include "driver_under_test.h"
#include "handshake.h"
#include "segment/endpoint.h"

namespace cdmf::ipc::shm {
namespace {

using testing::DriverUnderTest;
using testing::in_ms;
using testing::kPatienceMs;
using testing::Message;
using testing::unique_endpoint;

constexpr auto kDisconnected = static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED);

/// A client that speaks the protocol by hand.
struct RawClient {
  explicit RawClient(const std::string& endpoint) {
    std::string path;
    EXPECT_EQ(socket_path(endpoint.c_str(), path, error), CDMF_OK) << text.message;
    EXPECT_EQ(connect_endpoint(path, in_ms(kPatienceMs), socket, error), CDMF_OK) << text.message;
  }
  bool shake_hands() { return handshake.run(socket.get(), 4096, false, in_ms(kPatienceMs), error) == CDMF_OK; }
  /// Whether the server hangs up, waiting for it.
  bool is_dropped() {
    timeval patience{static_cast<time_t>(kPatienceMs / 1000), 0};
    setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    fcntl(socket.get(), F_SETFL, 0);
    char bytes[512];
    ssize_t got;
    while ((got = recv(socket.get(), bytes, sizeof bytes, 0)) > 0) {
    }
    return got == 0 || errno == ECONNRESET;
  }
  cdmf_error text{};
  ErrorText error{&text};
  UniqueFd socket;
  ClientHandshake handshake;
};

class HostilePeer : public ::testing::Test {
 protected:
  HostilePeer()
      : endpoint(unique_endpoint()), server(CDMF_ROLE_SERVER, endpoint), friendly(CDMF_ROLE_CLIENT, endpoint) {}
  void SetUp() override {
    ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
    ASSERT_EQ(friendly.open(), CDMF_OK);
    ASSERT_EQ(friendly.attach(), CDMF_OK) << friendly.error.message;
    friendly_peer = server.next_peer();
    ASSERT_EQ(friendly.next_peer(), friendly.peer);
  }
  /// The other link is as it was.
  void TearDown() override {
    ASSERT_EQ(friendly.send(friendly.peer, "well?"), CDMF_OK);
    ASSERT_EQ(server.next().content, "well?");
    ASSERT_EQ(server.send(friendly_peer, "well."), CDMF_OK);
    ASSERT_EQ(friendly.next().content, "well.");
  }
  std::string endpoint;
  DriverUnderTest server;
  DriverUnderTest friendly;
  cdmf_peer friendly_peer = CDMF_NO_PEER;
};

TEST_F(HostilePeer, GarbageInTheHandshakeIsDropped) {
  for (const std::size_t size : {std::size_t{1}, sizeof(Hello) - 1, sizeof(Hello) + 1, std::size_t{400}}) {
    RawClient client(endpoint);
    const std::string garbage(size, 'g');
    ASSERT_TRUE(send_packet(client.socket.get(), garbage.data(), garbage.size()));
    EXPECT_TRUE(client.is_dropped()) << size;
  }
  RawClient client(endpoint);
  const Ack early;
  ASSERT_TRUE(send_packet(client.socket.get(), &early, sizeof early));
  EXPECT_TRUE(client.is_dropped());
}

TEST_F(HostilePeer, AnotherProtocolVersionIsToldBothVersions) {
  RawClient client(endpoint);
  Hello hello;
  hello.header.major = 7;
  ASSERT_TRUE(send_packet(client.socket.get(), &hello, sizeof hello));
  Welcome answer;
  fcntl(client.socket.get(), F_SETFL, 0);
  ASSERT_EQ(recv(client.socket.get(), &answer, sizeof answer, 0), static_cast<ssize_t>(sizeof answer));
  EXPECT_EQ(answer.status, CDMF_VERSION_MISMATCH);
  EXPECT_NE(std::string(answer.text).find("7.1"), std::string::npos) << answer.text;
  EXPECT_NE(std::string(answer.text).find("1.1"), std::string::npos) << answer.text;
  EXPECT_TRUE(client.is_dropped());
}

TEST_F(HostilePeer, DescriptorsThatNobodyAskedForAreClosedAndEndTheHandshake) {
  RawClient client(endpoint);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const Hello hello;
  const int sent[] = {ends[1]};
  ASSERT_TRUE(send_packet(client.socket.get(), &hello, sizeof hello, sent));
  EXPECT_TRUE(client.is_dropped());
  ::close(ends[1]);
  char byte;
  EXPECT_EQ(read(ends[0], &byte, 1), 0) << "the server kept the other end open";
  ::close(ends[0]);
}

TEST_F(HostilePeer, ClientThatStallsInItsHandshakeIsDroppedAndDelaysNobody) {
  RawClient silent(endpoint);
  RawClient no_ack(endpoint);
  const Hello hello;
  ASSERT_TRUE(send_packet(no_ack.socket.get(), &hello, sizeof hello));
  const std::uint64_t before = monotonic_now_ns();
  DriverUnderTest other(CDMF_ROLE_CLIENT, endpoint);
  ASSERT_EQ(other.open(), CDMF_OK);
  ASSERT_EQ(other.attach(), CDMF_OK) << "while two clients stall";
  server.next_peer();
  EXPECT_TRUE(silent.is_dropped());
  EXPECT_TRUE(no_ack.is_dropped());
  EXPECT_GE(monotonic_now_ns() - before, kHandshakeTimeoutNs / 2) << "dropped by the time-out, not for another reason";
  other.close();
  EXPECT_EQ(server.next().kind, kDisconnected);
}

TEST_F(HostilePeer, ImpossibleCommitWordEndsItsLink) {
  RawClient client(endpoint);
  ASSERT_TRUE(client.shake_hands()) << client.text.message;
  const cdmf_peer peer = server.next_peer();
  const RecordRingMemory ring = client.handshake.segment.tx();
  const std::uint32_t word = commit_word(9, 64);
  std::memcpy(ring.bytes, &word, sizeof word);
  const Message end = server.next();
  EXPECT_EQ(end.kind, kDisconnected);
  EXPECT_EQ(end.peer, peer);
  EXPECT_EQ(end.reason, CDMF_PROTOCOL_ERROR);
  EXPECT_TRUE(client.is_dropped());
}

TEST_F(HostilePeer, FrameLargerThanAgreedEndsItsLink) {
  RawClient client(endpoint);
  ASSERT_TRUE(client.shake_hands()) << client.text.message;
  server.next_peer();
  RecordProducer producer(client.handshake.segment.tx());
  ASSERT_EQ(producer.claim(client.handshake.plan.frame_size_max + 1), ClaimOutcome::claimed);
  producer.commit(client.handshake.plan.frame_size_max + 1, 0, 0);
  producer.flush();
  const Message end = server.next();
  EXPECT_EQ(end.kind, kDisconnected);
  EXPECT_EQ(end.reason, CDMF_PROTOCOL_ERROR);
}

TEST_F(HostilePeer, ADiscardedMessageOfOnePeerGivesBackNothingOfAnother) {
  RawClient client(endpoint);
  ASSERT_TRUE(client.shake_hands()) << client.text.message;
  server.next_peer();
  RecordProducer producer(client.handshake.segment.tx());
  const std::string content(4000, 'x');
  for (int round = 0; round < 4; ++round) {  // The link that is looked at first changes.
    ASSERT_EQ(producer.claim(100), ClaimOutcome::claimed);
    producer.commit(100, 0, 0xBADC0DE);
    producer.flush();
    std::size_t sent = 0;
    while (friendly.send(friendly.peer, content) == CDMF_OK) ++sent;
    std::vector<cdmf_view> views(4 * sent);
    ASSERT_EQ(server->receive_burst(server.self(), views.data(), views.size()), sent);
    EXPECT_EQ(friendly.send(friendly.peer, content), CDMF_BUFFER_FULL) << "in round " << round;
    server->release_burst(server.self());
    for (int looks = 0; looks < round; ++looks) EXPECT_TRUE(server.take().empty());
  }
  shutdown(client.socket.get(), SHUT_RDWR);
  EXPECT_EQ(server.next().kind, kDisconnected);
}

TEST_F(HostilePeer, ImpossibleHeadEndsItsLinkForTheSender) {
  RawClient client(endpoint);
  ASSERT_TRUE(client.shake_hands()) << client.text.message;
  const cdmf_peer peer = server.next_peer();
  client.handshake.segment.rx().control->head.store(std::uint64_t{1} << 40);
  cdmf_status status = CDMF_OK;
  for (int i = 0; i < 5000 && status == CDMF_OK; ++i) status = server.send(peer, std::string(4000, 'x'));
  EXPECT_EQ(status, CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(server.next().reason, CDMF_PROTOCOL_ERROR);
}

TEST_F(HostilePeer, PeerThatWritesOnAfterItsGoodbyeHasAnEnd) {
  RawClient client(endpoint);
  ASSERT_TRUE(client.shake_hands()) << client.text.message;
  server.next_peer();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    RecordProducer producer(client.handshake.segment.tx());
    while (!stop) {
      if (producer.claim(100) != ClaimOutcome::claimed) continue;
      std::memset(producer.payload().data(), 'w', 100);
      producer.commit(100, 0, 0);
      producer.flush();
    }
  });
  const Notice goodbye;
  EXPECT_TRUE(send_packet(client.socket.get(), &goodbye, sizeof goodbye));
  Message message;
  do {
    message = server.next();
  } while (message.kind == CDMF_VIEW_MESSAGE);
  EXPECT_EQ(message.kind, kDisconnected);
  stop = true;
  writer.join();
}

/// A server by hand, that offers what the test wants.
struct RawServer {
  explicit RawServer(const std::string& endpoint) {
    std::string path;
    EXPECT_EQ(socket_path(endpoint.c_str(), path, error), CDMF_OK);
    EXPECT_EQ(listener.open(path, error), CDMF_OK) << text.message;
    fcntl(listener.fd(), F_SETFL, 0);
  }
  void answer(int memory, const Welcome& welcome) {
    const UniqueFd socket(accept(listener.fd(), nullptr, nullptr));
    Hello hello;
    ASSERT_EQ(recv(socket.get(), &hello, sizeof hello, 0), static_cast<ssize_t>(sizeof hello));
    const UniqueFd bell(eventfd(0, 0));
    const int fds[] = {memory, bell.get(), bell.get()};
    ASSERT_TRUE(send_packet(socket.get(), &welcome, sizeof welcome, fds));
    char byte;
    [[maybe_unused]] const ssize_t got = recv(socket.get(), &byte, 1, 0);  // Until the client hangs up.
  }
  cdmf_error text{};
  ErrorText error{&text};
  ListeningEndpoint listener;
};

Welcome good_welcome() {
  Welcome welcome;
  welcome.ring_capacity = 64;
  welcome.slot_size = 512;
  welcome.bidirectional = 1;
  welcome.checksum = 1;
  welcome.frame_size_max = 4096 + CDMF_FRAME_OVERHEAD_MAX;
  return welcome;
}

std::string refusal(const Welcome& welcome, const SegmentPlan& plan, int seals, off_t size) {
  const std::string endpoint = unique_endpoint();
  RawServer server(endpoint);
  const UniqueFd memory(memfd_create("cdmf-test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(size == 0 ? 0 : posix_fallocate(memory.get(), 0, size), 0);
  if (size >= static_cast<off_t>(sizeof(SegmentHeader))) {
    UniqueFd real;
    Segment segment;
    EXPECT_EQ(Segment::create(plan, {}, {}, segment, real, server.error), CDMF_OK) << server.text.message;
    EXPECT_EQ(pwrite(memory.get(), &segment.header(), sizeof(SegmentHeader), 0),
              static_cast<ssize_t>(sizeof(SegmentHeader)));
  }
  EXPECT_EQ(fcntl(memory.get(), F_ADD_SEALS, seals), 0);
  std::thread serving([&] { server.answer(memory.get(), welcome); });
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint);
  EXPECT_EQ(client.open(), CDMF_OK);
  const cdmf_status status = client.attach();
  client.close();
  serving.join();
  return status == CDMF_OK ? "accepted" : client.error.message;
}

TEST(HostileServer, SegmentThatCouldShrinkUnderOurFeetIsRefused) {
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  const Welcome welcome = good_welcome();
  const SegmentPlan plan{64, 512, welcome.frame_size_max, true, true};
  const auto size = static_cast<off_t>(plan.total_size());
  EXPECT_NE(refusal(welcome, plan, F_SEAL_GROW, size).find("seals"), std::string::npos);
  EXPECT_NE(refusal(welcome, plan, kSeals, size - 1).find("bytes instead of"), std::string::npos);
  EXPECT_NE(refusal(welcome, plan, kSeals, 0).find("bytes instead of"), std::string::npos);
  SegmentPlan other = plan;
  other.frame_size_max = 9000;
  EXPECT_NE(refusal(welcome, other, kSeals, size).find("frame_size_max 9000"), std::string::npos);
  Welcome impossible = welcome;
  impossible.frame_size_max = 64 * 512;
  EXPECT_NE(refusal(impossible, plan, kSeals, size).find("cannot be"), std::string::npos);
  impossible = welcome;
  impossible.ring_capacity = 65;
  EXPECT_NE(refusal(impossible, plan, kSeals, size).find("cannot be"), std::string::npos);
  impossible = welcome;
  impossible.ring_capacity = 0;
  EXPECT_NE(refusal(impossible, plan, kSeals, size).find("cannot be"), std::string::npos);
}

}  // namespace
}  // namespace cdmf::ipc::shm
