#pragma once
// wait/spinner.h: how long a receiver spins before it sleeps.
#include <sched.h>

#include <algorithm>
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

/// Spins until done() or the deadline; true: done. With `yields`, gives way to other threads at each turn.
template <typename Done>
bool spin_until(std::uint64_t deadline, bool yields, Done&& done) noexcept {
  constexpr unsigned kTurnsPerLook = 32;  // Reading the clock costs as much as many looks at a cached line.
  for (;;) {
    for (unsigned turn = 0; turn < kTurnsPerLook; ++turn) {
      if (done()) return true;
      if (yields) {
        sched_yield();
      } else {
        cpu_relax();
      }
    }
    if (deadline != kForever && monotonic_now_ns() >= deadline) return done();
  }
}

/// CPUs that this process may run on; 1 when the kernel does not say.
inline int usable_cpu_count() noexcept {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/// The adaptive budget. Spinning pays when something arrives meanwhile: then the budget grows back to its limit,
/// otherwise it halves, down to nothing. As something must show that times have changed, one wait in 16 tries the whole
/// budget. With one CPU it is always 0: the peer cannot run while we spin.
class AdaptiveBudget {
 public:
  AdaptiveBudget(std::uint64_t limit_ns, int cpu_count) noexcept
      : limit_ns_(cpu_count > 1 ? limit_ns : 0), now_ns_(limit_ns_) {}

  /// Nanoseconds to spin in this wait.
  std::uint64_t next() noexcept { return now_ns_ == 0 && ++waits_ % kProbe == 0 ? limit_ns_ : now_ns_; }
  void paid() noexcept { now_ns_ = std::min(limit_ns_, now_ns_ * 2 + kFloorNs); }
  void wasted() noexcept { now_ns_ = now_ns_ / 2 < kFloorNs ? 0 : now_ns_ / 2; }

 private:
  static constexpr std::uint64_t kFloorNs = 1000;
  static constexpr unsigned kProbe = 16;
  std::uint64_t limit_ns_;
  std::uint64_t now_ns_;
  unsigned waits_ = 0;
};

}  // namespace cdmf::ipc::shm
