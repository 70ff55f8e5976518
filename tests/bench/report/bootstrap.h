#pragma once
// bench/report/bootstrap.h: how sure a median of a few rounds is, and whether two runs differ.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "report/results.h"

namespace cdmf::bench {

struct Interval {
  double median = 0;
  double low = 0;
  double high = 0;
  std::size_t rounds = 0;  ///< 0: nothing is known
};

/// The median with the interval that holds it with that confidence, by resampling the values with replacement. The same
/// values give the same interval: the resampling has a fixed seed. One or two values: low and high are their range.
/// confidence  above 0, below 1
[[nodiscard]] Interval bootstrap_median(std::span<const double> values, double confidence = 0.95);

/// The interval of median(b) / median(a), each resampled on its own: the rounds of two runs are not pairs. All > 0.
[[nodiscard]] Interval bootstrap_ratio(std::span<const double> a, std::span<const double> b, double confidence = 0.99);

/// How many times as good `mine` is as `theirs`, round by round, above 1 when it is better. Rounds in which one is
/// missing, or the machine was in another state for one than for the other, are left out.
[[nodiscard]] Interval advantage(const Group& group, const Series& mine, const Series& theirs);
/// What was measured over what the machine can do, round by round; rounds 0 when the group has no limit.
[[nodiscard]] Interval ratio_to_limit(const Series& series);

/// Who leads in one group.
struct Standing {
  const Group* group = nullptr;
  const Series* ours = nullptr;  ///< the best of ours; null: none of ours was measured
  const Series* peer = nullptr;  ///< the best peer; null: none
  Interval advantage{};          ///< ours over the peer

  enum class Verdict { we_lead, peer_leads, equal, no_peer };
  /// Somebody leads when the interval leaves no doubt.
  [[nodiscard]] Verdict verdict() const noexcept;
};
[[nodiscard]] std::vector<Standing> standings(const Results& results);

}  // namespace cdmf::bench
