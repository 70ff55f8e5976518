#include "cli/bench/statistics.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace cdmf::ipc::cli {
namespace {

using std::chrono::nanoseconds;

// Far too large for some stacks when several are alive.
std::unique_ptr<LatencyHistogram> histogram_of(const std::vector<std::int64_t>& values) {
  auto histogram = std::make_unique<LatencyHistogram>();
  for (const auto value : values) histogram->record(nanoseconds(value));
  return histogram;
}

TEST(LatencyHistogram, EmptyHasNoCountAndZeroQuantiles) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.quantile_ns(0.5), 0u);
  EXPECT_EQ(histogram.max_ns(), 0u);
}

TEST(LatencyHistogram, ShortLatenciesAreExact) {
  const auto histogram = std::make_unique<LatencyHistogram>();
  for (int ns = 0; ns < 500; ++ns) histogram->record(nanoseconds(ns));
  EXPECT_EQ(histogram->quantile_ns(0.0), 0u);
  EXPECT_EQ(histogram->quantile_ns(0.5), 249u);  // 250 of the 500 values are 249 or less.
  EXPECT_EQ(histogram->quantile_ns(0.99), 494u);
  EXPECT_EQ(histogram->quantile_ns(1.0), 499u);
}

TEST(LatencyHistogram, CountsThoseUpToALatency) {
  const auto histogram = histogram_of({1, 5, 5, 400, 100'000});
  EXPECT_EQ(histogram->count_up_to(0), 0u);
  EXPECT_EQ(histogram->count_up_to(5), 3u);
  EXPECT_EQ(histogram->count_up_to(399), 3u);
  EXPECT_EQ(histogram->count_up_to(50'000), 4u);
  EXPECT_EQ(histogram->count_up_to(1'000'000), 5u);
}

TEST(LatencyHistogram, EveryValueIsFoundWithinOneIn256) {
  for (std::uint64_t value = 1; value < (std::uint64_t{1} << 39); value = value * 5 / 4 + 1) {
    // A larger one beside it, so that the answer comes from the bucket and not from the exact maximum.
    const auto histogram = histogram_of({static_cast<std::int64_t>(value), std::int64_t{1} << 39});
    const std::uint64_t found = histogram->quantile_ns(0.5);
    ASSERT_GE(found, value);
    ASSERT_LE(found, value + value / 256);
  }
}

TEST(LatencyHistogram, QuantilesNeverExceedTheExactMaximum) {
  const auto histogram = histogram_of({1000, 1'000'003});
  EXPECT_EQ(histogram->max_ns(), 1'000'003u);
  EXPECT_EQ(histogram->quantile_ns(0.999), 1'000'003u);
}

TEST(LatencyHistogram, LatenciesBeyondTheRangeKeepTheirMaximumAndNegativeOnesAreZero) {
  const std::int64_t two_hours = 7'200'000'000'000;
  const auto histogram = histogram_of({-5, two_hours});
  EXPECT_EQ(histogram->max_ns(), static_cast<std::uint64_t>(two_hours));
  EXPECT_EQ(histogram->quantile_ns(1.0), static_cast<std::uint64_t>(two_hours));
  EXPECT_EQ(histogram->quantile_ns(0.5), 0u);
}

TEST(LatencyHistogram, MergingEqualsRecordingEverythingInOne) {
  const auto left = histogram_of({10, 20, 4000});
  const auto right = histogram_of({30, 9'000'000});
  const auto whole = histogram_of({10, 20, 4000, 30, 9'000'000});
  left->merge(*right);
  EXPECT_EQ(left->to_text(), whole->to_text());
}

TEST(LatencyHistogram, TextCarriesEverythingToAnotherProcess) {
  const auto histogram = histogram_of({1, 511, 512, 513, 70'000, 70'000, 123'456'789});
  const auto copy = LatencyHistogram::from_text(histogram->to_text());
  ASSERT_TRUE(copy.has_value());
  EXPECT_EQ(copy->to_text(), histogram->to_text());
  EXPECT_EQ(copy->count(), 7u);
  EXPECT_EQ(copy->max_ns(), 123'456'789u);
  EXPECT_EQ(copy->quantile_ns(0.5), histogram->quantile_ns(0.5));
}

TEST(LatencyHistogram, TextThatIsNotAHistogramIsRefused) {
  for (const char* text : {"", "x", "2", "2 10 10:1", "1 10 99999999:1", "1 10 10-1", "1 10 10:1 rest", "1 10 10:"}) {
    EXPECT_FALSE(LatencyHistogram::from_text(text).has_value()) << '"' << text << '"';
  }
}

TEST(LatencySummary, HoldsTheFourFigures) {
  const auto histogram = std::make_unique<LatencyHistogram>();
  for (int i = 1; i <= 400; ++i) histogram->record(nanoseconds(i));
  histogram->record(nanoseconds(5000));
  const auto summary = summarize(*histogram);
  EXPECT_EQ(summary.count, 401u);
  EXPECT_EQ(summary.p50_ns, 201u);
  EXPECT_EQ(summary.p99_ns, 397u);
  EXPECT_EQ(summary.p999_ns, 5000u);
  EXPECT_EQ(summary.max_ns, 5000u);
}

TEST(Median, IsTheMiddleOrTheMeanOfTheTwoMiddleValues) {
  EXPECT_EQ(median(std::vector<double>{}), std::nullopt);
  EXPECT_EQ(median(std::vector<double>{7}), 7);
  EXPECT_EQ(median(std::vector<double>{9, 1, 5}), 5);
  EXPECT_EQ(median(std::vector<double>{9, 1, 5, 7}), 6);
}

TEST(Spread, HoldsTheMiddleHalf) {
  const auto range = spread(std::vector<double>{5, 4, 3, 2, 1});
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->low, 2);
  EXPECT_EQ(range->median, 3);
  EXPECT_EQ(range->high, 4);
}

TEST(SpreadOfRatios, DividesWithinEachRoundSoThatASpeedChangeCancelsOut) {
  // The machine became four times slower after the first of three rounds; the ratio did not change.
  const std::vector<double> measured{150, 600, 600};
  const std::vector<double> limit{100, 400, 400};
  const auto ratios = spread_of_ratios(measured, limit);
  ASSERT_TRUE(ratios.has_value());
  EXPECT_DOUBLE_EQ(ratios->low, 1.5);
  EXPECT_DOUBLE_EQ(ratios->median, 1.5);
  EXPECT_DOUBLE_EQ(ratios->high, 1.5);
}

TEST(SpreadOfRatios, LeavesOutRoundsWithoutALimitAndRefusesUnequalLengths) {
  EXPECT_DOUBLE_EQ(spread_of_ratios(std::vector<double>{1, 6}, std::vector<double>{0, 2})->median, 3);
  EXPECT_FALSE(spread_of_ratios(std::vector<double>{1}, std::vector<double>{0}).has_value());
  EXPECT_FALSE(spread_of_ratios(std::vector<double>{1, 2}, std::vector<double>{1}).has_value());
}

}  // namespace
}  // namespace cdmf::ipc::cli
