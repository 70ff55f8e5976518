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
///     takes long rests, a few us, and everything else short ones.
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
  static constexpr std::uint32_t kDoublingsMax = 7;  // 256 pauses.
  static constexpr std::uint32_t kItemsPerPause = 2;

  std::uint64_t rested_at_ = 0;
  std::uint32_t doublings_ = 0;
};

/// Likewise for rings whose ends swap a count for each item: while such ends keep up with one another they are too slow
/// for any stretch to show a stream. So now and then, ever more rarely, the longest rest is tried, and kept to if it
/// brought a run of items: a few microseconds at the 64th item, at the 192nd, and so on.
///
/// Relaxed atomics: the threads of one side may share it. What they then mix up is the length of a rest.
class ProbingPace {
 public:
  constexpr ProbingPace() noexcept = default;
  ProbingPace(const ProbingPace&) noexcept {}  // Begins anew.
  ProbingPace& operator=(const ProbingPace&) = delete;

  /// As in Pace.
  bool moved(std::uint64_t position) const noexcept { return position != rested_at_.load(std::memory_order_relaxed); }

  /// Returns how many pauses it took.
  std::uint32_t rest(std::uint64_t position) noexcept {
    constexpr auto kRelaxed = std::memory_order_relaxed;
    const std::uint64_t stretch = position - rested_at_.load(kRelaxed);
    const std::uint32_t mistakes = mistakes_.load(kRelaxed);
    std::uint32_t doublings = doublings_.load(kRelaxed);
    if (stretch >= std::max(kRunItems, std::uint64_t{kPausesMin} << doublings >> 1)) {
      doublings = std::min(doublings + 1, kDoublingsMax);
      probed_at_.store(position, kRelaxed);
      mistakes_.store(0, kRelaxed);
    } else if (position - probed_at_.load(kRelaxed) >= kProbeItems << mistakes) {
      doublings = kDoublingsMax;
      probed_at_.store(position, kRelaxed);
      mistakes_.store(std::min(mistakes + 1, kMistakesMax), kRelaxed);
    } else {
      doublings = 0;
    }
    doublings_.store(doublings, kRelaxed);
    rested_at_.store(position, kRelaxed);
    for (std::uint32_t left = kPausesMin << doublings; left != 0; --left) pause();
    return kPausesMin << doublings;
  }

 private:
  static constexpr std::uint32_t kPausesMin = 2;
  static constexpr std::uint32_t kDoublingsMax = 7;  // 256 pauses: 1 to 14 us.
  static constexpr std::uint64_t kRunItems = 4;      // And one for every two pauses of the rest before.
  static constexpr std::uint64_t kProbeItems = 64;
  static constexpr std::uint32_t kMistakesMax = 32;

  // All 0 at first, so that a static ring takes no room in the program.
  std::atomic<std::uint64_t> rested_at_{0};
  std::atomic<std::uint64_t> probed_at_{0};  // Where the last long rest was tried, or was right.
  std::atomic<std::uint32_t> mistakes_{0};   // Long rests, in a row, that brought no run; the one under way included.
  std::atomic<std::uint32_t> doublings_{0};
};

}  // namespace cdmf::ipc::ring_buffer_detail
