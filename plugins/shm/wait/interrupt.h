#pragma once
// wait/interrupt.h: a request to end a wait, as Driver::interrupt() makes it.
#include <atomic>
#include <cstdint>

namespace cdmf::ipc::shm {

/// An interrupt that ends the waits that run, or else the next one.
class Interrupt {
 public:
  void raise() noexcept {
    pending_.store(true, std::memory_order_relaxed);
    count_.fetch_add(1, std::memory_order_seq_cst);
  }
  std::uint64_t count() const noexcept { return count_.load(std::memory_order_acquire); }
  /// Whether it concerns a wait that began when count() was `began`.
  bool raised(std::uint64_t began) const noexcept {
    return pending_.load(std::memory_order_relaxed) || count() != began;
  }
  /// The same, and the next wait is free of it.
  bool take(std::uint64_t began) noexcept {
    const bool later = count() != began;
    // The load first: an exchange would make each wait drain the CPU's stores.
    return (pending_.load(std::memory_order_relaxed) && pending_.exchange(false, std::memory_order_relaxed)) || later;
  }

 private:
  std::atomic<bool> pending_{false};
  std::atomic<std::uint64_t> count_{0};
};

}  // namespace cdmf::ipc::shm
