#include "cli/bench/report.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

namespace cdmf::ipc::cli {
namespace {

BenchmarkReport example(Pattern pattern) {
  BenchmarkReport report;
  report.transport = "shm";
  report.detail = "wait \"spin\"\tand a tab";
  report.pinning = "pinned to cpu 0 and 1";
  report.machine = {"Some CPU, 2 usable", "Linux 6", "GNU 12"};
  report.options.pattern = pattern;
  report.options.size_bytes = 64;
  report.options.rounds = 7;
  report.result.rtt = {1000, 150, 200, 300, 4000};
  report.result.rtt_ns = 151.25;
  report.result.msgs_per_s = 6.6e6;
  report.result.bytes_per_s = 4.2e8;
  report.result.limit = {120.6, 45'000, 50'000, 8e5, 3.5e10};
  report.result.ratio_to_limit = {1.25, 1.2, 1.3};
  report.result.ratio_to_unix = {0.003, 0.002, 0.004};
  return report;
}

// JSON is a subset of what a YAML reader takes.
TEST(BenchmarkReport, JsonHoldsEveryFigureUnderItsName) {
  const YAML::Node json = YAML::Load(report_json(example(Pattern::PINGPONG)));
  EXPECT_EQ(json["transport"].as<std::string>(), "shm");
  EXPECT_EQ(json["pattern"].as<std::string>(), "pingpong");
  EXPECT_EQ(json["size_bytes"].as<int>(), 64);
  EXPECT_EQ(json["rounds"].as<int>(), 7);
  EXPECT_EQ(json["rtt_ns"]["p50"].as<int>(), 150);
  EXPECT_EQ(json["rtt_ns"]["p99"].as<int>(), 200);
  EXPECT_EQ(json["rtt_ns"]["p999"].as<int>(), 300);
  EXPECT_EQ(json["rtt_ns"]["max"].as<int>(), 4000);
  EXPECT_DOUBLE_EQ(json["msgs_per_s"].as<double>(), 6.6e6);
  EXPECT_DOUBLE_EQ(json["bytes_per_s"].as<double>(), 4.2e8);
  EXPECT_DOUBLE_EQ(json["limit"]["cacheline_rtt_ns"].as<double>(), 120.6);
  EXPECT_DOUBLE_EQ(json["limit"]["unix_rtt_ns"].as<double>(), 45'000);
  EXPECT_DOUBLE_EQ(json["limit"]["futex_rtt_ns"].as<double>(), 50'000);
  EXPECT_DOUBLE_EQ(json["limit"]["unix_write_msgs_per_s"].as<double>(), 8e5);
  EXPECT_DOUBLE_EQ(json["limit"]["copy_bytes_per_s"].as<double>(), 3.5e10);
  EXPECT_DOUBLE_EQ(json["ratio_to_limit"].as<double>(), 1.25);
  EXPECT_EQ(json["detail"].as<std::string>(), "wait \"spin\"\tand a tab");
}

TEST(BenchmarkReport, AStreamHasNoRoundTripInJson) {
  const YAML::Node json = YAML::Load(report_json(example(Pattern::STREAM)));
  EXPECT_EQ(json["pattern"].as<std::string>(), "stream");
  EXPECT_TRUE(json["rtt_ns"].IsNull());
}

TEST(BenchmarkReport, TextNamesMachineFiguresAndRatios) {
  const std::string text = report_text(example(Pattern::PINGPONG));
  for (const char* part : {"shm/pingpong/64B", "7 rounds", "Some CPU", "Linux 6", "GNU 12", "pinned to cpu 0 and 1",
                           "150 ns", "4.00 µs", "1.25", "0.0030", "121 ns", "45.0 µs", "35.0 GB/s"}) {
    EXPECT_NE(text.find(part), std::string::npos) << "no '" << part << "' in\n" << text;
  }
}

// Single bytes against a copy of megabytes: a ratio that four decimals would print as nothing.
TEST(BenchmarkReport, ATinyRatioKeepsItsDigits) {
  auto report = example(Pattern::STREAM);
  report.result.ratio_to_limit = {0.0000456, 0.0000441, 0.0000483};
  const YAML::Node json = YAML::Load(report_json(report));
  EXPECT_DOUBLE_EQ(json["ratio_to_limit"].as<double>(), 0.0000456);
  EXPECT_DOUBLE_EQ(json["ratio_to_limit_quartiles"][0].as<double>(), 0.0000441);
  EXPECT_NE(report_text(report).find("0.000046  (half of the rounds: 0.000044 to 0.000048)"), std::string::npos)
      << report_text(report);
}

TEST(HumanFigures, HaveUnitsAndThreeDigits) {
  EXPECT_EQ(human_nanoseconds(142.4), "142 ns");
  EXPECT_EQ(human_nanoseconds(31'234), "31.2 µs");
  EXPECT_EQ(human_nanoseconds(4.1e6), "4.10 ms");
  EXPECT_EQ(human_nanoseconds(2e9), "2.00 s");
  EXPECT_EQ(human_rate(7.4e9), "7.40 GB/s");
  EXPECT_EQ(human_rate(3.5e8), "350 MB/s");
  EXPECT_EQ(human_count(12.3e6), "12.3 M");
  EXPECT_EQ(human_count(840'000), "840 k");
  EXPECT_EQ(human_count(12), "12");
}

}  // namespace
}  // namespace cdmf::ipc::cli
