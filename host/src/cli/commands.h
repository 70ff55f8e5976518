#pragma once
// cli/commands.h: what each command of `cdmf` is asked. main.cpp reads the words, one file per command does the work.
// Every command_…() returns an exit code or throws CommandError (cli/command_error.h).
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cdmf::ipc::cli {

/// Options before the command.
struct ProgramOptions {
  std::vector<std::string> plugin_paths;
  std::string log_level;  ///< empty: CDMF_LOG, or else what suits the command
};

struct RunArguments {
  std::string file;
};
struct TransferArguments {
  std::string file;
  std::string transport;  ///< empty: the only one
  bool raw = false;
};
struct CallArguments {
  std::string file;
  std::string method;
  std::string data;            ///< the request; "@PATH" its file, "-" standard input
  std::string timeout = "5s";  ///< as durations in YAML
  std::string transport;       ///< empty: the only one
};
struct PluginArguments {
  bool all = false;
  std::string name;
  std::string format = "text";  ///< text | markdown | yaml
};
struct CheckArguments {
  std::vector<std::string> files;
};
struct ConformArguments {
  std::vector<std::string> plugins;  ///< paths of libcdmf_<type>.so
  std::string config;                ///< empty: default options
  std::string transport;             ///< empty: every entry of the plugin's type
  std::string filter;                ///< as --gtest_filter; empty: all
  std::string junit;
  bool list = false;
  int jobs = 1;
  double timeout_seconds = 120;  ///< of each test
};
struct BenchArguments {
  std::string file;
  std::string transport;
  std::string pattern;  ///< pingpong | stream | call
  std::string size;
  double seconds = 1;  ///< of each round, limits included
  int rounds = 10;
  bool json = false;
};
struct BenchPeerArguments {
  std::string file;
  std::string transport;
  std::string endpoint;
  std::size_t size_bytes = 64;
  int cpu = -1;
};
struct SizeArguments {
  std::string file;            ///< one of file,
  std::string transport;       ///< empty: all of the file
  std::uint64_t capacity = 0;  ///< capacity with message_size,
  std::string message_size = "1KiB";
  std::string rate;  ///< and rate with latency
  std::string latency;
  std::uint32_t producers = 1;
  std::uint32_t consumers = 1;
  std::uint64_t clients = 1;
  std::string type = "shm";
};
struct InspectArguments {
  std::string target;     ///< a file or an endpoint
  std::string transport;  ///< of a file; empty: the only one
  std::string type;       ///< of an endpoint; empty: whatever is found
  bool watch = false;
  double interval_seconds = 1;
  bool json = false;
};
struct DoctorArguments {
  std::string target;
  std::string transport;
  std::string type;
  std::string time = "2s";  ///< how long to look, as durations in YAML
};

[[nodiscard]] int command_run(const ProgramOptions& program, const RunArguments& arguments);
[[nodiscard]] int command_recv(const ProgramOptions& program, const TransferArguments& arguments);
[[nodiscard]] int command_send(const ProgramOptions& program, const TransferArguments& arguments);
[[nodiscard]] int command_call(const ProgramOptions& program, const CallArguments& arguments);
[[nodiscard]] int command_plugins_list(const ProgramOptions& program, const PluginArguments& arguments);
[[nodiscard]] int command_plugins_inspect(const ProgramOptions& program, const PluginArguments& arguments);
[[nodiscard]] int command_plugins_doc(const ProgramOptions& program, const PluginArguments& arguments);
[[nodiscard]] int command_check(const ProgramOptions& program, const CheckArguments& arguments);
[[nodiscard]] int command_conform(const ProgramOptions& program, const ConformArguments& arguments);
[[nodiscard]] int command_bench(const ProgramOptions& program, const BenchArguments& arguments);
/// The other process of a benchmark; started by `bench` alone.
[[nodiscard]] int command_bench_peer(const ProgramOptions& program, const BenchPeerArguments& arguments);
[[nodiscard]] int command_inspect(const ProgramOptions& program, const InspectArguments& arguments);
/// returns  0 healthy, 1 findings; throws with exit code 2 when it cannot look.
[[nodiscard]] int command_doctor(const ProgramOptions& program, const DoctorArguments& arguments);
[[nodiscard]] int command_size(const ProgramOptions& program, const SizeArguments& arguments);
[[nodiscard]] int command_demo(const ProgramOptions& program);

}  // namespace cdmf::ipc::cli
