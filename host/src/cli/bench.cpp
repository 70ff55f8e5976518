// cdmf bench: measures one transport of a configuration beside the machine's limits.
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <thread>

#include "cli/bench/bench_peer.h"
#include "cli/bench/benchmark.h"
#include "cli/bench/report.h"
#include "cli/bench_setup.h"
#include "cli/commands.h"
#include "cli/open_transport.h"
#include "cli/process.h"
#include "ipc/property.h"

namespace cdmf::ipc::cli {
namespace {

constexpr auto kOpenTimeMax = std::chrono::seconds(30);

std::unique_ptr<Transport> open_side(Host& host, const TransportEntry& entry, const std::string& endpoint, Role role) {
  const cdmf_plugin& plugin = plugin_of(host, entry);
  return open_transport(host, entry, role, [&](TransportConfig& config) {
    forget_role(plugin, config);
    config.role = role;
    config.endpoint = endpoint;
    config.receive = Receive::POLL;
    config.senders = Senders::ONE;
    config.auto_reconnect = false;
    config.properties.erase("auto_reconnect");
  });
}

// The answering side in another process, or on a thread of this one.
class Peer {
 public:
  virtual ~Peer() = default;
  [[nodiscard]] virtual ControlChannel& control() = 0;
  [[nodiscard]] virtual std::string end() = 0;

  void wait_until_ready() {
    std::string line;
    const auto outcome = control().read_line(line, kOpenTimeMax);
    if (outcome == ControlChannel::ReadOutcome::line && line == "ready") return;
    if (outcome == ControlChannel::ReadOutcome::line && line.starts_with("error ")) throw CommandError(line.substr(6));
    throw CommandError("the other side of the benchmark did not start: " +
                       (outcome == ControlChannel::ReadOutcome::timed_out ? std::string("no answer") : end()));
  }
};

class ProcessPeer : public Peer {
 public:
  explicit ProcessPeer(const std::vector<std::string>& arguments) : child_(ChildProcess::run_self(arguments)) {}
  ~ProcessPeer() override {
    child_.control().close();  // Asks it to end in order, so that its endpoint is removed.
    static_cast<void>(child_.wait_for(std::chrono::seconds(5)));
  }
  ControlChannel& control() override { return child_.control(); }
  std::string end() override {
    const auto status = child_.wait_for(std::chrono::milliseconds(500));
    return status ? status->text() : std::string();
  }

 private:
  ChildProcess child_;
};

class ThreadPeer : public Peer {
 public:
  ThreadPeer(std::unique_ptr<Transport> server, std::size_t size_bytes, int cpu)
      : ThreadPeer(ControlChannel::pair(), std::move(server), size_bytes, cpu) {}
  ~ThreadPeer() override {
    ours_.close();
    thread_.join();
  }
  ControlChannel& control() override { return ours_; }
  std::string end() override { return {}; }

 private:
  ThreadPeer(std::pair<ControlChannel, ControlChannel> ends, std::unique_ptr<Transport> server, std::size_t size_bytes,
             int cpu)
      : ours_(std::move(ends.first)),
        theirs_(std::move(ends.second)),
        server_(std::move(server)),
        thread_([this, size_bytes, cpu] {
          pin_to_cpu(cpu);
          serve_rounds(*server_, theirs_, size_bytes);
        }) {}

  ControlChannel ours_;
  ControlChannel theirs_;
  std::unique_ptr<Transport> server_;
  std::thread thread_;
};

std::unique_ptr<Peer> start_peer(const ProgramOptions& program, const std::string& file, Host& host,
                                 const TransportEntry& entry, const std::string& endpoint,
                                 const BenchmarkOptions& options) {
  if ((plugin_of(host, entry).capabilities & CDMF_CAP_INTER_PROCESS) == 0) {
    return std::make_unique<ThreadPeer>(open_side(host, entry, endpoint, Role::SERVER), options.size_bytes,
                                        options.cpus.second);
  }
  std::vector<std::string> words;
  for (const auto& path : program.plugin_paths) words.insert(words.end(), {"--plugin-path", path});
  if (!program.log_level.empty()) words.insert(words.end(), {"--log-level", program.log_level});
  words.insert(words.end(),
               {"bench-peer", "--config", file, "--transport", entry.name, "--endpoint", endpoint, "--size",
                std::to_string(options.size_bytes), "--cpu=" + std::to_string(options.cpus.second)});
  return std::make_unique<ProcessPeer>(words);
}

}  // namespace

BenchmarkReport benchmark_entry(const ProgramOptions& program, const std::string& file, Host& host,
                                const TransportEntry& entry, BenchmarkOptions options) {
  if (options.size_bytes > entry.config.max_message_size) {
    throw UsageError("--size " + std::to_string(options.size_bytes) + " is more than max_message_size, " +
                     std::to_string(entry.config.max_message_size) + " (" + entry.place + ")");
  }
  static std::atomic<int> runs{0};
  const std::string endpoint =
      entry.config.endpoint + "_bench_" + std::to_string(getpid()) + "_" + std::to_string(runs++);
  options.cpus = choose_cpu_pair();

  const auto peer = start_peer(program, file, host, entry, endpoint, options);
  peer->wait_until_ready();
  const auto client = open_side(host, entry, endpoint, Role::CLIENT);
  const auto info = client->getInfo();
  BenchmarkReport report;
  report.transport = entry.type;
  report.detail = info.detail;
  report.pinning = options.cpus.note;
  report.machine = describe_machine();
  report.options = options;
  report.result = run_benchmark(*client, {peer->control(), [&] { return peer->end(); }}, options);
  return report;
}

int command_bench(const ProgramOptions& program, const BenchArguments& arguments) {
  const auto host = load_host(program, arguments.file, LogLevel::warning);
  const TransportEntry& entry = choose_entry(*host, arguments.file, arguments.transport);
  BenchmarkOptions options;
  options.pattern = arguments.pattern == "stream" ? Pattern::STREAM
                    : arguments.pattern == "call" ? Pattern::CALL
                                                  : Pattern::PINGPONG;
  const ParsedValue size = parse_size(arguments.size);
  if (!size.problem.empty()) throw UsageError("--size: " + size.problem);
  if (size.number < 1) throw UsageError("--size: a message without bytes cannot be checked; at least 1");
  options.size_bytes = static_cast<std::size_t>(size.number);
  options.round = std::chrono::nanoseconds(static_cast<std::int64_t>(arguments.seconds * 1e9));
  options.rounds = arguments.rounds;
  const BenchmarkReport report = benchmark_entry(program, arguments.file, *host, entry, options);
  std::printf("%s%s", (arguments.json ? report_json(report) : report_text(report)).c_str(), arguments.json ? "\n" : "");
  return kExitOk;
}

int command_bench_peer(const ProgramOptions& program, const BenchPeerArguments& arguments) {
  auto control = ControlChannel::from_parent();
  if (!control) throw UsageError("bench-peer is a part of `cdmf bench`, which starts it");
  try {
    const auto host = load_host(program, arguments.file, LogLevel::warning);
    const auto transport =
        open_side(*host, choose_entry(*host, arguments.file, arguments.transport), arguments.endpoint, Role::SERVER);
    // After opening, so that a control thread of the transport does not share this processor.
    pin_to_cpu(arguments.cpu);
    return serve_rounds(*transport, *control, arguments.size_bytes) ? kExitOk : kExitFailure;
  } catch (const std::exception& error) {
    send_error(*control, error.what());
    return kExitFailure;  // The parent prints it.
  }
}

}  // namespace cdmf::ipc::cli
