#include "report/compare.h"

#include <gtest/gtest.h>

#include "made_results.h"

namespace cdmf::bench {
namespace {

using test::made_results;

TEST(Compare, TwoRunsOfOneBuildAreNoChange) {
  // Many pairs, as one could be luck.
  for (unsigned seed = 1; seed < 40; ++seed) {
    const Comparison comparison = compare(made_results(500, seed), made_results(500, seed + 1000));
    EXPECT_FALSE(comparison.slower()) << seed << comparison.text(made_results(500, seed));
    EXPECT_FALSE(comparison.faster()) << seed;
  }
}

TEST(Compare, AThirdMoreIsSlowerInBothUnits) {
  const Results now = made_results(665, 9);
  const Comparison comparison = compare(made_results(500, 2), now);
  int slower = 0;
  for (const Change& each : comparison.changes) slower += each.slower;
  EXPECT_EQ(slower, 2) << comparison.text(now);  // The trip and the stream of "shm"; "slow" stays.
  EXPECT_NE(comparison.text(now).find("SLOWER"), std::string::npos);
  EXPECT_TRUE(compare(now, made_results(500, 2)).faster());
  EXPECT_FALSE(compare(now, made_results(500, 2)).slower());
}

TEST(Compare, WhatUnchangedPeersDoTooIsNoChange) {
  // The machine is a third slower and the limit does not show it.
  Results now = made_results(665, 9);
  for (Group& group : now.groups) {
    for (Series& series : group.series) {
      if (series.subject != "peer" && series.subject != "other") continue;
      for (Sample& each : series.samples) each.value *= group.less_is_better() ? 1.4 : 1 / 1.4;
    }
  }
  EXPECT_FALSE(compare(made_results(500, 2), now).slower());
}

TEST(Compare, TheLimitTakesTheMachineOut) {
  Results now = made_results(1000, 9);
  for (Group& group : now.groups) {
    for (Series& series : group.series) {
      for (Sample& each : series.samples) {
        if (series.subject != "shm") each.value *= group.less_is_better() ? 2 : 0.5;
        each.limit *= group.less_is_better() ? 2 : 0.5;
      }
    }
  }
  const Comparison comparison = compare(made_results(500, 2), now);
  EXPECT_FALSE(comparison.slower()) << comparison.text(now);
  EXPECT_FALSE(comparison.faster()) << comparison.text(now);
}

TEST(Compare, WhatOneRunLacksIsNamedAndNoChange) {
  Results now = made_results(500, 3);
  now.groups[0].id = "ping_pong/poll/128B";
  const Comparison comparison = compare(made_results(500, 2), now);
  ASSERT_EQ(comparison.missing.size(), 1u);
  EXPECT_EQ(comparison.missing[0], "ping_pong/poll/128B");
  EXPECT_FALSE(comparison.slower());
}

}  // namespace
}  // namespace cdmf::bench
