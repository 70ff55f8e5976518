#pragma once
// ring/record_producer.h: the writing end of the record ring. How the ring works, and why it is right: record_ring.h.

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "ipc/ring_buffer/prefetch.h"
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

  /// claim(), write and commit() in one, where there is room up to the end of the ring as far as this end knows: most
  /// of what a short message costs is what is kept between the three. False: nothing happened, and claim() says why.
  /// payload_bytes  at most payload_bytes_max(). No claim may be open.
  /// write          std::uint32_t write(std::byte* payload): fills it, and returns the checksum.
  template <typename Write>
  [[nodiscard]] bool put(std::uint64_t payload_bytes, std::uint64_t timestamp_us, Write&& write) noexcept;

  /// Tells a consumer that waits how much of a record to come is written, so that it can fetch_early(). Each call costs
  /// a line that the consumer looks at: for large records, a few times.
  /// payload  where its payload begins: that of the open claim, or of put()
  void tell_written(const std::byte* payload, std::uint64_t payload_bytes) noexcept {
    const std::byte* const envelope = payload - kEnvelopeBytes;
    // Not at the next place: behind the padding to come.
    const std::uint64_t begin = envelope == next_ ? tail() : tail() + to_end();
    control_->writing_from.store(begin, std::memory_order_relaxed);
    control_->written_to.store(begin + kEnvelopeBytes + payload_bytes, std::memory_order_relaxed);
  }

  /// Gives the open claim back, if there is one. The ring is as if it had not been made.
  void abort() noexcept {
    payload_ = nullptr;
    payload_size_ = 0;
  }

  /// Publishes everything committed since the last flush with one release store. False when there was nothing.
  bool flush() noexcept;

  std::uint64_t payload_bytes_max() const noexcept { return payload_bytes_max_; }
  std::uint64_t capacity_bytes() const noexcept { return capacity_; }
  std::uint64_t records_flushed() const noexcept { return records_flushed_; }
  bool has_unflushed() const noexcept { return first_word_ != 0; }
  RingFault fault() const noexcept { return fault_; }

  /// Bytes not freed by the consumer, as far as it has told: reads its head, hence a shared line. May be too high,
  /// since the head is published late. 0 once there is a fault.
  std::uint64_t used_bytes() noexcept;

 private:
  // Set by measurement with records of 32 and 200 bytes in turn.
  static constexpr std::uint64_t kCleanLines = 8;     // Enough for records of up to 432 bytes.
  static constexpr std::uint32_t kCleanFlushes = 64;  // How long a met line counts as a sign of mixed sizes.
  // Set by measurement with streams of 64 bytes and with single messages.
  static constexpr std::uint64_t kFetchedAhead = 16 * kLineBytes;
  static constexpr std::uint64_t kFetchedRecordBytesMax = 8 * kLineBytes;

  [[gnu::noinline]] ClaimOutcome claim_slowly(std::uint64_t payload_bytes) noexcept;
  ClaimOutcome lend(std::byte* envelope, std::uint64_t payload_bytes, std::uint64_t record_bytes) noexcept;
  [[gnu::noinline]] void pad() noexcept;
  bool refresh_head() noexcept;
  void put_word(std::byte* header, std::uint32_t word) noexcept;
  bool write_word(std::byte* header, std::uint32_t word) noexcept;
  void advance(std::uint64_t bytes) noexcept;
  void fetch_ahead(std::uint64_t bytes) const noexcept;
  [[gnu::noinline]] void clean_ahead() noexcept;
  std::uint64_t line_of(const std::byte* at) const noexcept {
    return static_cast<std::uint64_t>(at - bytes_) / kLineBytes;
  }
  std::uint64_t to_end() const noexcept { return static_cast<std::uint64_t>(end_ - next_); }
  /// After the last committed record, flushed or not.
  std::uint64_t tail() const noexcept { return lap_begin_ + static_cast<std::uint64_t>(next_ - bytes_); }
  std::uint64_t free_bytes() const noexcept { return capacity_ - (tail() - head_seen_); }
  /// Bytes from the tail on that are free and not behind the end, as far as is known.
  std::uint64_t linear() const noexcept { return static_cast<std::uint64_t>(free_end_ - next_); }
  static std::atomic_ref<std::uint32_t> word_at(std::byte* header) noexcept {
    return std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(header));
  }

  // Constant.
  RecordRingControl* control_;
  std::byte* bytes_;
  std::byte* end_;
  std::uint64_t capacity_;
  std::uint64_t payload_bytes_max_;
  // The ring as this end sees it.
  std::byte* next_;              // Where the tail stands: all that a record moves on.
  std::byte* free_end_;          // Up to here it may go, as far as is known.
  std::uint64_t lap_begin_ = 0;  // Position of the first byte in the tail's lap.
  std::uint32_t stamp_ = 1;      // Of that lap.
  RingFault fault_ = RingFault::none;
  std::uint64_t head_seen_ = 0;  // The consumer's head when last looked at.
  // The open claim.
  std::byte* payload_ = nullptr;
  std::uint64_t payload_size_ = 0;
  // The open batch: its first word is kept back until flush().
  std::byte* first_at_ = nullptr;
  std::uint32_t first_word_ = 0;  // 0: nothing committed since the last flush.
  std::uint32_t clean_left_ = 0;  // Flushes that look ahead, see clean_ahead().
  std::uint64_t flushed_tail_ = 0;
  std::uint64_t records_flushed_ = 0;
  DirtyLines dirty_;
  std::uint64_t records_ = 0;
  // For observers, see RecordRingControl.
  std::uint64_t claims_refused_ = 0;
  std::uint64_t high_water_ = 0;
};

inline ClaimOutcome RecordProducer::claim(std::uint64_t payload_bytes) noexcept {
  const std::uint64_t record_bytes = whole_lines(kEnvelopeBytes + payload_bytes);
  if (payload_bytes > payload_bytes_max_ || record_bytes > linear()) [[unlikely]]
    return claim_slowly(payload_bytes);
  return lend(next_, payload_bytes, record_bytes);
}

inline ClaimOutcome RecordProducer::lend(std::byte* envelope, std::uint64_t payload_bytes,
                                         std::uint64_t record_bytes) noexcept {
  // (I): whatever becomes of the claim, the borrower may have written there.
  if (record_bytes > kLineBytes) {
    const std::uint64_t first_line = line_of(envelope);
    dirty_.mark(first_line + 1, first_line + record_bytes / kLineBytes);
  }
  payload_ = envelope + kEnvelopeBytes;
  payload_size_ = payload_bytes;
  return ClaimOutcome::claimed;
}

inline void RecordProducer::commit(std::uint64_t payload_bytes, std::uint64_t timestamp_us,
                                   std::uint32_t checksum) noexcept {
  assert(payload_ != nullptr && payload_bytes <= payload_size_);
  std::byte* const envelope = payload_ - kEnvelopeBytes;
  if (envelope != next_) [[unlikely]]
    pad();
  std::memcpy(envelope + kTimestampOffset, &timestamp_us, sizeof timestamp_us);
  std::memcpy(envelope + kChecksumOffset, &checksum, sizeof checksum);
  const std::uint64_t size = kEnvelopeBytes + payload_bytes;
  put_word(envelope, commit_word(stamp_, static_cast<std::uint32_t>(size)));
  advance(whole_lines(size));
  ++records_;
  abort();  // The claim is closed.
}

inline void RecordProducer::put_word(std::byte* header, std::uint32_t word) noexcept {
  if (write_word(header, word)) dirty_.clear(line_of(header));
}

/// Writes a header's word, or (false) keeps it back when it is the first of the batch: it is what makes the batch
/// visible.
inline bool RecordProducer::write_word(std::byte* header, std::uint32_t word) noexcept {
  if (first_word_ == 0) [[unlikely]] {
    first_at_ = header;  // The last flush has seen to this line's dirty bit.
    first_word_ = word;
    return false;
  }
  word_at(header).store(word, std::memory_order_relaxed);  // Nobody looks here before FILLED.
  return true;
}

/// Moves the tail on, at most to the end of the ring.
inline void RecordProducer::advance(std::uint64_t bytes) noexcept {
  next_ += bytes;
  if (next_ == end_) [[unlikely]] {
    next_ = bytes_;
    lap_begin_ += capacity_;
    stamp_ = next_stamp(stamp_);
    free_end_ = bytes_ + free_bytes();
  }
  fetch_ahead(bytes);
}

/// The consumer's core still has the lines of the lap before. Asked back one by one, when they are written to, each
/// would hold up the stores behind it, whose buffer then fills; asked for some lines ahead, they come side by side.
/// Only lines known to be free, or the consumer would lose what it is reading; the few at the end of the ring are left
/// out, and large records, of which the processor sees the run itself (4 KiB: a fifth slower otherwise). bytes  by how
/// much the tail has just moved: lines further back were asked for before.
inline void RecordProducer::fetch_ahead(std::uint64_t bytes) const noexcept {
  if (bytes > kFetchedRecordBytesMax || linear() < kFetchedAhead) return;
  const std::byte* const until = next_ + kFetchedAhead;
  for (const std::byte* line = until - bytes; line != until; line += kLineBytes) {
    ring_buffer_detail::prefetch_for_writing(line);
  }
}

template <typename Write>
inline bool RecordProducer::put(std::uint64_t payload_bytes, std::uint64_t timestamp_us, Write&& write) noexcept {
  assert(payload_ == nullptr && payload_bytes <= payload_bytes_max_);
  const std::uint64_t size = kEnvelopeBytes + payload_bytes;
  const std::uint64_t record_bytes = whole_lines(size);
  if (record_bytes > linear()) [[unlikely]]
    return false;
  std::byte* const envelope = next_;
  const std::uint32_t checksum = write(envelope + kEnvelopeBytes);
  std::memcpy(envelope + kTimestampOffset, &timestamp_us, sizeof timestamp_us);
  std::memcpy(envelope + kChecksumOffset, &checksum, sizeof checksum);
  (void)write_word(envelope, commit_word(stamp_, static_cast<std::uint32_t>(size)));
  dirty_.note_record(line_of(envelope), record_bytes / kLineBytes);  // (I)
  advance(record_bytes);
  ++records_;
  return true;
}

inline bool RecordProducer::flush() noexcept {
  if (first_word_ == 0) return false;
  const std::uint64_t next_line = line_of(next_);
  if (dirty_.test(next_line)) [[unlikely]] {
    word_at(next_).store(0, std::memory_order_relaxed);  // Ordered by FILLED: who gets here has acquired it.
    dirty_.clear(next_line);
    clean_left_ = kCleanFlushes;
  }
  word_at(first_at_).store(first_word_, std::memory_order_release);  // FILLED
  first_word_ = 0;
  flushed_tail_ = tail();
  records_flushed_ = records_;
  control_->tail.store(flushed_tail_,
                       std::memory_order_relaxed);  // Observers get an estimate; nothing is read on its account.
  control_->records_flushed.store(records_, std::memory_order_relaxed);
  if (clean_left_ != 0 && payload_ == nullptr) {  // Not while the lines ahead are lent.
    --clean_left_;
    clean_ahead();
  }
  return true;
}

}  // namespace cdmf::ipc::shm
