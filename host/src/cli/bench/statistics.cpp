#include "cli/bench/statistics.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <sstream>
#include <vector>

namespace cdmf::ipc::cli {

std::size_t LatencyHistogram::bucket_of(std::uint64_t ns) noexcept {
  constexpr std::uint64_t kLargest = (std::uint64_t{1} << kValueBitsMax) - 1;
  ns = std::min(ns, kLargest);
  // The first two groups hold one value per bucket; each further group holds the next doubling in 256 steps.
  const unsigned width = static_cast<unsigned>(std::bit_width(ns));
  if (width <= kSubBucketBits + 1) return static_cast<std::size_t>(ns);
  const unsigned shift = width - (kSubBucketBits + 1);
  return (shift << kSubBucketBits) + static_cast<std::size_t>(ns >> shift);
}

std::uint64_t LatencyHistogram::highest_in(std::size_t bucket) noexcept {
  if (bucket < 2 * kSubBucketCount) return bucket;
  const std::size_t shift = (bucket >> kSubBucketBits) - 1;
  const std::uint64_t step = kSubBucketCount + (bucket & (kSubBucketCount - 1));
  return ((step + 1) << shift) - 1;
}

void LatencyHistogram::record(std::chrono::nanoseconds latency) noexcept {
  const auto ns = static_cast<std::uint64_t>(std::max<std::chrono::nanoseconds::rep>(latency.count(), 0));
  ++buckets_[bucket_of(ns)];
  ++count_;
  max_ns_ = std::max(max_ns_, ns);
}

void LatencyHistogram::merge(const LatencyHistogram& other) noexcept {
  for (std::size_t i = 0; i < kBucketCount; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  max_ns_ = std::max(max_ns_, other.max_ns_);
}

std::uint64_t LatencyHistogram::count_up_to(std::uint64_t ns) const noexcept {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i <= bucket_of(ns); ++i) count += buckets_[i];
  return count;
}

std::uint64_t LatencyHistogram::quantile_ns(double fraction) const noexcept {
  if (count_ == 0) return 0;
  const double wanted = std::ceil(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(count_));
  const std::uint64_t rank = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(wanted), 1, count_);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBucketCount; ++i) {
    seen += buckets_[i];
    if (seen < rank) continue;
    // The last bucket also stands for everything beyond the range, which only the maximum remembers.
    return i + 1 == kBucketCount ? max_ns_ : std::min(highest_in(i), max_ns_);
  }
  return max_ns_;
}

std::string LatencyHistogram::to_text() const {
  std::ostringstream text;
  text << count_ << ' ' << max_ns_;
  for (std::size_t i = 0; i < kBucketCount; ++i) {
    if (buckets_[i] != 0) text << ' ' << i << ':' << buckets_[i];
  }
  return text.str();
}

std::optional<LatencyHistogram> LatencyHistogram::from_text(const std::string& text) {
  LatencyHistogram histogram;
  std::istringstream in(text);
  if (!(in >> histogram.count_ >> histogram.max_ns_)) return std::nullopt;
  std::uint64_t total = 0;
  std::size_t bucket = 0;
  while (in >> bucket) {
    char colon = 0;
    std::uint64_t count = 0;
    if (!(in >> colon >> count) || colon != ':' || bucket >= kBucketCount) return std::nullopt;
    histogram.buckets_[bucket] += count;
    total += count;
  }
  if (!in.eof() || total != histogram.count_) return std::nullopt;
  return histogram;
}

LatencySummary summarize(const LatencyHistogram& histogram) noexcept {
  return {histogram.count(), histogram.quantile_ns(0.5), histogram.quantile_ns(0.99), histogram.quantile_ns(0.999),
          histogram.max_ns()};
}

std::optional<double> median(std::span<const double> values) {
  const auto whole = spread(values);
  return whole ? std::optional(whole->median) : std::nullopt;
}

std::optional<Spread> spread(std::span<const double> values) {
  if (values.empty()) return std::nullopt;
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double fraction) {
    const double place = fraction * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    return std::lerp(sorted[below], sorted[above], place - static_cast<double>(below));
  };
  return Spread{at(0.5), at(0.25), at(0.75)};
}

std::optional<Spread> spread_of_ratios(std::span<const double> measured, std::span<const double> limit) {
  if (measured.size() != limit.size()) return std::nullopt;
  std::vector<double> ratios;
  for (std::size_t i = 0; i < measured.size(); ++i) {
    if (limit[i] > 0) ratios.push_back(measured[i] / limit[i]);
  }
  return spread(ratios);
}

}  // namespace cdmf::ipc::cli
