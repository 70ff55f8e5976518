#pragma once
// ipc/ring_buffer/pace.h: when one side of a typed ring should leave the other alone for a moment.
// Part of ipc/ring_buffer.h; include that one.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cdmf::ipc::ring_buffer_detail {

/// Tells the CPU that this is a waiting loop.
inline void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

/// Decides how long a side that has come to the end of its items, or of its room, waits before it looks once more.
///
/// A consumer that keeps up with its producer polls the very line being written to, and each look takes that line away
/// from the producer: both then move at the speed of single lines. Left alone for a moment, the producer fills a run of
/// lines, which then come over together. Likewise for a producer that waits for room. So the first look in vain at a
/// position is followed by a rest, and those after it by none:
///
///   - The shortest rest is less than a line takes to go there and back, so that whoever waits for an answer loses
///     nothing by it, and whoever is surprised by a message, less than 0.1 us.
///   - A rest is doubled as long as the stretch since the last one had two items for each pause of it: a stream then
///     takes long rests, 1 to 3 us, and everything else short ones.
class Pace {
 public:
  /// Whether this side has moved since its last rest. Written to in rests only: a store in a loop that polls would cost
  /// half as much again as the trip that it waits for (measured).
  bool moved(std::uint64_t position) const noexcept { return position != rested_at_; }

  void rest(std::uint64_t position) noexcept {
    const bool stream = position - rested_at_ >= std::uint64_t{kItemsPerPause} * kPausesMin << doublings_;
    doublings_ = stream ? std::min(doublings_ + 1, kDoublingsMax) : 0;
    rested_at_ = position;
    for (std::uint32_t left = kPausesMin << doublings_; left != 0; --left) pause();
  }

 private:
  static constexpr std::uint32_t kPausesMin = 2;     // 50 to 90 ns.
  static constexpr std::uint32_t kDoublingsMax = 5;  // 64 pauses.
  static constexpr std::uint32_t kItemsPerPause = 2;

  std::uint64_t rested_at_ = 0;
  std::uint32_t doublings_ = 0;
};

}  // namespace cdmf::ipc::ring_buffer_detail
