#pragma once
// wait/spinner.h: how long a receiver spins before it sleeps.
#include <sched.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "ipc/driver.h"

namespace cdmf::ipc::shm {

/// Tells the CPU that this is a waiting loop: it then leaves the loop faster, and leaves more to its sibling.
inline void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#endif
}

/// Spins until done(), for spin_ns (kForever: without limit) or until the deadline; true: done. With `yields`, gives
/// way to other threads at each turn.
template <typename Done>
bool spin_until(std::uint64_t spin_ns, std::uint64_t deadline, bool yields, Done&& done) noexcept {
  // Reading the clock costs as much as many looks at a cached line, and many waits end before it is worth while.
  constexpr unsigned kTurnsPerLook = 64;
  constexpr unsigned kTurnsPerPause = 4;  // A pause is some 15 ns, in which nothing is noticed.
  std::uint64_t until = 0;
  for (;;) {
    for (unsigned turn = 0; turn < kTurnsPerLook; ++turn) {
      if (done()) return true;
      if (yields) {
        sched_yield();
      } else if (turn % kTurnsPerPause == 0) {
        cpu_relax();
      }
    }
    const std::uint64_t now = monotonic_now_ns();
    if (until == 0) until = std::min(deadline, spin_ns > kForever - now ? kForever : now + spin_ns);
    if (until != kForever && now >= until) return done();
  }
}

inline constexpr std::int32_t kSeveralCpus = -1;
/// The CPU that this process is bound to; kSeveralCpus when it may run on several.
inline std::int32_t only_cpu() noexcept {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) != 1) return kSeveralCpus;
  std::int32_t cpu = 0;
  while (!CPU_ISSET(static_cast<std::size_t>(cpu), &set)) ++cpu;
  return cpu;
}
/// Whether two processes so bound can run at the same time: otherwise spinning only keeps the peer from running.
constexpr bool can_run_together(std::int32_t one, std::int32_t other) noexcept {
  return one == kSeveralCpus || other == kSeveralCpus || one != other;
}

/// The adaptive budget: all of it, or nothing. Spinning pays when something arrives meanwhile. When it did not in four
/// waits more than it did, there is none, but in one wait of 16, as something must show that times have changed: when
/// that pays, the budget is back. (Never a part of it: what arrives after 10 us does not show in a budget that has
/// shrunk to 8, or grows from 1, so that the end of a pause left one side of a conversation asleep between messages for
/// ever. 64 KiB there and back with checksums then took 38 us instead of 18.)
class AdaptiveBudget {
 public:
  explicit AdaptiveBudget(std::uint64_t limit_ns) noexcept : limit_ns_(limit_ns) {}

  /// Nanoseconds to spin in this wait. peer_was_woken  since the one before.
  std::uint64_t next(bool peer_was_woken) noexcept {
    if (limit_ns_ == 0 || (wasted_ == kWastedMax && ++waits_ % kProbe != 0)) return 0;
    return limit_ns_ + (peer_was_woken ? kWakeMaxNs : 0);
  }
  void paid() noexcept { wasted_ = wasted_ == 0 || wasted_ == kWastedMax ? 0 : wasted_ - 1; }
  void wasted() noexcept { wasted_ = std::min(wasted_ + 1, kWastedMax); }

  static constexpr std::uint64_t kWakeMaxNs = 100'000;  // What waking a peer takes at most, as a rule.

 private:
  static constexpr unsigned kWastedMax = 4;
  static constexpr unsigned kProbe = 16;
  std::uint64_t limit_ns_;
  unsigned wasted_ = 0;  // Waits more than paid, 0 to kWastedMax.
  unsigned waits_ = 0;   // Those that did not spin, and the probes among them.
};

}  // namespace cdmf::ipc::shm
