#include "cli/bench/round_trips.h"

namespace cdmf::ipc::cli {

std::chrono::nanoseconds clock_cost() {
  using Clock = std::chrono::steady_clock;
  LatencyHistogram readings;
  auto before = Clock::now();
  for (int i = 0; i < 1000; ++i) {
    const auto now = Clock::now();
    readings.record(now - before);
    before = now;
  }
  return std::chrono::nanoseconds(readings.quantile_ns(0.5));
}

}  // namespace cdmf::ipc::cli
