#pragma once
// ring/record_consumer.h: the reading end of the record ring. How the ring works, and why it is right: record_ring.h.

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "ipc/ring_buffer/prefetch.h"
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
  [[nodiscard]] bool receive(RecordView& view) noexcept;

  /// After a receive() that was not the first in a row: asks for the lines of records that may follow.
  void fetch_ahead(const RecordView& view) const noexcept { fetch_ahead(view.end - view.begin); }
  /// With nothing to receive: brings what the producer has written of a large record nearer, while it writes the rest.
  /// Delivers nothing.
  void fetch_early() noexcept {
    if (control_->written_to.load(std::memory_order_relaxed) != fetched_to_) [[unlikely]]
      fetch_written();
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

  /// Tells observers of records received since the last call.
  void count_taken(std::uint64_t records) noexcept {
    taken_ += records;
    control_->records_taken.store(taken_, std::memory_order_relaxed);
  }

  std::uint64_t capacity_bytes() const noexcept { return capacity_; }
  std::size_t held_count() const noexcept { return held_count_; }
  /// Bytes delivered and not released, or released and not yet told to the producer.
  std::uint64_t occupied_bytes() const noexcept { return next_ - head_; }
  std::uint64_t position() const noexcept { return next_; }  // Of the next record.
  RingFault fault() const noexcept { return fault_; }

 private:
  // Set by measurement with streams of 64 bytes.
  static constexpr std::uint64_t kFetchedAhead = 32 * kLineBytes;
  static constexpr std::uint64_t kFetchedRecordBytesMax = 8 * kLineBytes;

  static constexpr std::uint64_t kFetchedAtOnce = 32 * 1024;  // Bytes; then it is time to look again.

  [[gnu::noinline]] void fetch_written() noexcept;
  [[gnu::noinline]] bool look_closely(RecordView& view) noexcept;
  void deliver(RecordView& view, std::uint32_t size) noexcept;
  void advance(std::uint64_t bytes) noexcept;
  void fetch_ahead(std::uint64_t bytes) const noexcept;
  [[gnu::noinline]] void renew_room() noexcept;
  void set_room() noexcept {
    room_ = linear_ == 0 ? 0 : static_cast<std::uint32_t>(std::min(linear_, record_bytes_max_) - kEnvelopeBytes + 1);
  }
  bool fail(RingFault fault) noexcept;
  std::uint64_t releasable() const noexcept;
  std::uint64_t to_end() const noexcept { return static_cast<std::uint64_t>(end_ - at_); }
  /// By (I), what stands at the polled place before its record comes.
  bool is_nothing(std::uint32_t word) const noexcept {
    return word == 0 || (word >> kStampShift == stamp_before_ && stamp_before_ != 0);
  }
  static std::uint32_t load_word(std::byte* header) noexcept {
    // atomic_ref needs a mutable object before C++26; nothing is written.
    return std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(header))
        .load(std::memory_order_acquire);  // FILLED
  }

  // Constant.
  RecordRingControl* control_;
  std::byte* bytes_;
  std::byte* end_;
  std::uint64_t capacity_;
  std::uint64_t record_bytes_max_;
  std::uint64_t publish_quantum_;
  // The ring as this end sees it. head_ <= released_ <= next_.
  std::byte* at_;                   // Where the next record is expected,
  std::uint64_t next_ = 0;          // and the position of that place.
  std::uint32_t stamp_ = 1;         // Of next_'s lap,
  std::uint32_t stamp_before_ = 0;  // and of the one before it.
  std::uint32_t room_ = 0;          // A record here of fewer than kEnvelopeBytes + room_ bytes is one to deliver.
  RingFault fault_ = RingFault::none;
  std::uint64_t linear_ = 0;      // From next_ to the end of the ring, or to where nothing was freed.
  std::uint64_t released_ = 0;    // The application is done with what is before, holds apart.
  std::uint64_t head_ = 0;        // What the producer has been told.
  std::uint64_t taken_ = 0;       // See count_taken().
  std::uint64_t fetched_to_ = 0;  // What fetch_early() has seen of written_to.
  // Begins of the held records, in no order.
  std::size_t held_count_ = 0;
  std::array<std::uint64_t, kHeldMax> held_{};
};

inline bool RecordConsumer::receive(RecordView& view) noexcept {
  const std::uint32_t word = load_word(at_);
  // All checks in one: another stamp leaves high bits, a size below the envelope's wraps round, and both are too large.
  const std::uint32_t size = word ^ stamp_ << kStampShift;
  if (size - static_cast<std::uint32_t>(kEnvelopeBytes) < room_) [[likely]] {
    deliver(view, size);
    return true;
  }
  if (!is_nothing(word) && look_closely(view)) return true;
  // An empty ring is the moment to tell: a producer waiting for room would otherwise wait for an eighth it never gets.
  if (released_ != head_) publish_head();
  return false;
}

inline void RecordConsumer::deliver(RecordView& view, std::uint32_t size) noexcept {
  const std::byte* const envelope = at_;
  view.payload = envelope + kEnvelopeBytes;
  view.payload_bytes = size - static_cast<std::uint32_t>(kEnvelopeBytes);
  std::memcpy(&view.timestamp_us, envelope + kTimestampOffset, sizeof view.timestamp_us);
  std::memcpy(&view.checksum, envelope + kChecksumOffset, sizeof view.checksum);
  view.begin = next_;
  advance(whole_lines(size));
  view.end = next_;
}

inline void RecordConsumer::advance(std::uint64_t bytes) noexcept {
  next_ += bytes;
  at_ += bytes;
  linear_ -= bytes;
  if (at_ == end_) [[unlikely]] {
    at_ = bytes_;
    stamp_before_ = stamp_;
    stamp_ = next_stamp(stamp_);
    renew_room();
    return;
  }
  set_room();
}

inline std::size_t RecordConsumer::receive_burst(std::span<RecordView> views) noexcept {
  std::size_t count = 0;
  while (count < views.size() && receive(views[count])) {
    if (count != 0) fetch_ahead(views[count]);  // A lone message is followed by nothing.
    ++count;
  }
  return count;
}

/// Where a record ends is known when its first word has come, so that of a run of records one line would be waited for
/// after the other. Of large records the processor sees the run itself.
/// bytes  by how much the place to read has just moved: lines further back were asked for before.
inline void RecordConsumer::fetch_ahead(std::uint64_t bytes) const noexcept {
  if (bytes > kFetchedRecordBytesMax || linear_ < kFetchedAhead) return;
  const std::byte* const until = at_ + kFetchedAhead;
  for (const std::byte* line = until - bytes; line != until; line += kLineBytes) {
    ring_buffer_detail::prefetch_for_reading(line);
  }
}

inline bool RecordConsumer::has_input() const noexcept {
  if (fault_ != RingFault::none) return false;
  return !is_nothing(load_word(at_));
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
