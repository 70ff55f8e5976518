#pragma once
// link.h: one connected socket: a queue towards the peer, a buffer from the peer, and how it ended.
//
// Threads  Sending methods: any thread, under mutex_. Receiving methods: the receiver alone, without a lock. The two
//          meet in the queue (a receiver sends what the socket did not take at once) and in how the link ended.
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "fd.h"
#include "ipc/driver.h"
#include "receive_buffer.h"
#include "send_queue.h"

namespace cdmf::ipc::unix_socket {

/// Blocks that the views of the current burst lie in: pinned until it is released.
struct Burst {
  struct Segment {
    std::shared_ptr<Block> block;
    cdmf_peer peer;
  };
  std::vector<Segment> segments;  ///< token of a view: the index of its segment
};

class Link : public std::enable_shared_from_this<Link> {
 public:
  struct Limits {
    std::size_t frame_size_max = 0;
    std::size_t queue_bytes = 0;
    std::size_t read_bytes = 0;
    std::size_t packet_bytes = 0;              ///< SEQPACKET: of the largest packet; 0: STREAM
    std::chrono::nanoseconds frame_timeout{};  ///< for the next byte of a begun frame; 0: any time
  };

  /// uid  whose process is at the other end, and pidfd (may be none) that process.
  Link(cdmf_peer id, Fd socket, Fd pidfd, uid_t uid, const Limits& limits);

  [[nodiscard]] cdmf_peer id() const noexcept { return id_; }
  [[nodiscard]] uid_t uid() const noexcept { return uid_; }
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }

  // ---- Sending. Statuses are those of cdmf_driver_ops. ----------------------------------------------------------

  [[nodiscard]] cdmf_status claim(std::size_t size, cdmf_loan& loan);
  [[nodiscard]] static cdmf_status commit(const cdmf_loan& loan, std::size_t size, bool flush);
  static void abort(const cdmf_loan& loan);
  [[nodiscard]] cdmf_status flush(std::uint64_t deadline);
  [[nodiscard]] cdmf_status await_space(std::size_t size, std::uint64_t deadline,
                                        const std::atomic<std::uint64_t>& interrupts, std::uint64_t interrupts_before);
  /// Makes waiters look at their interrupts again.
  void wake_waiters();
  /// Sends what the socket did not take before. [receiver]
  void send_rest();
  /// Whether something waits for the socket to become writable.
  [[nodiscard]] bool is_behind() const noexcept { return behind_.load(std::memory_order_relaxed); }

  // ---- Receiving [receiver] -------------------------------------------------------------------------------------

  /// Adds the socket to the receiver's epoll set, with this object as the event's data, and the peer's process with
  /// kProcessTag added to it. False: errno says why.
  [[nodiscard]] bool watch(int epoll);
  static constexpr std::uintptr_t kProcessTag = 1;
  /// Leaves the set, because that goes away. Nothing is received any more.
  void unwatch();
  /// Waits in recv() itself, for kReadWaitMs at most and without being woken by anything but this socket. True: bytes
  /// came, or the end did. Saves a system call and a wake-up list compared to epoll followed by recv.
  [[nodiscard]] bool wait_by_reading();
  static constexpr int kReadWaitMs = 5;
  /// The same, without waiting. Anything that came is to be received before the next call.
  [[nodiscard]] bool read_now();
  /// The socket may have something to read.
  void set_readable() noexcept { readable_ = true; }
  /// The peer's process has ended. What it sent is still received, and then its end: a child that it forked may keep
  /// the socket open for ever.
  void set_process_ended();
  /// When a frame that has begun and does not go on has to end the link; kForever: there is none.
  [[nodiscard]] std::uint64_t frame_deadline() const noexcept;
  /// Fills views from the socket. The last one of the link is PEER_DISCONNECTED, after which the link is done.
  [[nodiscard]] std::size_t receive(std::span<cdmf_view> views, Burst& burst);
  [[nodiscard]] bool is_done() const noexcept { return done_; }
  /// Which rule the peer broke, in words for a log; empty: none.
  [[nodiscard]] const char* problem() const noexcept { return problem_; }
  /// Whether receive() may have more without another word of epoll.
  [[nodiscard]] bool has_more() const noexcept;
  bool queued = false;  ///< the driver's: in its list of links with something to do

  // ---- The end --------------------------------------------------------------------------------------------------

  /// Ends the link from this side: what was flushed leaves if the peer takes it until deadline, then a goodbye. The
  /// first reason stays. [any]
  void end(cdmf_status reason, std::uint64_t deadline);
  /// What is behind this object is another process' as well: only forgets it. In a forked child.
  void abandon() noexcept { abandoned_ = true; }

 private:
  class Waiter;

  [[nodiscard]] cdmf_status state() const noexcept;
  bool transmit();
  [[nodiscard]] cdmf_status why_broken() const;
  void watch_writable(bool on);
  [[nodiscard]] bool read_once(int flags);
  [[nodiscard]] bool fill(std::size_t needed, int flags);
  [[nodiscard]] cdmf_status end_of_silence(bool looked);
  void finish(cdmf_status reason, cdmf_view& view);
  void finish_with_goodbye(cdmf_status reason, const char* problem, cdmf_view& view);
  void say_goodbye(cdmf_status reason, std::uint64_t deadline);

  const cdmf_peer id_;
  const Limits limits_;
  const Fd socket_;
  const Fd pidfd_;
  const uid_t uid_;

  std::mutex mutex_;
  // Guarded by mutex_.
  SendQueue queue_;
  cdmf_status broken_ = CDMF_OK;        // The socket takes nothing any more; why, only the receiving side can know.
  cdmf_status ended_ = CDMF_OK;         // How the link ended, for the sender.
  std::vector<int> waiters_;            // eventfds of threads that wait for room.
  std::shared_ptr<Link> claimed_self_;  // An open claim keeps its memory.
  int epoll_ = -1;
  bool writable_watched_ = false;
  std::size_t refused_bytes_ = 0;      // How much was queued when the socket was full last,
  std::uint64_t refused_time_us_ = 0;  // and when that was.
  std::atomic<bool> behind_{false};
  // Written once under mutex_, read by the receiver without it.
  std::atomic<cdmf_status> local_end_{CDMF_OK};

  std::atomic<cdmf_status> goodbye_read_{CDMF_OK};  // What was read ends with it; for why_broken().

  // The receiver's own.
  ReceiveBuffer buffer_;
  std::uint64_t stalled_since_ns_ = 0;  // Since when the frame at the end of buffer_ has not grown; 0: there is none.
  std::size_t stalled_bytes_ = 0;       // How much of it there was then.
  bool process_ended_ = false;
  bool announced_ = false;
  bool readable_ = false;
  bool done_ = false;
  cdmf_status remote_end_ = CDMF_OK;  // What ended the stream, once that was read.
  const char* problem_ = "";
  bool abandoned_ = false;
};

}  // namespace cdmf::ipc::unix_socket
