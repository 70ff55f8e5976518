// cdmf demo: a file goes over each transport, with one word of YAML changed in between; then each is measured.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <vector>

#include "cli/bench_setup.h"
#include "cli/commands.h"
#include "cli/fd_io.h"
#include "cli/open_transport.h"
#include "cli/plugin_text.h"
#include "cli/process.h"
#include "cli/progress.h"
#include "cli/yaml_word.h"

namespace cdmf::ipc::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr std::size_t kFileBytes = std::size_t{64} << 20;
constexpr auto kTransferTimeMax = std::chrono::minutes(2);

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);  // Before a child writes to the same terminal.
}

class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0600)) {
    if (fd_ < 0) throw CommandError("cannot open " + path.string());
  }
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const noexcept { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

// Removed with everything in it.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (fs::temp_directory_path() / "cdmf-demo-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw CommandError("cannot make a folder " + name);
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;  // Nobody is left to be told, and the folder is in a place for such leftovers.
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  [[nodiscard]] fs::path operator/(const char* name) const { return path_ / name; }

 private:
  fs::path path_;
};

// The configuration that comes with cdmf: named by the environment, installed, or in the source tree of this build.
fs::path shipped_config(const std::string& name) {
  std::vector<fs::path> folders;
  if (const char* named = std::getenv("CDMF_CONFIG_DIR")) folders.emplace_back(named);
  std::error_code error;
  fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  folders.push_back(folder.parent_path() / "share/cdmf/config");
  for (int level = 0; level < 4 && folder.has_relative_path(); ++level) {
    folder = folder.parent_path();
    folders.push_back(folder / "config");
  }
  for (const auto& candidate : folders) {
    if (fs::is_regular_file(candidate / name, error)) return candidate / name;
  }
  std::string text;
  for (const auto& candidate : folders) text += "\n  " + candidate.string();
  throw CommandError(name +
                     ", which comes with cdmf, is in none of these folders (CDMF_CONFIG_DIR names one more):" + text);
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_text(const fs::path& path, const std::string& text) {
  const Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC);
  write_all(file.get(), text, path.string());
}

// Bytes that no transport could guess or compress.
void make_file(const fs::path& path) {
  std::vector<std::uint64_t> words(std::size_t{1} << 17);
  const Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC);
  std::uint64_t state = static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());
  for (std::size_t written = 0; written < kFileBytes; written += words.size() * sizeof words[0]) {
    for (auto& word : words) {  // splitmix64
      std::uint64_t mixed = state += 0x9e3779b97f4a7c15;
      mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
      mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
      word = mixed ^ (mixed >> 31);
    }
    write_all(file.get(), std::as_bytes(std::span(words)), path.string());
  }
}

std::string sha256(const fs::path& path) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw CommandError("cannot make a pipe");
  const Descriptor from(ends[0]);
  Descriptor to(ends[1]);
  auto sum = ChildProcess::run("/usr/bin/env", {"sha256sum", path.string()}, {.output = to.get()});
  to.close();  // Else the end of its output would never come.
  std::string text;
  std::byte piece[512];
  while (const std::size_t size = read_available(from.get(), piece, "sha256sum")) {
    text.append(reinterpret_cast<const char*>(piece), size);
  }
  const auto status = sum.wait_for(kTransferTimeMax);
  if (!status || !status->success() || text.size() < 64)
    throw CommandError("sha256sum could not read " + path.string());
  return text.substr(0, 64);
}

void require_success(ChildProcess& child, const std::string& what) {
  const auto status = child.wait_for(kTransferTimeMax);
  if (!status) throw CommandError(what + " did not end within two minutes");
  if (!status->success()) throw CommandError(what + " failed: " + status->text());
}

void transfer_between_processes(const ProgramOptions& program, const fs::path& config, const fs::path& input,
                                const fs::path& output) {
  std::vector<std::string> options;
  for (const auto& path : program.plugin_paths) options.insert(options.end(), {"--plugin-path", path});
  const auto words = [&](const char* command) {
    std::vector<std::string> all = options;
    all.insert(all.end(), {command, config.string(), "--raw"});
    return all;
  };
  const Descriptor from(input, O_RDONLY);
  const Descriptor to(output, O_WRONLY | O_CREAT | O_TRUNC);
  auto receiver = ChildProcess::run_self(words("recv"), {.output = to.get()});
  auto sender = ChildProcess::run_self(words("send"), {.input = from.get()});
  require_success(sender, "cdmf send");
  require_success(receiver, "cdmf recv");
}

void transfer_between_threads(Host& host, const TransportEntry& entry, const fs::path& input, const fs::path& output) {
  const Descriptor from(input, O_RDONLY);
  const Descriptor to(output, O_WRONLY | O_CREAT | O_TRUNC);
  std::promise<void> all_received;
  const auto server = open_transport(host, entry, Role::SERVER, {}, [&](Transport& transport) {
    transport.setViewCallback(
        [&](const MessageView& message) { write_all(to.get(), message.payload, output.string()); });
    transport.setPeerCallback([&](const PeerEvent& event) {
      if (event.kind == PeerEvent::Kind::DISCONNECTED) all_received.set_value();
    });
  });
  const auto client = open_transport(host, entry, Role::CLIENT, {});
  std::vector<std::byte> piece(client->getInfo().max_message_size);
  while (const std::size_t size = read_available(from.get(), piece, input.string())) {
    MessageView message;
    message.payload = std::span(piece).first(size);
    require(client->send(message), entry.name);
  }
  require(client->disconnect(), entry.name);
  if (all_received.get_future().wait_for(kTransferTimeMax) != std::future_status::ready) {
    throw CommandError(entry.name + ": the other thread did not see the end of the file");
  }
  server->stop();
}

// "64.0 MiB in 0.12 s", and whether every byte arrived.
bool show_transfer(const ProgramOptions& program, Host& host, const fs::path& config, const ScratchFolder& scratch,
                   const std::string& sum_sent) {
  const TransportEntry& entry = host.config().transports.front();
  const bool two_processes = (plugin_of(host, entry).capabilities & CDMF_CAP_INTER_PROCESS) != 0;
  const fs::path output = scratch / "received";
  const auto begin = Clock::now();
  if (two_processes) {
    transfer_between_processes(program, config, scratch / "sent", output);
  } else {
    transfer_between_threads(host, entry, scratch / "sent", output);
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const std::string sum_received = sha256(output);
  const bool equal = sum_received == sum_sent;
  char line[160];
  std::snprintf(
      line, sizeof line, "    %s in %.2f s between two %s", human_bytes(kFileBytes).c_str(), seconds,
      two_processes ? "processes: cdmf send --raw | cdmf recv --raw" : "threads (this type stays in one process)");
  say(line);
  say("    received " + sum_received + (equal ? "  equal" : "  DIFFERENT"));
  return equal;
}

// One row of the table at the end.
std::vector<std::string> measure(const ProgramOptions& program, Host& host, const fs::path& config) {
  const TransportEntry& entry = host.config().transports.front();
  BenchmarkOptions options;
  options.rounds = 4;
  options.round = std::chrono::milliseconds(400);
  options.pattern = Pattern::PINGPONG;
  options.size_bytes = 64;
  const auto latency = benchmark_entry(program, config.string(), host, entry, options).result;
  options.pattern = Pattern::STREAM;
  options.size_bytes = std::min<std::uint64_t>(entry.config.max_message_size, std::uint64_t{64} << 10);
  const auto stream = benchmark_entry(program, config.string(), host, entry, options).result;
  const auto ratio = [](const Spread& spread) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f", spread.median);
    return std::string(text);
  };
  return {entry.type,
          human_nanoseconds(static_cast<double>(latency.rtt.p50_ns)),
          human_nanoseconds(static_cast<double>(latency.rtt.p99_ns)),
          ratio(latency.ratio_to_limit),
          human_rate(stream.bytes_per_s),
          ratio(stream.ratio_to_limit)};
}

}  // namespace

int command_demo(const ProgramOptions& program) {
  std::vector<std::string> types{"loopback", "unix_socket", "shm"};
  const auto installed = TransportRegistry(registry_options(program, LogLevel::warning)).types();
  const bool with_grpc = std::find(installed.begin(), installed.end(), "grpc") != installed.end();
  if (with_grpc) types.emplace_back("grpc");
  const fs::path shipped = shipped_config(with_grpc ? "grpc.yaml" : "loopback.yaml");
  const ScratchFolder scratch;
  const fs::path config = scratch / "demo.yaml";
  // Of its own, so that several demos, or a service with the shipped configuration, do not meet.
  std::string yaml = read_text(shipped);
  yaml = replace_value(yaml, "endpoint", value_of(yaml, "endpoint") + "_" + std::to_string(getpid()));

  say("A file of " + human_bytes(kFileBytes) + " goes over each transport. Only the word after `type:` changes in");
  say(shipped.lexically_normal().string() + " (and the endpoint's name is made unique).\n");
  make_file(scratch / "sent");
  const std::string sum = sha256(scratch / "sent");
  say("    SHA-256  " + sum + "\n");

  bool all_equal = true;
  std::vector<std::vector<std::string>> rows{
      {"", "64 B there and back", "99 % within", "ratio to bare", "64 KiB stream", "ratio to bare"},
      {"type:", "half within", "", "cache line", "", "copy"}};
  for (const std::string& type : types) {
    const std::string before = value_of(yaml, "type");
    yaml = replace_value(yaml, "type", type);
    say(before == type ? "type: " + before : "type: " + before + "  ->  type: " + type);
    write_text(config, yaml);
    const auto host = load_host(program, config.string(), LogLevel::warning);
    all_equal = show_transfer(program, *host, config, scratch, sum) && all_equal;
    rows.push_back(measure(program, *host, config));
    say("");
  }
  std::fputs(table_text(rows).c_str(), stdout);
  say("\nThe ratios compare with what this machine can do at best between two pinned processes, measured in the same\n"
      "seconds: a bare cache line going there and back, and a bare copy that the other core reads. Details of one:\n"
      "cdmf bench --help");
  if (!all_equal) throw CommandError("a file arrived changed");
  return kExitOk;
}

}  // namespace cdmf::ipc::cli
