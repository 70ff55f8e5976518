#pragma once
// wait/bell_watch.h: whether a peer rings our eventfd as the protocol has it, or to take the receiver's time.
//
// A receiver that is about to sleep announces it in `armed`; a sender that finds it there takes it back by an exchange
// and rings, once (wait/bell.h). So there are rings nobody asked for, which prove a peer wrong, and rings that were
// asked for and brought nothing, which prove nothing.
//
// Unasked. Credit goes up by one with each announcement and down by one with each ring that is heard; at its limit it
// stays. Of a correct peer it never falls below kCredit - 3, however the two sides are scheduled: each ring takes back
// one announcement, made before it; epoll reports each write once at most (edge-triggered), and nothing else is
// reported, as a link is watched from before its first announcement on and nobody else writes to its eventfd. So since
// credit was at its limit last, no more was heard than was announced, and what was under way then: one ring that epoll
// had not reported yet (it holds one, however many writes it stands for), one whose announcement the sender had taken
// but not yet rung for, one announcement that stood. A peer out of credit has rung 61 times more often than that.
//
// In vain. The receiver's last look may find what the ring is about to tell of: that ring comes late, and something was
// received since the ring before. A peer whose messages are all held, and whose ring is full, rings at each try for
// nothing at all. One that does so kVainMax times more often than its rings brought something is not announced for
// a while: a correct peer does not ring then, and waits for the end of that while at most, as the receiver looks at its
// ring whenever it is awake, and then. One that rings all the same runs out of credit.
#include <cstdint>
#include <utility>

namespace cdmf::ipc::shm {

/// Of one link, the receiver's own.
class BellWatch {
 public:
  static constexpr std::uint32_t kCredit = 64;
  static constexpr std::uint32_t kVainMax = 8;
  static constexpr std::uint64_t kQuietNs = 10'000'000;  // See in_vain.

  enum class Ring : std::uint8_t {
    fine,
    in_vain,  // Announce nothing on this link for kQuietNs.
    unasked,  // The peer is no correct one.
  };

  /// kArmedFd was stored.
  void announced() noexcept { credit_ += credit_ < kCredit ? 1 : 0; }
  /// received  how far the receiver got in the ring; any number that changes when it receives
  Ring heard(std::uint64_t received) noexcept {
    if (credit_ == 0) return Ring::unasked;
    --credit_;
    if (std::exchange(received_, received) != received) {
      vain_ -= vain_ != 0 ? 1 : 0;
      return Ring::fine;
    }
    if (vain_ == kVainMax) return Ring::in_vain;
    ++vain_;
    return Ring::fine;
  }

  bool quiet = false;  // As in_vain says: ring or not, it is not announced now.

 private:
  std::uint32_t credit_ = kCredit;
  std::uint32_t vain_ = 0;
  std::uint64_t received_ = 0;
};

}  // namespace cdmf::ipc::shm
