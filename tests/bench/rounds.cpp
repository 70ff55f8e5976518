#include "rounds.h"

#include <algorithm>
#include <cstdio>

#include "cli/bench/machine.h"
#include "cli/bench/machine_limits.h"
#include "cli/bench/report.h"

namespace cdmf::bench {
namespace {

using ipc::cli::human_count;
using ipc::cli::human_nanoseconds;

constexpr auto kLineBudget = std::chrono::milliseconds(15);
constexpr double kSteadyFactor = 1.25;
constexpr Regime kRegimes[] = {Regime::near, Regime::far};

const char* name_of(Regime regime) { return regime == Regime::near ? "near" : "far"; }

double median_of(const std::vector<double>& values) { return ipc::cli::median(values).value_or(0); }

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

std::string padded(std::string text, std::size_t width) {
  // Counted in characters: the micro sign takes two bytes.
  const auto continued = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) == 0x80; });
  const std::size_t length = text.size() - static_cast<std::size_t>(continued);
  return length < width ? std::string(width - length, ' ') + text : text;
}

}  // namespace

bool Rounds::Sample::steady() const noexcept {
  return std::max(line_before_ns, line_after_ns) <= kSteadyFactor * std::min(line_before_ns, line_after_ns);
}

struct Rounds::Summary {
  std::size_t rounds = 0;  // Steady ones in this regime.
  double value = 0;
  double line_ns = 0;
  double limit = 0;
  ipc::cli::Spread ratio{};
  std::size_t peer_rounds = 0;
  double peer_ratio = 0;  // Above 1: better than the best peer.
  double p50 = 0, p99 = 0, p999 = 0;
};

void Rounds::keep_only(const std::string& word) {
  std::erase_if(subjects_, [&](const Series& each) { return each.subject.name.find(word) == std::string::npos; });
}

void Rounds::run(int count) {
  const auto line = [&] { return ipc::cli::cache_line_round_trip(cpus_, kLineBudget).untimed_ns; };
  for (int round = 0; round < count; ++round) {
    double before = line();
    for (Series& each : subjects_) {
      Sample sample;
      sample.line_before_ns = before;
      sample.measured = each.subject.measure();
      if (each.subject.limit) sample.limit = each.subject.limit();
      sample.line_after_ns = before = line();
      if (!each.subject.limit && each.subject.unit == Unit::round_trip_ns) sample.limit = sample.line_ns();
      each.samples.push_back(sample);
    }
  }
  shortest_line_ns_ = shortest_line_ns();
}

double Rounds::shortest_line_ns() const noexcept {
  double shortest = 0;
  for (const Series& each : subjects_) {
    for (const Sample& sample : each.samples) {
      if (sample.steady() && (shortest == 0 || sample.line_ns() < shortest)) shortest = sample.line_ns();
    }
  }
  return shortest;
}

/// The best figure of a peer of this series in that round; 0 when there is none or the machine changed meanwhile.
double Rounds::best_peer(const Series& series, std::size_t round) const {
  if (series.subject.group.empty() || series.subject.is_peer) return 0;
  const Sample& own = series.samples[round];
  double best = 0;
  for (const Series& each : subjects_) {
    if (!each.subject.is_peer || each.subject.group != series.subject.group) continue;
    const Sample& theirs = each.samples[round];
    if (!theirs.steady() || regime_of(theirs) != regime_of(own)) return 0;
    const bool better =
        series.subject.unit == Unit::round_trip_ns ? theirs.measured.value < best : theirs.measured.value > best;
    if (best == 0 || better) best = theirs.measured.value;
  }
  return best;
}

Rounds::Summary Rounds::summarize(const Series& series, Regime regime) const {
  Summary summary;
  std::vector<double> values, lines, limits, of_limit, peers, p50, p99, p999;
  for (std::size_t round = 0; round < series.samples.size(); ++round) {
    const Sample& sample = series.samples[round];
    if (!sample.steady() || regime_of(sample) != regime) continue;
    values.push_back(sample.measured.value);
    lines.push_back(sample.line_ns());
    if (sample.limit > 0) {
      limits.push_back(sample.limit);
      of_limit.push_back(sample.measured.value);
    }
    if (const double best = best_peer(series, round); best > 0) {
      const double own = sample.measured.value;
      peers.push_back(series.subject.unit == Unit::round_trip_ns ? best / own : own / best);
    }
    if (sample.measured.latency.count == 0) continue;
    p50.push_back(static_cast<double>(sample.measured.latency.p50_ns));
    p99.push_back(static_cast<double>(sample.measured.latency.p99_ns));
    p999.push_back(static_cast<double>(sample.measured.latency.p999_ns));
  }
  summary.rounds = values.size();
  summary.value = median_of(values);
  summary.line_ns = median_of(lines);
  summary.limit = median_of(limits);
  summary.ratio = ipc::cli::spread_of_ratios(of_limit, limits).value_or(ipc::cli::Spread{});
  summary.peer_rounds = peers.size();
  summary.peer_ratio = median_of(peers);
  summary.p50 = median_of(p50);
  summary.p99 = median_of(p99);
  summary.p999 = median_of(p999);
  return summary;
}

std::string Rounds::table() const {
  const auto machine = ipc::cli::describe_machine();
  std::string text = machine.cpu + ", " + machine.kernel + ", " + machine.compiler + "\n" + cpus_.note + "\n";
  char line[256];
  std::snprintf(line, sizeof line, "%-44s %4s %6s %8s %10s %7s %15s %9s %8s %8s %8s\n", "", "", "rounds", "line",
                "median", "ratio", "half of rounds", "best peer", "p50", "p99", "p99.9");
  text += line;
  for (const Series& each : subjects_) {
    bool any = false;
    for (const Regime regime : kRegimes) {
      const Summary summary = summarize(each, regime);
      if (summary.rounds == 0) continue;
      any = true;
      const bool trip = each.subject.unit == Unit::round_trip_ns;
      std::snprintf(line, sizeof line, "%-44s %4s %6zu %5.0f ns", each.subject.name.c_str(), name_of(regime),
                    summary.rounds, summary.line_ns);
      text += line + padded(trip ? human_nanoseconds(summary.value) : human_count(summary.value) + "/s", 11);
      if (summary.limit > 0) {
        std::snprintf(line, sizeof line, " %7.2f %6.2f to %5.2f", summary.ratio.median, summary.ratio.low,
                      summary.ratio.high);
        text += line;
      } else {
        text += std::string(24, ' ');
      }
      if (summary.peer_rounds != 0) {
        std::snprintf(line, sizeof line, " %8.2fx", summary.peer_ratio);
        text += line;
      } else if (summary.p50 > 0) {
        text += std::string(10, ' ');
      }
      if (summary.p50 > 0) {
        for (const double ns : {summary.p50, summary.p99, summary.p999}) text += ' ' + padded(human_nanoseconds(ns), 8);
      }
      text += '\n';
    }
    if (!any) text += each.subject.name + ": no round in which the machine held still\n";
  }
  text +=
      "line: a cache line there and back, the floor of a round trip. near: the line took no more than 1.7 times the "
      "shortest "
      "of this run, far: more. ratio: to the limit of the same round. best peer: "
      "how many times better than it.\n";
  return text;
}

std::string Rounds::json(const std::string& benchmark) const {
  const auto machine = ipc::cli::describe_machine();
  std::string text = "{\"benchmark\":\"" + benchmark + "\",\"cpu\":\"" + machine.cpu + "\",\"kernel\":\"" +
                     machine.kernel + "\",\"compiler\":\"" + machine.compiler + "\",\"pinning\":\"" + cpus_.note +
                     "\",\"subjects\":[";
  for (std::size_t i = 0; i < subjects_.size(); ++i) {
    const Series& each = subjects_[i];
    text += std::string(i == 0 ? "" : ",") + "{\"name\":\"" + each.subject.name + "\",\"unit\":\"" +
            (each.subject.unit == Unit::round_trip_ns ? "ns" : "messages/s") + "\",\"summary\":[";
    bool first = true;
    for (const Regime regime : kRegimes) {
      const Summary summary = summarize(each, regime);
      if (summary.rounds == 0) continue;
      text += std::string(first ? "" : ",") + "{\"regime\":\"" + name_of(regime) +
              "\",\"rounds\":" + std::to_string(summary.rounds) + ",\"median\":" + number(summary.value) +
              ",\"line_ns\":" + number(summary.line_ns) + ",\"limit\":" + number(summary.limit) +
              ",\"ratio\":" + number(summary.ratio.median) + ",\"ratio_low\":" + number(summary.ratio.low) +
              ",\"ratio_high\":" + number(summary.ratio.high) + ",\"best_peer\":" + number(summary.peer_ratio) + "}";
      first = false;
    }
    text += "],\"rounds\":[";
    for (std::size_t round = 0; round < each.samples.size(); ++round) {
      const Sample& sample = each.samples[round];
      const double ratio = sample.limit > 0 ? sample.measured.value / sample.limit : 0;
      text += std::string(round == 0 ? "" : ",") + "{\"value\":" + number(sample.measured.value) +
              ",\"ratio\":" + number(ratio) + ",\"limit\":" + number(sample.limit) +
              ",\"line_before_ns\":" + number(sample.line_before_ns) +
              ",\"line_after_ns\":" + number(sample.line_after_ns) + ",\"regime\":\"" +
              (sample.steady() ? name_of(regime_of(sample)) : "moved") + "\"";
      if (const auto& latency = sample.measured.latency; latency.count != 0) {
        text += ",\"p50_ns\":" + std::to_string(latency.p50_ns) + ",\"p99_ns\":" + std::to_string(latency.p99_ns) +
                ",\"p999_ns\":" + std::to_string(latency.p999_ns) + ",\"max_ns\":" + std::to_string(latency.max_ns);
      }
      text += "}";
    }
    text += "]}";
  }
  return text + "]}\n";
}

}  // namespace cdmf::bench
