#pragma once
// bench/report/compare.h: tells a change of our code from the noise of the machine, between two runs.
//
// Each of our figures is divided by the limit of its round, which takes most of the machine's moods away. What is left
// shows in the peers, whose code is the same in both runs: a change of ours counts when the interval of the quotient of
// both runs (99.9 %, five rounds or more) lies beyond what 19 of 20 peers' figures changed by, and beyond 5 %. Times
// never fail a test; this is for people and scripts.
#include <map>
#include <string>
#include <vector>

#include "report/bootstrap.h"

namespace cdmf::bench {

struct Change {
  std::string group, subject;
  Interval factor{};  ///< new over old in the direction of worse: 1.1 is 10 % slower
  bool slower = false;
  bool faster = false;
};

struct Comparison {
  std::vector<Change> changes;  ///< of ours, all that both runs have
  /// By kind of group ("stream/poll"): a factor below this is what unchanged peers do.
  std::map<std::string, double> noise;
  std::size_t controls = 0;          ///< peers' figures the noise is taken from
  std::vector<std::string> missing;  ///< that only one of the runs has

  [[nodiscard]] bool slower() const noexcept;
  [[nodiscard]] bool faster() const noexcept;
  /// A line for each change, or that there is none.
  [[nodiscard]] std::string text(const Results& now) const;
};

[[nodiscard]] Comparison compare(const Results& before, const Results& now);

}  // namespace cdmf::bench
