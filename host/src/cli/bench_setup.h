#pragma once
// cli/bench_setup.h: both sides of a benchmark, from one entry of a configuration.
#include <string>

#include "cli/bench/report.h"
#include "cli/open_transport.h"

namespace cdmf::ipc::cli {

/// Opens a client here and a server in another process (on another thread, for a transport that stays in one), at an
/// endpoint of their own so that a running service is not in the way, and measures. Options stay as the file says.
/// throws  CommandError, UsageError when the size does not fit, std::runtime_error from the machine's limits.
[[nodiscard]] BenchmarkReport benchmark_entry(const ProgramOptions& program, const std::string& file, Host& host,
                                              const TransportEntry& entry, BenchmarkOptions options);

}  // namespace cdmf::ipc::cli
