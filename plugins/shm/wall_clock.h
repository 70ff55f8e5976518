#pragma once
// wall_clock.h: the time of day for envelopes, cheap enough to be read once per flush.
#include <cstdint>

namespace cdmf::ipc::shm {

/// CLOCK_REALTIME in microseconds. clock_gettime() takes 25 ns and lets nothing overlap with it; this reads the CPU's
/// time stamp counter instead, and asks the system once a millisecond. It is within some microseconds of the system's
/// answer; when that is set, it follows within a millisecond. Where the counter is not known to run evenly in all
/// power states, it asks the system each time. One thread at a time.
class WallClock {
 public:
  std::uint64_t now_us() noexcept {
#if defined(__x86_64__)
    const std::uint64_t since = __builtin_ia32_rdtsc() - anchor_ticks_;
    // Also false when the counter went backwards: the difference is huge then.
    if (since < valid_ticks_) [[likely]]
      return anchor_us_ + ((anchor_fraction_ + since * fractions_per_tick_) >> 32);
#endif
    return renew();
  }

 private:
  std::uint64_t renew() noexcept;

  std::uint64_t anchor_ticks_ = 0;
  std::uint64_t valid_ticks_ = 0;  // After the anchor; 0: there is none.
  std::uint64_t anchor_us_ = 0;
  std::uint64_t anchor_fraction_ = 0;     // of a microsecond, in 2^-32.
  std::uint64_t fractions_per_tick_ = 0;  // The same unit. A millisecond is 1000 x 2^32 of them: no overflow.
  std::uint64_t first_ticks_ = 0;         // Where the speed of the counter is measured from.
  std::uint64_t first_ns_ = 0;            // By CLOCK_MONOTONIC, which nobody sets.
};

}  // namespace cdmf::ipc::shm
