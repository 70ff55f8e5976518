#pragma once
// cli/bench/statistics.h: what a benchmark keeps of its measurements: a latency histogram of fixed size, and medians.
// Rules: compare what was measured in the same round, and report the median of the rounds.
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
namespace cdmf::ipc::cli {

/// Counts latencies in nanoseconds. Values below 512 ns are kept exactly, larger ones to within 1/256, up to 2^40 ns
/// (18 minutes); longer ones count as that, except in max_ns(), which is always exact.
/// Memory is fixed (64 KiB), so recording neither allocates nor meets a page fault while the clock runs, and histograms
/// of several rounds or processes can be added. One thread at a time.
class LatencyHistogram {
 public:
  /// Adds one latency; a negative one (a clock that stepped) counts as 0.
  void record(std::chrono::nanoseconds latency) noexcept;

  /// Adds everything `other` has counted.
  void merge(const LatencyHistogram& other) noexcept;

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t max_ns() const noexcept { return max_ns_; }

  /// How many latencies were at most `ns`; those within 1/256 above it may count as well.
  [[nodiscard]] std::uint64_t count_up_to(std::uint64_t ns) const noexcept;

  /// The smallest value that at least `fraction` of all samples do not exceed, rounded up by at most 1/256.
  /// fraction  0 to 1: 0.5 is p50, 0.999 is p99.9.
  /// returns   0 while nothing has been recorded.
  [[nodiscard]] std::uint64_t quantile_ns(double fraction) const noexcept;

  /// The counts as one line of text, for the way from a child process to its parent.
  [[nodiscard]] std::string to_text() const;

  /// Reads to_text()'s output back. returns nothing when the text is not such an output.
  [[nodiscard]] static std::optional<LatencyHistogram> from_text(const std::string& text);

 private:
  static constexpr unsigned kSubBucketBits = 8;  // 256 buckets to each doubling.
  static constexpr unsigned kValueBitsMax = 40;
  static constexpr std::size_t kSubBucketCount = std::size_t{1} << kSubBucketBits;
  static constexpr std::size_t kBucketCount = (kValueBitsMax - kSubBucketBits + 1) * kSubBucketCount;

  [[nodiscard]] static std::size_t bucket_of(std::uint64_t ns) noexcept;
  [[nodiscard]] static std::uint64_t highest_in(std::size_t bucket) noexcept;

  std::array<std::uint64_t, kBucketCount> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ns_ = 0;
};

/// The four figures a benchmark prints, in nanoseconds.
struct LatencySummary {
  std::uint64_t count = 0;
  std::uint64_t p50_ns = 0;
  std::uint64_t p99_ns = 0;
  std::uint64_t p999_ns = 0;
  std::uint64_t max_ns = 0;
};
[[nodiscard]] LatencySummary summarize(const LatencyHistogram& histogram) noexcept;

/// The middle value, or the mean of the two middle ones. Nothing for an empty span. Values must not be NaN.
[[nodiscard]] std::optional<double> median(std::span<const double> values);

/// The median with the range around it that holds the middle half of the values.
struct Spread {
  double median = 0;
  double low = 0;   // First quartile.
  double high = 0;  // Third quartile.
};
[[nodiscard]] std::optional<Spread> spread(std::span<const double> values);

/// Divides round by round, then takes the spread of the quotients. Machines change speed by 4x within seconds to
/// minutes (frequency, where a hypervisor puts the cores), so the quotient of two medians would compare different
/// machines. measured, limit  One value per round, taken seconds apart; of the same length. returns          Nothing
/// when no round has a positive limit or the lengths differ.
[[nodiscard]] std::optional<Spread> spread_of_ratios(std::span<const double> measured, std::span<const double> limit);

}  // namespace cdmf::ipc::cli
