#pragma once
// segment/memory_budget.h: how much memory all the segments of a server may take together.
#include <atomic>
#include <cstdint>
#include <memory>

namespace cdmf::ipc::shm {

class MemoryBudget {
 public:
  /// Part of the budget; given back when the last copy goes, wherever that is. Null: none.
  using Share = std::shared_ptr<void>;

  /// limit  0: none; then everything is granted, and nothing counted.
  explicit MemoryBudget(std::uint64_t limit) : limit_(limit), used_(std::make_shared<std::atomic<std::uint64_t>>(0)) {}

  /// False: less is left. [control-thread]
  [[nodiscard]] bool take(std::uint64_t bytes, Share& share) {
    if (limit_ == 0) return true;
    if (bytes > left()) return false;
    share = Share(nullptr, [used = used_, bytes](void*) { used->fetch_sub(bytes, std::memory_order_relaxed); });
    used_->fetch_add(bytes, std::memory_order_relaxed);  // One thread takes; others only give back.
    return true;
  }
  std::uint64_t limit() const noexcept { return limit_; }
  std::uint64_t left() const noexcept { return limit_ - used_->load(std::memory_order_relaxed); }

 private:
  std::uint64_t limit_;
  std::shared_ptr<std::atomic<std::uint64_t>> used_;  // Shares may outlive the budget.
};

}  // namespace cdmf::ipc::shm
