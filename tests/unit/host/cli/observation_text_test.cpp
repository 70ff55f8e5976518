#include "cli/observation_text.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <cstdio>

namespace cdmf::ipc::cli {
namespace {

Observation example() {
  Observation seen;
  seen.endpoint.pid = 11;
  seen.endpoint.uid = 1000;
  seen.endpoint.wait = CDMF_WAIT_ADAPTIVE;
  seen.endpoint.taken_ns = 2'000'000'000;
  seen.endpoint.accepted = 5;
  cdmf_link_report link{};
  link.peer = 65536;
  link.pid = 12;
  seen.links.push_back(link);
  cdmf_ring_report ring{};
  ring.link = 65536;
  std::snprintf(ring.name, sizeof ring.name, "TX");
  ring.flags = CDMF_RING_TO_SERVER;
  ring.capacity_bytes = 1000;
  ring.used_bytes = 100;
  ring.high_water_bytes = 250;
  ring.pushes = 200;
  ring.pops = CDMF_UNKNOWN;
  ring.failed_pushes = 10;
  seen.rings.push_back(ring);
  return seen;
}

TEST(ObservationText, UtilisationAndDropRateAreTheSpecifications) {
  cdmf_ring_report ring = example().rings[0];
  EXPECT_DOUBLE_EQ(utilization(ring), 0.25);
  EXPECT_DOUBLE_EQ(drop_rate(ring), 0.05);
  ring.pushes = 0;
  ring.capacity_bytes = 0;
  EXPECT_EQ(utilization(ring), 0);
  EXPECT_EQ(drop_rate(ring), 0);
}

TEST(ObservationText, ATableHasRatesOnceThereWereTwoLooks) {
  Observation seen = example();
  const std::string once = observation_text("shm", "/x", seen, nullptr, 0);
  EXPECT_EQ(once.find("PUSHED/S"), std::string::npos);
  Observation later = seen;
  later.endpoint.taken_ns += 500'000'000;
  later.rings[0].pushes += 50;
  const std::string twice = observation_text("shm", "/x", later, &seen, 0);
  EXPECT_NE(twice.find("PUSHED/S"), std::string::npos) << twice;
  EXPECT_NE(twice.find("  100"), std::string::npos) << twice;
  later.rings[0].link = 7;  // Another ring has no rate.
  EXPECT_NE(observation_text("shm", "/x", later, &seen, 0).find("PUSHED/S"), std::string::npos);
}

TEST(ObservationText, ReceiversAreHotParkedOrAsleep) {
  Observation seen = example();
  EXPECT_NE(observation_text("shm", "/x", seen, nullptr, 0).find("hot"), std::string::npos);
  seen.rings[0].flags |= CDMF_RING_PARKED;
  EXPECT_NE(observation_text("shm", "/x", seen, nullptr, 0).find("parked"), std::string::npos);
  seen.rings[0].flags |= CDMF_RING_RECEIVER_SLEEPS;
  EXPECT_NE(observation_text("shm", "/x", seen, nullptr, 0).find("asleep"), std::string::npos);
}

TEST(ObservationText, ErrorsHaveTheirAgeAndWhateverAPeerWroteIsMadeHarmless) {
  Observation seen = example();
  seen.endpoint.error_count = 3;
  seen.endpoint.last_error = CDMF_PEER_DIED;
  seen.endpoint.last_error_us = 1'000'000;
  std::snprintf(seen.endpoint.last_error_text, sizeof seen.endpoint.last_error_text, "bad\x1b[31m\n\"quoted\"");
  const std::string text = observation_text("shm", "/x", seen, nullptr, 3'500'000);
  EXPECT_NE(text.find("errors: 3, the last 2.5s ago: PEER_DIED: bad?[31m?\"quoted\""), std::string::npos) << text;
  const YAML::Node json = YAML::Load(observation_json("shm", "/x", seen));
  EXPECT_EQ(json["errors"]["last_text"].as<std::string>(), "bad?[31m?\"quoted\"");
}

TEST(ObservationText, JsonHasWhatTheTableHasAndNullForWhatIsNotKept) {
  Observation seen = example();
  cdmf_ring_report pool = seen.rings[0];
  pool.link = CDMF_NO_PEER;
  seen.rings.push_back(pool);
  const std::string text = observation_json("shm", "/x \"y\"", seen);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  const YAML::Node json = YAML::Load(text);
  EXPECT_EQ(json["endpoint"].as<std::string>(), "/x \"y\"");
  EXPECT_EQ(json["pid"].as<int>(), 11);
  ASSERT_EQ(json["links"].size(), 1u);
  ASSERT_EQ(json["links"][0]["rings"].size(), 1u);
  const YAML::Node ring = json["links"][0]["rings"][0];
  EXPECT_DOUBLE_EQ(ring["utilization"].as<double>(), 0.25);
  EXPECT_DOUBLE_EQ(ring["drop_rate"].as<double>(), 0.05);
  EXPECT_TRUE(ring["total_pops"].IsNull());
  EXPECT_EQ(json["rings"].size(), 1u);
}

}  // namespace
}  // namespace cdmf::ipc::cli
