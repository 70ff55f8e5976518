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

/// The adaptive budget. Spinning pays when something arrives meanwhile: then the budget grows back to its limit,
/// otherwise it halves, down to nothing. As something must show that times have changed, one wait in 16 tries the whole
/// budget. With one CPU it is always 0: the peer cannot run while we spin.
class AdaptiveBudget {
 public:
  explicit AdaptiveBudget(std::uint64_t limit_ns) noexcept : limit_ns_(limit_ns), now_ns_(limit_ns) {}

  /// Nanoseconds to spin in this wait. peer_was_woken  since the one before.
  std::uint64_t next(bool peer_was_woken) noexcept {
    const std::uint64_t spin_ns = now_ns_ == 0 && ++waits_ % kProbe == 0 ? limit_ns_ : now_ns_;
    return spin_ns != 0 && peer_was_woken ? spin_ns + kWakeMaxNs : spin_ns;
  }
  void paid() noexcept { now_ns_ = std::min(limit_ns_, now_ns_ * 2 + kFloorNs); }
  void wasted() noexcept { now_ns_ = now_ns_ / 2 < kFloorNs ? 0 : now_ns_ / 2; }

  static constexpr std::uint64_t kWakeMaxNs = 100'000;  // What waking a peer takes at most, as a rule.

 private:
  static constexpr std::uint64_t kFloorNs = 1000;
  static constexpr unsigned kProbe = 16;
  std::uint64_t limit_ns_;
  std::uint64_t now_ns_;
  unsigned waits_ = 0;
};

}  // namespace cdmf::ipc::shm
