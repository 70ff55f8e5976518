#pragma once
// Runs of a benchmark that never ran, for tests of what is made of them.
#include <random>
#include <string>
#include <vector>

#include "report/results.h"

namespace cdmf::bench::test {

/// Nine rounds around `value`, with noise of some per cent.
inline Series made_series(const std::string& subject, double value, unsigned seed, double noise = 0.03) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> around(1, noise);
  Series series{subject, {}, {{value, 10}, {2 * value, 5}}};
  for (int round = 0; round < 9; ++round) {
    Sample sample;
    sample.round = round;
    sample.value = value * around(engine);
    sample.line_before_ns = sample.line_after_ns = 200;
    sample.limit = 100;
    series.samples.push_back(sample);
  }
  return series;
}

/// Two of ours and two peers in two groups. ours  Of a round trip, in nanoseconds.
inline Results made_results(double ours, unsigned seed) {
  Results results;
  results.version = "1.0 µ \"quoted\"";
  results.date = "2026-01-01";
  results.cpu = "A <processor>";
  results.rounds = 9;
  results.subjects = {{"shm", "cdmf shm", "cdmf", true, false, "", {{"ping_pong/poll/64B", "wait: spin"}}},
                      {"slow", "cdmf slow", "cdmf", true},
                      {"peer", "a peer", "libpeer 1"},
                      {"other", "another peer", "libother 2"},
                      {"gone", "not here", "", false, false, "not built in"}};
  results.spec = {{"7.1", "ring push", "0.1 µs", "5 ns", "a note"}};
  for (const bool trips : {true, false}) {
    Group group;
    group.pattern = trips ? "ping_pong" : "stream";
    group.id = group.pattern + "/poll/64B";
    group.wait = "poll";
    group.size_bytes = 64;
    group.unit = trips ? Unit::round_trip_ns : Unit::messages_per_s;
    group.limit_name = "a limit";
    const auto value = [&](double ns) { return trips ? ns : 1e9 / ns; };
    group.series = {made_series("shm", value(ours), seed), made_series("slow", value(5000), seed + 1),
                    made_series("peer", value(700), seed + 2), made_series("other", value(9000), seed + 3)};
    results.groups.push_back(std::move(group));
  }
  return results;
}

}  // namespace cdmf::bench::test
