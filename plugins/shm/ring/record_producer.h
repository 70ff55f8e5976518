#pragma once
// ring/record_producer.h: the writing end of the record ring. How the ring works, and why it is right: record_ring.h.

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "ring/dirty_lines.h"
#include "ring/record_ring.h"

namespace cdmf::ipc::shm {

enum class ClaimOutcome : std::uint8_t {
  claimed,
  full,       // No room now. What was committed has been flushed, so that the consumer can make room: wake it.
  too_large,  // More than payload_bytes_max(): never fits.
  corrupt,    // The consumer's words make no sense; see fault(). Every later claim says so too.
};

/// The only writer of one ring. At most one exists per ring, and it is made while the ring is new.
/// One thread at a time; moving it to another thread needs the usual synchronisation. Makes no system call, and
/// allocates only when made.
///
///     claim -> write the payload -> commit -> (more claims and commits) -> flush -> wake the consumer, if it sleeps
///
/// Committed records become visible together, by the one store of flush(), and survive this process's death from then
/// on.
class RecordProducer {
 public:
  explicit RecordProducer(const RecordRingMemory& memory);
  RecordProducer(RecordProducer&&) noexcept = default;
  RecordProducer& operator=(RecordProducer&&) noexcept = default;

  /// Lends memory in the ring for one payload.
  /// payload_bytes  0 to payload_bytes_max().
  /// On `claimed`, payload() is that memory, aligned to 16, until commit or abort. A second claim before either
  /// replaces the first, as abort would. Whatever it returned, nothing is lost: committed records stay committed.
  [[nodiscard]] ClaimOutcome claim(std::uint64_t payload_bytes) noexcept;

  /// The memory of the open claim; empty when none is open.
  std::span<std::byte> payload() const noexcept { return {payload_, payload_size_}; }

  /// Completes the open claim. Nothing is visible to the consumer before flush().
  /// payload_bytes  what is used of the claim, from its start; the rest is given back.
  /// timestamp_us, checksum  go into the envelope as they are.
  void commit(std::uint64_t payload_bytes, std::uint64_t timestamp_us, std::uint32_t checksum) noexcept;

  /// Gives the open claim back, if there is one. The ring is as if it had not been made.
  void abort() noexcept {
    payload_ = nullptr;
    payload_size_ = 0;
  }

  /// Publishes everything committed since the last flush with one release store. False when there was nothing.
  bool flush() noexcept;

  std::uint64_t payload_bytes_max() const noexcept { return record_bytes_max_ - kEnvelopeBytes; }
  std::uint64_t capacity_bytes() const noexcept { return mask_ + 1; }
  std::uint64_t records_flushed() const noexcept { return records_ - records_open_; }
  bool has_unflushed() const noexcept { return first_word_ != 0; }
  RingFault fault() const noexcept { return fault_; }

  /// Bytes not freed by the consumer, as far as it has told: reads its head, hence a shared line. May be too high,
  /// since the head is published late. 0 once there is a fault.
  std::uint64_t used_bytes() noexcept;

 private:
  struct Place {
    std::uint64_t begin;  // Where the record would begin: tail_, or the next lap's start behind padding.
    std::uint64_t end;
  };
  Place place_for(std::uint64_t record_bytes) const noexcept;
  bool fits(const Place& place) const noexcept { return place.end - head_seen_ <= mask_ + 1; }
  bool refresh_head() noexcept;
  void put_word(std::uint64_t position, std::uint32_t word) noexcept;
  std::uint64_t line_at(std::uint64_t position) const noexcept { return (position & mask_) / kLineBytes; }
  std::atomic_ref<std::uint32_t> word_at(std::uint64_t position) const noexcept {
    return std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(bytes_ + (position & mask_)));
  }

  // Constant.
  RecordRingControl* control_;
  std::byte* bytes_;
  std::uint64_t mask_;
  std::uint64_t record_bytes_max_;
  // The ring as this end sees it.
  std::uint64_t tail_ = 0;       // After the last committed record, flushed or not.
  std::uint64_t head_seen_ = 0;  // The consumer's head when last looked at.
  std::uint32_t stamp_ = 1;      // Of tail_'s lap.
  RingFault fault_ = RingFault::none;
  // The open claim.
  std::byte* payload_ = nullptr;
  std::uint64_t payload_size_ = 0;
  std::uint64_t claim_begin_ = 0;
  // The open batch: its first word is kept back until flush().
  std::uint32_t first_word_ = 0;  // 0: nothing committed since the last flush.
  std::uint64_t first_at_ = 0;
  std::uint64_t flushed_tail_ = 0;
  std::uint64_t records_ = 0;
  std::uint64_t records_open_ = 0;
  DirtyLines dirty_;
};

inline RecordProducer::Place RecordProducer::place_for(std::uint64_t record_bytes) const noexcept {
  const std::uint64_t to_end = mask_ + 1 - (tail_ & mask_);
  const std::uint64_t begin = record_bytes <= to_end ? tail_ : tail_ + to_end;
  return {begin, begin + record_bytes};
}

inline ClaimOutcome RecordProducer::claim(std::uint64_t payload_bytes) noexcept {
  abort();
  if (payload_bytes > payload_bytes_max()) [[unlikely]]
    return ClaimOutcome::too_large;
  const std::uint64_t record_bytes = whole_lines(kEnvelopeBytes + payload_bytes);
  const Place place = place_for(record_bytes);
  if (!fits(place)) [[unlikely]] {
    if (!refresh_head()) return ClaimOutcome::corrupt;
    if (!fits(place)) {
      flush();
      return ClaimOutcome::full;
    }
  }
  // (I): whatever becomes of the claim, the borrower may have written there.
  const std::uint64_t first_line = line_at(place.begin);
  dirty_.mark(first_line + 1, first_line + record_bytes / kLineBytes);
  claim_begin_ = place.begin;
  payload_ = bytes_ + (place.begin & mask_) + kEnvelopeBytes;
  payload_size_ = payload_bytes;
  return ClaimOutcome::claimed;
}

inline void RecordProducer::commit(std::uint64_t payload_bytes, std::uint64_t timestamp_us,
                                   std::uint32_t checksum) noexcept {
  assert(payload_ != nullptr && payload_bytes <= payload_size_);
  if (claim_begin_ != tail_) [[unlikely]] {
    put_word(tail_, commit_word(stamp_, kPaddingSize));
    dirty_.mark(line_at(tail_) + 1, (mask_ + 1) / kLineBytes);  // (I): passed over, words of any age.
    stamp_ = next_stamp(stamp_);
  }
  std::byte* const envelope = payload_ - kEnvelopeBytes;
  std::memcpy(envelope + kTimestampOffset, &timestamp_us, sizeof timestamp_us);
  std::memcpy(envelope + kChecksumOffset, &checksum, sizeof checksum);
  const std::uint64_t size = kEnvelopeBytes + payload_bytes;
  put_word(claim_begin_, commit_word(stamp_, static_cast<std::uint32_t>(size)));
  tail_ = claim_begin_ + whole_lines(size);
  if ((tail_ & mask_) == 0) stamp_ = next_stamp(stamp_);
  ++records_;
  ++records_open_;
  abort();  // The claim is closed.
}

/// Writes a header's word, or keeps it back when it is the first of the batch: it is what makes the batch visible.
inline void RecordProducer::put_word(std::uint64_t position, std::uint32_t word) noexcept {
  if (first_word_ == 0) {
    first_at_ = position;  // The last flush has seen to this line's dirty bit.
    first_word_ = word;
    return;
  }
  word_at(position).store(word, std::memory_order_relaxed);  // Nobody looks here before FILLED.
  dirty_.clear(line_at(position));
}

inline bool RecordProducer::flush() noexcept {
  if (first_word_ == 0) return false;
  const std::uint64_t next_line = line_at(tail_);
  if (dirty_.test(next_line)) [[unlikely]] {
    word_at(tail_).store(0, std::memory_order_relaxed);  // Ordered by FILLED: who gets here has acquired it.
    dirty_.clear(next_line);
  }
  word_at(first_at_).store(first_word_, std::memory_order_release);  // FILLED
  first_word_ = 0;
  flushed_tail_ = tail_;
  records_open_ = 0;
  control_->tail.store(tail_, std::memory_order_relaxed);  // Observers get an estimate; nothing is read on its account.
  control_->records_flushed.store(records_, std::memory_order_relaxed);
  // The consumer had these lines last; fetching them back now keeps that out of the next claim's way.
  __builtin_prefetch(bytes_ + (tail_ & mask_), 1);
  __builtin_prefetch(bytes_ + ((tail_ + kLineBytes) & mask_), 1);
  return true;
}

}  // namespace cdmf::ipc::shm
