// bench_shm_waiting: what the ways of waiting of the shm transport cost, through the plugin, between pinned processes.
//
//   crowd/<mode>       a round trip beside 1,000 idle clients, and without them      aim 1.05
//   adaptive           a round trip that waits adaptively, and one that spins        aim 1.10
//   futex              both sides asleep for each message, and a bare futex          aim 1.10
//   paced_1kHz/<mode>  a round trip once in a millisecond, in nanoseconds
//   idle_cpu           processor time of each side in a second without messages, of 1 ms allowed
//   death              from kill -9 to the PEER_DIED callback, p99, of 5 ms allowed
//
// Each figure is the median of the rounds' ratios to what is named second, measured within the same round.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <memory>
#include <thread>

#include "arguments.h"
#include "cli/bench/machine_limits.h"
#include "ends.h"

namespace {

using namespace cdmf::bench;
using namespace cdmf::ipc;
using cdmf::ipc::cli::ChildProcess;
using cdmf::ipc::cli::ControlChannel;
using cdmf::ipc::cli::CpuPair;
using cdmf::ipc::cli::LatencyHistogram;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;
using Ready = std::function<void()>;

constexpr std::size_t kPayloadBytes = 32;
constexpr std::size_t kCrowd = 1000;
constexpr nanoseconds kTripBudget = milliseconds(250);
constexpr nanoseconds kIdle = seconds(1);
constexpr int kPacedTrips = 250;
constexpr int kKills = 60;  // Per round.

std::string yaml(const std::string& mode) {
  static int count = 0;
  return "version: 1\ntransports: { main: { type: shm, endpoint: /cdmf_bench_waiting_" + std::to_string(getpid()) +
         "_" + std::to_string(++count) + ", max_message_size: 4KiB, shm: { ring_buffer_capacity: 32, wait: " + mode +
         ", checksum: none, timestamp: off } } }\n";
}

void require(const TransportResult<>& result) {
  if (!result.success()) throw std::runtime_error(result.text());
}

std::unique_ptr<Host> host_of(const std::string& text) {
  RegistryOptions options;
  options.log_level = LogLevel::error;
  auto host = Host::from_text("bench", text, options);
  if (!host.success()) throw std::runtime_error(host.text());
  return std::move(host.value);
}

std::unique_ptr<Transport> open(Host& host, Role role, Receive receive,
                                const std::function<void(Transport&)>& prepare = {}) {
  auto made = host.create("main", role, [&](TransportConfig& config) {
    config.receive = receive;
    config.senders = Senders::ONE;
    config.connect_timeout = seconds(10);
  });
  if (!made.success()) throw std::runtime_error(made.text());
  if (prepare) prepare(*made.value);
  require(made.value->start());
  require(made.value->connect());
  return std::move(made.value);
}

/// One end that polls, as in ends.h, for a server with many clients.
class PollingEnd {
 public:
  PollingEnd(const std::string& text, Role role)
      : host_(host_of(text)), transport_(open(*host_, role, Receive::POLL)) {}

  template <typename Handler>
  void receive_one(Handler&& handler) {
    constexpr int kLooks = 4;
    for (int look = 0; look < kLooks; ++look) {
      if (transport_->poll(handler, 1) != 0) return;
    }
    while (transport_->poll(handler, 1) == 0) static_cast<void>(transport_->await(seconds(1)));
  }
  void echo() {
    for (;;) {
      receive_one([&](const MessageView& message) { require(transport_->send(message, {.peer = message.peer})); });
    }
  }
  void trip() {
    MessageView message;
    message.id = ++number_;
    message.payload = std::as_bytes(std::span(payload_));
    require(transport_->send(message));
    receive_one([&](const MessageView& answer) {
      if (answer.id != number_ || answer.payload.size() != kPayloadBytes) throw std::runtime_error("wrong answer");
    });
  }

 private:
  std::unique_ptr<Host> host_;
  std::unique_ptr<Transport> transport_;
  std::uint64_t number_ = 0;
  char payload_[kPayloadBytes] = {};
};

/// Many clients that do nothing, in one process.
void stand_around(const std::string& text, std::size_t count, const Ready& ready) {
  const auto host = host_of(text);
  std::vector<std::unique_ptr<Transport>> clients;
  for (std::size_t i = 0; i < count; ++i) clients.push_back(open(*host, Role::CLIENT, Receive::POLL));
  ready();
  for (;;) pause();
}

Measured round_trip(const CpuPair& cpus, const std::string& mode, std::size_t crowd = 0) {
  const std::string text = yaml(mode);
  std::vector<std::function<void(const Ready&)>> others;
  others.emplace_back([&](const Ready& ready) {
    PollingEnd server(text, Role::SERVER);
    ready();
    server.echo();
  });
  if (crowd != 0) others.emplace_back([&](const Ready& ready) { stand_around(text, crowd, ready); });
  return measure_beside(others, cpus, [&] {
    PollingEnd client(text, Role::CLIENT);
    const auto trips = cli::measure_round_trips([&] { client.trip(); }, kTripBudget, mode == "futex" ? 4 : 64);
    return Measured{trips.untimed_ns, cli::summarize(trips.timed)};
  });
}

Measured paced(const CpuPair& cpus, const std::string& mode) {
  const std::string text = yaml(mode);
  const auto server = [&](const Ready& ready) {
    PollingEnd end(text, Role::SERVER);
    ready();
    end.echo();
  };
  return measure_beside({server}, cpus, [&] {
    PollingEnd client(text, Role::CLIENT);
    LatencyHistogram trips;
    auto next = Clock::now();
    for (int i = 0; i < kPacedTrips; ++i) {
      std::this_thread::sleep_until(next += milliseconds(1));
      const auto sent = Clock::now();
      client.trip();
      trips.record(Clock::now() - sent);
    }
    return Measured{static_cast<double>(trips.quantile_ns(0.5)), cli::summarize(trips)};
  });
}

double cpu_ns() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto ns = [](const timeval& time) {
    return 1e9 * static_cast<double>(time.tv_sec) + 1e3 * static_cast<double>(time.tv_usec);
  };
  return ns(used.ru_utime) + ns(used.ru_stime);
}

/// Both ends as programs have them: an I/O thread with a callback. Returns what the hungrier of the two took.
Measured idle(const CpuPair& cpus) {
  const std::string text = yaml("adaptive");
  const auto end = [&](Role role, const Ready& ready) {
    const auto host = host_of(text);
    const auto transport =
        open(*host, role, Receive::THREAD, [](Transport& each) { each.setViewCallback([](const MessageView&) {}); });
    ready();
    std::this_thread::sleep_for(milliseconds(100));  // Time to fall asleep.
    const double before = cpu_ns();
    std::this_thread::sleep_for(kIdle);
    return cpu_ns() - before;
  };
  std::vector<ChildProcess> ends;
  for (const Role role : {Role::SERVER, Role::CLIENT}) {
    ends.push_back(ChildProcess::call([&, role](ControlChannel& control) {
      cli::pin_to_cpu(role == Role::SERVER ? cpus.second : cpus.first);
      control.send_line(std::to_string(end(role, [&] { control.send_line("ready"); })));
      pause();
      return 0;
    }));
    std::string line;
    if (ends.back().control().read_line(line, seconds(20)) != ControlChannel::ReadOutcome::line) {
      throw std::runtime_error("an idle end did not start");
    }
  }
  double most = 0;
  for (ChildProcess& each : ends) {
    std::string line;
    if (each.control().read_line(line, seconds(20)) != ControlChannel::ReadOutcome::line) {
      throw std::runtime_error("an idle end said nothing");
    }
    most = std::max(most, std::stod(line));
  }
  return {most};
}

/// kill -9 of one client after the other, each connected and asleep; the server's peer callback tells when it knew.
Measured death(const CpuPair& cpus) {
  const std::string text = yaml("adaptive");
  ChildProcess server = ChildProcess::call([&](ControlChannel& control) {
    cli::pin_to_cpu(cpus.second);
    const auto host = host_of(text);
    const auto transport = open(*host, Role::SERVER, Receive::THREAD, [&](Transport& each) {
      each.setPeerCallback([&](const PeerEvent& event) {
        const auto now = Clock::now().time_since_epoch().count();
        if (event.kind == PeerEvent::Kind::CONNECTED) {
          control.send_line("connected");
        } else {
          control.send_line(event.reason == TransportError::PEER_DIED ? std::to_string(now) : "no death");
        }
      });
      each.setViewCallback([](const MessageView&) {});
    });
    control.send_line("ready");
    pause();
    return 0;
  });
  const auto heard = [&] {
    std::string line;
    if (server.control().read_line(line, seconds(10)) != ControlChannel::ReadOutcome::line) {
      throw std::runtime_error("the server said nothing");
    }
    return line;
  };
  heard();
  LatencyHistogram took;
  for (int i = 0; i < kKills; ++i) {
    ChildProcess victim = ChildProcess::call([&](ControlChannel&) {
      cli::pin_to_cpu(cpus.first);
      const auto host = host_of(text);
      const auto transport = open(*host, Role::CLIENT, Receive::THREAD,
                                  [](Transport& each) { each.setViewCallback([](const MessageView&) {}); });
      pause();
      return 0;
    });
    heard();
    std::this_thread::sleep_for(milliseconds(1));
    const auto killed = Clock::now();
    ::kill(victim.pid(), SIGKILL);
    took.record(nanoseconds(std::stoll(heard())) - killed.time_since_epoch());
  }
  return {static_cast<double>(took.quantile_ns(0.99)), cli::summarize(took)};
}

struct Row {
  std::string name;
  double aim;  // Of the ratio; 0: none.
  std::function<Measured()> measure;
  std::function<double()> beside;
  std::vector<double> values{};
  std::vector<double> limits{};
  std::vector<double> p50s{};
  std::vector<double> p99s{};
};

void measure(Row& row) {
  // In turn before and after, since the machine changes its speed.
  const bool first = row.values.size() % 2 == 0;
  double limit = first ? row.beside() : 0;
  const Measured found = row.measure();
  if (!first) limit = row.beside();
  row.values.push_back(found.value);
  row.limits.push_back(limit);
  row.p50s.push_back(static_cast<double>(found.latency.p50_ns));
  row.p99s.push_back(static_cast<double>(found.latency.p99_ns));
}

std::string list(const std::vector<double>& values) {
  std::string text;
  for (const double value : values) text += (text.empty() ? "[" : ",") + std::to_string(value);
  return text + "]";
}

void print_json(const std::vector<Row>& rows, const CpuPair& cpus) {
  std::printf("{\"benchmark\":\"shm_waiting\",\"pinning\":\"%s\",\"subjects\":[", cpus.note.c_str());
  for (const Row& row : rows) {
    const auto ratio = cli::spread_of_ratios(row.values, row.limits);
    std::printf(
        "%s\n{\"name\":\"%s\",\"ratio\":%.4f,\"quartiles\":[%.4f,%.4f],\"aim\":%.2f,\"value_ns\":%s,"
        "\"beside_ns\":%s,\"p50_ns\":%s,\"p99_ns\":%s}",
        &row == rows.data() ? "" : ",", row.name.c_str(), ratio ? ratio->median : 0, ratio ? ratio->low : 0,
        ratio ? ratio->high : 0, row.aim, list(row.values).c_str(), list(row.limits).c_str(), list(row.p50s).c_str(),
        list(row.p99s).c_str());
  }
  std::puts("\n]}");
}

void print_table(const std::vector<Row>& rows, const CpuPair& cpus) {
  std::printf("%s\n%-22s %11s %11s %11s %11s %7s %15s %6s\n", cpus.note.c_str(), "", "median ns", "beside ns", "p50 ns",
              "p99 ns", "ratio", "half of rounds", "aim");
  for (const Row& row : rows) {
    const auto ratio = cli::spread_of_ratios(row.values, row.limits);
    const auto middle = [](const std::vector<double>& values) { return cli::median(values).value_or(0); };
    std::printf("%-22s %11.0f %11.0f %11.0f %11.0f", row.name.c_str(), middle(row.values), middle(row.limits),
                middle(row.p50s), middle(row.p99s));
    if (ratio) std::printf(" %7.3f %7.3f %7.3f", ratio->median, ratio->low, ratio->high);
    if (ratio && row.aim != 0) std::printf(" %6.2f", row.aim);
    std::puts("");
  }
}

std::vector<Row> all_rows(const CpuPair& cpus) {
  std::vector<Row> rows;
  for (const std::string mode : {"spin", "yield", "adaptive", "futex"}) {
    rows.push_back({"crowd/" + mode, 1.05, [=] { return round_trip(cpus, mode, kCrowd); },
                    [=] { return round_trip(cpus, mode).value; }});
  }
  rows.push_back(
      {"adaptive", 1.10, [=] { return round_trip(cpus, "adaptive"); }, [=] { return round_trip(cpus, "spin").value; }});
  rows.push_back({"futex", 1.10, [=] { return round_trip(cpus, "futex"); },
                  [=] { return cli::futex_round_trip(cpus, kTripBudget).untimed_ns; }});
  for (const std::string mode : {"spin", "adaptive", "futex"}) {
    rows.push_back({"paced_1kHz/" + mode, 0, [=] { return paced(cpus, mode); }, [] { return 0.0; }});
  }
  rows.push_back({"idle_cpu", 1, [=] { return idle(cpus); }, [] { return 1e6; }});
  rows.push_back({"death", 1, [=] { return death(cpus); }, [] { return 5e6; }});
  return rows;
}

}  // namespace

int main(int argc, char** argv) {
  const auto arguments = read_arguments(argc, argv);
  if (!arguments) return 2;
  try {
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;  // A thousand clients take some eight descriptors each.
    setrlimit(RLIMIT_NOFILE, &files);
    const CpuPair cpus = cli::choose_cpu_pair();
    std::vector<Row> rows = all_rows(cpus);
    std::erase_if(rows, [&](const Row& row) { return row.name.find(arguments->only) == std::string::npos; });
    if (rows.empty()) throw std::runtime_error("nothing has '" + arguments->only + "' in its name");
    for (int round = 0; round < arguments->rounds; ++round) {
      for (Row& row : rows) measure(row);
    }
    arguments->json ? print_json(rows, cpus) : print_table(rows, cpus);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
