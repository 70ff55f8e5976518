#include "report/bootstrap.h"

#include <gtest/gtest.h>

#include "made_results.h"

namespace cdmf::bench {
namespace {

using test::made_results;
using test::made_series;

TEST(Bootstrap, OfNothingKnowsNothing) { EXPECT_EQ(bootstrap_median({}).rounds, 0u); }

TEST(Bootstrap, OfEqualValuesIsThatValue) {
  const std::vector<double> values(7, 3.5);
  const Interval interval = bootstrap_median(values);
  EXPECT_EQ(interval.low, 3.5);
  EXPECT_EQ(interval.median, 3.5);
  EXPECT_EQ(interval.high, 3.5);
}

TEST(Bootstrap, IsTheSameForTheSameValues) {
  const std::vector<double> values{1, 5, 2, 8, 3, 9, 4};
  const Interval one = bootstrap_median(values), two = bootstrap_median(values);
  EXPECT_EQ(one.low, two.low);
  EXPECT_EQ(one.high, two.high);
}

TEST(Bootstrap, HoldsTheTrueMedianAboutAsOftenAsItSays) {
  std::mt19937 engine(7);
  std::normal_distribution<double> values_of(100, 10);
  int held = 0;
  constexpr int kTrials = 200;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<double> values(15);
    for (double& each : values) each = values_of(engine);
    const Interval interval = bootstrap_median(values, 0.95);
    held += interval.low <= 100 && 100 <= interval.high;
  }
  EXPECT_GE(held, kTrials * 85 / 100);  // Some 93 %; the seed is fixed.
  EXPECT_LT(held, kTrials);
}

TEST(Bootstrap, RatioOfTwoRunsLiesAroundTheTruth) {
  const auto a = made_series("a", 100, 1).values(), b = made_series("b", 150, 2).values();
  const Interval ratio = bootstrap_ratio(a, b);
  EXPECT_LE(ratio.low, 1.5);
  EXPECT_GE(ratio.high, 1.5);
  EXPECT_GT(ratio.low, 1.3);
}

TEST(Advantage, IsAboveOneForTheBetterInBothUnits) {
  const Results results = made_results(500, 1);
  for (const Group& group : results.groups) {
    const Interval better = advantage(group, *group.find("shm"), *group.find("peer"));
    EXPECT_GT(better.low, 1.2) << group.id;
    EXPECT_LT(advantage(group, *group.find("peer"), *group.find("shm")).high, 0.8) << group.id;
  }
}

TEST(Advantage, LeavesOutRoundsOfAnotherMachine) {
  Results results = made_results(500, 1);
  Group& group = results.groups[0];
  for (int i = 0; i < 4; ++i) {
    Sample& moved = group.series[0].samples[static_cast<std::size_t>(i)];
    moved.line_before_ns = moved.line_after_ns = 600;  // Steady, and far.
  }
  group.series[1].samples[8].failed = "no answer";
  EXPECT_EQ(advantage(group, group.series[0], group.series[1]).rounds, 4u);
}

TEST(Standings, NameTheBestOfOursAndOfThePeers) {
  const Results results = made_results(500, 1);
  const auto all = standings(results);
  ASSERT_EQ(all.size(), 2u);
  for (const Standing& each : all) {
    EXPECT_EQ(each.ours->subject, "shm");
    EXPECT_EQ(each.peer->subject, "peer");
    EXPECT_EQ(each.verdict(), Standing::Verdict::we_lead);
  }
  const Results slower = made_results(900, 1);
  EXPECT_EQ(standings(slower)[0].verdict(), Standing::Verdict::peer_leads);
  const Results same = made_results(701, 1);
  EXPECT_EQ(standings(same)[0].verdict(), Standing::Verdict::equal);
}

TEST(Standings, AFewRoundsProveNothing) {
  Results results = made_results(100, 1);
  for (Group& group : results.groups) {
    for (Series& series : group.series) series.samples.resize(2);
  }
  EXPECT_EQ(standings(results)[0].verdict(), Standing::Verdict::equal);
}

TEST(Standings, AThreadsLinkIsNotComparedWithProcesses) {
  Results results = made_results(500, 1);
  results.subjects[0].one_process = true;
  EXPECT_EQ(standings(results)[0].ours->subject, "slow");
}

}  // namespace
}  // namespace cdmf::bench
