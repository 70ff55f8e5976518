#include "cli/bench/round_trips.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace cdmf::ipc::cli {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

TEST(RoundTrips, TakesAtLeastItsBudgetAndTimesHalfOfItsTrips) {
  std::uint64_t trips = 0;
  const auto begin = Clock::now();
  const auto result = measure_round_trips([&] { ++trips; }, 20ms, 100);
  EXPECT_GE(Clock::now() - begin, 20ms);
  EXPECT_GT(result.timed.count(), 0u);
  EXPECT_GE(trips, 2 * result.timed.count());
}

TEST(RoundTrips, NoTripIsShorterThanWhatItDid) {
  const auto wait = [] {
    for (const auto begin = Clock::now(); Clock::now() - begin < 20us;) {
    }
  };
  const auto result = measure_round_trips(wait, 20ms, 10);
  EXPECT_GE(result.untimed_ns, 20'000);
  EXPECT_GE(result.timed.quantile_ns(0.0), 19'000u);  // The clock's own cost is taken off.
}

TEST(RoundTrips, OneBatchIsMeasuredWhateverTheBudget) {
  const auto result = measure_round_trips([] {}, 0ns, 5);
  EXPECT_EQ(result.timed.count(), 5u);
}

TEST(RoundTrips, AFailingTripEndsTheMeasurement) {
  int left = 50;
  const auto trip = [&] {
    if (--left == 0) throw std::runtime_error("lost");
  };
  EXPECT_THROW(measure_round_trips(trip, 10min, 10), std::runtime_error);
}

}  // namespace
}  // namespace cdmf::ipc::cli
