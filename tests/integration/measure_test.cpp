// `cdmf bench` on every transport, briefly: that it prints what was promised. Which figures come out is the machine's
// business.
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include "program.h"

namespace cdmf::ipc::test {
namespace {

class Measure : public testing::TestWithParam<const char*> {
 protected:
  TestFolder folder_;
  std::string config_ = shipped_config(folder_, GetParam());
};

void expect_limits(const YAML::Node& json) {
  for (const char* name :
       {"cacheline_rtt_ns", "unix_rtt_ns", "futex_rtt_ns", "unix_write_msgs_per_s", "copy_bytes_per_s"}) {
    EXPECT_GT(json["limit"][name].as<double>(), 0) << name;
  }
  EXPECT_GT(json["ratio_to_limit"].as<double>(), 0);
}

TEST_P(Measure, PingPongReportsRoundTripsBesideTheLimits) {
  for (const char* size : {"1", "64", "4096"}) {
    const auto bench = run(folder_, {"bench", "--config", config_, "--pattern", "pingpong", "--size", size, "--seconds",
                                     "0.1", "--rounds", "2", "--json"});
    ASSERT_EQ(bench.code, 0) << bench.errors;
    const YAML::Node json = YAML::Load(bench.output);  // JSON is YAML too.
    EXPECT_EQ(json["transport"].as<std::string>(), GetParam());
    EXPECT_EQ(json["pattern"].as<std::string>(), "pingpong");
    EXPECT_EQ(json["size_bytes"].as<std::string>(), size);
    EXPECT_EQ(json["rounds"].as<int>(), 2);
    EXPECT_GT(json["rtt_ns"]["p50"].as<double>(), 0);
    EXPECT_LE(json["rtt_ns"]["p50"].as<double>(), json["rtt_ns"]["p99"].as<double>());
    EXPECT_LE(json["rtt_ns"]["p99"].as<double>(), json["rtt_ns"]["p999"].as<double>());
    EXPECT_LE(json["rtt_ns"]["p999"].as<double>(), json["rtt_ns"]["max"].as<double>());
    EXPECT_GT(json["msgs_per_s"].as<double>(), 0);
    expect_limits(json);
  }
}

TEST_P(Measure, StreamReportsRatesBesideTheLimits) {
  for (const auto& [text, size] : {std::pair{"1", 1}, {"64", 64}, {"64KiB", 65536}}) {
    const auto bench = run(folder_, {"bench", "--config", config_, "--pattern", "stream", "--size", text, "--seconds",
                                     "0.1", "--rounds", "2", "--json"});
    ASSERT_EQ(bench.code, 0) << bench.errors;
    const YAML::Node json = YAML::Load(bench.output);
    EXPECT_TRUE(json["rtt_ns"].IsNull());
    EXPECT_GT(json["msgs_per_s"].as<double>(), 0);
    EXPECT_NEAR(json["bytes_per_s"].as<double>(), json["msgs_per_s"].as<double>() * size, 0.51 * size + 1);
    expect_limits(json);
  }
}

TEST_P(Measure, TheTableNamesTheMachineAndTheRatios) {
  const auto bench = run(folder_, {"bench", "--config", config_, "--pattern", "pingpong", "--size", "64", "--seconds",
                                   "0.05", "--rounds", "1"});
  ASSERT_EQ(bench.code, 0) << bench.errors;
  for (const char* part : {"/pingpong/64B", "p99.9", "ratio to a bare cache line", "ratio to a bare Unix socket",
                           "usable", "Linux", "copy from core to core"}) {
    EXPECT_NE(bench.output.find(part), std::string::npos) << "no '" << part << "' in\n" << bench.output;
  }
}

INSTANTIATE_TEST_SUITE_P(EveryTransport, Measure, testing::Values("loopback", "unix_socket", "shm"),
                         [](const auto& parameter) { return std::string(parameter.param); });

}  // namespace
}  // namespace cdmf::ipc::test
