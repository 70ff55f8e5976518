#pragma once
// wait/full_fence.h: the fence between "I have written mine" and "now I read yours" that both sides of a wake-up need.
#include <atomic>

namespace cdmf::ipc::shm {

/// Keeps a store before it from being overtaken by a load after it (StoreLoad). With one on each side, of two parties
/// that each store their own word and then load the other's, at least one sees the other's store.
inline void full_fence() noexcept {
#if defined(__SANITIZE_THREAD__)
  // The thread sanitizer does not know fences. Two read-modify-writes of one word order the same things.
  static std::atomic<int> word{0};
  word.fetch_add(1, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace cdmf::ipc::shm
