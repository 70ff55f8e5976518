#include "report/results.h"

#include <gtest/gtest.h>

#include "made_results.h"
#include "report/json.h"

namespace cdmf::bench {
namespace {

TEST(Results, WhatIsWrittenIsReadBack) {
  const Results before = test::made_results(500, 1);
  const Results after = Results::from_json(before.to_json());
  EXPECT_EQ(after.to_json(), before.to_json());
  EXPECT_EQ(after.version, before.version);
  ASSERT_EQ(after.groups.size(), 2u);
  EXPECT_EQ(after.groups[0].series[0].samples.size(), 9u);
  EXPECT_EQ(after.find("shm")->settings.at("ping_pong/poll/64B"), "wait: spin");
}

TEST(Results, AnotherFormatIsRefused) {
  EXPECT_THROW((void)Results::from_json("{\"format\": 99}"), JsonError);
  EXPECT_THROW((void)Results::from_json("[]"), JsonError);
}

TEST(Sample, DoesNotCountWhenTheMachineMovedOrItFailed) {
  Sample sample;
  sample.value = 5;
  sample.line_before_ns = 100;
  sample.line_after_ns = 155;
  EXPECT_TRUE(sample.counts());
  sample.line_after_ns = 165;
  EXPECT_FALSE(sample.counts());
  sample.line_after_ns = 100;
  sample.failed = "why";
  EXPECT_FALSE(sample.counts());
}

TEST(Results, RegimesAreToldApartOnlyWhenTheLineChangedByMuch) {
  Results results = test::made_results(500, 1);
  EXPECT_EQ(results.regime_of(200), "one");
  for (Sample& each : results.groups[0].series[0].samples) each.line_before_ns = each.line_after_ns = 600;
  EXPECT_EQ(results.regime_of(210), "near");
  EXPECT_EQ(results.regime_of(590), "far");
}

TEST(Condensed, KeepsEveryLatencyAndTheirOrder) {
  auto histogram = std::make_unique<ipc::cli::LatencyHistogram>();
  for (int ns = 1; ns <= 10'000; ++ns) histogram->record(std::chrono::nanoseconds(ns));
  const auto buckets = condensed(*histogram);
  double count = 0, last = 0;
  for (const auto& [bound, in_it] : buckets) {
    EXPECT_GT(bound, last);
    EXPECT_GT(in_it, 0);
    last = bound;
    count += in_it;
  }
  EXPECT_EQ(count, 10'000);
  EXPECT_EQ(last, 10'000);
  Series series{"x", {}, buckets};
  EXPECT_NEAR(series.latency_quantile(0.5), 5000, 5000 * 0.1);
}

TEST(Condensed, OfNothingIsNothing) { EXPECT_TRUE(condensed(*std::make_unique<ipc::cli::LatencyHistogram>()).empty()); }

}  // namespace
}  // namespace cdmf::bench
