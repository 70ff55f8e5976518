#pragma once
// bench/peers/subject.h: what is compared, in one shape for ours and for every peer. Adapters are written against
// link_bench.h; this is what the benchmark sees of them.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/bench/payload.h"
#include "cli/bench/statistics.h"
#include "cli/cpu.h"

namespace cdmf::bench {

enum class Pattern {
  ping_pong,  ///< one message there, one back, and again: nanoseconds for both ways
  stream,     ///< as many as possible one way: messages per second
  paced,      ///< a ping-pong each millisecond, timed from when it was due, so that a stall counts in full
};
[[nodiscard]] const char* name_of(Pattern pattern) noexcept;

enum class Wait {
  poll,   ///< both ends look without pause; what cannot look without a system call waits in its fastest way
  block,  ///< both ends sleep in the kernel when there is nothing
};
[[nodiscard]] const char* name_of(Wait wait) noexcept;

struct Case {
  Pattern pattern = Pattern::ping_pong;
  Wait wait = Wait::poll;
  std::size_t size_bytes = 64;                         ///< of each message, at least 8
  int clients = 1;                                     ///< more than one: a stream from each to one server
  ipc::cli::Writes writes = ipc::cli::Writes::NUMBER;  ///< of each message, before it is sent

  [[nodiscard]] std::string text() const;  ///< "ping_pong/poll/64B", "stream/poll/64B/4 clients"
  bool operator==(const Case&) const = default;
};

/// What one measurement found.
struct Outcome {
  double value = 0;  ///< nanoseconds for a round trip, or messages per second
  ipc::cli::LatencyHistogram latency{};
  double cpu_ns_per_message = 0;  ///< user and system, all threads of both ends; 0: not known
  double memory_bytes = 0;        ///< what both ends grew by, shared pages counted once; kernel buffers are not seen
};

struct Setting {
  ipc::cli::CpuPair cpus;
  std::chrono::nanoseconds budget{100'000'000};
};

/// One way to carry messages, with its configuration.
struct Subject {
  std::string name;     ///< one word, as --only and report.json have it
  std::string label;    ///< for people
  std::string library;  ///< with its version
  bool ours = false;
  bool one_process = false;  ///< its ends are threads: shown, and not compared with what links processes
  std::string skipped{};     ///< not empty: why it cannot be measured here, and what to install
  std::function<std::string(const Case&)> settings{};
  std::function<bool(const Case&)> applies{};
  /// Throws std::exception when a message is missing, wrong or out of order, or an end does not start.
  std::function<Outcome(const Case&, const Setting&)> measure{};
};

/// Each adapter's subjects; one that is left out of this build, or cannot run, says so in `skipped`.
[[nodiscard]] std::vector<Subject> our_subjects();
[[nodiscard]] std::vector<Subject> socket_subjects();
[[nodiscard]] std::vector<Subject> boost_subjects();
[[nodiscard]] std::vector<Subject> iceoryx_subjects();
[[nodiscard]] std::vector<Subject> zeromq_subjects();
[[nodiscard]] std::vector<Subject> nng_subjects();
[[nodiscard]] std::vector<Subject> ucx_subjects();
[[nodiscard]] std::vector<Subject> grpc_subjects();
/// All of them, ours first.
[[nodiscard]] std::vector<Subject> all_subjects();

}  // namespace cdmf::bench
