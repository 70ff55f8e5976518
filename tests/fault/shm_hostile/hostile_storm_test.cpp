// A process of its own writes anything anywhere into the memory of its link, at any time, from either side, and comes
// again whenever it is thrown out. What this would catch: a value that is checked and then read again, a wait that one
// word can keep from ending, a fault of one link that reaches another.
#include <cstdlib>
#include <random>
#include <set>

#include "shm_hostile/peers.h"

namespace cdmf::ipc::shm::hostile {
namespace {

/// What the process outside tells.
struct Board {
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> links{0};
  std::atomic<std::uint64_t> writes{0};
};

/// For some time, or until it is thrown out.
void rage(int socket, Segment& segment, RecordRingMemory to_them, RecordRingMemory from_them, Board& board,
          std::mt19937& random) {
  RecordProducer producer(to_them);
  RecordConsumer consumer(from_them);
  auto* const control = reinterpret_cast<std::byte*>(&segment.control());
  const auto store = [&](std::byte* at, std::uint32_t word) {
    std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(at)).store(word);
    board.writes.fetch_add(1, std::memory_order_relaxed);
  };
  // Some behave for long and do a little wrong, some a lot.
  const unsigned wildness = 1 + random() % 100;
  for (unsigned step = random() % 20'000; step > 0 && !board.stop; --step) {
    if (step % 64 == 0 && is_hung_up_on_now(socket)) return;
    if (random() % 100 >= wildness) {
      const std::string content(1 + random() % 500, 'h');
      if (producer.claim(content.size()) == ClaimOutcome::claimed) {
        std::memcpy(producer.payload().data(), content.data(), content.size());
        producer.commit(content.size(), 0, crc32_ieee(content.data(), content.size()));
        producer.flush();
      }
      RecordView view;
      if (consumer.receive(view)) consumer.release(view);
      continue;
    }
    const auto word = static_cast<std::uint32_t>(random());
    switch (random() % 8) {
      case 0:
        store(control + random() % (sizeof(SegmentControl) / 4) * 4, word);
        break;
      case 1:  // The words by which both sides wake each other.
        store(
            reinterpret_cast<std::byte*>(random() % 2 != 0 ? &to_them.control->armed : &to_them.control->space_wanted),
            word % 4);
        break;
      case 2:
        store(reinterpret_cast<std::byte*>(random() % 2 != 0 ? &from_them.control->armed
                                                             : &from_them.control->space_wanted),
              word % 4);
        break;
      case 3:  // What they are about to read.
      case 4: {
        const std::uint64_t at = to_them.control->tail.load() + random() % 16 * kLineBytes + random() % 5 * 4;
        store(to_them.bytes + (at - kLineBytes * 4) % to_them.capacity_bytes / 4 * 4,
              random() % 2 != 0 ? word : commit_word(word >> 28, word % 20'000));
        break;
      }
      case 5:
        store((random() % 2 != 0 ? to_them : from_them).bytes + random() % to_them.capacity_bytes / 4 * 4, word);
        break;
      case 6:
        futex_wake_all(to_them.control->armed);
        futex_wake_all(from_them.control->space_wanted);
        break;
      default:
        from_them.control->head.fetch_add(random() % 4 * kLineBytes);
        break;
    }
  }
}

int rage_as_client(const std::string& endpoint, Board& board) {
  std::mt19937 random(99);
  cdmf_error text{};
  ErrorText error(&text);
  std::string path;
  if (socket_path(endpoint.c_str(), path, error) != CDMF_OK) return 1;
  while (!board.stop) {
    UniqueFd socket;
    ClientHandshake handshake;
    if (connect_endpoint(path, in_ms(kPatienceMs), socket, error) != CDMF_OK ||
        handshake.run(socket.get(), kFrameMax, random() % 2 == 0, in_ms(kPatienceMs), error) != CDMF_OK) {
      usleep(200);
      continue;
    }
    ++board.links;
    rage(socket.get(), handshake.segment, handshake.segment.tx(), handshake.segment.rx(), board, random);
  }
  return 0;
}

int rage_as_server(const std::string& endpoint, Board& board) {
  std::mt19937 random(98);
  cdmf_error text{};
  ErrorText error(&text);
  std::string path;
  ListeningEndpoint listener;
  if (socket_path(endpoint.c_str(), path, error) != CDMF_OK || listener.open(path, error) != CDMF_OK) return 1;
  while (!board.stop) {
    const UniqueFd socket(accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) {
      usleep(200);
      continue;
    }
    Offer offer;
    offer.welcome.may_sleep = random() % 2;
    if (!hear_hello(socket.get())) continue;
    offer.say_to(socket.get());
    Ack ack;
    if (!hear(socket.get(), ack)) continue;
    ++board.links;
    rage(socket.get(), offer.segment, offer.segment.rx(), offer.segment.tx(), board, random);
  }
  return 0;
}

struct Mode {
  bool hostile_server;
  const char* trust;
  const char* wait;
};

class HostileStorm : public ::testing::TestWithParam<Mode> {
 protected:
  HostileStorm() {
    void* const memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    board = new (memory) Board;
    // Before this process has threads.
    child = testing::run_in_child([&] {
      return GetParam().hostile_server ? rage_as_server(endpoint, *board) : rage_as_client(endpoint, *board);
    });
  }
  ~HostileStorm() override {
    board->stop = true;
    if (child > 0) {
      kill(child, SIGKILL);
      testing::exit_code(child);
    }
    munmap(board, sizeof(Board));
  }
  /// Long in the slow suite.
  std::uint64_t until() const {
    const char* const slow = std::getenv("CDMF_SLOW");
    return in_ms(slow != nullptr && *slow == '1' ? 10'000 : 300);
  }
  void end_child() {
    board->stop = true;
    EXPECT_EQ(testing::exit_code(child), 0);
    child = -1;
  }
  void tell(std::uint64_t ended, std::uint64_t messages) {
    counts().writes += board->writes;
    counts().links_ended += ended;
    ++counts().cases;
    std::printf("%llu links of the hostile process, %llu wild writes, %llu links ended for them, %llu messages of it\n",
                static_cast<unsigned long long>(board->links), static_cast<unsigned long long>(board->writes),
                static_cast<unsigned long long>(ended), static_cast<unsigned long long>(messages));
    EXPECT_GT(board->writes, 0u);
    EXPECT_GT(board->links, 0u);
  }
  Options options() const {
    return {{"trust", GetParam().trust},
            {"wait", GetParam().wait},
            {"ring_buffer_capacity", std::to_string(kPlan.ring_capacity)},
            {"slot_size", std::to_string(kPlan.slot_size)}};
  }

  const std::string endpoint = unique_endpoint();
  Board* board = nullptr;
  pid_t child = -1;
};

/// Sends something to a hostile peer, and waits for room now and then, never long.
void disturb(DriverUnderTest& ours, cdmf_peer peer, std::uint64_t number) {
  const cdmf_status status = ours.send(peer, std::string(1 + number % 3000, 'o'));
  if (status == CDMF_BUFFER_FULL && number % 8 == 0) {
    const cdmf_status waited = ours->await_space(ours.self(), peer, 100, monotonic_now_ns() + 50'000);
    EXPECT_TRUE(waited == CDMF_OK || waited == CDMF_TIMEOUT || waited == CDMF_PROTOCOL_ERROR ||
                waited == CDMF_PEER_DIED || waited == CDMF_NOT_CONNECTED)
        << waited;
  }
}

TEST_P(HostileStorm, DisturbsNobodyElse) {
  std::uint64_t ended = 0;
  std::uint64_t messages = 0;
  const auto count = [&](const Message& message) {
    if (message.kind == CDMF_VIEW_MESSAGE) ++messages;
    if (message.kind != kDisconnected) return;
    EXPECT_TRUE(message.reason == CDMF_PROTOCOL_ERROR || message.reason == CDMF_PEER_DIED ||
                message.reason == CDMF_CONNECTION_CLOSED)
        << message.reason;
    ended += message.reason == CDMF_PROTOCOL_ERROR;
  };
  if (!GetParam().hostile_server) {
    GoodPair pair(options(), nullptr, endpoint);
    std::set<cdmf_peer> others;
    const auto aside = [&](const Message& message) {
      if (message.kind == kConnected) others.insert(message.peer);
      if (message.kind == kDisconnected) others.erase(message.peer);
      count(message);
    };
    const std::uint64_t end = until();
    for (std::uint64_t number = 0; monotonic_now_ns() < end || ended == 0 || number < 100; ++number) {
      pair.expect_service(aside);
      if (HasFatalFailure()) break;
      for (const cdmf_peer peer : others) disturb(pair.server, peer, number);
      if (monotonic_now_ns() > end + kPatienceMs * 1'000'000) break;
    }
    end_child();
    tell(ended, messages);
    return;
  }
  GoodPair pair(options());
  DriverUnderTest ours(CDMF_ROLE_CLIENT, endpoint, options());
  ASSERT_EQ(ours.open(), CDMF_OK);
  const std::uint64_t end = until();
  for (std::uint64_t number = 0; monotonic_now_ns() < end || ended == 0; ++number) {
    if (ours.attach_when_listening() != CDMF_OK) continue;
    bool alive = true;
    for (int turn = 0; turn < 1000 && alive; ++turn) {
      for (const Message& message : ours.take()) {
        count(message);
        alive = alive && message.kind != kDisconnected;
      }
      disturb(ours, ours.peer, number + static_cast<std::uint64_t>(turn));
      if (turn % 100 == 99) (void)ours->await_messages(ours.self(), monotonic_now_ns() + 100'000);
      if (turn % 10 == 0) pair.expect_service();
    }
    if (alive) {
      (void)ours->disconnect(ours.self(), ours.peer, CDMF_CONNECTION_CLOSED);
      Message last;
      do {
        last = ours.next();
      } while (last.kind == CDMF_VIEW_MESSAGE || last.kind == kConnected);
      EXPECT_EQ(last.kind, kDisconnected);
    }
    if (HasFatalFailure() || monotonic_now_ns() > end + kPatienceMs * 1'000'000) break;
  }
  board->stop = true;
  {
    // One more connection, in case it waits for one.
    DriverUnderTest last(CDMF_ROLE_CLIENT, endpoint, options());
    ASSERT_EQ(last.open(), CDMF_OK);
    (void)last.attach(100);
  }
  end_child();
  tell(ended, messages);
}

constexpr Mode kModes[] = {{false, "cooperative", "adaptive"}, {false, "hostile", "adaptive"},
                           {false, "cooperative", "spin"},     {false, "hostile", "futex"},
                           {true, "cooperative", "adaptive"},  {true, "hostile", "adaptive"},
                           {true, "cooperative", "futex"},     {true, "hostile", "spin"}};
INSTANTIATE_TEST_SUITE_P(All, HostileStorm, ::testing::ValuesIn(kModes), [](const auto& mode) {
  return std::string(mode.param.hostile_server ? "server_" : "client_") + mode.param.trust + "_" + mode.param.wait;
});

}  // namespace
}  // namespace cdmf::ipc::shm::hostile
