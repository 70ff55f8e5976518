#pragma once
// ring/record_consumer.h: the reading end of the record ring. How the ring works, and why it is right: record_ring.h.

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

#include "ring/record_ring.h"

namespace cdmf::ipc::shm {

/// One received record. The envelope is a private copy, checked; the payload lies in the ring, and a peer that
/// misbehaves may still change it.
struct RecordView {
  const std::byte* payload = nullptr;
  std::uint32_t payload_bytes = 0;
  std::uint32_t checksum = 0;
  std::uint64_t timestamp_us = 0;
  std::uint64_t begin = 0;  // Positions of the record in the ring: what release() and hold() know it by.
  std::uint64_t end = 0;
};

/// The only reader of one ring. At most one exists per ring, and it is made while the ring is new.
/// One thread at a time; moving it to another thread needs the usual synchronisation. Allocates nothing, and makes no
/// system call.
///
/// Whatever the producer writes, this end reads inside the ring only, in bounded time: each word is loaded once,
/// checked against private state, and the copy used. At the first word that a correct producer could not have written
/// it stops for good, see fault(); records delivered before stay valid.
class RecordConsumer {
 public:
  static constexpr std::size_t kHeldMax = 64;  // Records held at one time.

  explicit RecordConsumer(const RecordRingMemory& memory) noexcept;

  /// Delivers the next records, up to views.size() of them, in the order of their commits. Returns how many; 0 is
  /// empty, or a fault. Their payloads stay in place until released. Records not yet released are not delivered again.
  [[nodiscard]] std::size_t receive_burst(std::span<RecordView> views) noexcept;

  /// The same for one record; false: none, or a fault.
  [[nodiscard]] bool receive(RecordView& view) noexcept {
    if (fault_ == RingFault::none && look(view) == Found::record) [[likely]]
      return true;
    // An empty ring is the moment to tell: a producer waiting for room would otherwise wait for an eighth it never
    // gets.
    if (released_ != head_) publish_head();
    return false;
  }

  /// Whether receive_burst() would look at something new (a record, padding, or a fault): what a sleeper checks last.
  [[nodiscard]] bool has_input() const noexcept;

  /// Gives back this record and all delivered before it, except those held. Payload pointers into them end here.
  void release(const RecordView& last) noexcept { release_until(last.end); }
  /// The same by position: a view's `end`.
  void release_until(std::uint64_t end) noexcept;

  /// Keeps a delivered, not yet released record beyond its release. It, and everything behind it, stays occupied
  /// meanwhile: a record held too long fills the ring. begin: the view's. False when kHeldMax records are held.
  [[nodiscard]] bool hold(std::uint64_t begin) noexcept;
  /// Ends a hold, by the same `begin`. The record's space is given back once release() has passed it and no older one
  /// is held. False when no such record is held.
  bool release_held(std::uint64_t begin) noexcept;

  /// Tells the producer of everything released at once. It happens by itself when the ring is found empty, when the
  /// producer wants space, and each eighth of the ring.
  void publish_head() noexcept;

  std::uint64_t capacity_bytes() const noexcept { return mask_ + 1; }
  std::size_t held_count() const noexcept { return held_count_; }
  /// Bytes delivered and not released, or released and not yet told to the producer.
  std::uint64_t occupied_bytes() const noexcept { return next_ - head_; }
  RingFault fault() const noexcept { return fault_; }

 private:
  enum class Found : std::uint8_t { record, nothing, fault };
  Found look(RecordView& view) noexcept;
  Found fail(RingFault fault) noexcept;
  std::uint64_t releasable() const noexcept;
  std::uint32_t load_word(std::uint64_t position) const noexcept {
    // atomic_ref needs a mutable object before C++26; nothing is written.
    return std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(bytes_ + (position & mask_)))
        .load(std::memory_order_acquire);  // FILLED
  }

  // Constant.
  RecordRingControl* control_;
  std::byte* bytes_;
  std::uint64_t mask_;
  std::uint64_t record_bytes_max_;
  std::uint64_t publish_quantum_;
  // The ring as this end sees it. head_ <= released_ <= next_.
  std::uint64_t next_ = 0;          // Where the next record is expected.
  std::uint64_t released_ = 0;      // The application is done with what is before, holds apart.
  std::uint64_t head_ = 0;          // What the producer has been told.
  std::uint32_t stamp_ = 1;         // Of next_'s lap,
  std::uint32_t stamp_before_ = 0;  // and of the one before it.
  RingFault fault_ = RingFault::none;
  // Begins of the held records, in no order.
  std::size_t held_count_ = 0;
  std::array<std::uint64_t, kHeldMax> held_{};
};

inline RecordConsumer::Found RecordConsumer::look(RecordView& view) noexcept {
  for (;;) {  // Twice at most: padding leads to offset 0, and padding there is a fault.
    const std::uint32_t word = load_word(next_);
    const std::uint32_t stamp = word >> kStampShift;
    if (stamp != stamp_) {
      // By invariant (I) only these two can stand here.
      return word == 0 || (stamp == stamp_before_ && stamp != 0) ? Found::nothing : fail(RingFault::bad_stamp);
    }
    const std::uint32_t size = word & kSizeMask;
    const std::uint64_t to_end = mask_ + 1 - (next_ & mask_);
    std::uint64_t length = whole_lines(size);
    bool padding = false;
    if (size - kEnvelopeBytes > record_bytes_max_ - kEnvelopeBytes) [[unlikely]] {  // Smaller wraps round: one check.
      if (size != kPaddingSize) return fail(RingFault::bad_size);
      if (to_end == mask_ + 1) return fail(RingFault::bad_padding);
      padding = true;
      length = to_end;
    }
    if (length > to_end) [[unlikely]]
      return fail(RingFault::past_end);
    if (next_ + length - head_ > mask_ + 1) [[unlikely]]
      return fail(RingFault::overrun);
    const std::uint64_t begin = next_;
    next_ += length;
    if (length == to_end) [[unlikely]] {
      stamp_before_ = stamp_;
      stamp_ = next_stamp(stamp_);
    }
    if (padding) continue;
    const std::byte* const envelope = bytes_ + (begin & mask_);
    view.payload = envelope + kEnvelopeBytes;
    view.payload_bytes = size - static_cast<std::uint32_t>(kEnvelopeBytes);
    std::memcpy(&view.timestamp_us, envelope + kTimestampOffset, sizeof view.timestamp_us);
    std::memcpy(&view.checksum, envelope + kChecksumOffset, sizeof view.checksum);
    view.begin = begin;
    view.end = next_;
    return Found::record;
  }
}

inline std::size_t RecordConsumer::receive_burst(std::span<RecordView> views) noexcept {
  std::size_t count = 0;
  while (count < views.size() && receive(views[count])) ++count;
  return count;
}

inline bool RecordConsumer::has_input() const noexcept {
  if (fault_ != RingFault::none) return false;
  const std::uint32_t word = load_word(next_);
  const std::uint32_t stamp = word >> kStampShift;
  return word != 0 && (stamp != stamp_before_ || stamp == 0);
}

inline void RecordConsumer::release_until(std::uint64_t end) noexcept {
  assert(end <= next_);
  if (end <= released_) return;
  released_ = end;
  // Relaxed: if the wish is seen late, the next release or an empty ring answers it.
  if (released_ - head_ >= publish_quantum_ || control_->space_wanted.load(std::memory_order_relaxed) != 0) {
    publish_head();
  }
}

inline std::uint64_t RecordConsumer::releasable() const noexcept {
  std::uint64_t oldest = released_;
  for (std::size_t index = 0; index < held_count_; ++index) {
    if (held_[index] < oldest) oldest = held_[index];
  }
  return oldest;
}

}  // namespace cdmf::ipc::shm
