#pragma once
// ipc/spin_budget.h: how long a receiver looks for the next message before it sleeps. Part of the SDK: nothing of it
// crosses the C ABI.
//
// To wake a sleeping thread costs its waker more than a small message's whole way through a socket, and the sleeper as
// much again. A receiver that has just got a message and spins meets the answer to its own one awake, when that comes
// at once.
#include <algorithm>
#include <cstdint>

namespace cdmf::ipc {

/// Spinning pays when something comes meanwhile: then the next wait may spin up to the limit. Otherwise the budget
/// halves, and below an eighth of the limit it is nothing. As something must show that times have changed, the 16th
/// wait after that tries the limit, and each time in vain the next try comes twice as late, at the 1024th at most.
///
/// A spinning receiver gives way (sched_yield) after each look. Where others want the CPU, that takes until their
/// slices are over, and a sleeper would have been woken sooner: when a turn took kCrowdedNs, say crowded() and sleep.
/// [receiver]
class SpinBudget {
 public:
  static constexpr unsigned kProbeMin = 16;  // Waits.
  static constexpr unsigned kProbeMax = 1024;
  static constexpr std::uint64_t kCrowdedNs = 50'000;

  explicit SpinBudget(std::uint64_t limit_ns) noexcept : limit_ns_(limit_ns), now_ns_(limit_ns) {}

  /// Nanoseconds to spin in this wait.
  std::uint64_t next() noexcept {
    if (now_ns_ != 0 || ++waits_ < probe_) return now_ns_;
    waits_ = 0;
    return limit_ns_;
  }
  void paid() noexcept {
    now_ns_ = limit_ns_;
    probe_ = kProbeMin;
    waits_ = 0;
  }
  void wasted() noexcept {
    if (now_ns_ == 0) return try_later();
    now_ns_ = now_ns_ / 2 < limit_ns_ / 8 ? 0 : now_ns_ / 2;
  }
  void crowded() noexcept {
    now_ns_ = 0;
    try_later();
  }

 private:
  void try_later() noexcept { probe_ = std::min(2 * probe_, kProbeMax); }

  const std::uint64_t limit_ns_;
  std::uint64_t now_ns_;
  unsigned probe_ = kProbeMin;
  unsigned waits_ = 0;
};

}  // namespace cdmf::ipc
