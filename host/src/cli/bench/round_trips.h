#pragma once
// cli/bench/round_trips.h: times round trips the same way for a transport and for the machine's limits, so that their
// quotient means something.
#include <chrono>
#include <cstddef>
#include <vector>

#include "cli/bench/statistics.h"

namespace cdmf::ipc::cli {

struct RoundTrips {
  /// Each trip between two readings of the clock, less what a reading costs: the distribution.
  LatencyHistogram timed;
  /// One trip without the clock's cost: trips run in batches, this is the median batch's mean. It hides outliers, which
  /// `timed` shows. Nanoseconds; 0 when the budget did not suffice for one batch.
  double untimed_ns = 0;
};

/// What one reading of the clock adds to a time taken with two: some 25 ns. The median of many.
[[nodiscard]] std::chrono::nanoseconds clock_cost();

/// Runs `once`, which makes one whole round trip and throws when it cannot, for about `budget`: a tenth to warm up,
/// then alternately timed and untimed batches, so that both see the same machine. batch  Trips per batch, at least 1:
/// some 10 to 100 µs of work, so that reading the clock around it costs nothing.
template <class Once>
RoundTrips measure_round_trips(Once&& once, std::chrono::nanoseconds budget, std::size_t batch) {
  using Clock = std::chrono::steady_clock;
  RoundTrips result;
  std::vector<double> batch_means;
  batch_means.reserve(1 << 16);
  const auto cost = clock_cost();
  const auto begin = Clock::now();
  while (Clock::now() - begin < budget / 10) once();
  do {
    for (std::size_t i = 0; i < batch; ++i) {
      const auto sent = Clock::now();
      once();
      result.timed.record(Clock::now() - sent - cost);
    }
    const auto batch_begin = Clock::now();
    for (std::size_t i = 0; i < batch; ++i) once();
    const std::chrono::duration<double, std::nano> took = Clock::now() - batch_begin;
    if (batch_means.size() < batch_means.capacity()) batch_means.push_back(took.count() / static_cast<double>(batch));
  } while (Clock::now() - begin < budget);
  result.untimed_ns = median(batch_means).value_or(0);
  return result;
}

}  // namespace cdmf::ipc::cli
