#include "peers/link_bench.h"

#include <time.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <fstream>
#include <thread>

namespace cdmf::bench {

const char* name_of(Pattern pattern) noexcept {
  switch (pattern) {
    case Pattern::ping_pong:
      return "ping_pong";
    case Pattern::stream:
      return "stream";
    case Pattern::paced:
      return "paced";
  }
  return "?";
}

const char* name_of(Wait wait) noexcept { return wait == Wait::poll ? "poll" : "block"; }

std::string Case::text() const {
  const std::string size = size_bytes % 1024 != 0      ? std::to_string(size_bytes) + "B"
                           : size_bytes % 1048576 != 0 ? std::to_string(size_bytes / 1024) + "KiB"
                                                       : std::to_string(size_bytes / 1048576) + "MiB";
  return std::string(name_of(pattern)) + "/" + name_of(wait) + "/" + size +
         (clients > 1 ? "/" + std::to_string(clients) + "_clients" : "");
}

std::vector<Subject> all_subjects() {
  std::vector<Subject> all = our_subjects();
  for (const auto& more : {ucx_subjects(), boost_subjects(), iceoryx_subjects(), zeromq_subjects(), nng_subjects(),
                           socket_subjects(), grpc_subjects()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

namespace detail {

using ipc::cli::ChildProcess;
using ipc::cli::ControlChannel;
constexpr auto kStartPatience = std::chrono::seconds(20);

double cpu_ns() noexcept {
  timespec used{};  // Exact, where getrusage() is as old as the last tick.
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) * 1e9 + static_cast<double>(used.tv_nsec);
}

double memory_bytes() noexcept {
  std::FILE* const file = std::fopen("/proc/self/smaps_rollup", "r");
  if (file == nullptr) return 0;
  char line[256];
  double kib = 0;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::sscanf(line, "Pss: %lf kB", &kib) == 1) break;
  }
  std::fclose(file);
  return kib * 1024;
}

void throw_wrong(std::uint64_t expected, std::span<const std::byte> message) {
  throw std::runtime_error("message " + std::to_string(expected) + " was expected, and what came has " +
                           std::to_string(message.size()) + " bytes and number " + std::to_string(number_of(message)));
}

void sleep_until(Clock::time_point when) {
  const auto ns = std::chrono::duration_cast<nanoseconds>(when.time_since_epoch()).count();
  const timespec at{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {
  }
}

void tell(Channel& control, const std::string& line) {
  if (!control.send_line(line)) throw std::runtime_error("the benchmark is gone");
}

/// What follows that word.
std::string expect(Channel& control, const std::string& word) {
  std::string line;
  const auto outcome = control.read_line(line, kStartPatience);
  if (outcome == Channel::ReadOutcome::timed_out) throw std::runtime_error("no '" + word + "' for 20 s");
  if (outcome == Channel::ReadOutcome::closed) throw std::runtime_error("an end died before it said '" + word + "'");
  if (line.rfind("error ", 0) == 0) throw std::runtime_error(line.substr(6));
  if (line.rfind(word, 0) != 0) throw std::runtime_error("an end said '" + line + "' instead of '" + word + "'");
  return line.size() > word.size() ? line.substr(word.size() + 1) : "";
}

std::string text_of(const Outcome& outcome) {
  char text[120];
  std::snprintf(text, sizeof text, "%.17g %.17g %.17g ", outcome.value, outcome.cpu_ns_per_message,
                outcome.memory_bytes);
  return text + outcome.latency.to_text();
}

namespace {

Outcome read_outcome(const std::string& text) {
  Outcome outcome;
  int used = 0;
  if (std::sscanf(text.c_str(), "%lf %lf %lf %n", &outcome.value, &outcome.cpu_ns_per_message, &outcome.memory_bytes,
                  &used) == 3) {
    if (auto latency = ipc::cli::LatencyHistogram::from_text(text.substr(static_cast<std::size_t>(used)))) {
      outcome.latency = std::move(*latency);
      return outcome;
    }
  }
  throw std::runtime_error("an end said '" + text.substr(0, 80) + "'");
}

// A body that says what it threw.
int guarded(const EndBody& body, const Place& place, Channel& control, int cpu, nanoseconds budget) {
  try {
    body(place, control, cpu, budget);
    return 0;
  } catch (const std::exception& error) {
    std::string text = error.what();
    std::replace(text.begin(), text.end(), '\n', ';');
    control.send_line("error " + (place.server ? std::string("server: ") : std::string("client: ")) + text);
    return 1;
  }
}

/// A thread or a process that is an end.
class End {
 public:
  End(const EndBody& body, Place place, int cpu, nanoseconds budget, bool thread) {
    if (thread) {
      auto ends = ControlChannel::pair();
      channel_ = std::make_unique<ControlChannel>(std::move(ends.first));
      thread_ = std::thread([&body, place = std::move(place), cpu,
                             budget](ControlChannel control) { guarded(body, place, control, cpu, budget); },
                            std::move(ends.second));
    } else {
      process_ = std::make_unique<ChildProcess>(
          ChildProcess::call([&](ControlChannel& control) { return guarded(body, place, control, cpu, budget); }));
    }
  }
  ~End() {
    control().send_line("bye");
    if (process_ != nullptr) {
      (void)process_->wait_for(std::chrono::seconds(3));  // So that it takes its objects away; killed otherwise.
    } else {
      control().close();
      thread_.join();
    }
  }
  End(const End&) = delete;
  End& operator=(const End&) = delete;
  ControlChannel& control() noexcept { return process_ != nullptr ? process_->control() : *channel_; }

 private:
  std::unique_ptr<ChildProcess> process_;
  std::unique_ptr<ControlChannel> channel_;
  std::thread thread_;
};

Outcome run_ends(const EndBody& body, const Place& server_place, const Setting& setting, bool threads) {
  End server(body, server_place, setting.cpus.second, setting.budget, threads);
  (void)expect(server.control(), "ready");
  std::vector<std::unique_ptr<End>> clients;
  Place place = server_place;
  place.server = false;
  for (place.client = 0; place.client < place.what.clients; ++place.client) {
    clients.push_back(std::make_unique<End>(body, place, setting.cpus.first, setting.budget, threads));
    (void)expect(clients.back()->control(), "ready");
  }
  tell(server.control(), "go");
  for (const auto& client : clients) tell(client->control(), "go");

  Outcome outcome;
  std::string trouble;
  const auto hear = [&](End& end) -> Outcome {
    try {
      return read_outcome(expect(end.control(), "found"));
    } catch (const std::exception& error) {  // The end that failed first says why; the others hear only silence.
      trouble += (trouble.empty() ? "" : "; ") + std::string(error.what());
      return {};
    }
  };
  double sent = 0, client_cpu = 0;
  for (const auto& client : clients) {
    const Outcome found = hear(*client);
    if (!trouble.empty()) break;
    const double weight = place.what.clients > 1 ? found.value : 1;
    sent += weight;
    client_cpu += weight * found.cpu_ns_per_message;
    outcome.value = found.value;
    outcome.latency.merge(found.latency);
    outcome.memory_bytes += found.memory_bytes;
  }
  if (!trouble.empty()) {
    std::string line;  // What the server has to say, if it says something soon.
    if (server.control().read_line(line, std::chrono::milliseconds(200)) == ControlChannel::ReadOutcome::line) {
      trouble += "; " + line;
    }
    throw std::runtime_error(trouble);
  }
  const Outcome found = hear(server);
  if (!trouble.empty()) throw std::runtime_error(trouble);
  // All at once: some say goodbye to each other.
  for (const auto& client : clients) tell(client->control(), "bye");
  if (place.what.clients > 1) outcome.value = found.value;
  outcome.cpu_ns_per_message = client_cpu / std::max(sent, 1.0) + (threads ? 0 : found.cpu_ns_per_message);
  outcome.memory_bytes = threads ? found.memory_bytes : outcome.memory_bytes + found.memory_bytes;
  return outcome;
}

}  // namespace

Outcome measure_ends(const EndBody& body, const Case& what, const Setting& setting, bool one_process) {
  static int count = 0;
  Place place;
  place.name = "cdmf-bench-" + std::to_string(getpid()) + "-" + std::to_string(++count);
  place.server = true;
  place.what = what;
  if (!one_process) return run_ends(body, place, setting, false);
  auto both = ChildProcess::call([&](ControlChannel& control) {
    control.send_line("found " + text_of(run_ends(body, place, setting, true)));
    return 0;
  });
  return read_outcome(expect(both.control(), "found"));
}

}  // namespace detail
}  // namespace cdmf::bench
