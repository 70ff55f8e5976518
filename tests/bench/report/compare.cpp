#include "report/compare.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace cdmf::bench {
namespace {

constexpr double kLeastChange = 1.05;
// Of the peers' figures so many stay below the noise; the rest are taken for outliers.
constexpr double kNoiseQuantile = 0.95;
// With a hundred figures something is always far off by chance; hence that sure, and never from a few rounds.
constexpr double kConfidence = 0.999;
constexpr std::size_t kRoundsMin = 5;

/// Groups of one kind are equally noisy.
std::string kind_of(const Group& group) {
  return group.pattern + "/" + group.wait + (group.clients > 1 ? "/clients" : "");
}

/// A figure in each round in the direction of worse, by the round's limit where there is one.
std::vector<double> worse_is_more(const Group& group, const Series& series) {
  std::vector<double> values;
  for (const Sample& each : series.samples) {
    if (!each.counts()) continue;
    const double value = each.limit > 0 ? each.value / each.limit : each.value;
    values.push_back(group.less_is_better() ? value : 1 / value);
  }
  return values;
}

}  // namespace

bool Comparison::slower() const noexcept {
  return std::any_of(changes.begin(), changes.end(), [](const Change& each) { return each.slower; });
}
bool Comparison::faster() const noexcept {
  return std::any_of(changes.begin(), changes.end(), [](const Change& each) { return each.faster; });
}

Comparison compare(const Results& before, const Results& now) {
  Comparison comparison;
  std::map<std::string, std::vector<double>> noise;
  for (const Group& group : now.groups) {
    const Group* const old_group = before.group(group.id);
    if (old_group == nullptr) {
      comparison.missing.push_back(group.id);
      continue;
    }
    for (const Series& series : group.series) {
      const Series* const old_series = old_group->find(series.subject);
      const SubjectInfo* const info = now.find(series.subject);
      if (info == nullptr) continue;
      if (old_series == nullptr) {
        if (info->ours) comparison.missing.push_back(group.id + " " + series.subject);
        continue;
      }
      const auto values = worse_is_more(group, series), old_values = worse_is_more(*old_group, *old_series);
      if (values.size() < kRoundsMin || old_values.size() < kRoundsMin) continue;
      const Interval factor = bootstrap_ratio(old_values, values, kConfidence);
      if (info->ours) {
        comparison.changes.push_back({group.id, series.subject, factor});
      } else {
        ++comparison.controls;
        noise[kind_of(group)].push_back(std::exp(std::abs(std::log(factor.median))));
      }
    }
  }
  for (auto& [kind, factors] : noise) {
    std::sort(factors.begin(), factors.end());
    const auto at = static_cast<std::size_t>(kNoiseQuantile * static_cast<double>(factors.size() - 1) + 0.5);
    comparison.noise[kind] = std::max(kLeastChange, factors[at]);
  }
  for (Change& each : comparison.changes) {
    const auto found = comparison.noise.find(kind_of(*now.group(each.group)));
    const double least = found == comparison.noise.end() ? kLeastChange : found->second;
    each.slower = each.factor.low > least;
    each.faster = each.factor.high < 1 / least;
  }
  return comparison;
}

std::string Comparison::text(const Results& now) const {
  std::string text;
  char line[256];
  for (const Change& each : changes) {
    if (!each.slower && !each.faster) continue;
    const SubjectInfo* const info = now.find(each.subject);
    std::snprintf(line, sizeof line, "%s  %-28s %-36s %.2fx the time (99.9 %%: %.2f to %.2f)\n",
                  each.slower ? "SLOWER" : "faster", each.group.c_str(),
                  (info != nullptr ? info->label : each.subject).c_str(), each.factor.median, each.factor.low,
                  each.factor.high);
    text += line;
  }
  std::snprintf(line, sizeof line,
                "compare: %zu figures of ours; %s. A change counts beyond what %zu figures of unchanged "
                "peers move by:",
                changes.size(),
                slower()   ? "something is slower"
                : faster() ? "nothing is slower, something is faster"
                           : "no change",
                controls);
  text += line;
  for (const auto& [kind, factor] : noise) {
    std::snprintf(line, sizeof line, " %s %.0f %%", kind.c_str(), 100 * (factor - 1));
    text += line;
  }
  text += noise.empty() ? " 5 %\n" : "\n";
  if (!missing.empty())
    text += "compare: " + std::to_string(missing.size()) + " figures are in one of the runs alone\n";
  return text;
}

}  // namespace cdmf::bench
