#include "report/page.h"

#include <algorithm>
#include <cstdio>

#include "report/bootstrap.h"
#include "report/summary.h"
#include "report/svg.h"

namespace cdmf::bench {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, 'DejaVu Sans', Arial, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 920px; margin: 2em auto; padding: 0 20px; }
h1 { font-size: 26px; margin: 0 0 .2em; } h2 { font-size: 19px; margin: 2em 0 .5em; border-bottom: 1px solid #ccc; }
h3 { font-size: 15px; margin: 1.2em 0 .3em; }
.lead { border-left: 4px solid #b3470f; padding: .4em .9em; background: #fbf3ee; }
.won { border-left: 4px solid #0b5fa5; padding: .4em .9em; background: #eff5fb; }
.even { border-left: 4px solid #777; padding: .4em .9em; background: #f5f5f5; }
.lead ul, .won ul, .even ul { margin: .3em 0; padding-left: 1.2em; }
table { border-collapse: collapse; font-size: 13px; margin: .6em 0; }
th, td { text-align: left; padding: 3px 9px 3px 0; border-bottom: 1px solid #e2e2e2; vertical-align: top; }
th { border-bottom: 1.5px solid #777; font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n { white-space: nowrap; } th.n { max-width: 7.5em; }
tr.ours td { background: #f1f6fb; } .small { font-size: 12.5px; color: #444; }
svg { max-width: 100%; height: auto; display: block; margin: .8em 0; }
code { font-size: 12px; } .wide { overflow-x: auto; }
@media print { body { max-width: none; margin: 0; font-size: 11px; } h2 { break-after: avoid; }
  svg, tr { break-inside: avoid; } .lead, .won, .even, tr.ours td { background: none; } }
)";

std::string format(const char* pattern, double a, double b = 0) {
  char text[80];
  std::snprintf(text, sizeof text, pattern, a, b);
  return text;
}

class Table {
 public:
  /// A name that starts with '#' is of a column of numbers.
  explicit Table(std::initializer_list<const char*> names) {
    text_ = "<div class=\"wide\"><table><tr>";
    for (const std::string name : names) {
      numbers_.push_back(name[0] == '#');
      text_ += numbers_.back() ? "<th class=\"n\">" + escaped(name.substr(1)) : "<th>" + escaped(name);
      text_ += "</th>";
    }
    text_ += "</tr>\n";
  }
  void row(const std::vector<std::string>& cells, bool ours = false) {
    text_ += ours ? "<tr class=\"ours\">" : "<tr>";
    for (std::size_t i = 0; i < cells.size(); ++i) {
      text_ += (numbers_[i] ? "<td class=\"n\">" : "<td>") + escaped(cells[i]) + "</td>";
    }
    text_ += "</tr>\n";
  }
  [[nodiscard]] std::string done() const { return text_ + "</table></div>\n"; }

 private:
  std::string text_;
  std::vector<bool> numbers_;
};

class Page {
 public:
  explicit Page(const Results& results) : results_(results) {}

  std::string text() {
    head();
    leaders();
    machine();
    ratios();
    by_size();
    distributions();
    table("Round trips", {"ping_pong"}, 1);
    table("Round trips at 1 kHz", {"paced"}, 1);
    table("Streams", {"stream"}, 1);
    clients();
    table("Typed rings", {"ring_trip", "ring_stream"}, 1);
    costs();
    specification();
    subjects();
    rounds();
    return out_ + "</body></html>\n";
  }

 private:
  int style_of(const std::string& subject) const {
    for (std::size_t i = 0; i < results_.subjects.size(); ++i) {
      if (results_.subjects[i].name == subject) return static_cast<int>(i);
    }
    return 0;
  }
  bool ours(const std::string& subject) const {
    const SubjectInfo* const info = results_.find(subject);
    return info != nullptr && info->ours;
  }
  void heading(const std::string& title) { out_ += "<h2>" + escaped(title) + "</h2>\n"; }
  void paragraph(const std::string& text, const char* kind = "") {
    out_ += std::string("<p class=\"") + kind + "\">" + escaped(text) + "</p>\n";
  }

  void head() {
    out_ +=
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width, initial-scale=1\"><title>cdmf: benchmark report</title><style>" +
        std::string(kStyle) + "</style></head><body>\n<h1>cdmf beside its peers</h1>\n";
    paragraph(results_.date + ", cdmf " + results_.version + ", " + results_.mode + ", " +
                  std::to_string(results_.rounds) + " rounds",
              "small");
  }

  void leaders() {
    const Headlines lines = headlines(results_);
    const auto box = [&](const char* kind, const std::string& title, const std::vector<std::string>& sentences) {
      if (sentences.empty()) return;
      out_ += std::string("<div class=\"") + kind + "\"><b>" + escaped(title) + "</b><ul>\n";
      for (const std::string& each : sentences) out_ += "<li>" + escaped(each) + "</li>\n";
      out_ += "</ul></div>\n";
    };
    const auto all = lines.peers_lead.size() + lines.equal.size() + lines.we_lead.size();
    const std::string of_all = " of " + std::to_string(all) + " comparisons";
    if (all == 0) return paragraph("No peer was measured beside ours.");
    if (lines.peers_lead.empty()) paragraph("No peer leads in any of " + std::to_string(all) + " comparisons.");
    box("lead", "A peer leads in " + std::to_string(lines.peers_lead.size()) + of_all, lines.peers_lead);
    box("even", "No sure difference in " + std::to_string(lines.equal.size()) + of_all, lines.equal);
    box("won", "We lead in " + std::to_string(lines.we_lead.size()) + of_all, lines.we_lead);
    paragraph(
        "Each comparison is of the best of ours with the best peer in the same rounds: the median of the per-round "
        "quotients, with its 95 % bootstrap interval. Somebody leads when that interval excludes 1.",
        "small");
  }

  void machine() {
    heading("Machine and method");
    Table table{"", ""};
    table.row({"Processor", results_.cpu});
    table.row({"Kernel", results_.kernel});
    table.row({"Compiler", results_.compiler});
    table.row({"Pinning", results_.pinning});
    const auto [low, high] = results_.line_range();
    table.row({"Cache line there and back",
               human_ns(low) + " to " + human_ns(high) + " during the run; " +
                   (results_.regime_of(low) == "one" ? "one regime" : "two regimes, near and far: see the rounds")});
    out_ += table.done();
    paragraph(
        "Two processes, fresh for every measurement, pinned to a processor each once their link stands; helper threads "
        "that a library starts run where there is room. Every message carries a number and a pattern, is written by "
        "the "
        "sender and read, line by line, and checked by the receiver; one that is wrong, missing or out of order ends "
        "the "
        "measurement. Each round measures the limits of the machine, us and every peer in turn, in another order each "
        "time. A measurement during which the bare cache line changed by more than 1.6 times is left out. Polling: "
        "both ends "
        "look without pause; "
        "what works through threads of its own (ZeroMQ, nng, gRPC) waits in its own, fastest way. Blocking: both ends "
        "sleep in the kernel. Round trips at 1 kHz are timed from when they were due, so a stall counts in full. With "
        "fewer processors than busy threads, figures are the scheduler's as much as the library's: that concerns "
        "several clients here, and libraries with I/O threads.");
    paragraph("Not measured: Aeron, which Debian does not package.", "small");
  }

  void ratios() {
    heading("Ours over the best peer");
    DotChart chart;
    chart.title = "How many times as good as the best peer, per round: median and 95 % interval";
    chart.x_title = "right of 1: ours is better";
    chart.reference = 1;
    chart.reference_text = "equal";
    for (const Standing& each : standings(results_)) {
      if (each.verdict() == Standing::Verdict::no_peer) continue;
      const bool leads = each.verdict() == Standing::Verdict::we_lead;
      const int style = leads ? 0 : each.verdict() == Standing::Verdict::equal ? 7 : 1;
      chart.rows.push_back({describe(*each.group), each.advantage.median, each.advantage.low, each.advantage.high,
                            style, false, describe(each.advantage)});
    }
    out_ += chart.svg();
    paragraph("Circle: we lead. Square: the peer leads. Star: no sure difference.", "small");
  }

  void by_size() {
    heading("By size");
    const auto chart = [&](const char* pattern, const char* wait, const std::string& title, bool trips) {
      LineChart lines;
      lines.title = title;
      lines.x_title = "size of a message";
      lines.y_title = trips ? "median round trip" : "bytes per second";
      lines.y_text = trips ? AxisText::nanoseconds : AxisText::number;
      for (const SubjectInfo& info : results_.subjects) {
        ChartSeries series{info.label, style_of(info.name), info.ours, {}};
        for (const Group& group : results_.groups) {
          if (group.pattern != pattern || group.wait != wait || group.clients != 1) continue;
          const Series* const found = group.find(info.name);
          if (found == nullptr || found->median() <= 0) continue;
          series.points.push_back({group.size_bytes, found->median() * (trips ? 1 : group.size_bytes)});
        }
        if (series.points.size() > 1) lines.series.push_back(std::move(series));
      }
      // What the machine can do, as a line of its own.
      ChartSeries limit{trips ? "limit: bare cache line" : "limit: bare copy", 47, false, {}};
      for (const Group& group : results_.groups) {
        if (group.pattern != pattern || group.wait != wait || group.clients != 1 || group.series.empty()) continue;
        const double value = group.series.front().median(&Sample::limit);
        if (value > 0) limit.points.push_back({group.size_bytes, value * (trips ? 1 : group.size_bytes)});
      }
      if (limit.points.size() > 1) lines.series.push_back(std::move(limit));
      if (!lines.series.empty()) out_ += lines.svg();
    };
    chart("ping_pong", "poll", "Round trip by size, each as fast as it can wait", true);
    chart("stream", "poll", "Stream by size, each as fast as it can wait", false);
    chart("ping_pong", "block", "Round trip by size, blocking", true);
  }

  void distributions() {
    heading("Latency distributions");
    for (const Group& group : results_.groups) {
      if (group.pattern != "paced" && group.id != "ping_pong/poll/64B" && group.id != "ping_pong/block/64B") continue;
      LineChart lines;
      lines.title = describe(group) + ": all rounds together";
      lines.x_title = "percentile";
      lines.y_title = "round trip";
      lines.x_text = AxisText::percentile;
      for (const Series& each : group.series) {
        ChartSeries series{label_of(results_, each.subject), style_of(each.subject), ours(each.subject), {}};
        double count = 0;
        for (const auto& bucket : each.latencies) count += bucket.second;
        for (const double x :
             {1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0}) {
          if (count < 3 * x) break;  // Three samples beyond, or it is no percentile.
          series.points.push_back({x, each.latency_quantile(1 - 1 / x)});
        }
        if (series.points.size() > 2) lines.series.push_back(std::move(series));
      }
      if (!lines.series.empty()) out_ += lines.svg();
    }
  }

  void table(const std::string& title, const std::vector<std::string>& patterns, int clients) {
    bool any = false;
    for (const Group& group : results_.groups) {
      const bool wanted = std::find(patterns.begin(), patterns.end(), group.pattern) != patterns.end();
      if (!wanted || group.clients != clients) continue;
      if (!any) heading(title);
      any = true;
      group_table(group);
    }
  }

  void group_table(const Group& group) {
    out_ += "<h3>" + escaped(describe(group)) + "</h3>\n";
    const bool trips = group.less_is_better();
    const bool latencies = std::any_of(group.series.begin(), group.series.end(),
                                       [](const Series& each) { return !each.latencies.empty(); });
    Table rows = latencies ? Table{"",     "#median", "#95 % of the median", "#to the limit", "#p50", "#p99", "#p99.9",
                                   "#max", "#rounds"}
                           : Table{"", "#median", "#95 % of the median", "#to the limit", "#rounds"};
    std::vector<const Series*> order;
    for (const Series& each : group.series) order.push_back(&each);
    std::stable_sort(order.begin(), order.end(), [&](const Series* a, const Series* b) {
      const double x = a->median(), y = b->median();
      if (x <= 0 || y <= 0) return x > y;
      return trips ? x < y : x > y;
    });
    for (const Series* const each : order) {
      const Interval value = bootstrap_median(each->values());
      const std::string name = label_of(results_, each->subject);
      std::vector<std::string> cells{name};
      if (value.rounds == 0) {
        const auto failed =
            std::find_if(each->samples.begin(), each->samples.end(), [](const Sample& s) { return !s.failed.empty(); });
        cells.push_back("–");
        cells.push_back(failed != each->samples.end() ? failed->failed.substr(0, 60) : "the machine never held still");
        cells.resize(latencies ? 9 : 5);
        rows.row(cells, ours(each->subject));
        continue;
      }
      const Interval limit = ratio_to_limit(*each);
      cells.push_back(describe_value(group, value.median));
      cells.push_back(describe_value(group, value.low) + " to " + describe_value(group, value.high));
      cells.push_back(limit.rounds == 0 ? ""
                                        : format(limit.median < 0.1  ? "%.3f"
                                                 : limit.median < 10 ? "%.2f"
                                                                     : "%.0f",
                                                 limit.median));
      if (latencies) {
        for (const double fraction : {0.5, 0.99, 0.999}) {
          const double ns = each->latency_quantile(fraction);
          cells.push_back(ns > 0 ? human_ns(ns) : "");
        }
        cells.push_back(each->latencies.empty() ? "" : human_ns(each->latencies.back().first));
      }
      cells.push_back(std::to_string(value.rounds));
      rows.row(cells, ours(each->subject));
    }
    out_ += rows.done();
    if (!group.limit_name.empty()) paragraph("limit: " + group.limit_name, "small");
  }

  void clients() {
    const auto any =
        std::find_if(results_.groups.begin(), results_.groups.end(), [](const Group& g) { return g.clients > 1; });
    if (any == results_.groups.end()) return;
    heading("Several clients to one server");
    paragraph(
        "All clients share one processor, the server has the other; blocking. Messages per second of all together, 64 "
        "B.");
    std::vector<const Group*> columns;
    for (const Group& group : results_.groups) {
      if (group.id == "stream/block/64B" || group.clients > 1) columns.push_back(&group);
    }
    Table rows =
        columns.size() == 3 ? Table{"", "#1 client", "#4 clients", "#16 clients"} : Table{"", "#", "#", "#", "#"};
    for (const SubjectInfo& info : results_.subjects) {
      std::vector<std::string> cells{info.label};
      for (const Group* const group : columns) {
        const Series* const found = group->find(info.name);
        cells.push_back(found != nullptr && found->median() > 0 ? human_number(found->median()) + "/s" : "");
      }
      if (std::any_of(cells.begin() + 1, cells.end(), [](const std::string& s) { return !s.empty(); }))
        rows.row(cells, info.ours);
    }
    out_ += rows.done();
  }

  void costs() {
    heading("Processor time and memory");
    paragraph(
        "Processor time, user and system, of all threads of both ends, per message one way. In a polling round trip it "
        "is "
        "the time itself, as both ends look without pause. Memory is that of a link: what both processes grew by, "
        "shared "
        "pages counted once, buffers in the kernel not counted, RouDi's pools as far as they were touched. No link "
        "here "
        "takes memory by the message; libraries that allocate one each give it back at once.");
    Table rows{"",
               "#64 B stream, polling",
               "#64 B stream, blocking",
               "#64 KiB stream",
               "#64 B at 1 kHz, blocking",
               "#memory, 64 B",
               "#memory, 64 KiB"};
    for (const SubjectInfo& info : results_.subjects) {
      const auto cell = [&](const char* id, double Sample::*what, bool bytes) -> std::string {
        const Group* const group = results_.group(id);
        const Series* const found = group == nullptr ? nullptr : group->find(info.name);
        const double value = found == nullptr ? 0 : found->median(what);
        return value <= 0 ? "" : bytes ? human_size(value) : human_ns(value);
      };
      const std::vector<std::string> cells{info.label,
                                           cell("stream/poll/64B", &Sample::cpu_ns, false),
                                           cell("stream/block/64B", &Sample::cpu_ns, false),
                                           cell("stream/poll/64KiB", &Sample::cpu_ns, false),
                                           cell("paced/block/64B", &Sample::cpu_ns, false),
                                           cell("stream/poll/64B", &Sample::memory_bytes, true),
                                           cell("stream/poll/64KiB", &Sample::memory_bytes, true)};
      if (std::any_of(cells.begin() + 1, cells.end(), [](const std::string& s) { return !s.empty(); }))
        rows.row(cells, info.ours);
    }
    out_ += rows.done();
  }

  void specification() {
    if (results_.spec.empty()) return;
    heading("The specification's figures");
    Table rows{"§", "", "#specified", "#measured", ""};
    for (const SpecFigure& each : results_.spec)
      rows.row({each.section, each.what, each.specified, each.measured, each.note});
    out_ += rows.done();
  }

  void subjects() {
    heading("What was measured, and how it was set");
    Table rows{"", "library", "64 B stream, polling", "64 B round trip, blocking"};
    for (const SubjectInfo& info : results_.subjects) {
      if (!info.skipped.empty()) {
        rows.row({info.label, "not measured", info.skipped, ""}, info.ours);
        continue;
      }
      const auto setting = [&](const char* id) {
        const auto found = info.settings.find(id);
        return found == info.settings.end() ? std::string() : found->second;
      };
      rows.row({info.label, info.library, setting("stream/poll/64B"), setting("ping_pong/block/64B")}, info.ours);
    }
    out_ += rows.done();
    paragraph("The settings of every measurement are in report.json.", "small");
  }

  void rounds() {
    heading("Rounds");
    Table rows{
        "#round", "regime", "#cache line: median", "#least", "#most", "#measured", "#left out as the machine moved",
        "#failed"};
    for (int round = 0; round < results_.rounds; ++round) {
      std::vector<double> lines;
      int all = 0, moved = 0, failed = 0;
      for (const Group& group : results_.groups) {
        for (const Series& series : group.series) {
          for (const Sample& sample : series.samples) {
            if (sample.round != round) continue;
            ++all;
            failed += !sample.failed.empty();
            moved += sample.failed.empty() && !sample.steady();
            if (sample.line_ns() > 0) lines.push_back(sample.line_ns());
          }
        }
      }
      if (lines.empty()) continue;
      std::sort(lines.begin(), lines.end());
      const double median = ipc::cli::median(lines).value_or(0);
      rows.row({std::to_string(round + 1), results_.regime_of(median), human_ns(median), human_ns(lines.front()),
                human_ns(lines.back()), std::to_string(all), std::to_string(moved), std::to_string(failed)});
    }
    out_ += rows.done();
  }

  const Results& results_;
  std::string out_;
};

}  // namespace

std::string page(const Results& results) { return Page(results).text(); }

}  // namespace cdmf::bench
