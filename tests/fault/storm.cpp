// storm <transport> <seconds> [seed]: four clients and a server in processes of their own; one after the other is
// killed, stopped and continued at random, and comes back. Then every message is accounted for:
//
//   - contents and order: what arrived is whole, and each client's messages arrive from the first on without a gap;
//   - nothing lost: what a client had flushed before it was killed arrives (shm alone promises this);
//   - nothing invented: no more arrives than was begun;
//   - every end of a client that had sent something is noticed;
//   - nothing stays: descriptors, threads and mappings of the server, and shared objects, are what they were.
//
// Prints the counts, how fast deaths were noticed and how fast another client's messages came after a kill. These
// times are not judged: the machine may be busy. The exit code is 1 with the first thing that is wrong.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "fault/support/footprint.h"
#include "ipc/transport_registry.h"

using namespace cdmf::ipc;
using namespace std::chrono_literals;
using cdmf::ipc::test::Footprint;

namespace {

constexpr std::uint32_t kClients = 4;
constexpr std::uint32_t kIncarnationsMax = 100'000;
constexpr std::size_t kPayloadMax = 2000;

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

/// One life of one client, as it and the server tell it.
struct Incarnation {
  std::atomic<std::uint64_t> begun{0};     // by the client, before it sends
  std::atomic<std::uint64_t> flushed{0};   // by the client, after a flush has returned
  std::atomic<std::uint64_t> received{0};  // by the server
  std::atomic<std::uint64_t> ended_ns{0};  // by the server, when it is told that the client is gone
  std::atomic<std::uint64_t> first_after_kill_ns{0};
};

/// What all processes see.
struct Board {
  std::atomic<bool> finish{false};
  std::atomic<std::uint32_t> server_generation{0};  // of the server that is ready
  std::atomic<std::uint64_t> links{0};              // the server has now
  std::atomic<bool> clean{false};                   // the server ended as it began
  std::atomic<std::uint64_t> replies{0};
  std::atomic<std::uint64_t> kill_ns{0};   // of the last kill, until another client's message has come
  std::atomic<std::uint32_t> killed{0};    // and who it was
  std::atomic<std::uint64_t> moved_ns{0};  // when it came
  char wrong[400] = {};
  std::atomic<bool> is_wrong{false};
  Incarnation incarnations[kIncarnationsMax];
};
Board* g_board = nullptr;

[[noreturn]] void wrong(const std::string& what) {
  if (!g_board->is_wrong.exchange(true)) std::snprintf(g_board->wrong, sizeof g_board->wrong, "%s", what.c_str());
  _exit(1);
}

struct Content {
  std::uint32_t incarnation;
  std::uint32_t sequence;
};
std::size_t length_of(const Content& content) {
  const std::uint32_t mixed = (content.incarnation * 31 + content.sequence) * 2654435761u;
  return sizeof(Content) + (mixed >> 8) % (mixed % 16 == 0 ? kPayloadMax - sizeof(Content) : 100);
}
std::byte filling(const Content& content, std::size_t index) {
  return static_cast<std::byte>(content.incarnation * 7 + content.sequence * 13 + index);
}
void write_content(std::span<std::byte> payload, const Content& content) {
  std::memcpy(payload.data(), &content, sizeof content);
  for (std::size_t index = sizeof content; index < payload.size(); ++index) payload[index] = filling(content, index);
}
bool read_content(std::span<const std::byte> payload, Content& content) {
  if (payload.size() < sizeof content) return false;
  std::memcpy(&content, payload.data(), sizeof content);
  if (content.incarnation >= kIncarnationsMax || payload.size() != length_of(content)) return false;
  for (std::size_t index = sizeof content; index < payload.size(); ++index) {
    if (payload[index] != filling(content, index)) return false;
  }
  return true;
}

TransportConfig configuration(const std::string& endpoint, Role role) {
  TransportConfig config;
  config.endpoint = endpoint;
  config.role = role;
  config.max_message_size = 4096;
  config.send_timeout = 10s;
  config.connect_timeout = 300ms;  // Whoever meets a dead server comes again.
  config.auto_reconnect = false;
  return config;
}

std::unique_ptr<Transport> make(const std::string& type) {
  RegistryOptions options;
  options.security = PluginSecurity::WARN;
  TransportRegistry registry(options);
  auto made = registry.create(type);
  if (!made.success()) wrong(made.error_message);
  return std::move(made.value);
}

// ----------------------------------------------------------------------------------------------------------- client

/// Lives until it is killed, the server is gone, or the storm is over.
[[noreturn]] void live_as_client(const std::string& type, const std::string& endpoint, std::uint32_t self) {
  const auto transport = make(type);
  Incarnation& mine = g_board->incarnations[self];
  transport->setViewCallback([&](const MessageView& reply) {
    Content content{};
    if (!read_content(reply.payload, content)) wrong("a reply is torn");
    if (content.incarnation != self) wrong("a reply reached another client than asked");
    g_board->replies.fetch_add(1, std::memory_order_relaxed);
  });
  const auto config = configuration(endpoint, Role::CLIENT);
  if (auto done = transport->init(config); !done.success()) wrong("init: " + done.error_message);
  if (auto done = transport->start(); !done.success()) wrong("start: " + done.error_message);
  if (!transport->connect().success()) _exit(0);  // The server is dead as well just now.
  std::minstd_rand random(self);
  std::vector<std::byte> payload(kPayloadMax);
  for (std::uint32_t sequence = 0; !g_board->finish;) {
    bool alive = true;
    for (std::uint32_t batch = random() % 5; alive; --batch) {
      const Content content{self, sequence};
      const std::span<std::byte> bytes(payload.data(), length_of(content));
      write_content(bytes, content);
      mine.begun.store(++sequence, std::memory_order_relaxed);
      MessageView message;
      message.payload = bytes;
      alive = transport->send(message, {.flush = batch == 0}).success();
      if (batch == 0) break;
    }
    if (!alive) break;
    mine.flushed.store(sequence, std::memory_order_relaxed);
    if (random() % 64 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
  }
  transport->stop();
  _exit(0);
}

// ----------------------------------------------------------------------------------------------------------- server

[[noreturn]] void live_as_server(const std::string& type, const std::string& endpoint, std::uint32_t generation) {
  const auto transport = make(type);
  std::map<PeerId, std::uint32_t> who;
  std::mutex mutex;
  transport->setViewCallback([&](const MessageView& message) {
    Content content{};
    if (!read_content(message.payload, content)) wrong("a message is torn");
    Incarnation& sender = g_board->incarnations[content.incarnation];
    {
      const std::lock_guard lock(mutex);
      const auto known = who.emplace(message.peer, content.incarnation).first;
      if (known->second != content.incarnation) wrong("one link carries the messages of two clients");
    }
    const std::uint64_t expected = sender.received.load(std::memory_order_relaxed);
    if (content.sequence != expected) {
      wrong("client " + std::to_string(content.incarnation) + ": message " + std::to_string(content.sequence) +
            " came instead of " + std::to_string(expected));
    }
    sender.received.store(expected + 1, std::memory_order_relaxed);
    if (g_board->kill_ns.load(std::memory_order_relaxed) != 0 && g_board->killed != content.incarnation) {
      const std::uint64_t killed_ns = g_board->kill_ns.exchange(0);
      if (killed_ns != 0) g_board->moved_ns = now_ns() - killed_ns;
    }
    if (content.sequence % 8 != 0) return;
    MessageView reply;
    reply.payload = message.payload;
    (void)transport->send(reply, {.peer = message.peer, .timeout = 0ns});  // It may be gone, or not reading.
  });
  transport->setPeerCallback([&](const PeerEvent& event) {
    if (event.kind == PeerEvent::Kind::CONNECTED) {
      g_board->links.fetch_add(1);
      return;
    }
    const std::lock_guard lock(mutex);
    const auto known = who.find(event.peer);
    if (known != who.end()) g_board->incarnations[known->second].ended_ns = now_ns();
    g_board->links.fetch_sub(1);
  });
  if (auto done = transport->init(configuration(endpoint, Role::SERVER)); !done.success()) wrong(done.error_message);
  if (auto done = transport->start(); !done.success()) wrong(done.error_message);
  // Whoever killed the one before may not have gone from the endpoint yet.
  for (int attempt = 0;; ++attempt) {
    const auto done = transport->connect();
    if (done.success()) break;
    if (attempt == 200) wrong("a new server cannot take the endpoint of the dead one: " + done.error_message);
    std::this_thread::sleep_for(10ms);
  }
  const Footprint before = Footprint::now();
  g_board->links = 0;
  g_board->server_generation = generation;
  while (!g_board->finish || g_board->links != 0) std::this_thread::sleep_for(5ms);
  for (int attempt = 0; Footprint::now() != before; ++attempt) {
    if (attempt == 500) {
      wrong("left in the server: " + (Footprint::now() - before).text());
    }
    std::this_thread::sleep_for(10ms);
  }
  transport->stop();
  g_board->clean = true;
  _exit(0);
}

// ------------------------------------------------------------------------------------------------------------ storm

class Storm {
 public:
  Storm(std::string type, unsigned seed)
      : type_(std::move(type)), endpoint_("/cdmf_storm_" + std::to_string(getpid())), random_(seed) {}
  ~Storm() {
    for (const pid_t pid : clients_) end(pid);
    end(server_);
  }
  Storm(const Storm&) = delete;
  Storm& operator=(const Storm&) = delete;

  int run(std::chrono::seconds duration) {
    const auto objects_before = shared_objects();
    start_server();
    const auto until = std::chrono::steady_clock::now() + duration;
    while (std::chrono::steady_clock::now() < until && next_ + kClients < kIncarnationsMax && !g_board->is_wrong) {
      for (std::uint32_t slot = 0; slot < kClients; ++slot) revive(slot);
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % (random_() % 8 == 0 ? 20'000 : 2'000)));
      strike();
    }
    for (const pid_t pid : clients_) kill(pid, SIGCONT);
    // A stopped server would not finish, a killed one would not tell what it leaves.
    kill(server_, SIGCONT);
    g_board->finish = true;
    for (pid_t& pid : clients_) reap(pid);
    wait_for("the server has seen every client end", [] { return g_board->clean.load() || g_board->is_wrong; });
    if (g_board->is_wrong) return failed();
    reap(server_);
    check_account();
    if (shared_objects() != objects_before) wrong("something is left in /dev/shm or of the endpoint");
    if (g_board->is_wrong) return failed();
    report();
    return 0;
  }

 private:
  using Slot = std::uint32_t;

  template <class Condition>
  void wait_for(const char* what, const Condition& condition) {
    for (int waited_ms = 0; !condition(); ++waited_ms) {
      if (waited_ms == 30'000) wrong(std::string("waited in vain until ") + what);
      std::this_thread::sleep_for(1ms);
    }
  }

  int failed() {
    std::printf("storm: %s\n", g_board->wrong);
    return 1;
  }

  void start_server() {
    const std::uint32_t generation = ++generation_;
    server_ = launch([this, generation] { live_as_server(type_, endpoint_, generation); });
    wait_for("the server is ready",
             [generation] { return g_board->server_generation == generation || g_board->is_wrong; });
  }

  template <class Life>
  static pid_t launch(const Life& life) {
    const pid_t pid = fork();
    if (pid < 0) wrong("fork failed");
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      life();
    }
    return pid;
  }

  /// A client ends by itself when its server died.
  void revive(Slot slot) {
    pid_t& pid = clients_[slot];
    if (pid != 0 && waitpid(pid, nullptr, WNOHANG) != pid) return;
    const std::uint32_t self = next_++;
    lives_[slot] = self;
    pid = launch([this, self] { live_as_client(type_, endpoint_, self); });
  }

  void strike() {
    const std::uint32_t what = static_cast<std::uint32_t>(random_() % 100);
    const Slot slot = static_cast<Slot>(random_() % kClients);
    if (what < 80) {
      kill_client(slot);
    } else if (what < 96) {
      kill(clients_[slot], SIGSTOP);
      ++stops_;
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 10'000));
      if (what < 85) {
        kill_client(slot);  // While it is stopped.
      } else {
        kill(clients_[slot], SIGCONT);
      }
    } else if (what < 98) {
      kill(server_, SIGSTOP);
      ++stops_;
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 10'000));
      kill(server_, SIGCONT);
    } else {
      kill_server();
    }
  }

  void kill_client(Slot slot) {
    const std::uint32_t self = lives_[slot];
    kill(clients_[slot], SIGKILL);
    const std::uint64_t killed_ns = now_ns();
    g_board->killed = self;
    g_board->moved_ns = 0;
    g_board->kill_ns = killed_ns;
    reap(clients_[slot]);
    ++kills_;
    killed_.push_back({self, generation_, killed_ns});
    // What matters to the others: that their messages come on.
    for (int waited = 0; g_board->kill_ns != 0 && waited < 400; ++waited) std::this_thread::sleep_for(50us);
    if (g_board->moved_ns != 0) moved_ns_.push_back(g_board->moved_ns);
    g_board->kill_ns = 0;
  }

  void kill_server() {
    end(server_);
    ++kills_;
    ++server_kills_;
    // Its clients notice by themselves.
    for (pid_t& pid : clients_) {
      kill(pid, SIGCONT);
      reap(pid);
    }
    start_server();
  }

  void reap(pid_t& pid) {
    if (pid <= 0) return;
    int status = 0;
    wait_for("a process has ended", [&] { return waitpid(pid, &status, WNOHANG) == pid; });
    pid = 0;
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
      wrong(std::string("a process ended with ") + strsignal(WTERMSIG(status)));
    }
  }

  static void end(pid_t& pid) {
    if (pid <= 0) return;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    pid = 0;
  }
  static void end(const pid_t& pid) {
    pid_t copy = pid;
    end(copy);
  }

  void check_account() {
    for (std::uint32_t self = 0; self < next_; ++self) {
      const Incarnation& each = g_board->incarnations[self];
      received_ += each.received;
      if (each.received > each.begun) wrong("more arrived than was sent");
    }
    for (const Killed& each : killed_) {
      const Incarnation& life = g_board->incarnations[each.self];
      // A server that was killed before it noticed may have left messages unread.
      if (each.generation != generation_ && life.ended_ns == 0) continue;
      if (type_ == "shm" && life.received < life.flushed) {
        wrong("client " + std::to_string(each.self) + " had flushed " + std::to_string(life.flushed) +
              " messages when it was killed; " + std::to_string(life.received) + " arrived");
      }
      if (life.received == 0) continue;
      if (life.ended_ns == 0) wrong("the end of client " + std::to_string(each.self) + " was not noticed");
      noticed_ns_.push_back(life.ended_ns > each.at_ns ? life.ended_ns - each.at_ns : 0);
    }
  }

  static std::string quantiles(std::vector<std::uint64_t>& ns) {
    if (ns.empty()) return "not measured";
    std::sort(ns.begin(), ns.end());
    char text[100];
    const auto at = [&](double part) {
      return static_cast<double>(ns[static_cast<std::size_t>(part * static_cast<double>(ns.size() - 1))]) / 1e6;
    };
    std::snprintf(text, sizeof text, "p50 %.2f ms, p99 %.2f ms, max %.2f ms", at(0.5), at(0.99), at(1.0));
    return text;
  }

  void report() {
    std::printf("storm over %s: %llu kills (%llu of the server), %llu stops, %u clients lived\n", type_.c_str(),
                static_cast<unsigned long long>(kills_), static_cast<unsigned long long>(server_kills_),
                static_cast<unsigned long long>(stops_), next_);
    std::printf("%llu messages and %llu replies arrived, each once, whole and in order\n",
                static_cast<unsigned long long>(received_), static_cast<unsigned long long>(g_board->replies.load()));
    std::printf("a death is noticed after %s\n", quantiles(noticed_ns_).c_str());
    std::printf("another client's message comes after %s\n", quantiles(moved_ns_).c_str());
  }

  /// Names under /dev/shm, and of endpoints, that are ours.
  std::vector<std::string> shared_objects() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
      const std::string name = entry.path().filename().string();
      if (name.find(endpoint_.substr(1)) != std::string::npos) names.push_back(name);
    }
    return names;
  }

  struct Killed {
    std::uint32_t self;
    std::uint32_t generation;
    std::uint64_t at_ns;
  };

  std::string type_;
  std::string endpoint_;
  std::minstd_rand random_;
  pid_t server_ = 0;
  pid_t clients_[kClients] = {};
  std::uint32_t lives_[kClients] = {};
  std::uint32_t next_ = 0;
  std::uint32_t generation_ = 0;
  std::uint64_t kills_ = 0;
  std::uint64_t server_kills_ = 0;
  std::uint64_t stops_ = 0;
  std::uint64_t received_ = 0;
  std::vector<Killed> killed_;
  std::vector<std::uint64_t> noticed_ns_;
  std::vector<std::uint64_t> moved_ns_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "storm <transport> <seconds> [seed]\n");
    return 2;
  }
  void* const memory =
      mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return 1;
  g_board = new (memory) Board;
  const unsigned seed = argc > 3 ? static_cast<unsigned>(std::stoul(argv[3])) : std::random_device()();
  std::printf("seed %u\n", seed);
  std::fflush(stdout);
  const int code = [&] {
    Storm storm(argv[1], seed);
    return storm.run(std::chrono::seconds(std::stol(argv[2])));
  }();
  if (g_board->is_wrong && code == 0) std::printf("storm: %s\n", g_board->wrong);
  return g_board->is_wrong ? 1 : code;
}
