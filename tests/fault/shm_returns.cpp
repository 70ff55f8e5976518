// shm_returns <cycles> [option=value...]: clients, then servers, are started and killed, one after the other, so often
// in all; the survivor at the other end stays. After each:
//
//   - the survivor hears of PEER_DIED, after everything that had been flushed: whole, in order, none lost;
//   - the next one of its kind gets its link;
//   - one that is only stopped is not given up, however long it is (now and then, once for seconds).
//
// With segment=posix and with ring_type=mpmc as well. In a pool the killed are producers, and then consumers, which
// only receive; what they had taken is lost with them. A pool has one link for all at the other side: it survives one
// of them when the next is there before anybody looked. And a consumer may take what waited for it before the producer
// has a link again.
//
// At the end the survivors have the descriptors, threads and mappings of the beginning, and the folder of the endpoints
// and /dev/shm are what they were. Prints the counts. The exit code is 1 with the first thing that is wrong.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <new>
#include <random>
#include <set>
#include <string>
#include <thread>

#include "fault/support/footprint.h"
#include "segment/endpoint.h"
#include "unit/plugins/shm/driver_under_test.h"

using namespace cdmf::ipc;
using namespace cdmf::ipc::shm::testing;
using cdmf::ipc::test::Footprint;
using namespace std::chrono_literals;

namespace {

constexpr auto kDisconnected = static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED);
constexpr std::uint32_t kNobody = UINT32_MAX;

/// What all processes see. One victim at a time.
struct Board {
  std::atomic<bool> ready{false};   // The survivor is at work.
  std::atomic<bool> finish{false};  // It is to end, and ...
  std::atomic<bool> clean{false};   // ... has ended as it began.
  std::atomic<std::uint32_t> victim{kNobody};
  std::atomic<std::uint32_t> flushed{0};      // by the victim; a consumer of a pool: received
  std::atomic<std::uint32_t> received{0};     // of the victim's, by the survivor
  std::atomic<std::uint32_t> ended{kNobody};  // whose end the survivor was told last
  std::atomic<std::uint64_t> links{0};        // that a pool's producer has had
  std::atomic<std::uint64_t> deaths{0};       // the survivor was told of
  std::atomic<std::uint64_t> messages{0};     // it received in all
  std::atomic<bool> is_wrong{false};
  char wrong[400] = {};
};
Board* g_board = nullptr;

[[noreturn]] void wrong(const std::string& what) {
  if (!g_board->is_wrong.exchange(true)) std::snprintf(g_board->wrong, sizeof g_board->wrong, "%s", what.c_str());
  _exit(1);
}

template <class Condition>
void wait_for(const std::string& what, const Condition& condition) {
  const std::uint64_t deadline = in_ms(kPatienceMs);
  for (int turn = 0; !condition(); ++turn) {
    if (g_board->is_wrong) _exit(1);
    if (monotonic_now_ns() > deadline) {
      wrong("waited in vain until " + what + "; flushed " + std::to_string(g_board->flushed) + ", received in all " +
            std::to_string(g_board->messages) + ", deaths " + std::to_string(g_board->deaths));
    }
    if (turn > 20) std::this_thread::sleep_for(50us);
    sched_yield();
  }
}

bool is_pool(const Options& options) {
  const auto type = options.find("ring_type");
  return type != options.end() && type->second == "mpmc";
}

struct Content {
  std::uint32_t victim;
  std::uint32_t sequence;
};
std::string content_of(std::uint32_t victim, std::uint32_t sequence) {
  const Content content{victim, sequence};
  std::string text(sizeof content + (victim * 31 + sequence * 17) % 300, static_cast<char>(victim + sequence));
  std::memcpy(text.data(), &content, sizeof content);
  return text;
}

// -------------------------------------------------------------------------------------------------------- the victim

/// Sends, and tells what it has flushed, until it is killed.
[[noreturn]] void send_until_killed(DriverUnderTest& driver, cdmf_peer peer, std::uint32_t self) {
  for (std::uint32_t sequence = 0;; ++sequence) {
    const cdmf_status status = driver.send_waiting(peer, content_of(self, sequence));
    if (status != CDMF_OK) wrong("a victim cannot send: " + std::to_string(status));
    g_board->flushed.store(sequence + 1);
    if (sequence >= 8) std::this_thread::sleep_for(100us);
  }
}
[[noreturn]] void live_as_client(const std::string& endpoint, const Options& options, std::uint32_t self) {
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, options);
  if (client.open() != CDMF_OK || client.attach() != CDMF_OK) wrong(std::string("a client: ") + client.error.message);
  send_until_killed(client, client.peer, self);
}
[[noreturn]] void live_as_server(const std::string& endpoint, const Options& options, std::uint32_t self) {
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, options);
  if (server.open() != CDMF_OK) wrong(std::string("a server: ") + server.error.message);
  send_until_killed(server, server.next_peer(), self);
}

/// Of a pool: tells what it receives, until it is killed.
[[noreturn]] void live_as_consumer(const std::string& endpoint, const Options& options) {
  DriverUnderTest consumer(CDMF_ROLE_SERVER, endpoint, options);
  if (consumer.open() != CDMF_OK) wrong(std::string("a consumer: ") + consumer.error.message);
  for (;;) {
    for (const Message& message : consumer.take()) g_board->flushed += message.kind == CDMF_VIEW_MESSAGE;
    (void)consumer->await_messages(consumer.self(), in_ms(20));
  }
}

// ------------------------------------------------------------------------------------------------------ the survivor

/// Takes what there is of messages and ends. Says whether an end was among it.
bool take(DriverUnderTest& driver, std::map<cdmf_peer, Content>& expected, bool is_pool) {
  bool ended = false;
  for (const Message& message : driver.take()) {
    if (message.kind == CDMF_VIEW_MESSAGE) {
      Content content{};
      std::memcpy(&content, message.content.data(), std::min(message.content.size(), sizeof content));
      const auto known = expected.emplace(message.peer, Content{content.victim, 0}).first;
      if (is_pool && content.victim > known->second.victim) known->second = {content.victim, 0};
      const Content& next = known->second;
      if (content.victim != next.victim || content.sequence != next.sequence ||
          message.content != content_of(next.victim, next.sequence)) {
        wrong("message " + std::to_string(content.sequence) + " of " + std::to_string(content.victim) +
              " came instead of " + std::to_string(next.sequence) + " of " + std::to_string(next.victim));
      }
      ++known->second.sequence;
      ++g_board->messages;
      (void)driver.send(message.peer, "got it");
    } else if (message.kind == kDisconnected) {
      if (message.reason != CDMF_PEER_DIED) wrong("a death was told as " + std::to_string(message.reason));
      ended = true;
      ++g_board->deaths;
      if (const auto known = expected.find(message.peer); known != expected.end()) {
        g_board->received = known->second.sequence;
        g_board->ended = known->second.victim;
        expected.erase(known);
      }
    }
  }
  return ended;
}

void check_footprint(DriverUnderTest& driver, const Footprint& before) {
  for (int turn = 0; turn < 2000; ++turn) {
    (void)driver.take();
    (void)driver->flush(driver.self(), CDMF_NO_PEER, kNoWait);  // Both ends of the driver let go of what has ended.
    if (Footprint::now() == before) return;
    std::this_thread::sleep_for(1ms);
  }
  wrong("left in the survivor: " + (Footprint::now() - before).text());
}

/// Before anything is opened. The first thread of a process makes the thread sanitizer start one of its own.
Footprint empty_process() {
  std::thread([] {}).join();
  return Footprint::now();
}

/// After a close. A thread that was joined stays in /proc until the kernel has put it away, also the one above.
void check_nothing_left(const char* by, const Footprint& empty) {
  for (int turn = 0; turn < 2000; ++turn) {
    const Footprint left = Footprint::now() - empty;
    if (left.descriptors == 0 && left.shared_mappings == 0 && left.threads <= 0) return;
    std::this_thread::sleep_for(1ms);
  }
  wrong(std::string("left by a closed ") + by + ": " + (Footprint::now() - empty).text());
}

[[noreturn]] void survive_as_server(const std::string& endpoint, const Options& options) {
  const Footprint empty = empty_process();
  {
    DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, options);
    if (server.open() != CDMF_OK) wrong(server.error.message);
    const Footprint before = Footprint::now();
    std::map<cdmf_peer, Content> expected;
    g_board->ready = true;
    while (!g_board->finish) {
      take(server, expected, is_pool(options));
      (void)server->await_messages(server.self(), in_ms(20));
    }
    check_footprint(server, before);
    server.close();
  }
  check_nothing_left("server", empty);
  g_board->clean = true;
  _exit(0);
}

[[noreturn]] void survive_as_client(const std::string& endpoint, const Options& options) {
  const Footprint empty = empty_process();
  {
    DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, options);
    if (client.open() != CDMF_OK) wrong(client.error.message);
    const Footprint before = Footprint::now();
    std::map<cdmf_peer, Content> expected;
    g_board->ready = true;
    while (!g_board->finish) {
      const cdmf_status status = client.attach(kPatienceMs / 2);
      if (status != CDMF_OK) {  // Not there yet, or killed within the handshake.
        if (status != CDMF_ENDPOINT_NOT_FOUND && status != CDMF_CONNECTION_FAILED && status != CDMF_TIMEOUT) {
          wrong(std::string("attach: ") + client.error.message);
        }
        std::this_thread::sleep_for(100us);
        continue;
      }
      while (!take(client, expected, false)) (void)client->await_messages(client.self(), in_ms(20));
    }
    check_footprint(client, before);
    client.close();
  }
  check_nothing_left("client", empty);
  g_board->clean = true;
  _exit(0);
}

/// Of a pool whose consumers are killed: sends, and hears of each end.
[[noreturn]] void survive_as_producer(const std::string& endpoint, const Options& options) {
  const Footprint empty = empty_process();
  {
    DriverUnderTest producer(CDMF_ROLE_CLIENT, endpoint, options);
    if (producer.open() != CDMF_OK) wrong(producer.error.message);
    g_board->ready = true;
    while (!g_board->finish) {
      if (const cdmf_status status = producer.attach(); status != CDMF_OK) {
        if (status != CDMF_ENDPOINT_NOT_FOUND) wrong(std::string("attach: ") + producer.error.message);
        std::this_thread::sleep_for(100us);
        continue;
      }
      ++g_board->links;
      for (bool ended = false; !ended;) {
        if (producer.send(producer.peer, "work") == CDMF_BUFFER_FULL) {
          (void)producer->await_space(producer.self(), producer.peer, 4, in_ms(1));
        } else {
          ++g_board->messages;
          if (g_board->messages % 64 == 0) std::this_thread::sleep_for(100us);
        }
        for (const Message& message : producer.take()) {
          if (message.kind != kDisconnected) continue;
          if (message.reason != CDMF_PEER_DIED) wrong("a death was told as " + std::to_string(message.reason));
          ended = true;
          ++g_board->deaths;
        }
      }
    }
    producer.close();
  }
  check_nothing_left("producer", empty);
  g_board->clean = true;
  _exit(0);
}

// --------------------------------------------------------------------------------------------------------- the cycles

template <class Life>
pid_t launch(const Life& life) {
  const pid_t pid = fork();
  if (pid < 0) wrong("fork failed");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    life();
  }
  return pid;
}
void reap(pid_t pid) {
  int status = 0;
  wait_for("a process has ended", [&] { return waitpid(pid, &status, WNOHANG) == pid; });
  if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
    wrong(std::string("a process ended with ") + strsignal(WTERMSIG(status)));
  }
}

struct Counts {
  std::uint64_t kills = 0;
  std::uint64_t with_link = 0;
  std::uint64_t flushed = 0;
  std::uint64_t stops = 0;
};

/// It is not given up while it is stopped, and goes on afterwards.
void stop_for(pid_t pid, std::uint32_t self, std::chrono::milliseconds time) {
  kill(pid, SIGSTOP);
  std::this_thread::sleep_for(time);
  if (g_board->ended == self) wrong("a peer that was only stopped was given up");
  const std::uint32_t flushed = g_board->flushed;
  kill(pid, SIGCONT);
  wait_for("one that was stopped goes on", [&] { return g_board->flushed > flushed; });
}

void kill_so_often(std::uint64_t cycles, std::uint32_t first, const std::function<void(std::uint32_t)>& live,
                   std::mt19937& random, Counts& counts) {
  for (std::uint64_t i = 0; i < cycles; ++i) {
    const std::uint32_t self = first + static_cast<std::uint32_t>(i);
    g_board->flushed = 0;
    g_board->victim = self;
    const pid_t pid = launch([&] { live(self); });
    if (random() % 4 == 0) {  // At any time, also before it has a link.
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    } else {
      const std::uint32_t enough = 1 + static_cast<std::uint32_t>(random() % 6);
      wait_for("a new process has its link", [&] { return g_board->flushed >= enough; });
      if (i % 100 == 50 || i == 1500) {
        stop_for(pid, self, i == 1500 ? 2500ms : 20ms);  // Once beyond every time-out there is.
        ++counts.stops;
      }
    }
    kill(pid, SIGKILL);
    reap(pid);
    ++counts.kills;
    const std::uint32_t flushed = g_board->flushed;
    if (flushed == 0) continue;
    ++counts.with_link;
    counts.flushed += flushed;
    wait_for("the survivor knows of the death of " + std::to_string(self), [&] { return g_board->ended == self; });
    if (g_board->received < flushed) {
      wrong(std::to_string(flushed) + " messages were flushed before a death, only " +
            std::to_string(g_board->received) + " arrived");
    }
  }
}

/// The consumers of a pool, whose producer survives.
void kill_consumers(std::uint64_t cycles, const std::function<void()>& live, std::mt19937& random, Counts& counts) {
  const std::uint64_t deaths_before = g_board->deaths;
  const auto deaths = [&] { return g_board->deaths - deaths_before; };
  for (std::uint64_t i = 0; i < cycles; ++i) {
    g_board->flushed = 0;
    const pid_t pid = launch(live);
    if (random() % 4 == 0) {  // At any time, also before it is in the pool.
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    } else {
      const std::uint32_t enough = 1 + static_cast<std::uint32_t>(random() % 6);
      wait_for("a new consumer receives, and the producer has a link",
               [&] { return g_board->flushed >= enough && g_board->links > deaths(); });
    }
    const std::uint64_t links = g_board->links;
    counts.with_link += links > deaths();
    kill(pid, SIGKILL);
    reap(pid);
    ++counts.kills;
    wait_for("the producer knows of the death of consumer " + std::to_string(i), [&] { return deaths() >= links; });
  }
}

void end_survivor(pid_t survivor) {
  g_board->finish = true;
  wait_for("the survivor has ended as it began", [] { return g_board->clean.load(); });
  reap(survivor);
  g_board->ready = g_board->finish = g_board->clean = false;
  g_board->ended = kNobody;
}

/// What lies about in the file system, this endpoint's and in /dev/shm.
std::set<std::string> objects(const std::string& endpoint) {
  cdmf_error text{};
  ErrorText error(&text);
  std::string path;
  if (shm::socket_path(endpoint.c_str(), path, error) != CDMF_OK) wrong(text.message);
  std::set<std::string> names;
  const std::filesystem::path socket(path);
  for (const auto& folder : {socket.parent_path(), std::filesystem::path("/dev/shm")}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (name.find(endpoint.substr(1)) != std::string::npos) names.insert(name);
    }
  }
  return names;
}

int run(std::uint64_t cycles, const Options& options) {
  const std::string endpoint = "/cdmf_returns_" + std::to_string(getpid());
  std::mt19937 random(17);
  const auto objects_before = objects(endpoint);
  Counts clients;
  Counts servers;

  pid_t survivor = launch([&] { survive_as_server(endpoint, options); });
  wait_for("the server is ready", [] { return g_board->ready.load(); });
  kill_so_often(
      cycles - cycles / 3, 0, [&](std::uint32_t self) { live_as_client(endpoint, options, self); }, random, clients);
  end_survivor(survivor);

  if (is_pool(options)) {
    survivor = launch([&] { survive_as_producer(endpoint, options); });
    wait_for("the producer is ready", [] { return g_board->ready.load(); });
    kill_consumers(
        cycles / 3, [&] { live_as_consumer(endpoint, options); }, random, servers);
  } else {
    survivor = launch([&] { survive_as_client(endpoint, options); });
    wait_for("the client is ready", [] { return g_board->ready.load(); });
    kill_so_often(
        cycles / 3, 1u << 31, [&](std::uint32_t self) { live_as_server(endpoint, options, self); }, random, servers);
  }
  end_survivor(survivor);

  // What the last of the killed servers left is in nobody's way, and goes with the next.
  reap(launch([&] {
    {
      DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, options);
      if (server.open() != CDMF_OK) wrong(server.error.message);
      server.close();
    }
    _exit(0);
  }));
  for (const std::string& name : objects(endpoint)) {
    if (!objects_before.contains(name)) wrong("left behind: " + name);
  }
  std::printf(
      "%llu clients and %llu servers killed, %llu of them with a link; the survivors heard of %llu deaths and received "
      "all "
      "%llu messages flushed before one (%llu in all); %llu stopped peers were not given up; nothing is left behind\n",
      static_cast<unsigned long long>(clients.kills), static_cast<unsigned long long>(servers.kills),
      static_cast<unsigned long long>(clients.with_link + servers.with_link),
      static_cast<unsigned long long>(g_board->deaths),
      static_cast<unsigned long long>(clients.flushed + servers.flushed),
      static_cast<unsigned long long>(g_board->messages),
      static_cast<unsigned long long>(clients.stops + servers.stops));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t cycles = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 0;
  if (cycles == 0) {
    std::fprintf(stderr, "shm_returns <cycles> [option=value...]\n");
    return 2;
  }
  Options options{{"ring_buffer_capacity", "128"}, {"slot_size", "512"}};
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    const std::size_t equals = word.find('=');
    if (equals != std::string::npos) options[word.substr(0, equals)] = word.substr(equals + 1);
  }
  void* const memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  g_board = new (memory) Board;
  // In a child: whatever calls wrong() ends it, and the reason is told here.
  const pid_t tests = launch([&] {
    const int code = run(cycles, options);
    std::fflush(stdout);
    _exit(code);
  });
  int status = 0;
  waitpid(tests, &status, 0);
  if (g_board->is_wrong) std::printf("not so: %s\n", g_board->wrong);
  return WIFEXITED(status) && !g_board->is_wrong ? WEXITSTATUS(status) : 1;
}
