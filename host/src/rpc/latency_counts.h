#pragma once
// rpc/latency_counts.h: latencies of calls, counted by any thread while others look: eight buckets to each doubling.
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

namespace cdmf::ipc::rpc {

class LatencyCounts {
 public:
  void record(std::uint64_t ns) noexcept { counts_[bucket_of(ns)].fetch_add(1, std::memory_order_relaxed); }

  [[nodiscard]] std::uint64_t count() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& count : counts_) sum += count.load(std::memory_order_relaxed);
    return sum;
  }

  /// The upper end of the bucket that holds it, at most an eighth too high. 0 while nothing was recorded.
  [[nodiscard]] std::uint64_t quantile_ns(double fraction) const noexcept {
    const std::uint64_t total = count();
    std::uint64_t seen = 0;
    for (std::size_t bucket = 0; bucket < counts_.size(); ++bucket) {
      seen += counts_[bucket].load(std::memory_order_relaxed);
      if (seen > 0 && static_cast<double>(seen) >= fraction * static_cast<double>(total)) return highest_in(bucket);
    }
    return 0;
  }

 private:
  static constexpr unsigned kBitsMax = 44;  // Almost five hours.

  static std::size_t bucket_of(std::uint64_t ns) noexcept {
    const auto width = static_cast<unsigned>(std::bit_width(ns));
    if (width <= 3) return ns;
    if (width > kBitsMax) return kBuckets - 1;
    return (width - 3) * 8 + (ns >> (width - 4) & 7);
  }
  static std::uint64_t highest_in(std::size_t bucket) noexcept {
    if (bucket < 8) return bucket;
    const auto shift = static_cast<unsigned>(bucket / 8 - 1);
    return ((8 + bucket % 8 + 1) << shift) - 1;
  }

  static constexpr std::size_t kBuckets = (kBitsMax - 3) * 8 + 8;
  std::array<std::atomic<std::uint64_t>, kBuckets> counts_{};
};

}  // namespace cdmf::ipc::rpc
