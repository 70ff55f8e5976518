#include "pool/pool_bell.h"

#include <bit>

#include "wait/futex.h"

namespace cdmf::ipc::shm {

void PoolBell::sleep(std::uint64_t deadline) noexcept {
  const std::uint64_t slice = monotonic_now_ns() + kPoolSliceNs;
  futex_wait(own_word(), kPoolAsleep, deadline < slice ? deadline : slice);
}

void PoolBell::kick() noexcept {
  own_word().store(kPoolAwake, std::memory_order_release);
  futex_wake_all(own_word());
}

/// True: somebody slept there and has been woken. False: nobody, or one that is looking already.
bool PoolBell::call(std::uint32_t index) noexcept {
  std::atomic<std::uint32_t>& word = memory_.member(index).*word_;
  std::uint32_t state = kPoolAsleep;
  const bool first = word.compare_exchange_strong(state, kPoolCalled, std::memory_order_acq_rel);
  if (!first && state != kPoolCalled) return false;
  memory_.member(self_).wakes.fetch_add(1, std::memory_order_relaxed);  // Several threads of this member may call.
  const bool woken = futex_wake_all(word) > 0;
  state = kPoolCalled;
  word.compare_exchange_strong(state, kPoolAwake, std::memory_order_relaxed);
  return first && woken;  // Woken in another caller's place: that one's message, not ours.
}

[[gnu::noinline]] void PoolBell::ring_sleepers(std::uint32_t count) noexcept {
  constexpr std::uint32_t kWords = kPoolMembersMax / 64;
  const std::uint32_t start = next_ % kPoolMembersMax;
  // Once round, beginning and ending in the word of `start`.
  for (std::uint32_t turn = 0; turn <= kWords && count != 0; ++turn) {
    const std::uint32_t which = (start / 64 + turn) % kWords;
    std::uint64_t bits = sleepers_.bits[which].load(std::memory_order_relaxed);
    const std::uint64_t from_start = ~std::uint64_t{0} << (start % 64);
    if (turn == 0) bits &= from_start;
    if (turn == kWords) bits &= ~from_start;
    for (; bits != 0 && count != 0; bits &= bits - 1) {
      const std::uint32_t index = which * 64 + static_cast<std::uint32_t>(std::countr_zero(bits));
      if (!call(index)) continue;
      next_ = index + 1;
      --count;
    }
  }
}

void PoolBell::ring_all() noexcept {
  full_fence();  // ANNOUNCE
  for (std::uint32_t index = 0; index < kPoolMembersMax; ++index) {
    if ((memory_.member(index).*word_).load(std::memory_order_relaxed) != kPoolAwake) call(index);
  }
}

}  // namespace cdmf::ipc::shm
