#pragma once
// link.h: one connection inside the process: two bounded queues of frames, one each way, and how it ended.
// Both ends share it; every method may be called by any thread.
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "alarm.h"
#include "ipc/plugin_abi.h"

namespace cdmf::ipc::loopback {

/// The end of a link that a driver holds. As a direction: what that end sends.
enum class Side : unsigned { kServer = 0, kClient = 1 };
[[nodiscard]] constexpr Side other(Side side) noexcept { return side == Side::kServer ? Side::kClient : Side::kServer; }

/// One frame on its way. The memory moves from the sender's claim to the receiver's view; nobody copies it.
struct Frame {
  std::unique_ptr<std::byte[]> bytes;  ///< from new[], hence aligned to CDMF_FRAME_ALIGNMENT
  std::size_t size = 0;
  std::uint64_t timestamp_us = 0;
};
static_assert(__STDCPP_DEFAULT_NEW_ALIGNMENT__ >= CDMF_FRAME_ALIGNMENT);

/// Fixed from the start: the server's rules hold for both ends.
struct LinkLimits {
  std::size_t queue_bytes = 0;     ///< claimed, queued, handed out and held frames of one direction together
  std::size_t frame_size_max = 0;  ///< at most queue_bytes
};

/// Invariant  The first `visible` frames of a direction are flushed; the rest is committed only.
///            `used` counts every byte from claim() until give_back(), so memory is bounded whatever a receiver holds.
class Link {
 public:
  enum class Taken { kFrame, kNothing, kEnded };

  Link(LinkLimits limits, std::shared_ptr<Alarm> server, std::shared_ptr<Alarm> client);

  // ---- The sending end. Statuses are those of cdmf_driver_ops; once the link is over, its reason. --------------

  [[nodiscard]] cdmf_status claim(Side from, std::size_t size, Frame& frame);
  /// Takes the claimed frame, of which the first size bytes count.
  [[nodiscard]] cdmf_status commit(Side from, Frame frame, std::size_t size, bool flush);
  void abort(Side from, const Frame& frame);
  [[nodiscard]] cdmf_status flush(Side from);
  /// Waits until claim(from, size) may work, or interrupts differs from interrupts_before.
  [[nodiscard]] cdmf_status await_space(Side from, std::size_t size, std::uint64_t deadline,
                                        const std::atomic<std::uint64_t>& interrupts, std::uint64_t interrupts_before);
  /// Makes waiters look at their interrupts again.
  void wake_waiters(Side from);

  // ---- The receiving end ---------------------------------------------------------------------------------------

  /// kEnded comes after the last flushed frame.
  [[nodiscard]] Taken take(Side to, Frame& frame);
  /// Whether take() has anything but kNothing to say.
  [[nodiscard]] bool receivable(Side to);
  /// A frame of that direction was read: its bytes are room again.
  void give_back(Side from, std::size_t bytes, bool was_held);
  /// Counts a taken frame as held; false when held frames would take more than half of the queue.
  [[nodiscard]] bool hold(Side from, std::size_t bytes);

  // ---- The end -------------------------------------------------------------------------------------------------

  /// Ends the link for both ends; the first reason stays. The other end still receives what was flushed to it; what
  /// was on its way to this end, and what neither end flushed, is lost.
  void end(Side by, cdmf_status reason);
  [[nodiscard]] cdmf_status end_reason();
  /// Messages from or for the peer that the end lost, as this side knows it.
  [[nodiscard]] std::uint64_t lost(Side side);

 private:
  struct Direction {
    std::deque<Frame> frames;
    std::size_t visible = 0;
    std::size_t used = 0;
    std::size_t held = 0;
    bool claimed = false;
    std::condition_variable room;
    std::shared_ptr<Alarm> receiver;
  };
  Direction& direction(Side from) { return directions_[static_cast<unsigned>(from)]; }
  void publish(Direction& out);

  const LinkLimits limits_;
  std::mutex mutex_;
  std::array<Direction, 2> directions_;  // By the sending side.
  cdmf_status end_ = CDMF_OK;
  std::array<std::uint64_t, 2> lost_{};  // By the side that is told.
};

}  // namespace cdmf::ipc::loopback
