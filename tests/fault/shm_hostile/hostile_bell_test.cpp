// Clients that ring for nothing, without being asked, without end, or with a bell that would block who rings it.
#include <poll.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "shm_hostile/hostile_client.h"

namespace cdmf::ipc::shm::hostile {
namespace {

TEST_F(HostileClient, AFloodOfWakesOnTheSocketDelaysNobody) {
  RawClient client(pair.endpoint);
  ASSERT_TRUE(client.shake_hands()) << client.text.message;
  pair.server.next_peer();
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wakes{0};
  std::thread flood([&] {
    Notice wake;
    wake.header.kind = PacketKind::wake;
    while (!stop && say(client.fd(), wake)) ++wakes;
  });
  for (int round = 0; round < 20; ++round) {
    // The control thread has to have time for it.
    DriverUnderTest other(CDMF_ROLE_CLIENT, pair.endpoint);
    ASSERT_EQ(other.open(), CDMF_OK);
    EXPECT_EQ(other.attach(), CDMF_OK) << other.error.message;
    pair.server.next_peer();
    pair.expect_service();
    other.close();
    EXPECT_EQ(pair.server.next().reason, CDMF_CONNECTION_CLOSED);
  }
  EXPECT_TRUE(eventually([&] { return wakes > 1000; }));
  stop = true;
  flood.join();
  ++counts().cases;
}

TEST_F(HostileClient, AFloodedEventfdDelaysNobodyAndEndsItsLink) {
  RawClient client(pair.endpoint);
  ASSERT_TRUE(client.shake_hands(true)) << client.text.message;
  const cdmf_peer peer = pair.server.next_peer();
  std::atomic<bool> stop{false};
  std::thread flood([&] {
    while (!stop) signal_fd(client.handshake.peer_bell.get());
  });
  Message end;
  const std::uint64_t deadline = in_ms(kPatienceMs);
  for (int round = 0; round < 200 || (end.peer != peer && monotonic_now_ns() < deadline); ++round) {
    (void)pair.server->await_messages(pair.server.self(), in_ms(1));  // Who is awake hears no bells.
    pair.expect_service([&](const Message& other) { end = other; });
  }
  stop = true;
  flood.join();
  EXPECT_EQ(end.peer, peer);
  EXPECT_EQ(end.kind, kDisconnected);
  EXPECT_EQ(end.reason, CDMF_PROTOCOL_ERROR);
  EXPECT_NE(log.text().find("without being asked"), std::string::npos) << log.text();
  EXPECT_TRUE(is_hung_up_on(client.fd()));
  ++counts().links_ended;
  ++counts().cases;
}

/// One that rings each time the server says that it sleeps, and sends nothing.
class RingsForNothing {
 public:
  explicit RingsForNothing(const RawClient& client) : client_(client), thread_([this] { run(); }) {}
  ~RingsForNothing() { stop(); }
  void stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  std::uint64_t rings() const { return rings_; }

 private:
  void run() {
    std::atomic<std::uint32_t>& armed = client_.handshake.segment.control().tx.armed;
    while (!stop_) {
      if (armed.exchange(kNotArmed) != kArmedFd) continue;
      signal_fd(client_.handshake.peer_bell.get());
      ++rings_;
    }
  }
  const RawClient& client_;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> rings_{0};
  std::thread thread_;
};

TEST_F(HostileClient, WhoRingsForNothingIsAskedRarelyAndHeardAllTheSame) {
  for (const bool in_event_loop : {false, true}) {
    RawClient client(pair.endpoint);
    ASSERT_TRUE(client.shake_hands(true)) << client.text.message;
    const cdmf_peer peer = pair.server.next_peer();
    // Sleeps once; in an event loop as its program does.
    const auto sleep = [&](int most_ms) {
      if (!in_event_loop) {
        (void)pair.server->await_messages(pair.server.self(), in_ms(static_cast<std::uint64_t>(most_ms)));
      } else if (pair.server->arm(pair.server.self()) == CDMF_ARMED) {
        pollfd wait{pair.server->poll_fd(pair.server.self()), POLLIN, 0};
        poll(&wait, 1, most_ms);
      }
    };
    RingsForNothing attack(client);
    const std::uint64_t begun = monotonic_now_ns();
    std::size_t others = 0;
    while (monotonic_now_ns() - begun < 300'000'000) {
      others += pair.server.take().size();
      sleep(300);
    }
    pair.expect_service();
    // Nine at once, and then one for each time that the quiet was over; as many again, as it ends a little early.
    const std::uint64_t quiets = (monotonic_now_ns() - begun) / BellWatch::kQuietNs;
    EXPECT_LE(attack.rings(), 2 * (BellWatch::kVainMax + 1 + quiets + 1));
    EXPECT_EQ(others, 0u) << "the link ended, though it rang no more often than it was asked";
    // What it sends in the quiet is received at its end, with nobody else to wake the server.
    RecordProducer producer(client.handshake.segment.tx());
    for (int message = 0; message < 20; ++message) {
      ASSERT_EQ(producer.claim(4), ClaimOutcome::claimed);
      std::memcpy(producer.payload().data(), "ding", 4);
      producer.commit(4, 0, crc32_ieee(producer.payload().data(), 4));
      producer.flush();
      std::vector<Message> got;
      const std::uint64_t deadline = in_ms(kPatienceMs);
      while ((got = pair.server.take()).empty() && monotonic_now_ns() < deadline) sleep(kPatienceMs);
      ASSERT_EQ(got.size(), 1u);
      EXPECT_EQ(got[0].peer, peer);
      EXPECT_EQ(got[0].content, "ding");
    }
    attack.stop();
    client.socket.reset();
    EXPECT_EQ(pair.server.next().kind, kDisconnected);
    ++counts().cases;
  }
}

TEST_F(HostileClient, EventfdsFilledToTheBrimBlockNobody) {
  RawClient client(pair.endpoint);
  ASSERT_TRUE(client.shake_hands(true)) << client.text.message;
  const cdmf_peer peer = pair.server.next_peer();
  // One more would block whoever writes without O_NONBLOCK.
  const std::uint64_t brim = UINT64_MAX - 1;
  std::uint64_t emptied;
  for (const int bell : {client.handshake.own_bell.get(), client.handshake.peer_bell.get()}) {
    (void)!read(bell, &emptied, sizeof emptied);
    ASSERT_EQ(write(bell, &brim, sizeof brim), static_cast<ssize_t>(sizeof brim));
  }
  client.handshake.segment.rx().control->armed.store(kArmedFd);
  EXPECT_EQ(pair.server.send(peer, "ding"), CDMF_OK);
  pair.expect_service();
  ++counts().cases;
}

TEST_F(HostileClient, AnEventfdMadeToBlockEndsItsLinkAndBlocksNobody) {
  RawClient client(pair.endpoint);
  ASSERT_TRUE(client.shake_hands(true)) << client.text.message;
  const cdmf_peer peer = pair.server.next_peer();
  const std::uint64_t brim = UINT64_MAX - 1;
  const int bell = client.handshake.own_bell.get();
  ASSERT_EQ(write(bell, &brim, sizeof brim), static_cast<ssize_t>(sizeof brim));
  ASSERT_EQ(fcntl(bell, F_SETFL, 0), 0);  // The flags are shared as well.
  client.handshake.segment.rx().control->armed.store(kArmedFd);
  (void)pair.server.send(peer, "ding");
  const Message end = pair.server.next();
  EXPECT_EQ(end.kind, kDisconnected);
  EXPECT_EQ(end.reason, CDMF_PROTOCOL_ERROR);
  pair.expect_service();
  ++counts().cases;
}

}  // namespace
}  // namespace cdmf::ipc::shm::hostile
