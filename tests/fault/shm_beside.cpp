// shm_beside [rounds] [batch] [only=attack] [option=value...]: what a good client of a shm server gets beside a process
// that attacks the server, as a ratio to what it gets beside a process that is as busy with something of its own. The
// rounds are interleaved: in each, every attack and its counterpart have their turn. Run by hand, on a quiet machine;
// no test.
//
//   eventfd      writes to the server's bell for ever, and    | to one of its own
//                comes back when it is thrown out
//   rings        the same, once for each time it is asked to  | to one of its own, at most as fast
//   wakes        sends wake packets on its link's socket      | on a socket pair of its own
//   connects     connects and hangs up                        | to a listener of its own
//   handshakes   connects, asks for a segment and hangs up    | connects to its own, and allocates as much
//   scribbles    writes anything into its segment             | into memory of its own
//   checksums    sends messages whose checksum is wrong, and  | to a ring of its own
//                comes back when it is thrown out
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <thread>

#include "shm_hostile/peers.h"

using namespace cdmf::ipc;
using namespace cdmf::ipc::shm;
using namespace cdmf::ipc::shm::hostile;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t kRoundMs = 250;
constexpr std::size_t kMessageBytes = 64;

enum class Attack : std::uint32_t { eventfd, rings, wakes, connects, handshakes, scribbles, checksums, count };
constexpr const char* kNames[] = {"eventfd", "rings", "wakes", "connects", "handshakes", "scribbles", "checksums"};

struct Board {
  std::atomic<std::uint32_t> attack{0};
  std::atomic<bool> for_real{false};
  std::atomic<std::uint32_t> turn{0};  // Raised with each change of the two above.
  std::atomic<std::uint64_t> exchanges{0};
  std::atomic<bool> ready{false};
};
Board* g_board = nullptr;

template <class Life>
pid_t launch(const Life& life) {
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    life();
    _exit(1);
  }
  return pid;
}

[[noreturn]] void serve(const std::string& endpoint, const hostile::Options& options) {
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, options);
  if (server.open() != CDMF_OK) _exit(1);
  g_board->ready = true;
  std::array<cdmf_view, 64> views;
  for (;;) {
    const std::size_t count = server->receive_burst(server.self(), views.data(), views.size());
    for (std::size_t i = 0; i < count; ++i) {
      if (views[i].kind != CDMF_VIEW_MESSAGE || views[i].size != kMessageBytes) continue;
      cdmf_loan loan{};
      if (server->claim(server.self(), views[i].peer, views[i].size, &loan) != CDMF_OK) continue;
      std::memcpy(loan.memory, views[i].frame, views[i].size);
      (void)server->commit(server.self(), &loan, views[i].size, i + 1 == count || views[i + 1].peer != views[i].peer);
    }
    if (count != 0) {
      server->release_burst(server.self());
    } else {
      (void)server->await_messages(server.self(), kForever);
    }
  }
}

[[noreturn]] void ask(const std::string& endpoint, const hostile::Options& options, int batch) {
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, options);
  if (client.open() != CDMF_OK || client.attach() != CDMF_OK) _exit(1);
  client.next_peer();
  const std::string content(kMessageBytes, 'g');
  for (;;) {
    for (int i = 0; i < batch; ++i) {
      if (client.send(client.peer, content, i + 1 == batch) != CDMF_OK) _exit(1);
    }
    for (int i = 0; i < batch; ++i) {
      if (client.next().content != content) _exit(1);
    }
    g_board->exchanges.fetch_add(static_cast<std::uint64_t>(batch), std::memory_order_relaxed);
  }
}

/// While one of these lives, another thread of the attacker is busy in its place: an attacker that is made to wait does
/// not give its processor to its victims, or they would be compared in two different situations.
class BusyWait {
 public:
  BusyWait() {
    static const bool started = [] {
      std::thread(burn).detach();
      return true;
    }();
    waiting_ = started;
    waiting_.notify_one();
  }
  ~BusyWait() { waiting_ = false; }

 private:
  static void burn() {
    for (;;) {
      waiting_.wait(false);
      while (waiting_.load(std::memory_order_relaxed)) {
      }
    }
  }
  static inline std::atomic<bool> waiting_{false};
};

/// The link of an attacker, made anew when it was thrown out.
struct Foothold {
  explicit Foothold(const std::string& endpoint) {
    const BusyWait busy;
    std::string path;
    while (socket_path(endpoint.c_str(), path, error) != CDMF_OK ||
           connect_endpoint(path, in_ms(kPatienceMs), socket, error) != CDMF_OK ||
           handshake.run(socket.get(), kFrameMax, true, in_ms(kPatienceMs), error) != CDMF_OK) {
      usleep(1000);
    }
  }
  cdmf_error text{};
  ErrorText error{&text};
  UniqueFd socket;
  ClientHandshake handshake;
};

/// Until the turn is over. `own`: an endpoint that nobody serves but a listener of this process.
void attack_once(const std::string& endpoint, const std::string& own, int own_listener) {
  const std::uint32_t turn = g_board->turn;
  const bool for_real = g_board->for_real;
  const auto goes_on = [&] { return g_board->turn.load(std::memory_order_relaxed) == turn; };
  cdmf_error text{};
  ErrorText error(&text);
  std::mt19937 random(turn);
  switch (static_cast<Attack>(g_board->attack.load())) {
    case Attack::eventfd: {
      auto link = std::make_unique<Foothold>(endpoint);
      const UniqueFd mine(eventfd(0, EFD_NONBLOCK));
      for (unsigned turns = 0; goes_on(); ++turns) {
        if (for_real && turns % 64 == 0 && is_hung_up_on_now(link->socket.get())) {
          link = std::make_unique<Foothold>(endpoint);
        }
        signal_fd(for_real ? link->handshake.peer_bell.get() : mine.get());
      }
      break;
    }
    case Attack::rings: {
      auto link = std::make_unique<Foothold>(endpoint);
      const UniqueFd mine(eventfd(0, EFD_NONBLOCK));
      std::atomic<std::uint32_t> own_word{kArmedFd};
      for (unsigned turns = 0; goes_on(); ++turns) {
        if (for_real && turns % 4096 == 0 && is_hung_up_on_now(link->socket.get())) {
          link = std::make_unique<Foothold>(endpoint);
        }
        std::atomic<std::uint32_t>& armed = for_real ? link->handshake.segment.control().tx.armed : own_word;
        if (for_real ? armed.exchange(kNotArmed) == kArmedFd : turns % 64 == 0) {
          signal_fd(for_real ? link->handshake.peer_bell.get() : mine.get());
        }
      }
      break;
    }
    case Attack::wakes: {
      Foothold link(endpoint);
      int ends[2];
      if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends) != 0) _exit(1);
      const UniqueFd in(ends[0]);
      const UniqueFd out(ends[1]);
      Notice wake;
      wake.header.kind = PacketKind::wake;
      char bytes[64];
      while (goes_on()) {
        (void)send_packet(for_real ? link.socket.get() : out.get(), &wake, sizeof wake);
        if (!for_real) (void)!recv(in.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      }
      break;
    }
    case Attack::connects:
    case Attack::handshakes: {
      const bool ask_too = static_cast<Attack>(g_board->attack.load()) == Attack::handshakes;
      std::string path;
      if (socket_path((for_real ? endpoint : own).c_str(), path, error) != CDMF_OK) _exit(1);
      while (goes_on()) {
        UniqueFd socket;
        if (connect_endpoint(path, kNoWait, socket, error) != CDMF_OK) continue;
        if (ask_too) say(socket.get(), Hello{});
        if (for_real) {
          if (ask_too) {
            const BusyWait busy;
            pollfd wait{socket.get(), POLLIN, 0};
            poll(&wait, 1, 10);
          }
          continue;
        }
        const UniqueFd there(accept4(own_listener, nullptr, nullptr, SOCK_CLOEXEC));
        if (ask_too) {
          Segment segment;
          UniqueFd memory;
          const SegmentPlan plan{.ring_capacity = 4096, .slot_size = 512, .frame_size_max = kFrameMax};
          (void)Segment::create(plan, {}, {}, segment, memory, error);
        }
      }
      break;
    }
    case Attack::scribbles: {
      std::unique_ptr<Foothold> link;
      std::vector<std::byte> mine(kRingsOffset + 2 * 4096 * 512);
      while (goes_on()) {
        if (!link || is_hung_up_on_now(link->socket.get())) link = std::make_unique<Foothold>(endpoint);
        auto* const base = for_real ? reinterpret_cast<std::byte*>(&link->handshake.segment.control()) : mine.data();
        for (int i = 0; i < 1000; ++i) {
          // The words that wake, mostly: a wild commit word would end the link at once, and with it the attack.
          auto* const control = reinterpret_cast<SegmentControl*>(base);
          control->tx.space_wanted.store(1, std::memory_order_relaxed);
          control->rx.armed.store(static_cast<std::uint32_t>(i) % 3, std::memory_order_relaxed);
          control->tx.armed.store(0, std::memory_order_relaxed);
          std::atomic_ref<std::uint32_t>(
              *reinterpret_cast<std::uint32_t*>(base + kRingsOffset + 64 + random() % 1'000'000 / 64 * 64))
              .store(static_cast<std::uint32_t>(random()), std::memory_order_relaxed);
        }
      }
      break;
    }
    case Attack::checksums: {
      auto link = std::make_unique<Foothold>(endpoint);
      Segment segment;
      UniqueFd memory;
      if (Segment::create(link->handshake.plan, {}, {}, segment, memory, error) != CDMF_OK) _exit(1);
      std::optional<RecordProducer> producer(for_real ? link->handshake.segment.tx() : segment.tx());
      RecordConsumer consumer(segment.tx());
      for (unsigned turns = 0; goes_on(); ++turns) {
        if (for_real && turns % 64 == 0 && is_hung_up_on_now(link->socket.get())) {
          producer.reset();
          link = std::make_unique<Foothold>(endpoint);
          producer.emplace(link->handshake.segment.tx());
        }
        if (producer->claim(100) == ClaimOutcome::claimed) {
          producer->commit(100, 0, 1);
          producer->flush();
        } else if (!for_real) {
          RecordView view;
          while (consumer.receive(view)) consumer.release(view);
        }
      }
      break;
    }
    case Attack::count:
      break;
  }
}

[[noreturn]] void attack(const std::string& endpoint) {
  const std::string own = endpoint + "_own";
  cdmf_error text{};
  ErrorText error(&text);
  std::string path;
  ListeningEndpoint listener;
  if (socket_path(own.c_str(), path, error) != CDMF_OK || listener.open(path, error) != CDMF_OK) _exit(1);
  for (;;) attack_once(endpoint, own, listener.fd());
}

double rate(Attack attack, bool for_real) {
  g_board->attack = static_cast<std::uint32_t>(attack);
  g_board->for_real = for_real;
  ++g_board->turn;
  std::this_thread::sleep_for(30ms);
  const std::uint64_t before = g_board->exchanges;
  const std::uint64_t begun = monotonic_now_ns();
  std::this_thread::sleep_for(std::chrono::milliseconds(kRoundMs));
  return static_cast<double>(g_board->exchanges - before) * 1e9 / static_cast<double>(monotonic_now_ns() - begun);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 9;
  const int batch = argc > 2 ? std::atoi(argv[2]) : 1;
  hostile::Options options;
  std::string only;
  for (int i = 3; i < argc; ++i) {
    const std::string word = argv[i];
    const std::size_t equals = word.find('=');
    if (word.starts_with("only=")) {
      only = word.substr(5);
    } else if (equals != std::string::npos) {
      options[word.substr(0, equals)] = word.substr(equals + 1);
    }
  }
  void* const memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (rounds <= 0 || batch <= 0 || memory == MAP_FAILED) return 2;
  g_board = new (memory) Board;
  const std::string endpoint = unique_endpoint();
  std::vector<pid_t> children{launch([&] { serve(endpoint, options); })};
  while (!g_board->ready) usleep(1000);
  children.push_back(launch([&] { ask(endpoint, options, batch); }));
  children.push_back(launch([&] { attack(endpoint); }));

  constexpr auto kCount = static_cast<std::size_t>(Attack::count);
  std::array<std::vector<double>, kCount> ratios;
  std::array<std::vector<double>, kCount> bases;
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < kCount; ++i) {
      if (std::string_view(kNames[i]).find(only) == std::string_view::npos) continue;
      const auto which = static_cast<Attack>(i);
      const bool real_first = round % 2 == 1;
      const double first = rate(which, real_first);
      const double second = rate(which, !real_first);
      const double real = real_first ? first : second;
      const double busy = real_first ? second : first;
      bases[i].push_back(busy);
      ratios[i].push_back(busy > 0 ? real / busy : 0);
    }
  }
  std::printf("%d rounds of %llu ms, %d messages of %zu bytes at a time\n", rounds,
              static_cast<unsigned long long>(kRoundMs), batch, kMessageBytes);
  std::printf("%-11s %22s %8s %17s\n", "attack", "beside a busy process", "ratio", "(worst - best)");
  for (std::size_t i = 0; i < kCount; ++i) {
    if (ratios[i].empty()) continue;
    const auto [least, most] = std::minmax_element(ratios[i].begin(), ratios[i].end());
    std::printf("%-11s %15.0f /s     %7.2f    (%.2f - %.2f)\n", kNames[i], median(bases[i]), median(ratios[i]), *least,
                *most);
  }
  for (const pid_t child : children) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  return 0;
}
