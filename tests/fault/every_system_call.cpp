// every_system_call <transport>[.<segment>] client|server: a peer that connects, exchanges messages and takes its leave
// is killed before and after every system call of any of its threads, one kill per life. After each:
//
//   client   the server knows of the end, and serves another client all the time
//   server   a new server takes the endpoint at once, and a client that comes again finds it
//
// At the end the survivor has the descriptors, threads and mappings it had at the beginning.
#include <sys/mman.h>
#include <sys/prctl.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <thread>

#include "fault/support/footprint.h"
#include "fault/support/stepped_process.h"
#include "fault/support/traced_process.h"
#include "ipc/transport_registry.h"

using namespace cdmf::ipc;
using namespace std::chrono_literals;
using cdmf::ipc::test::Footprint;
using cdmf::ipc::test::TracedProcess;

namespace {

/// What all processes see.
struct Board {
  std::atomic<bool> finish{false};
  std::atomic<bool> ready{false};          // the survivor is at work, its first footprint taken
  std::atomic<std::int64_t> links{0};      // of the server
  std::atomic<std::uint64_t> answered{0};  // messages that came back to the client that lives
  std::atomic<bool> serving{false};        // the new server is there
  std::atomic<bool> is_wrong{false};
  char wrong[300] = {};
};
Board* g_board = nullptr;

[[noreturn]] void wrong(const std::string& what) {
  if (!g_board->is_wrong.exchange(true)) std::snprintf(g_board->wrong, sizeof g_board->wrong, "%s", what.c_str());
  _exit(1);
}

template <class Condition>
void wait_for(const std::string& what, const Condition& condition) {
  for (int waited_ms = 0; !condition(); ++waited_ms) {
    if (g_board->is_wrong) _exit(1);
    if (waited_ms == 20'000) wrong("waited in vain until " + what);
    std::this_thread::sleep_for(1ms);
  }
}

std::unique_ptr<Transport> make(const std::string& type, const std::string& endpoint, Role role) {
  RegistryOptions options;
  options.security = PluginSecurity::WARN;
  TransportRegistry registry(options);
  const std::string::size_type dot = type.find('.');
  auto made = registry.create(type.substr(0, dot));
  if (!made.success()) wrong(made.error_message);
  TransportConfig config;
  if (dot != std::string::npos) config.properties["segment"] = type.substr(dot + 1);
  config.endpoint = endpoint;
  config.role = role;
  config.max_message_size = 4096;
  config.auto_reconnect = false;
  config.connect_timeout = 300ms;
  if (auto done = made.value->init(config); !done.success()) wrong("init: " + done.error_message);
  return std::move(made.value);
}

void check(const TransportResult<>& result, const char* what) {
  if (!result.success()) wrong(std::string(what) + ": " + result.error_message);
}

void answer_everything(Transport& server) {
  server.setViewCallback([&server](const MessageView& message) {
    MessageView answer;
    answer.payload = message.payload;
    (void)server.send(answer, {.peer = message.peer, .timeout = 1s});
  });
  server.setPeerCallback(
      [](const PeerEvent& event) { g_board->links += event.kind == PeerEvent::Kind::CONNECTED ? 1 : -1; });
}

void check_footprint(const Footprint& before) {
  Footprint after;
  for (int attempt = 0; attempt < 500; ++attempt) {
    after = Footprint::now();
    if (after == before) return;
    std::this_thread::sleep_for(10ms);
  }
  wrong("left behind: " + (after - before).text());
}

MessageView text(std::string_view payload) {
  MessageView message;
  message.payload = std::as_bytes(std::span(payload));
  return message;
}

/// One conversation. False: there is no server, or it went away meanwhile.
bool converse(Transport& client, int messages) {
  std::atomic<int> answers{0};
  client.setViewCallback([&](const MessageView&) { ++answers; });
  bool good = client.connect().success();
  for (int sent = 1; good && sent <= messages && !g_board->finish; ++sent) {
    good = client.send(text("what is flushed is promised")).success();
    for (int waited = 0; good && answers < sent; ++waited) {
      good = client.getState() == TransportState::CONNECTED && waited < 100'000;
      std::this_thread::sleep_for(100us);
    }
    if (good) ++g_board->answered;
  }
  (void)client.disconnect();
  client.setViewCallback(nullptr);
  return good;
}

template <class Life>
pid_t launch(const Life& life) {
  const pid_t pid = fork();
  if (pid < 0) wrong("fork failed");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    life();
    _exit(0);
  }
  return pid;
}

void await_end(pid_t pid) {
  int status = 0;
  wait_for("a process has ended", [&] { return waitpid(pid, &status, WNOHANG) == pid; });
}

/// The survivors are children of a child: the tracer waits for any child of its own.
class Family {
 public:
  template <class Life>
  explicit Family(const Life& life) {
    int hold[2];
    if (pipe(hold) != 0) wrong("pipe failed");
    const pid_t middle = launch([&] {
      setpgid(0, 0);
      prctl(PR_SET_PDEATHSIG, 0);
      const pid_t survivor = fork();
      if (survivor == 0) {
        close(hold[1]);
        // Ends with the pipe, hence with the test.
        std::thread([fd = hold[0]] {
          char byte;
          (void)!read(fd, &byte, 1);
          _exit(1);
        }).detach();
        life();
        _exit(0);
      }
    });
    waitpid(middle, nullptr, 0);
    close(hold[0]);
    hold_ = hold[1];
  }
  ~Family() { close(hold_); }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

 private:
  int hold_;
};

// ----------------------------------------------------------------------------------------------------------- client

int kill_clients(const std::string& type, const std::string& endpoint) {
  std::atomic<bool>& finish = g_board->finish;
  const Family server([&] {
    const auto transport = make(type, endpoint, Role::SERVER);
    answer_everything(*transport);
    check(transport->start(), "start");
    check(transport->connect(), "open");
    const Footprint before = Footprint::now();
    g_board->ready = true;
    while (!finish || g_board->links != 0) std::this_thread::sleep_for(1ms);
    check_footprint(before);
    g_board->ready = false;
  });
  wait_for("the server is ready", [] { return g_board->ready.load(); });
  const Family other_client([&] {
    const auto transport = make(type, endpoint, Role::CLIENT);
    check(transport->start(), "start");
    while (!finish) {
      if (!converse(*transport, 1'000'000'000) && !finish) wrong("the other client lost its server");
    }
  });
  std::uint64_t kills = 0;
  for (;; ++kills) {
    wait_for("the other client alone is connected", [] { return g_board->links == 1; });
    TracedProcess victim([&] {
      const auto transport = make(type, endpoint, Role::CLIENT);
      TracedProcess::stop_here();
      check(transport->start(), "start");
      if (!converse(*transport, 2)) wrong("the client to be killed was not served");
      transport->stop();
    });
    std::uint64_t calls = 0;
    while (calls <= kills && victim.next()) ++calls;
    const bool finished = victim.finished();
    if (g_board->is_wrong) return 1;
    victim.kill();
    const std::uint64_t answered = g_board->answered;
    wait_for("the other client is served on", [&] { return g_board->answered > answered + 2; });
    wait_for("the server knows of the end", [] { return g_board->links == 1; });
    if (finished) break;
  }
  finish = true;
  wait_for("the server has ended as it began", [] { return !g_board->ready; });
  std::printf("%s: a client killed before and after each of its %llu system calls harmed nobody\n", type.c_str(),
              static_cast<unsigned long long>(kills / 2));
  return 0;
}

// ----------------------------------------------------------------------------------------------------------- server

void serve_until(Transport& server, const std::function<bool()>& enough) {
  answer_everything(server);
  check(server.start(), "start");
  check(server.connect(), "a new server takes the endpoint");
  while (!enough()) std::this_thread::sleep_for(1ms);
  check(server.disconnect(), "disconnect");
}

int kill_servers(const std::string& type, const std::string& endpoint) {
  const Family client([&] {
    auto transport = make(type, endpoint, Role::CLIENT);  // Loads the library, which stays.
    transport.reset();
    const Footprint before = Footprint::now();
    transport = make(type, endpoint, Role::CLIENT);
    check(transport->start(), "start");
    g_board->ready = true;
    while (!g_board->finish) {
      (void)converse(*transport, 3);
      std::this_thread::sleep_for(1ms);
    }
    transport.reset();
    check_footprint(before);
    g_board->ready = false;
  });
  wait_for("the client is ready", [] { return g_board->ready.load(); });
  std::uint64_t kills = 0;  // so many stops before, counted in halves of system calls
  std::uint64_t lives = 0;
  for (;; ++kills, ++lives) {
    TracedProcess victim([&] {
      const auto transport = make(type, endpoint, Role::SERVER);
      TracedProcess::stop_here();
      const std::uint64_t answered = g_board->answered;
      serve_until(*transport, [&] { return g_board->answered > answered + 3; });
      transport->stop();
    });
    std::uint64_t calls = 0;
    while (calls <= kills && victim.next()) ++calls;
    const bool finished = victim.finished();
    if (g_board->is_wrong) return 1;
    victim.kill();
    if (finished) break;
    const std::uint64_t answered = g_board->answered;
    const pid_t successor = launch([&] {
      const auto transport = make(type, endpoint, Role::SERVER);
      serve_until(*transport, [&] { return g_board->answered > answered + 3; });
    });
    await_end(successor);
    if (g_board->is_wrong) return 1;
    // Beyond its opening most of what a server calls is its waiting: every seventh is enough of that.
    if (kills > 150) kills += 6;
  }
  g_board->finish = true;
  wait_for("the client has ended as it began", [] { return !g_board->ready; });
  std::printf("%s: a server killed %llu times around its %llu system calls always had a successor at once\n",
              type.c_str(), static_cast<unsigned long long>(lives), static_cast<unsigned long long>(kills / 2));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc == 3 ? argv[2] : "";
  if (mode != "client" && mode != "server") {
    std::fprintf(stderr, "every_system_call <transport>[.<segment>] client|server\n");
    return 2;
  }
  if (!cdmf::ipc::test::can_trace()) {
    std::printf("skipped: tracing a child is not permitted here\n");
    return 77;
  }
  void* const memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  g_board = new (memory) Board;
  const std::string endpoint = "/cdmf_calls_" + std::to_string(getpid());
  // In a child: whatever calls wrong() ends it, and the reason is told here.
  const pid_t tests = launch([&] {
    const int code = mode == "client" ? kill_clients(argv[1], endpoint) : kill_servers(argv[1], endpoint);
    std::fflush(stdout);
    _exit(code);
  });
  int status = 0;
  waitpid(tests, &status, 0);
  if (g_board->is_wrong) std::printf("not so: %s\n", g_board->wrong);
  return WIFEXITED(status) && !g_board->is_wrong ? WEXITSTATUS(status) : 1;
}
