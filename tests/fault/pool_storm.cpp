// pool_storm <seconds> [wait] [seed]: producers and consumers of one pool, in processes of their own, through the
// plugin; one after the other is killed, stopped and continued at random, and comes back. One consumer is only stopped,
// never killed: it is told of every loss. Then every message is accounted for:
//
//   - nothing lost: what send() accepted is received, but for what dead consumers had taken, which is counted;
//   - nothing twice, nothing torn, nothing invented;
//   - order: each consumer sees each producer's messages in their order;
//   - nobody stands still: after each kill somebody receives something;
//   - nothing stays: no object, and in the consumer that survives no descriptor, thread or mapping.
//
// Prints the counts, and how long after a kill the next message came; that time is not judged. The exit code is 1 with
// the first thing that is wrong.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "fault/support/account.h"
#include "fault/support/footprint.h"
#include "ipc/transport_registry.h"

using namespace cdmf::ipc;
using namespace std::chrono_literals;
using cdmf::ipc::test::Complaint;
using cdmf::ipc::test::Content;
using cdmf::ipc::test::Footprint;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::uint32_t kProducers = 3;
constexpr std::uint32_t kConsumers = 3;       // That are killed; the survivor comes on top.
constexpr std::uint32_t kStreams = 1u << 14;  // Lives of producers.
constexpr std::uint32_t kPerStream = 1u << 12;
constexpr std::size_t kPayloadMax = 1500;
constexpr std::size_t kHeldMax = 4;
constexpr std::uint64_t kBurstMax = 32;
constexpr auto kWatchdog = 60s;

/// What all processes see.
struct Board {
  std::atomic<bool> finish{false};  // Producers end, and ...
  std::atomic<bool> drain{false};   // ... when all of them have, consumers do: a late one would find nobody.
  std::atomic<bool> survivor_ready{false};
  std::atomic<bool> survivor_done{false};
  std::atomic<std::uint64_t> received{0};
  std::atomic<std::uint64_t> counted_lost{0};  // As the survivor was told.
  std::atomic<std::uint64_t> died{0};          // Of its peers' ends, those with PEER_DIED.
  Complaint complaint;
  std::atomic<std::uint32_t> begun[kStreams];     // By the producer, before it sends.
  std::atomic<std::uint32_t> accepted[kStreams];  // When send() has returned.
  std::atomic<std::uint8_t> got[kStreams][kPerStream];
};
Board* g_board = nullptr;
std::string g_wait = "adaptive";

[[noreturn]] void wrong(const std::string& what) {
  g_board->complaint.set(what);
  _exit(1);
}

std::unique_ptr<Transport> make(const std::string& endpoint, Role role) {
  RegistryOptions options;
  options.security = PluginSecurity::WARN;
  options.log = [](LogLevel, std::string_view) {};  // Deaths are told there, and there are thousands.
  static TransportRegistry registry(options);
  auto made = registry.create("shm");
  if (!made.success()) wrong(made.error_message);
  TransportConfig config;
  config.endpoint = endpoint;
  config.role = role;
  config.max_message_size = kPayloadMax;
  config.send_timeout = kWatchdog;
  config.connect_timeout = kWatchdog;
  config.auto_reconnect = false;
  config.properties = {{"ring_type", "mpmc"}, {"ring_buffer_capacity", "64"}, {"wait", g_wait}};
  if (auto done = made.value->init(config); !done.success()) wrong("init: " + done.error_message);
  return std::move(made.value);
}

/// Now and then long enough for a kill to find the process with something in hand.
void linger(std::minstd_rand& random) {
  if (random() % 256 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
}

[[noreturn]] void live_as_producer(const std::string& endpoint, std::uint32_t stream) {
  const auto transport = make(endpoint, Role::CLIENT);
  if (auto done = transport->start(); !done.success()) wrong("start: " + done.error_message);
  if (auto done = transport->connect(); !done.success()) wrong("a producer cannot join: " + done.error_message);
  std::minstd_rand random(stream + 1);
  std::vector<std::byte> payload(kPayloadMax);
  for (std::uint32_t number = 0; number < kPerStream && !g_board->finish; ++number) {
    const Content content{stream, number};
    const std::size_t length = content.length(kPayloadMax);
    g_board->begun[stream].store(number + 1, std::memory_order_relaxed);
    TransportResult<> sent;
    if (random() % 8 == 0) {
      auto loan = transport->loan(length);
      if (!loan.success()) wrong("loan: " + loan.text());
      content.write(loan.value.payload());
      linger(random);
      if (random() % 8 == 0) {
        loan.value.abort();
        loan = transport->loan(length);
        if (!loan.success()) wrong("loan: " + loan.text());
        content.write(loan.value.payload());
      }
      sent = loan.value.commit();
    } else {
      content.write({payload.data(), length});
      MessageView message;
      message.payload = {payload.data(), length};
      sent = transport->send(message, {.flush = random() % 4 != 0});
    }
    if (!sent.success()) wrong("send: " + sent.text());
    g_board->accepted[stream].store(number + 1, std::memory_order_relaxed);
    linger(random);
  }
  transport->stop();
  _exit(0);
}

[[noreturn]] void live_as_consumer(const std::string& endpoint, std::uint32_t seed, bool survivor) {
  const auto transport = make(endpoint, Role::SERVER);
  std::minstd_rand random(seed + 1);
  std::map<std::uint32_t, std::uint32_t> next;  // Per stream.
  std::mutex mutex;
  std::vector<HeldMessage> held;
  // On another thread than the receiver's, which may have nothing to do until this makes room.
  const auto give_back = [&] {
    const std::lock_guard lock(mutex);
    held.clear();
  };
  std::atomic<std::uint32_t> links{0};
  transport->setViewCallback([&](const MessageView& message) {
    Content content{};
    if (!content.read(message.payload, kPayloadMax) || content.stream >= kStreams || content.number >= kPerStream) {
      wrong("a message is torn");
    }
    std::uint32_t& expected = next[content.stream];
    if (content.number < expected) wrong("a producer's messages came out of order");
    expected = content.number + 1;
    if (content.number >= g_board->begun[content.stream]) wrong("a message that nobody has sent");
    if (g_board->got[content.stream][content.number].exchange(1) != 0) wrong("a message came twice");
    g_board->received.fetch_add(1, std::memory_order_relaxed);
    if (random() % 32 == 0) {
      const std::lock_guard lock(mutex);
      if (held.size() < kHeldMax) {
        auto kept = transport->hold(message);
        if (!kept.success()) wrong("hold: " + kept.text());
        held.push_back(std::move(kept.value));
      }
    }
    linger(random);
  });
  transport->setPeerCallback([&](const PeerEvent& event) {
    if (event.kind == PeerEvent::Kind::CONNECTED) {
      links = 1;
      return;
    }
    links = 0;
    if (survivor) g_board->counted_lost.fetch_add(event.messages_lost);
    if (survivor && event.reason == TransportError::PEER_DIED) g_board->died.fetch_add(1);
  });
  transport->setErrorCallback([](TransportError error, const std::string& text) {
    if (error != TransportError::PEER_DIED) wrong("a consumer is told " + text);
  });
  if (auto done = transport->start(); !done.success()) wrong("start: " + done.error_message);
  if (auto done = transport->connect(); !done.success()) wrong("a consumer cannot join: " + done.error_message);
  const Footprint before = Footprint::now();
  if (survivor) g_board->survivor_ready = true;
  while (!g_board->drain || links != 0) {
    std::this_thread::sleep_for(2ms);
    give_back();
  }
  give_back();
  if (!survivor) {
    transport->stop();
    _exit(0);
  }
  const auto since = Clock::now();
  while (Footprint::now() != before) {
    if (Clock::now() - since > kWatchdog) wrong("left in the survivor: " + (Footprint::now() - before).text());
    std::this_thread::sleep_for(10ms);
  }
  transport->stop();
  g_board->survivor_done = true;
  _exit(0);
}

// ------------------------------------------------------------------------------------------------------------ storm

class Storm {
 public:
  explicit Storm(unsigned seed) : endpoint_("/cdmf_pool_storm_" + std::to_string(getpid())), random_(seed) {}
  ~Storm() {
    for (const pid_t pid : pids_) end(pid);
    end(survivor_);
    for (const std::string& name : test::objects_of(endpoint_)) std::filesystem::remove("/dev/shm/" + name);
  }
  Storm(const Storm&) = delete;
  Storm& operator=(const Storm&) = delete;

  bool run(std::chrono::seconds duration) {
    survivor_ = spawn([&] { live_as_consumer(endpoint_, 0, true); });
    if (!wait_for("the first consumer is there", [] { return g_board->survivor_ready.load(); })) return false;
    const auto until = Clock::now() + duration;
    while (Clock::now() < until && next_ + kProducers < kStreams && !g_board->complaint.is_there) {
      for (std::uint32_t slot = 0; slot < kProducers + kConsumers; ++slot) revive(slot);
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % (random_() % 8 == 0 ? 20'000 : 3'000)));
      if (!strike()) return false;
    }
    g_board->finish = true;
    for (std::uint32_t slot = 0; slot < kProducers + kConsumers; ++slot) {
      if (slot == kProducers) g_board->drain = true;
      if (!reap(pids_[slot])) return false;
    }
    if (!wait_for("the survivor has read everything", [] { return g_board->survivor_done.load(); })) return false;
    if (!reap(survivor_)) return false;
    return account();
  }

 private:
  template <class Body>
  static pid_t spawn(Body&& body) {
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid != 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) body();
    _exit(1);
  }
  static void end(pid_t pid) {
    if (pid <= 0) return;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  template <class Condition>
  static bool wait_for(const char* what, Condition&& condition) {
    const auto since = Clock::now();
    while (!condition()) {
      if (g_board->complaint.is_there) return false;
      if (Clock::now() - since > kWatchdog) {
        g_board->complaint.set(std::string("in vain waited until ") + what);
        return false;
      }
      std::this_thread::sleep_for(50us);
    }
    return true;
  }
  bool reap(pid_t& pid) {
    if (pid <= 0) return true;
    int status = 0;
    if (!wait_for("a process has ended", [&] { return waitpid(pid, &status, WNOHANG) == pid; })) return false;
    pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    std::printf("a process ended with status %d\n", status);
    return false;
  }

  void revive(std::uint32_t slot) {
    pid_t& pid = pids_[slot];
    int status = 0;
    if (pid > 0 && waitpid(pid, &status, WNOHANG) == 0) return;  // A stream is as long as it is; then comes the next.
    const std::uint32_t life = next_++;
    pid = slot < kProducers ? spawn([&] { live_as_producer(endpoint_, life); })
                            : spawn([&] { live_as_consumer(endpoint_, life, false); });
  }

  bool strike() {
    const std::uint32_t slot = random_() % (kProducers + kConsumers);
    if (random_() % 5 == 0) {
      const pid_t victim = random_() % 4 == 0 ? survivor_ : pids_[slot];
      kill(victim, SIGSTOP);
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 5000));
      kill(victim, SIGCONT);
      ++stops_;
      return true;
    }
    end(pids_[slot]);
    pids_[slot] = 0;
    ++(slot < kProducers ? producer_kills_ : consumer_kills_);
    const std::uint64_t received = g_board->received;
    const auto killed = Clock::now();
    revive(slot);
    if (!wait_for("somebody receives something after a kill", [&] { return g_board->received != received; }))
      return false;
    pauses_us_.push_back(std::chrono::duration<double, std::micro>(Clock::now() - killed).count());
    return true;
  }

  bool account() {
    if (g_board->complaint.is_there) return false;
    std::uint64_t missing = 0;
    std::uint64_t accepted = 0;
    for (std::uint32_t stream = 0; stream < next_; ++stream) {
      accepted += g_board->accepted[stream];
      for (std::uint32_t number = 0; number < g_board->accepted[stream]; ++number) {
        missing += g_board->got[stream][number] == 0 ? 1 : 0;
      }
    }
    const std::uint64_t counted = g_board->counted_lost;
    std::printf("%llu producers and %llu consumers killed, %llu stops\n", as(producer_kills_), as(consumer_kills_),
                as(stops_));
    std::printf(
        "%llu messages accepted, %llu received, each once and in order; %llu never came, %llu counted as lost\n",
        as(accepted), as(g_board->received), as(missing), as(counted));
    std::sort(pauses_us_.begin(), pauses_us_.end());
    if (!pauses_us_.empty()) {
      const auto at = [&](double part) {
        return pauses_us_[static_cast<std::size_t>(part * static_cast<double>(pauses_us_.size() - 1))];
      };
      std::printf("from a kill to the next message of anybody: median %.0f us, p99 %.0f us, most %.0f us\n", at(0.5),
                  at(0.99), at(1));
    }
    if (missing > counted) return failed("messages are lost that nobody has counted");
    // What a dead consumer had noted but not given back is counted as well.
    if (counted > missing + consumer_kills_ * (kBurstMax + kHeldMax)) return failed("too many are counted as lost");
    if (producer_kills_ + consumer_kills_ == 0 || accepted == 0) return failed("nothing happened");
    if (!test::objects_of(endpoint_).empty()) return failed("an object is left in /dev/shm");
    return true;
  }
  static unsigned long long as(std::uint64_t number) { return number; }
  static bool failed(const char* what) {
    g_board->complaint.set(what);
    return false;
  }
  std::string endpoint_;
  std::minstd_rand random_;
  pid_t pids_[kProducers + kConsumers] = {};
  pid_t survivor_ = 0;
  std::uint32_t next_ = 0;
  std::uint64_t producer_kills_ = 0;
  std::uint64_t consumer_kills_ = 0;
  std::uint64_t stops_ = 0;
  std::vector<double> pauses_us_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "pool_storm <seconds> [wait] [seed]\n");
    return 2;
  }
  if (argc > 2) g_wait = argv[2];
  g_board = test::make_shared_board<Board>();
  if (g_board == nullptr) return 1;
  const unsigned seed = argc > 3 ? static_cast<unsigned>(std::stoul(argv[3])) : std::random_device()();
  std::printf("seed %u\n", seed);
  std::fflush(stdout);
  const bool good = [&] {
    Storm storm(seed);
    return storm.run(std::chrono::seconds(std::stol(argv[1])));
  }();
  if (g_board->complaint.is_there) std::printf("pool_storm: %s\n", g_board->complaint.text);
  return good && !g_board->complaint.is_there ? 0 : 1;
}
