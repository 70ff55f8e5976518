// storm <transport> <seconds> [seed]: four clients and a server in processes of their own (shm.posix, shm.semaphore:
// one client, over a named object); one after the other is killed, stopped and continued at random, and comes back.
// Then every message is accounted for:
//
//   - contents and order: what arrived is whole, and each client's messages arrive from the first on without a gap;
//   - nothing lost: what a client had flushed before it was killed arrives (shm alone promises this);
//   - nothing invented: no more arrives than was begun;
//   - every end of a client that had sent something is noticed;
//   - nothing stays: descriptors, threads and mappings of the server, and shared objects, are what they were.
//
// Prints the counts, how fast deaths were noticed and how fast another client's messages came after a kill. These
// times are not judged: the machine may be busy. The exit code is 1 with the first thing that is wrong.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
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

namespace {

constexpr std::uint32_t kClientsMax = 4;
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
  Complaint complaint;
  Incarnation incarnations[kIncarnationsMax];
};
Board* g_board = nullptr;

[[noreturn]] void wrong(const std::string& what) {
  g_board->complaint.set(what);
  _exit(1);
}

bool is_shm(const std::string& kind) { return kind.starts_with("shm"); }

TransportConfig configuration(const std::string& kind, const std::string& endpoint, Role role) {
  TransportConfig config;
  config.endpoint = endpoint;
  config.role = role;
  config.max_message_size = 4096;
  config.send_timeout = 10s;
  config.connect_timeout = 300ms;  // Whoever meets a dead server comes again.
  config.auto_reconnect = false;
  if (kind != "shm" && is_shm(kind)) config.properties["segment"] = "posix";
  if (kind == "shm.semaphore") config.properties["wait"] = "semaphore";
  return config;
}

std::unique_ptr<Transport> make(const std::string& kind) {
  RegistryOptions options;
  options.security = PluginSecurity::WARN;
  TransportRegistry registry(options);
  auto made = registry.create(is_shm(kind) ? "shm" : kind);
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
    if (!content.read(reply.payload, kPayloadMax)) wrong("a reply is torn");
    if (content.stream != self) wrong("a reply reached another client than asked");
    g_board->replies.fetch_add(1, std::memory_order_relaxed);
  });
  const auto config = configuration(type, endpoint, Role::CLIENT);
  if (auto done = transport->init(config); !done.success()) wrong("init: " + done.error_message);
  if (auto done = transport->start(); !done.success()) wrong("start: " + done.error_message);
  if (!transport->connect().success()) _exit(0);  // The server is dead as well just now.
  std::minstd_rand random(self);
  std::vector<std::byte> payload(kPayloadMax);
  for (std::uint32_t sequence = 0; !g_board->finish;) {
    bool alive = true;
    for (std::uint32_t batch = random() % 5; alive; --batch) {
      const Content content{self, sequence};
      const std::span<std::byte> bytes(payload.data(), content.length(kPayloadMax));
      content.write(bytes);
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
    if (!content.read(message.payload, kPayloadMax) || content.stream >= kIncarnationsMax) wrong("a message is torn");
    Incarnation& sender = g_board->incarnations[content.stream];
    {
      const std::lock_guard lock(mutex);
      const auto known = who.emplace(message.peer, content.stream).first;
      if (known->second != content.stream) wrong("one link carries the messages of two clients");
    }
    const std::uint64_t expected = sender.received.load(std::memory_order_relaxed);
    if (content.number != expected) {
      wrong("client " + std::to_string(content.stream) + ": message " + std::to_string(content.number) +
            " came instead of " + std::to_string(expected));
    }
    sender.received.store(expected + 1, std::memory_order_relaxed);
    if (g_board->kill_ns.load(std::memory_order_relaxed) != 0 && g_board->killed != content.stream) {
      const std::uint64_t killed_ns = g_board->kill_ns.exchange(0);
      if (killed_ns != 0) g_board->moved_ns = now_ns() - killed_ns;
    }
    if (content.number % 8 != 0) return;
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
  if (auto done = transport->init(configuration(type, endpoint, Role::SERVER)); !done.success())
    wrong(done.error_message);
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
    const auto objects_before = test::objects_of(endpoint_);
    start_server();
    const auto until = std::chrono::steady_clock::now() + duration;
    while (std::chrono::steady_clock::now() < until && next_ + kClientsMax < kIncarnationsMax &&
           !g_board->complaint.is_there) {
      for (std::uint32_t slot = 0; slot < client_count_; ++slot) revive(slot);
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % (random_() % 8 == 0 ? 20'000 : 2'000)));
      strike();
    }
    for (const pid_t pid : clients_) kill(pid, SIGCONT);
    // A stopped server would not finish, a killed one would not tell what it leaves.
    kill(server_, SIGCONT);
    g_board->finish = true;
    for (pid_t& pid : clients_) reap(pid);
    wait_for("the server has seen every client end",
             [] { return g_board->clean.load() || g_board->complaint.is_there; });
    if (g_board->complaint.is_there) return failed();
    reap(server_);
    check_account();
    if (test::objects_of(endpoint_) != objects_before) wrong("something is left in /dev/shm or of the endpoint");
    if (g_board->complaint.is_there) return failed();
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
    std::printf("storm: %s\n", g_board->complaint.text);
    return 1;
  }

  void start_server() {
    const std::uint32_t generation = ++generation_;
    server_ = launch([this, generation] { live_as_server(type_, endpoint_, generation); });
    wait_for("the server is ready",
             [generation] { return g_board->server_generation == generation || g_board->complaint.is_there; });
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
    const Slot slot = static_cast<Slot>(random_() % client_count_);
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
    for (int waited = 0; client_count_ > 1 && g_board->kill_ns != 0 && waited < 400; ++waited) {
      std::this_thread::sleep_for(50us);
    }
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
      if (is_shm(type_) && life.received < life.flushed) {
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

  struct Killed {
    std::uint32_t self;
    std::uint32_t generation;
    std::uint64_t at_ns;
  };

  std::string type_;
  std::string endpoint_;
  std::minstd_rand random_;
  pid_t server_ = 0;
  const std::uint32_t client_count_ = type_.find('.') == std::string::npos ? kClientsMax : 1;
  std::vector<pid_t> clients_ = std::vector<pid_t>(client_count_);
  std::vector<std::uint32_t> lives_ = std::vector<std::uint32_t>(client_count_);
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
  g_board = test::make_shared_board<Board>();
  if (g_board == nullptr) return 1;
  const unsigned seed = argc > 3 ? static_cast<unsigned>(std::stoul(argv[3])) : std::random_device()();
  std::printf("seed %u\n", seed);
  std::fflush(stdout);
  const int code = [&] {
    Storm storm(argv[1], seed);
    return storm.run(std::chrono::seconds(std::stol(argv[2])));
  }();
  if (g_board->complaint.is_there && code == 0) std::printf("storm: %s\n", g_board->complaint.text);
  return g_board->complaint.is_there ? 1 : code;
}
