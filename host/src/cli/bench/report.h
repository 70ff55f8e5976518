#pragma once
// cli/bench/report.h: a benchmark's result for people and for programs.
#include <string>

#include "cli/bench/benchmark.h"
#include "cli/bench/machine.h"

namespace cdmf::ipc::cli {

struct BenchmarkReport {
  std::string transport;  ///< type
  std::string detail;     ///< what the driver says of its options
  std::string pinning;
  MachineDescription machine;
  BenchmarkOptions options;
  BenchmarkResult result;
};

/// One JSON object on one line, keys as in `cdmf bench --help`. rtt_ns is null for a stream.
[[nodiscard]] std::string report_json(const BenchmarkReport& report);

/// A table with the machine above it.
[[nodiscard]] std::string report_text(const BenchmarkReport& report);

/// "142 ns", "31.2 µs", "4.1 ms".
[[nodiscard]] std::string human_nanoseconds(double nanoseconds);
/// "7.4 GB/s", thousands as in networks and memory.
[[nodiscard]] std::string human_rate(double bytes_per_second);
/// "12.3 M", "840 k", "12".
[[nodiscard]] std::string human_count(double count);

}  // namespace cdmf::ipc::cli
