#include "rpc/latency_counts.h"

#include <gtest/gtest.h>

namespace cdmf::ipc::rpc {
namespace {

TEST(LatencyCounts, QuantilesAreAnEighthTooHighAtMost) {
  for (std::uint64_t ns = 1; ns < std::uint64_t{1} << 43; ns += ns / 13 + 1) {
    LatencyCounts counts;
    counts.record(ns);
    ASSERT_GE(counts.quantile_ns(0.5), ns);
    ASSERT_LE(counts.quantile_ns(0.5), ns + ns / 8) << ns;
  }
}

TEST(LatencyCounts, OrdersWhatItCounted) {
  LatencyCounts counts;
  EXPECT_EQ(counts.quantile_ns(0.99), 0u);
  for (std::uint64_t i = 1; i <= 1000; ++i) counts.record(i * 1000);
  EXPECT_EQ(counts.count(), 1000u);
  EXPECT_GE(counts.quantile_ns(0.5), 500'000u);
  EXPECT_LE(counts.quantile_ns(0.5), 570'000u);
  EXPECT_GE(counts.quantile_ns(0.99), 990'000u);
  counts.record(~std::uint64_t{0});
  EXPECT_GT(counts.quantile_ns(1), std::uint64_t{1} << 43);
}

}  // namespace
}  // namespace cdmf::ipc::rpc
