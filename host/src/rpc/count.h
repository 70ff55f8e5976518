#pragma once
// rpc/count.h: a number that anybody may read at any time, and that several threads count, or one alone.
#include <atomic>
#include <cstdint>

namespace cdmf::ipc::rpc {

class Count {
 public:
  /// alone  No other thread adds meanwhile: a third of the cost. Relaxed: the numbers order nothing.
  void add(bool alone = false) noexcept {
    if (alone) {
      value_.store(value_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    } else {
      value_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  [[nodiscard]] std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

}  // namespace cdmf::ipc::rpc
