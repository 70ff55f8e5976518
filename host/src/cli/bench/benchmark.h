#pragma once
// cli/bench/benchmark.h: measures one connected transport beside the machine's limits, round by round.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/bench/machine_limits.h"
#include "cli/bench/statistics.h"
#include "cli/cpu.h"
#include "cli/process.h"
#include "ipc/transport.h"

namespace cdmf::ipc::cli {

enum class Pattern {
  PINGPONG,  ///< one message there, one back, and again
  STREAM,    ///< as many as possible one way
  CALL,      ///< calls of a service, beside PINGPONG in the same rounds
};

struct BenchmarkOptions {
  Pattern pattern = Pattern::PINGPONG;
  std::size_t size_bytes = 64;
  std::chrono::nanoseconds round{1'000'000'000};  ///< half for the transport, half for the limits
  int rounds = 10;                                ///< besides one to warm up
  CpuPair cpus;
};

/// What the machine could do, each the median over the rounds.
struct LimitFigures {
  double cache_line_rtt_ns = 0;
  double unix_rtt_ns = 0;  ///< at the message's size
  double futex_rtt_ns = 0;
  double unix_write_msgs_per_s = 0;
  double copy_bytes_per_s = 0;
};

struct BenchmarkResult {
  LatencySummary rtt;  ///< PINGPONG and CALL, all rounds; the clock's own cost is taken off
  double rtt_ns = 0;   ///< the same: the median round's time for one trip, timed in batches
  double msgs_per_s = 0;
  double bytes_per_s = 0;  ///< one way
  LimitFigures limit;
  Spread ratio_to_limit;       ///< round trip to the cache line's, or bytes per second to the copy's
  double pingpong_ns = 0;      ///< CALL: the transport's own round trip, as rtt_ns
  double calls_per_s = 0;      ///< CALL: asynchronous ones, many in flight
  double exchanges_per_s = 0;  ///< CALL: the transport's own messages there and back, as many in flight
  Spread ratio_to_exchange;    ///< CALL: of calls_per_s
  Spread ratio_to_pingpong;    ///< CALL: of one call at a time
  Spread ratio_to_unix;        ///< round trip to the bare Unix socket's, or messages to its writes
};

/// The answering side, wherever it runs; `control` talks to its serve_rounds().
struct BenchmarkPeer {
  ControlChannel& control;
  std::function<std::string()> end;  ///< how it ended, when it did; empty while it runs
};

/// Runs the whole measurement on the calling thread, pinned to cpus.first. transport  A connected client with
/// Receive::POLL and Senders::ONE whose server is in serve_rounds().
/// throws  CommandError, also when one message is missing, wrong or out of order; std::runtime_error from the limits.
[[nodiscard]] BenchmarkResult run_benchmark(Transport& transport, BenchmarkPeer peer, const BenchmarkOptions& options);

}  // namespace cdmf::ipc::cli
