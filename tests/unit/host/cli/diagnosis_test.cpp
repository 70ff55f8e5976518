// Sick endpoints, made of numbers: each branch of the tree is taken for its sickness and for no other.
#include "cli/diagnosis.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <functional>

namespace cdmf::ipc::cli {
namespace {

constexpr std::uint64_t kCapacity = 64 * 1024;

/// A healthy ring: 100'000 messages of 64 bytes a second, nearly empty.
std::vector<Observation> course(const std::function<void(Observation&, std::uint64_t look)>& change = {}) {
  std::vector<Observation> seen;
  for (std::uint64_t look = 0; look <= 10; ++look) {
    Observation it;
    it.endpoint.taken_ns = 1'000'000'000 + look * 100'000'000;
    cdmf_link_report link{};
    link.peer = 1;
    link.pid = 77;
    it.links.push_back(link);
    cdmf_ring_report ring{};
    ring.link = 1;
    std::snprintf(ring.name, sizeof ring.name, "TX");
    ring.flags = CDMF_RING_TO_SERVER;
    ring.capacity_bytes = kCapacity;
    ring.used_bytes = 64;
    ring.high_water_bytes = 640;
    ring.pushes = ring.pops = 10'000 * look;
    ring.bytes = ring.pushes * 64;
    ring.producers = ring.consumers = 1;
    it.rings.push_back(ring);
    if (change) change(it, look);
    seen.push_back(it);
  }
  return seen;
}

const Known kKnown{256, 30'000};

/// The one finding; a failure when there is not exactly one.
Finding only_finding(const std::vector<Observation>& seen) {
  const Diagnosis diagnosis = diagnose(seen, kKnown);
  EXPECT_EQ(diagnosis.findings.size(), 1u) << diagnosis_text("shm", "/x", diagnosis);
  return diagnosis.findings.empty() ? Finding{Symptom::ERRORS, "", ""} : diagnosis.findings.front();
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Diagnosis, AHealthyEndpointHasNoFinding) {
  const Diagnosis diagnosis = diagnose(course(), kKnown);
  EXPECT_TRUE(diagnosis.findings.empty()) << diagnosis_text("shm", "/x", diagnosis);
  EXPECT_EQ(diagnosis.messages, 100'000u);
  EXPECT_DOUBLE_EQ(diagnosis.seconds, 1.0);
  const std::string text = diagnosis_text("shm", "/x", diagnosis);
  for (const char* branch : {"high latency: nothing", "low throughput: nothing", "buffer full: nothing",
                             "CAS contention: nothing", "errors: nothing"}) {
    EXPECT_TRUE(contains(text, branch)) << text;
  }
}

TEST(Diagnosis, AnIdleEndpointIsHealthyAndSaysThatNothingWasSent) {
  const Diagnosis diagnosis = diagnose(course([](Observation& it, std::uint64_t) {
                                         it.rings[0].pushes = it.rings[0].pops = it.rings[0].bytes = 5;
                                         it.rings[0].failed_pushes = 1000;  // Of the past.
                                         it.rings[0].wakes = 5;
                                       }),
                                       kKnown);
  EXPECT_TRUE(diagnosis.findings.empty()) << diagnosis_text("shm", "/x", diagnosis);
  EXPECT_TRUE(contains(diagnosis_text("shm", "/x", diagnosis), "Nothing was sent"));
}

TEST(Diagnosis, ASlowConsumerIsTheCauseOfAFullRing) {
  const Finding finding = only_finding(course([](Observation& it, std::uint64_t look) {
    it.rings[0].failed_pushes = 500 * look;
    it.rings[0].used_bytes = kCapacity * 9 / 10;
  }));
  EXPECT_EQ(finding.symptom, Symptom::BUFFER_FULL);
  EXPECT_TRUE(contains(finding.what, "5000 times (drop rate 5%)")) << finding.what;
  EXPECT_TRUE(contains(finding.what, "pid 77")) << finding.what;
  EXPECT_TRUE(contains(finding.change, "handler")) << finding.change;
}

TEST(Diagnosis, AReceiverThatTakesNothingIsNamed) {
  const Finding finding = only_finding(course([](Observation& it, std::uint64_t) {
    cdmf_ring_report& ring = it.rings[0];
    ring.pushes = ring.pops = 1000;
    ring.bytes = 64'000;
    ring.used_bytes = kCapacity;
    ring.flags |= CDMF_RING_SENDER_WAITS;
  }));
  EXPECT_EQ(finding.symptom, Symptom::BUFFER_FULL);
  EXPECT_TRUE(contains(finding.what, "took nothing")) << finding.what;
}

TEST(Diagnosis, BurstsThatDoNotFitAskForALargerRing) {
  const Finding finding = only_finding(course([](Observation& it, std::uint64_t look) {
    it.rings[0].failed_pushes = 100 * look;
    it.rings[0].high_water_bytes = kCapacity;
  }));
  EXPECT_EQ(finding.symptom, Symptom::LOW_THROUGHPUT);
  EXPECT_TRUE(contains(finding.change, "ring_buffer_capacity: 512 (now 256)")) << finding.change;
}

TEST(Diagnosis, MessagesNearlyAsLargeAsTheRingAskForALargerOne) {
  const Finding finding =
      only_finding(course([](Observation& it, std::uint64_t) { it.rings[0].bytes = it.rings[0].pushes * 20'000; }));
  EXPECT_EQ(finding.symptom, Symptom::LOW_THROUGHPUT);
  EXPECT_TRUE(contains(finding.what, "3.3 messages")) << finding.what;
}

TEST(Diagnosis, MessagesThatEachWakeTheirReceiverAreLate) {
  const Finding finding =
      only_finding(course([](Observation& it, std::uint64_t) { it.rings[0].wakes = it.rings[0].pushes; }));
  EXPECT_EQ(finding.symptom, Symptom::HIGH_LATENCY);
  EXPECT_TRUE(contains(finding.what, "100% of 1e+05/s")) << finding.what;
  EXPECT_TRUE(contains(finding.change, "spin_budget: 120us (now 30us)")) << finding.change;
  // Not a sickness of a quiet link.
  EXPECT_TRUE(diagnose(course([](Observation& it, std::uint64_t look) {
                         it.rings[0].pushes = it.rings[0].pops = it.rings[0].wakes = 10 * look;
                         it.rings[0].bytes = 640 * look;
                       }),
                       kKnown)
                  .findings.empty());
}

TEST(Diagnosis, MessagesThatWaitInAFillingRingAreLate) {
  const Finding finding =
      only_finding(course([](Observation& it, std::uint64_t) { it.rings[0].used_bytes = kCapacity / 2; }));
  EXPECT_EQ(finding.symptom, Symptom::HIGH_LATENCY);
  EXPECT_TRUE(contains(finding.what, "wait 5.12ms")) << finding.what;
}

TEST(Diagnosis, BothEndsOnOneCpuAreFoundWithoutTraffic) {
  const Finding finding = only_finding(course([](Observation& it, std::uint64_t) {
    it.links[0].flags |= CDMF_LINK_SAME_CPU;
    it.links[0].only_cpu = 3;
    it.rings[0].pushes = it.rings[0].pops = it.rings[0].bytes = 0;
  }));
  EXPECT_EQ(finding.symptom, Symptom::HIGH_LATENCY);
  EXPECT_TRUE(contains(finding.what, "CPU 3")) << finding.what;
}

TEST(Diagnosis, FalseSharingIsFound) {
  EXPECT_EQ(
      only_finding(course([](Observation& it, std::uint64_t) { it.rings[0].flags |= CDMF_RING_NOT_ALIGNED; })).symptom,
      Symptom::HIGH_LATENCY);
}

TEST(Diagnosis, ContentionNamesTheProducers) {
  const Finding finding = only_finding(course([](Observation& it, std::uint64_t) {
    it.rings[0].contentions = it.rings[0].pushes / 2;
    it.rings[0].producers = 8;
  }));
  EXPECT_EQ(finding.symptom, Symptom::CAS_CONTENTION);
  EXPECT_TRUE(contains(finding.what, "50%")) << finding.what;
  EXPECT_TRUE(contains(finding.what, "8 producers")) << finding.what;
}

TEST(Diagnosis, ALittleContentionIsSaidAndNoFinding) {
  const Diagnosis diagnosis = diagnose(
      course([](Observation& it, std::uint64_t) { it.rings[0].contentions = it.rings[0].pushes / 50; }), kKnown);
  EXPECT_TRUE(diagnosis.findings.empty());
  const std::string text = diagnosis_text("shm", "/x", diagnosis);
  EXPECT_TRUE(contains(text, "CAS contention: nothing found (producers and repeated attempts: 2% per message)"))
      << text;
}

TEST(Diagnosis, ErrorsAndNonsenseWhileLookingAreFound) {
  const Finding refused = only_finding(course([](Observation& it, std::uint64_t look) {
    it.endpoint.refused = it.endpoint.error_count = look;
    it.endpoint.last_error = CDMF_INVALID_CONFIG;
    std::snprintf(it.endpoint.last_error_text, sizeof it.endpoint.last_error_text, "too large");
  }));
  EXPECT_EQ(refused.symptom, Symptom::ERRORS);
  EXPECT_TRUE(contains(refused.what, "10 refused clients; the last: INVALID_CONFIG: too large")) << refused.what;
  EXPECT_EQ(
      only_finding(course([](Observation& it, std::uint64_t) { it.rings[0].flags |= CDMF_RING_IMPLAUSIBLE; })).symptom,
      Symptom::ERRORS);
}

TEST(Diagnosis, NumbersThatAreNotKeptOrMakeNoSenseAreNoFinding) {
  EXPECT_TRUE(diagnose(course([](Observation& it, std::uint64_t look) {
                         cdmf_ring_report& ring = it.rings[0];
                         ring.pops = ring.failed_pushes = ring.wakes = ring.space_waits = ring.contentions =
                             CDMF_UNKNOWN;
                         if (look == 10) ring.pushes = 0;  // It went back.
                       }),
                       kKnown)
                  .findings.empty());
  EXPECT_TRUE(diagnose({}, kKnown).findings.empty());
  EXPECT_TRUE(diagnose({course().front()}, kKnown).findings.empty());
  EXPECT_TRUE(diagnose(course([](Observation& it, std::uint64_t) { it.rings[0].capacity_bytes = 0; }), kKnown)
                  .findings.empty());
}

}  // namespace
}  // namespace cdmf::ipc::cli
