#include "wall_clock.h"

#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace cdmf::ipc::shm {
namespace {

constexpr std::uint64_t kValidNs = 1'000'000;
// The speed is good to the error of two readings, some 0.1 us, over this time: 0.01 us in a millisecond.
constexpr std::uint64_t kMeasureNs = 10'000'000;
constexpr std::uint64_t kMeasureAgainNs = 1'000'000'000;
// Ticks; a few microseconds on any CPU. Longer, and the thread was interrupted between two clocks.
constexpr std::uint64_t kPairTicksMax = 10'000;

std::uint64_t nanoseconds(clockid_t clock) noexcept {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

#if defined(__x86_64__)
// "Invariant TSC": one speed in all states of the CPU.
bool has_even_counter() noexcept {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(0x8000'0007, &eax, &ebx, &ecx, &edx) != 0 && (edx & 1u << 8) != 0;
}
#endif

}  // namespace

std::uint64_t WallClock::renew() noexcept {
  valid_ticks_ = 0;
#if defined(__x86_64__)
  static const bool even = has_even_counter();
  if (even) {
    const std::uint64_t before = __builtin_ia32_rdtsc();
    const std::uint64_t monotonic_ns = nanoseconds(CLOCK_MONOTONIC);
    const std::uint64_t real_ns = nanoseconds(CLOCK_REALTIME);
    const std::uint64_t ticks = __builtin_ia32_rdtsc();
    if (ticks - before > kPairTicksMax) return real_ns / 1000;
    const std::uint64_t elapsed_ns = monotonic_ns - first_ns_;
    if (first_ns_ == 0 || ticks <= first_ticks_) {
      first_ticks_ = ticks;
      first_ns_ = monotonic_ns;
      fractions_per_tick_ = 0;
    } else if (elapsed_ns >= (fractions_per_tick_ == 0 ? kMeasureNs : kMeasureAgainNs)) {
      const double us_per_tick = static_cast<double>(elapsed_ns) / 1000 / static_cast<double>(ticks - first_ticks_);
      fractions_per_tick_ = static_cast<std::uint64_t>(us_per_tick * 4294967296.0);
      first_ticks_ = ticks;
      first_ns_ = monotonic_ns;
    }
    if (fractions_per_tick_ != 0) {
      anchor_ticks_ = ticks;
      anchor_us_ = real_ns / 1000;
      anchor_fraction_ = (real_ns % 1000 << 32) / 1000;
      valid_ticks_ = (kValidNs / 1000 << 32) / fractions_per_tick_;
    }
    return real_ns / 1000;
  }
#endif
  return nanoseconds(CLOCK_REALTIME) / 1000;
}

}  // namespace cdmf::ipc::shm
