#pragma once
// bench/report/results.h: everything that one run of the benchmark found, as report.json keeps it.
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cli/bench/statistics.h"

namespace cdmf::bench {

/// One subject in one round.
struct Sample {
  int round = 0;
  double value = 0;  ///< in the group's unit
  double line_before_ns = 0;
  double line_after_ns = 0;
  double limit = 0;  ///< what the machine can do, in the group's unit, of the same round; 0: none
  double cpu_ns = 0;
  double memory_bytes = 0;
  double p50_ns = 0, p99_ns = 0, p999_ns = 0, max_ns = 0;  ///< 0: no latencies
  std::string failed{};                                    ///< not empty: why there is no value

  [[nodiscard]] double line_ns() const noexcept { return (line_before_ns + line_after_ns) / 2; }
  /// Whether the machine held still meanwhile; what was measured while it changed is left out of every median.
  [[nodiscard]] bool steady() const noexcept;
  [[nodiscard]] bool counts() const noexcept { return failed.empty() && value > 0 && steady(); }
};

struct Series {
  std::string subject;
  std::vector<Sample> samples;
  /// All rounds' latencies: upper bound in nanoseconds, how many. Ascending.
  std::vector<std::pair<double, double>> latencies;

  [[nodiscard]] std::vector<double> values() const;  ///< of the samples that count
  [[nodiscard]] double median(double Sample::*what = &Sample::value) const;
  [[nodiscard]] double latency_quantile(double fraction) const;  ///< 0: none
};

enum class Unit { round_trip_ns, messages_per_s };

/// What was measured in the same rounds and is compared.
struct Group {
  std::string id;       ///< "ping_pong/poll/64B"
  std::string pattern;  ///< "ping_pong"
  std::string wait;     ///< "poll"
  double size_bytes = 0;
  int clients = 1;
  Unit unit = Unit::round_trip_ns;
  std::string limit_name;  ///< what Sample::limit is
  std::vector<Series> series;

  [[nodiscard]] const Series* find(const std::string& subject) const noexcept;
  [[nodiscard]] bool less_is_better() const noexcept { return unit == Unit::round_trip_ns; }
};

struct SubjectInfo {
  std::string name, label, library;
  bool ours = false;
  bool one_process = false;  ///< its ends are threads: shown, and not compared with what links processes
  std::string skipped{};
  std::map<std::string, std::string> settings{};  ///< by group id
};

/// One figure of the specification, with ours beside it.
struct SpecFigure {
  std::string section, what, specified, measured, note;
};

struct Results {
  std::string version, date, cpu, kernel, compiler, pinning, mode;
  int rounds = 0;
  std::vector<SubjectInfo> subjects;
  std::vector<Group> groups;
  std::vector<SpecFigure> spec;

  [[nodiscard]] const SubjectInfo* find(const std::string& subject) const noexcept;
  [[nodiscard]] const Group* group(const std::string& id) const noexcept;
  /// "near" and "far" when the line took twice as long in some rounds as in others; else "one".
  [[nodiscard]] std::string regime_of(double line_ns) const;
  [[nodiscard]] std::pair<double, double> line_range() const;  ///< of all steady samples

  [[nodiscard]] std::string to_json() const;
  /// throws  JsonError when the text is no report of this format.
  [[nodiscard]] static Results from_json(const std::string& text);
};

/// The histogram in buckets of an eighth of a doubling: what a distribution needs, and small.
[[nodiscard]] std::vector<std::pair<double, double>> condensed(const ipc::cli::LatencyHistogram& histogram);

}  // namespace cdmf::bench
