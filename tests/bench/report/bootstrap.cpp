#include "report/bootstrap.h"

#include <algorithm>
#include <random>

namespace cdmf::bench {
namespace {

constexpr int kResamples = 2000;
constexpr std::size_t kRoundsMin = 4;
constexpr double kSameMachineFactor = 1.6;  // Of the cache line, between two measurements that may be compared.

double median_of(std::vector<double>& values) { return ipc::cli::median(values).value_or(0); }

class Resampler {
 public:
  double median(std::span<const double> values) {
    drawn_.clear();
    for (std::size_t i = 0; i < values.size(); ++i) drawn_.push_back(values[engine_() % values.size()]);
    return median_of(drawn_);
  }

 private:
  std::mt19937_64 engine_{20260101};
  std::vector<double> drawn_;
};

Interval interval_of(double middle, std::vector<double>& medians, double confidence, std::size_t rounds) {
  std::sort(medians.begin(), medians.end());
  const auto at = [&](double fraction) {
    return medians[static_cast<std::size_t>(fraction * static_cast<double>(medians.size() - 1) + 0.5)];
  };
  return {middle, at((1 - confidence) / 2), at((1 + confidence) / 2), rounds};
}

const Sample* of_round(const Series& series, int round) {
  for (const Sample& each : series.samples) {
    if (each.round == round && each.counts()) return &each;
  }
  return nullptr;
}

const Series* best(const Results& results, const Group& group, bool ours) {
  const Series* found = nullptr;
  double best_value = 0;
  for (const Series& each : group.series) {
    const SubjectInfo* const info = results.find(each.subject);
    const double value = each.median();
    if (info == nullptr || info->ours != ours || info->one_process || value <= 0) continue;
    const bool better = group.less_is_better() ? value < best_value : value > best_value;
    if (found != nullptr && !better) continue;
    found = &each;
    best_value = value;
  }
  return found;
}

}  // namespace

Interval bootstrap_median(std::span<const double> values, double confidence) {
  if (values.empty()) return {};
  const double middle = ipc::cli::median(values).value_or(0);
  if (values.size() < 3) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    return {middle, *low, *high, values.size()};
  }
  Resampler resampler;
  std::vector<double> medians(kResamples);
  for (double& each : medians) each = resampler.median(values);
  return interval_of(middle, medians, confidence, values.size());
}

Interval bootstrap_ratio(std::span<const double> a, std::span<const double> b, double confidence) {
  if (a.empty() || b.empty()) return {};
  const double middle = ipc::cli::median(b).value_or(0) / ipc::cli::median(a).value_or(1);
  Resampler resampler;
  std::vector<double> ratios(kResamples);
  for (double& each : ratios) each = resampler.median(b) / resampler.median(a);
  return interval_of(middle, ratios, confidence, std::min(a.size(), b.size()));
}

Interval advantage(const Group& group, const Series& mine, const Series& theirs) {
  std::vector<double> ratios;
  for (const Sample& each : mine.samples) {
    const Sample* const other = of_round(theirs, each.round);
    if (!each.counts() || other == nullptr) continue;
    const double lines = each.line_ns() / other->line_ns();
    if (lines > kSameMachineFactor || lines < 1 / kSameMachineFactor) continue;
    ratios.push_back(group.less_is_better() ? other->value / each.value : each.value / other->value);
  }
  return bootstrap_median(ratios);
}

Interval ratio_to_limit(const Series& series) {
  std::vector<double> ratios;
  for (const Sample& each : series.samples) {
    if (each.counts() && each.limit > 0) ratios.push_back(each.value / each.limit);
  }
  return bootstrap_median(ratios);
}

Standing::Verdict Standing::verdict() const noexcept {
  if (ours == nullptr || peer == nullptr || advantage.rounds == 0) return Verdict::no_peer;
  if (advantage.rounds < kRoundsMin) return Verdict::equal;  // Chance alone could do that.
  if (advantage.low > 1) return Verdict::we_lead;
  return advantage.high < 1 ? Verdict::peer_leads : Verdict::equal;
}

std::vector<Standing> standings(const Results& results) {
  std::vector<Standing> all;
  for (const Group& group : results.groups) {
    Standing standing{&group, best(results, group, true), best(results, group, false)};
    if (standing.ours != nullptr && standing.peer != nullptr) {
      standing.advantage = advantage(group, *standing.ours, *standing.peer);
    }
    all.push_back(standing);
  }
  return all;
}

}  // namespace cdmf::bench
