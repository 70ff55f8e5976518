#include "report/summary.h"

#include <algorithm>
#include <cstdio>

#include "report/svg.h"

namespace cdmf::bench {
namespace {

std::string ratio_text(double ratio) {
  char text[32];
  std::snprintf(text, sizeof text, ratio < 9.95 ? "%.2f" : ratio < 99.5 ? "%.1f" : "%.0f", ratio);
  return text;
}

std::string sentence(const Results& results, const Standing& standing) {
  const bool peer_leads = standing.verdict() == Standing::Verdict::peer_leads;
  const Series& leader = peer_leads ? *standing.peer : *standing.ours;
  const Series& other = peer_leads ? *standing.ours : *standing.peer;
  Interval ratio = standing.advantage;
  if (peer_leads) ratio = {1 / ratio.median, 1 / ratio.high, 1 / ratio.low, ratio.rounds};
  const Group& group = *standing.group;
  std::string text =
      describe(group) + ": " + label_of(results, leader.subject) + " " + describe_value(group, leader.median());
  text += standing.verdict() == Standing::Verdict::equal ? " and " : ", " + describe(ratio) + " as good as ";
  text += label_of(results, other.subject) + " " + describe_value(group, other.median());
  if (standing.verdict() == Standing::Verdict::equal) text += ": no difference that is sure, " + describe(ratio);
  return text;
}

std::string machine_line(const Results& results) {
  return results.cpu + ", " + results.kernel + ", " + results.compiler;
}

std::string standing_drawing(const Results& results, const char* id, const std::string& title,
                             const std::string& x_title) {
  DotChart chart;
  chart.title = title;
  chart.x_title = x_title;
  chart.width = 760;
  chart.footer = machine_line(results);
  const Group* const group = results.group(id);
  if (group == nullptr) return chart.svg();
  const bool trips = group->less_is_better();
  chart.x_text = trips ? AxisText::nanoseconds : AxisText::number;
  const double scale = trips ? 1 : group->size_bytes / 1e9;
  for (std::size_t i = 0; i < results.subjects.size(); ++i) {
    const SubjectInfo& info = results.subjects[i];
    const Series* const series = group->find(info.name);
    if (series == nullptr || series->median() <= 0) continue;
    const Interval value = bootstrap_median(series->values());
    chart.rows.push_back({info.label, value.median * scale, value.low * scale, value.high * scale, static_cast<int>(i),
                          info.ours, trips ? human_ns(value.median) : ratio_text(value.median * scale) + " GB/s"});
  }
  std::stable_sort(chart.rows.begin(), chart.rows.end(),
                   [&](const auto& a, const auto& b) { return trips ? a.value < b.value : a.value > b.value; });
  return chart.svg();
}

}  // namespace

std::string label_of(const Results& results, const std::string& subject) {
  const SubjectInfo* const info = results.find(subject);
  return info == nullptr ? subject : info->label;
}

std::string describe(const Group& group) {
  std::string text = group.pattern == "ping_pong"     ? "round trip"
                     : group.pattern == "paced"       ? "round trip at 1 kHz"
                     : group.pattern == "ring_trip"   ? "typed ring, round trip"
                     : group.pattern == "ring_stream" ? "typed ring, stream"
                                                      : "stream";
  if (group.wait == "block") text += ", blocking";
  if (group.wait == "poll") text += ", polling";
  text += ", " + human_size(group.size_bytes);
  if (group.clients > 1) text += ", " + std::to_string(group.clients) + " clients";
  return text;
}

std::string describe_value(const Group& group, double value) {
  if (group.less_is_better()) return human_ns(value);
  std::string text = human_number(value) + " messages/s";
  if (group.size_bytes >= 1024) {
    char rate[32];
    std::snprintf(rate, sizeof rate, "%.2f GB/s", value * group.size_bytes / 1e9);
    text = rate;
  }
  return text;
}

std::string describe(const Interval& ratio) {
  return ratio_text(ratio.median) + "x (" + ratio_text(ratio.low) + " to " + ratio_text(ratio.high) + ")";
}

Headlines headlines(const Results& results) {
  Headlines lines;
  for (const Standing& each : standings(results)) {
    switch (each.verdict()) {
      case Standing::Verdict::peer_leads:
        lines.peers_lead.push_back(sentence(results, each));
        break;
      case Standing::Verdict::equal:
        lines.equal.push_back(sentence(results, each));
        break;
      case Standing::Verdict::we_lead:
        lines.we_lead.push_back(sentence(results, each));
        break;
      case Standing::Verdict::no_peer:
        break;
    }
  }
  return lines;
}

std::string summary_text(const Results& results) {
  const Headlines lines = headlines(results);
  std::string text =
      machine_line(results) + "\n" + results.pinning + ", " + std::to_string(results.rounds) + " rounds\n";
  const auto part = [&](const char* title, const std::vector<std::string>& sentences) {
    if (sentences.empty()) return;
    text += std::string(title) + " (" + std::to_string(sentences.size()) + "):\n";
    for (const std::string& each : sentences) text += "  " + each + "\n";
  };
  part("A peer leads", lines.peers_lead);
  part("Nobody leads for sure", lines.equal);
  part("We lead", lines.we_lead);
  for (const SubjectInfo& each : results.subjects) {
    if (!each.skipped.empty()) text += "not measured: " + each.label + ": " + each.skipped + "\n";
  }
  for (const Group& group : results.groups) {
    for (const Series& series : group.series) {
      const auto failed = std::find_if(series.samples.begin(), series.samples.end(),
                                       [](const Sample& each) { return !each.failed.empty(); });
      if (failed != series.samples.end())
        text += "failed: " + group.id + " " + series.subject + ": " + failed->failed + "\n";
    }
  }
  return text;
}

std::string readme_table(const Results& results) {
  std::string text = "| | ours | best peer | ours over the peer's |\n|---|---|---|---|\n";
  for (const Standing& each : standings(results)) {
    if (each.verdict() == Standing::Verdict::no_peer) continue;
    const Group& group = *each.group;
    text += "| " + describe(group) + " | " + describe_value(group, each.ours->median()) + " (`" + each.ours->subject +
            "`) | " + describe_value(group, each.peer->median()) + " (" + label_of(results, each.peer->subject) +
            ") | " + (each.verdict() == Standing::Verdict::peer_leads ? "**peer leads** " : "") +
            describe(each.advantage) + " |\n";
  }
  return text;
}

std::string readme_round_trips(const Results& results) {
  return standing_drawing(results, "ping_pong/poll/64B", "64 bytes there and back, each as fast as it can wait",
                          "median round trip, less is better; line: 95 % interval");
}
std::string readme_streams(const Results& results) {
  return standing_drawing(results, "stream/poll/64KiB", "Stream of 64 KiB messages, written and read",
                          "GB/s, more is better; line: 95 % interval");
}

}  // namespace cdmf::bench
