#pragma once
// link.h: one connection: its segment, the two ends of its rings that this process owns, its bells and its channel.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "channel.h"
#include "handshake.h"
#include "inspect/troubles.h"
#include "ring/record_consumer.h"
#include "ring/record_pace.h"
#include "ring/record_producer.h"
#include "segment/memory_budget.h"
#include "segment/segment.h"
#include "wait/bell.h"
#include "wait/bell_watch.h"
#include "wait/spinner.h"

namespace cdmf::ipc::shm {

struct LinkTerms {
  cdmf_peer id = CDMF_NO_PEER;
  bool is_server = false;       // This side is.
  bool peer_may_sleep = false;  // Then a flush looks whether to wake it.
  std::int32_t peer_only_cpu = kSeveralCpus;
  bool hostile = false;  // The peer is not trusted.
  SegmentPlan plan;
  PeerCredentials peer;
  MemoryBudget::Share memory;  // A server's, for the segment.
};

/// Members are grouped by who uses them. Whoever has a reference may use the memory: the mapping ends with the last
/// one, however the link itself ended.
class Link {
 public:
  Link(const LinkTerms& terms, Segment segment, std::unique_ptr<Channel> channel, UniqueFd own_bell,
       UniqueFd peer_bell);
  ~Link();

  // ---- Any thread
  // -----------------------------------------------------------------------------------------------------

  const LinkTerms& terms() const noexcept { return terms_; }
  cdmf_peer id() const noexcept { return terms_.id; }
  Channel& channel() const noexcept { return *channel_; }
  int own_bell() const noexcept { return own_bell_.get(); }
  bool can_send() const noexcept { return producer.has_value(); }
  bool can_receive() const noexcept { return consumer.has_value(); }

  /// CDMF_OK while the link lives, then why it ended. What the peer flushed before is visible to whoever sees the end.
  cdmf_status ended() const noexcept { return ended_.load(std::memory_order_acquire); }
  /// The first reason counts. Wakes the threads of this process that wait for room. True when this call was the first.
  bool end(cdmf_status reason) noexcept;
  /// Tells the peer why, and hangs up.
  void hang_up(cdmf_status reason) noexcept { channel_->hang_up(reason); }
  /// CDMF_OK: there may be room, or the link has ended and claim() will say so. CDMF_TIMEOUT, CDMF_INTERRUPTED.
  /// spin_ns  how long to spin before sleeping; kForever: never sleep.
  template <typename Interrupted>
  cdmf_status await_space(std::uint64_t payload_bytes, std::uint64_t deadline, std::uint64_t spin_ns, bool yields,
                          Interrupted&& interrupted) noexcept;
  /// Lets the threads in await_space look again.
  void wake_own_senders() noexcept {
    if (can_send()) wake_own(out_.control->space_wanted);
  }
  /// Messages for the peer that it never reported as done.
  std::uint64_t count_undelivered() const noexcept { return can_send() ? count_unreleased(out_) : 0; }
  /// Gives back a held record. The receiver does the rest when it comes by.
  void give_back(std::uint64_t record_begin);

  // ---- The sender
  // -----------------------------------------------------------------------------------------------------

  std::optional<RecordProducer> producer;
  bool claim_open = false;
  std::uint64_t batch_time_us = 0;  // Time of sending of the open batch, 0 before its first commit.

  /// Frames up to this size can be sent, if the ring has room and no claim is open. 0 once the link has ended.
  [[nodiscard]] std::size_t put_size_max() const noexcept { return put_size_max_.load(std::memory_order_relaxed); }

  /// Publishes the open batch and wakes the peer if it sleeps. False: the peer has made its bell one that could block.
  [[nodiscard]] bool flush() noexcept {
    batch_time_us = 0;
    return !producer->flush() || notify();
  }
  /// After a claim that found the ring full, and flushed. False: as flush().
  [[nodiscard]] bool notify() noexcept {
    if (peer_bell_) [[likely]]
      return after_flush(*out_.control, peer_bell_.get(), terms_.peer_may_sleep);
    notify_by_channel();
    return true;
  }

  // ---- The receiver
  // ---------------------------------------------------------------------------------------------------

  std::optional<RecordConsumer> consumer;
  RecordPace pace;
  std::atomic<bool> parked{false};       // See polled_links.h, as for
  std::uint32_t empty_polls = 0;         // in a row, while hot. Observers read the first.
  bool plain = false;                    // Announced, trusted, and not ending: nothing to look at but the ring.
  bool announced = false;                // PEER_CONNECTED was received.
  bool finished = false;                 // PEER_DISCONNECTED was.
  bool in_burst = false;                 // Has records in the current burst, up to
  std::uint64_t burst_end = 0;           // this position.
  bool ending = false;                   // Its end was seen: what the ring still has comes first,
  std::uint64_t drain_left = 0;          // up to so many bytes, so that a peer that does not stop has an end.
  std::uint64_t last_discarded_end = 0;  // Where the last record ended whose checksum did not match,
  std::uint32_t distrust = 0;            // and how many more of those there were of late than others: at least so many.
  BellWatch bell_watch;
  // Records whose checksum did not match; observers read it too.
  std::atomic<std::uint64_t> discarded{0};

  /// Whether other threads gave records back. Then collect_returned() takes them into account.
  bool has_returned() const noexcept { return has_returned_.load(std::memory_order_acquire); }
  void collect_returned() noexcept {
    if (has_returned()) [[unlikely]]
      collect_returned_slowly();
  }
  /// After a release, and when the ring was found empty: lets a peer that waits for room go on.
  void offer_space() noexcept {
    if (!space_wanted(*in_.control)) [[likely]]
      return;
    consumer->publish_head();
    wake_senders(*in_.control);
  }
  /// Announces that the receiver is about to sleep. A full_fence(), and a look at everything, must follow.
  void arm(std::uint32_t how) noexcept {
    consumer->publish_head();
    in_.control->armed.store(how, std::memory_order_relaxed);  // Ordered by the fence that follows.
    if (how == kArmedFd) bell_watch.announced();
  }
  /// Sleeps as announced, until woken, the deadline, or for no reason.
  void sleep(std::uint32_t how, std::uint64_t deadline) noexcept;
  /// Wakes the thread of this process that sleeps so, or is about to.
  void wake_own_receiver() noexcept;
  /// How the receiver sleeps best when this is its only link. Before it announces that.
  std::uint32_t best_sleep(bool wants_semaphore) noexcept {
    return wants_semaphore && has_sound_semaphore() ? kArmedSemaphore : kArmedFutex;
  }
  void disarm() noexcept {
    // Relaxed, and no exchange unless needed: seen late, it costs the peer one wake-up too many.
    if (armed() != kNotArmed) in_.control->armed.store(kNotArmed, std::memory_order_relaxed);
  }
  std::uint32_t armed() const noexcept { return in_.control->armed.load(std::memory_order_relaxed); }
  RecordRingControl& in_control() const noexcept { return *in_.control; }
  const RecordRingControl& out_control() const noexcept { return *out_.control; }
  std::uint64_t connected_us() const noexcept { return connected_us_; }
  /// The peer's bell was heard.
  BellWatch::Ring heard() noexcept { return bell_watch.heard(can_receive() ? consumer->position() : 0); }
  bool has_record() const noexcept { return consumer && consumer->has_input(); }
  bool has_input() const noexcept { return !announced || has_record() || ended() != CDMF_OK || has_returned(); }

 private:
  void collect_returned_slowly() noexcept;
  bool has_sound_semaphore() noexcept;
  void notify_by_channel() noexcept;

  LinkTerms terms_;
  const std::uint64_t connected_us_ = wall_now_us();
  Segment segment_;
  std::unique_ptr<Channel> channel_;
  UniqueFd own_bell_;
  UniqueFd peer_bell_;  // None: the channel rings.
  RecordRingMemory out_;
  RecordRingMemory in_;
  std::atomic<cdmf_status> ended_{CDMF_OK};
  // One word for all that put() must look at: whether the link can send, its largest frame, and whether it has ended.
  std::atomic<std::size_t> put_size_max_{0};
  bool semaphore_flooded_ = false;  // The receiver's own.
  std::atomic<bool> has_returned_{false};
  std::mutex returned_mutex_;
  std::vector<std::uint64_t> returned_;
};

template <typename Interrupted>
cdmf_status Link::await_space(std::uint64_t payload_bytes, std::uint64_t deadline, std::uint64_t spin_ns, bool yields,
                              Interrupted&& interrupted) noexcept {
  const auto done = [&] { return interrupted() || ended() != CDMF_OK || ring_has_room(out_, payload_bytes); };
  const auto outcome = [&] { return interrupted() ? CDMF_INTERRUPTED : CDMF_OK; };
  if (done()) return outcome();
  if (spin_ns != 0 && spin_until(spin_ns, deadline, yields, done)) return outcome();
  for (;;) {
    if (deadline != kForever && monotonic_now_ns() >= deadline) return CDMF_TIMEOUT;
    wait_for_space(*out_.control, deadline, done);
    if (done()) return outcome();
  }
}

}  // namespace cdmf::ipc::shm
