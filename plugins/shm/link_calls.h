#pragma once
// link_calls.h: tells the receiver of links that need its attention for something that no record in their ring says.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>
#include <vector>

#include "ipc/driver.h"

namespace cdmf::ipc::shm {

/// Calls come from any thread; the receiver takes them. A link is on the list once at most, however often it calls, so
/// that a peer that makes it call without end has it take little memory and little of the receiver's time.
class LinkCalls {
 public:
  void add(cdmf_peer link) {
    const std::lock_guard lock(mutex_);
    if (std::find(links_.begin(), links_.end(), link) != links_.end()) return;
    links_.push_back(link);
    any_.store(true, std::memory_order_release);
  }
  bool any() const noexcept { return any_.load(std::memory_order_acquire); }
  [[nodiscard]] std::vector<cdmf_peer> take() {
    const std::lock_guard lock(mutex_);
    any_.store(false, std::memory_order_relaxed);
    return std::exchange(links_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<cdmf_peer> links_;
  std::atomic<bool> any_{false};
};

}  // namespace cdmf::ipc::shm
