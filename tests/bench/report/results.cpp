#include "report/results.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "report/json.h"

namespace cdmf::bench {
namespace {

constexpr double kFormat = 1;
// Where a line lives in a large third-level cache depends on its address and alone makes half as much again.
constexpr double kSteadyFactor = 1.6;
constexpr double kRegimeFactor = 1.8;

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.7g", std::isfinite(value) ? value : 0.0);
  return text;
}

// UTF-8 stays as it is.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + '"';
}

/// Writes an object, member by member.
class ObjectText {
 public:
  ObjectText& add(const char* name, const std::string& json) {
    text_ += (text_.size() > 1 ? ",\"" : "\"") + std::string(name) + "\":" + json;
    return *this;
  }
  ObjectText& text(const char* name, const std::string& value) { return add(name, quoted(value)); }
  ObjectText& number_unless_0(const char* name, double value) { return value == 0 ? *this : add(name, number(value)); }
  [[nodiscard]] std::string done() const { return text_ + "}"; }

 private:
  std::string text_ = "{";
};

template <class Items, class Text>
std::string list(const Items& items, const char* separator, Text&& text_of) {
  std::string text = "[";
  for (const auto& item : items) text += (text.size() > 1 ? separator : "") + text_of(item);
  return text + "]";
}

std::string text_of(const Sample& sample) {
  ObjectText text;
  text.add("round", std::to_string(sample.round));
  if (!sample.failed.empty()) text.text("failed", sample.failed);
  return text.number_unless_0("value", sample.value)
      .number_unless_0("line_before_ns", sample.line_before_ns)
      .number_unless_0("line_after_ns", sample.line_after_ns)
      .number_unless_0("limit", sample.limit)
      .number_unless_0("cpu_ns", sample.cpu_ns)
      .number_unless_0("memory_bytes", sample.memory_bytes)
      .number_unless_0("p50_ns", sample.p50_ns)
      .number_unless_0("p99_ns", sample.p99_ns)
      .number_unless_0("p999_ns", sample.p999_ns)
      .number_unless_0("max_ns", sample.max_ns)
      .done();
}

Sample read_sample(const Json& json) {
  Sample sample;
  sample.round = static_cast<int>(json.at("round").number());
  sample.failed = json.string_or("failed", "");
  sample.value = json.number_or("value", 0);
  sample.line_before_ns = json.number_or("line_before_ns", 0);
  sample.line_after_ns = json.number_or("line_after_ns", 0);
  sample.limit = json.number_or("limit", 0);
  sample.cpu_ns = json.number_or("cpu_ns", 0);
  sample.memory_bytes = json.number_or("memory_bytes", 0);
  sample.p50_ns = json.number_or("p50_ns", 0);
  sample.p99_ns = json.number_or("p99_ns", 0);
  sample.p999_ns = json.number_or("p999_ns", 0);
  sample.max_ns = json.number_or("max_ns", 0);
  return sample;
}

std::string text_of(const Series& series) {
  ObjectText text;
  text.text("subject", series.subject);
  text.add("samples", list(series.samples, ",\n", [](const Sample& each) { return text_of(each); }));
  text.add("latencies", list(series.latencies, ",", [](const auto& each) {
             return "[" + number(each.first) + "," + number(each.second) + "]";
           }));
  return text.done();
}

Series read_series(const Json& json) {
  Series series;
  series.subject = json.at("subject").string();
  for (const Json& each : json.at("samples").array()) series.samples.push_back(read_sample(each));
  for (const Json& each : json.at("latencies").array()) {
    if (each.array().size() != 2) throw JsonError("a latency is a bound and a count");
    series.latencies.emplace_back(each.array()[0].number(), each.array()[1].number());
  }
  return series;
}

std::string text_of(const Group& group) {
  ObjectText text;
  text.text("id", group.id).text("pattern", group.pattern).text("wait", group.wait);
  text.add("size_bytes", number(group.size_bytes)).add("clients", std::to_string(group.clients));
  text.text("unit", group.unit == Unit::round_trip_ns ? "ns" : "messages/s").text("limit", group.limit_name);
  text.add("series", list(group.series, ",\n", [](const Series& each) { return text_of(each); }));
  return text.done();
}

Group read_group(const Json& json) {
  Group group;
  group.id = json.at("id").string();
  group.pattern = json.at("pattern").string();
  group.wait = json.at("wait").string();
  group.size_bytes = json.at("size_bytes").number();
  group.clients = static_cast<int>(json.at("clients").number());
  group.unit = json.at("unit").string() == "ns" ? Unit::round_trip_ns : Unit::messages_per_s;
  group.limit_name = json.string_or("limit", "");
  for (const Json& each : json.at("series").array()) group.series.push_back(read_series(each));
  return group;
}

}  // namespace

bool Sample::steady() const noexcept {
  return std::max(line_before_ns, line_after_ns) <= kSteadyFactor * std::min(line_before_ns, line_after_ns);
}

std::vector<double> Series::values() const {
  std::vector<double> values;
  for (const Sample& each : samples) {
    if (each.counts()) values.push_back(each.value);
  }
  return values;
}

double Series::median(double Sample::*what) const {
  std::vector<double> values;
  for (const Sample& each : samples) {
    if (each.counts()) values.push_back(each.*what);
  }
  return ipc::cli::median(values).value_or(0);
}

double Series::latency_quantile(double fraction) const {
  double all = 0;
  for (const auto& each : latencies) all += each.second;
  double seen = 0;
  for (const auto& each : latencies) {
    seen += each.second;
    if (seen >= fraction * all) return each.first;
  }
  return 0;
}

const Series* Group::find(const std::string& subject) const noexcept {
  const auto found = std::find_if(series.begin(), series.end(), [&](const Series& s) { return s.subject == subject; });
  return found == series.end() ? nullptr : &*found;
}

const SubjectInfo* Results::find(const std::string& subject) const noexcept {
  const auto found = std::find_if(subjects.begin(), subjects.end(), [&](const auto& s) { return s.name == subject; });
  return found == subjects.end() ? nullptr : &*found;
}

const Group* Results::group(const std::string& id) const noexcept {
  const auto found = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.id == id; });
  return found == groups.end() ? nullptr : &*found;
}

std::pair<double, double> Results::line_range() const {
  double low = 0, high = 0;
  for (const Group& group : groups) {
    for (const Series& series : group.series) {
      for (const Sample& sample : series.samples) {
        if (!sample.steady() || sample.line_ns() <= 0) continue;
        low = low == 0 ? sample.line_ns() : std::min(low, sample.line_ns());
        high = std::max(high, sample.line_ns());
      }
    }
  }
  return {low, high};
}

std::string Results::regime_of(double line_ns) const {
  const auto [low, high] = line_range();
  if (low <= 0 || high < kRegimeFactor * low) return "one";
  return line_ns < std::sqrt(low * high) ? "near" : "far";
}

std::string Results::to_json() const {
  ObjectText text;
  text.add("format", number(kFormat)).text("version", version).text("date", date).text("cpu", cpu);
  text.text("kernel", kernel).text("compiler", compiler).text("pinning", pinning).text("mode", mode);
  text.add("rounds", std::to_string(rounds));
  text.add("subjects", list(subjects, ",\n", [](const SubjectInfo& each) {
             ObjectText subject;
             subject.text("name", each.name).text("label", each.label).text("library", each.library);
             subject.add("ours", each.ours ? "true" : "false");
             subject.add("one_process", each.one_process ? "true" : "false").text("skipped", each.skipped);
             ObjectText settings;
             for (const auto& [id, setting] : each.settings) settings.text(id.c_str(), setting);
             return subject.add("settings", settings.done()).done();
           }));
  text.add("spec", list(spec, ",\n", [](const SpecFigure& each) {
             ObjectText figure;
             figure.text("section", each.section).text("what", each.what).text("specified", each.specified);
             return figure.text("measured", each.measured).text("note", each.note).done();
           }));
  text.add("groups", list(groups, ",\n", [](const Group& each) { return text_of(each); }));
  return text.done() + "\n";
}

Results Results::from_json(const std::string& text) {
  const Json json = Json::parse(text);
  if (json.at("format").number() != kFormat) throw JsonError("written by another version of the benchmark");
  Results results;
  results.version = json.at("version").string();
  results.date = json.at("date").string();
  results.cpu = json.at("cpu").string();
  results.kernel = json.at("kernel").string();
  results.compiler = json.at("compiler").string();
  results.pinning = json.at("pinning").string();
  results.mode = json.at("mode").string();
  results.rounds = static_cast<int>(json.at("rounds").number());
  for (const Json& each : json.at("subjects").array()) {
    SubjectInfo subject;
    subject.name = each.at("name").string();
    subject.label = each.at("label").string();
    subject.library = each.at("library").string();
    subject.ours = each.at("ours").boolean();
    subject.one_process = each.at("one_process").boolean();
    subject.skipped = each.string_or("skipped", "");
    for (const auto& [id, setting] : each.at("settings").object()) subject.settings[id] = setting.string();
    results.subjects.push_back(std::move(subject));
  }
  for (const Json& each : json.at("spec").array()) {
    results.spec.push_back({each.at("section").string(), each.at("what").string(), each.at("specified").string(),
                            each.at("measured").string(), each.at("note").string()});
  }
  for (const Json& each : json.at("groups").array()) results.groups.push_back(read_group(each));
  return results;
}

std::vector<std::pair<double, double>> condensed(const ipc::cli::LatencyHistogram& histogram) {
  constexpr double kStepsPerDoubling = 8;
  const auto count = static_cast<double>(histogram.count());
  const auto top = static_cast<double>(histogram.max_ns());
  std::vector<std::pair<double, double>> out;
  double below = 0;
  for (double bound = 16; below < count; bound *= std::exp2(1 / kStepsPerDoubling)) {
    const bool last = bound >= top;
    const double up_to = last ? count : static_cast<double>(histogram.count_up_to(static_cast<std::uint64_t>(bound)));
    if (up_to > below) out.emplace_back(std::floor(last ? top : bound), up_to - below);
    below = up_to;
  }
  return out;
}

}  // namespace cdmf::bench
