#pragma once
// pool/pool_bell.h: how members of a pool sleep, and wake each other one at a time.
//
// A sleeper says so in its own word and in the summary (PoolSleepers), passes a full fence, and looks once more before
// it sleeps. Whoever has sent, or given room back, passes a full fence and looks at the summary; if somebody is there,
// it wakes as many as there is something to do for. Whoever is second sees the first (ANNOUNCE), so no wake-up is lost.
// The words:
//
//     awake --announce--> asleep --ring: swap--> called --ring: futex_wake--> awake
//       ^--------- stand_up, by the sleeper itself ---------'
//
// Nobody's death or stop can keep a wake-up from the sleeper for good:
//   - The caller stops or dies between its swap and its futex_wake: the word says `called`, and every later caller
//   wakes
//     the sleeper in its place. If there is none, the caller's own message waits with it until it goes on; its death is
//     noticed by each member's watch, which then wakes its own process's threads whatever their words say (kick).
//   - The sleeper was woken and dies before it takes what it was woken for: the same kick.
//   - The sleeper was woken and is stopped: others sleep at most kPoolSliceNs at a time, and then look for themselves.
//   - The sleeper dies asleep: its bit and its word stay. futex_wake says that it woke nobody, and the caller goes on
//   to
//     the next. Who attaches to the line starts anew.
#include <atomic>
#include <cstdint>

#include "ipc/driver.h"
#include "pool/pool_layout.h"
#include "wait/full_fence.h"

namespace cdmf::ipc::shm {

inline constexpr std::uint32_t kPoolAwake = 0;
inline constexpr std::uint32_t kPoolAsleep = 1;
inline constexpr std::uint32_t kPoolCalled = 2;
inline constexpr std::uint64_t kPoolSliceNs = 100'000'000;

/// One member's view of one of the two kinds of sleepers.
class PoolBell {
 public:
  using Word = std::atomic<std::uint32_t> PoolMember::*;

  PoolBell(const PoolMemory& memory, PoolSleepers PoolControl::*sleepers, Word word, std::uint32_t self) noexcept
      : memory_(memory), sleepers_(memory.control().*sleepers), word_(word), self_(self), next_(self + 1) {}

  // --- the sleeper ---

  /// A look at what is waited for, and then sleep() or stand_up(), must follow.
  void announce() noexcept {
    own_word().store(kPoolAsleep, std::memory_order_relaxed);  // Ordered by the fence.
    own_bits().fetch_or(own_bit(), std::memory_order_relaxed);
    full_fence();  // ANNOUNCE: between the word, the summary, and the ring.
  }
  /// The same for one that is woken by kick() and ring_all() alone: nobody's message is for it.
  void announce_unlisted() noexcept {
    own_word().store(kPoolAsleep, std::memory_order_relaxed);
    full_fence();  // ANNOUNCE
  }
  /// Once, until woken, the deadline or the end of a slice. Returns for other reasons too: look again.
  void sleep(std::uint64_t deadline) noexcept;
  void stand_up() noexcept {
    own_word().store(kPoolAwake, std::memory_order_relaxed);
    // Relaxed: a caller that still sees it finds the word awake.
    if ((own_bits().load(std::memory_order_relaxed) & own_bit()) != 0)
      own_bits().fetch_and(~own_bit(), std::memory_order_relaxed);
  }
  /// Wakes the threads of this process that sleep on this member's word, whatever it says. [any]
  void kick() noexcept;

  // --- whoever has something for sleepers ---

  /// After sending `count` messages, or giving back so many slots: wakes up to as many sleepers.
  void ring(std::uint32_t count) noexcept {
    full_fence();  // ANNOUNCE: between the ring and the summary.
    std::uint64_t any = 0;
    for (const auto& bits : sleepers_.bits) any |= bits.load(std::memory_order_relaxed);
    if (any != 0) [[unlikely]]
      ring_sleepers(count);
  }
  /// Wakes every member that sleeps, listed or not.
  void ring_all() noexcept;

 private:
  std::atomic<std::uint32_t>& own_word() noexcept { return memory_.member(self_).*word_; }
  std::atomic<std::uint64_t>& own_bits() noexcept { return sleepers_.bits[self_ / 64]; }
  std::uint64_t own_bit() const noexcept { return std::uint64_t{1} << (self_ % 64); }
  bool call(std::uint32_t index) noexcept;
  void ring_sleepers(std::uint32_t count) noexcept;

  PoolMemory memory_;
  PoolSleepers& sleepers_;
  Word word_;
  std::uint32_t self_;
  std::uint32_t next_;  // Where to start looking, so that everybody has a turn. The caller's own.
};

}  // namespace cdmf::ipc::shm
