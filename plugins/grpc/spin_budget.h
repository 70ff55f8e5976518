#pragma once
// spin_budget.h: how long a receiver looks for the next message before it sleeps.
//
// To wake a sleeping thread costs its waker as much as the whole way of a small message through gRPC, and the sleeper
// as much again. A receiver that has just got a message and spins meets the answer to its own one awake, when that
// comes at once.
#include <cstdint>

namespace cdmf::ipc::grpc_transport {

/// Spinning pays when something comes meanwhile: then the next wait may spin up to the limit. Otherwise the budget
/// halves, and below an eighth of the limit it is nothing. As something must show that times have changed, one wait in
/// kProbe tries the limit. [receiver]
class SpinBudget {
 public:
  static constexpr unsigned kProbe = 16;

  explicit SpinBudget(std::uint64_t limit_ns) noexcept : limit_ns_(limit_ns), now_ns_(limit_ns) {}

  /// Nanoseconds to spin in this wait.
  std::uint64_t next() noexcept { return now_ns_ == 0 && ++waits_ % kProbe == 0 ? limit_ns_ : now_ns_; }
  void paid() noexcept { now_ns_ = limit_ns_; }
  void wasted() noexcept { now_ns_ = now_ns_ / 2 < limit_ns_ / 8 ? 0 : now_ns_ / 2; }

 private:
  const std::uint64_t limit_ns_;
  std::uint64_t now_ns_;
  unsigned waits_ = 0;
};

}  // namespace cdmf::ipc::grpc_transport
