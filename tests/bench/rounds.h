#pragma once
// bench/rounds.h: measures subjects in rounds beside the machine's limit, and reports medians of per-round ratios.
//
// A hypervisor moves cores about, and absolute figures with them, by 4x within seconds. So the limit, a cache line
// there and back between two processes, is measured right before and right after every single measurement; what was
// measured while it changed is left out, and ratios are taken within a round. Which regime a round belongs to, its line
// says beside the shortest one of the whole run, whatever that is on this machine: within kNearFactor of it is near,
// the rest far. The two are never mixed in one median, and the table prints the line of each.
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "cli/bench/statistics.h"
#include "cli/cpu.h"

namespace cdmf::bench {

// Between what cores of one cluster differ by (up to 1.4) and the next level (4 and more: 115 and 520 ns on an EPYC).
inline constexpr double kNearFactor = 1.7;
enum class Regime { near, far };

/// What one measurement found.
struct Measured {
  double value = 0;                    // Nanoseconds, or per second; see Subject::unit.
  ipc::cli::LatencySummary latency{};  // count 0: none taken.
};

enum class Unit {
  round_trip_ns,       // less is better; compared with the cache line there and back
  messages_per_second  // more is better
};

struct Subject {
  std::string name;
  Unit unit;
  std::function<Measured()> measure;
  /// The limit to compare with, in the subject's unit, measured in the same round. Empty: for round trips the cache
  /// line, for rates none.
  std::function<double()> limit = {};
  /// Subjects of one group are compared with the best of its peers. Empty: with nobody.
  std::string group = {};
  bool is_peer = false;  // Not ours.
};

class Rounds {
 public:
  explicit Rounds(const ipc::cli::CpuPair& cpus) : cpus_(cpus) {}

  void add(Subject subject) { subjects_.push_back({std::move(subject), {}}); }
  /// Drops all subjects whose name does not contain `word`.
  void keep_only(const std::string& word);
  [[nodiscard]] bool empty() const noexcept { return subjects_.empty(); }

  /// Measures everything `count` times in turn. Throws what a measurement throws.
  void run(int count);

  /// A line per subject and regime.
  [[nodiscard]] std::string table() const;
  /// One object: the machine, and for each subject the medians and every round.
  [[nodiscard]] std::string json(const std::string& benchmark) const;

 private:
  struct Sample {
    Measured measured;
    double line_before_ns = 0;
    double line_after_ns = 0;
    double limit = 0;  // 0: none.

    [[nodiscard]] bool steady() const noexcept;
    [[nodiscard]] double line_ns() const noexcept { return (line_before_ns + line_after_ns) / 2; }
  };
  struct Series {
    Subject subject;
    std::vector<Sample> samples;  // One per round.
  };
  struct Summary;

  /// Of all that was measured while the machine held still.
  [[nodiscard]] double shortest_line_ns() const noexcept;
  [[nodiscard]] Regime regime_of(const Sample& sample) const noexcept {
    return sample.line_ns() <= kNearFactor * shortest_line_ns_ ? Regime::near : Regime::far;
  }
  [[nodiscard]] Summary summarize(const Series& series, Regime regime) const;
  [[nodiscard]] double best_peer(const Series& series, std::size_t round) const;

  const ipc::cli::CpuPair cpus_;
  std::vector<Series> subjects_;
  double shortest_line_ns_ = 0;  // Known when run() has returned.
};

}  // namespace cdmf::bench
