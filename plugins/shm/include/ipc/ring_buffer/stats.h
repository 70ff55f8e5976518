#pragma once
// ipc/ring_buffer/stats.h: what a typed ring counts, and the switch that makes it count.
// Part of ipc/ring_buffer.h; include that one.
#include <cstdint>

namespace cdmf::ipc {

/// Third template argument of both rings. With `off`, the default, nothing is stored, counted or compared, and
/// `getStats()` does not exist, so that asking an uncounted ring for numbers does not compile.
enum class RingBufferCounting : bool { off, on };

/// A snapshot of a ring's counters since its construction. The counters are read one after the other while the ring may
/// be in use, so a sum over them is exact only when both sides are quiet.
struct RingBufferStats {
  std::uint64_t total_pushes = 0;   ///< Items accepted.
  std::uint64_t total_pops = 0;     ///< Items handed out.
  std::uint64_t failed_pushes = 0;  ///< Pushes refused because the ring was full; a bulk push that took nothing is one.
  std::uint64_t failed_pops = 0;    ///< Pops that found the ring empty; a bulk pop that gave nothing is one.
  std::uint64_t max_size = 0;       ///< Most items the ring was seen to hold, measured after each push.
  std::uint64_t capacity = 0;       ///< Most items the ring can hold.

  /// Highest fill level as a fraction of the capacity, 0 to 1.
  double getUtilization() const noexcept {
    return capacity == 0 ? 0.0 : static_cast<double>(max_size) / static_cast<double>(capacity);
  }

  /// Refused pushes per accepted item, so above 1 when most are refused. 0 when nothing was pushed.
  double getDropRate() const noexcept {
    return total_pushes == 0 ? 0.0 : static_cast<double>(failed_pushes) / static_cast<double>(total_pushes);
  }
};

}  // namespace cdmf::ipc
