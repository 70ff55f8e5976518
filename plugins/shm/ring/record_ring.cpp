#include "ring/record_ring.h"

#include <algorithm>
#include <cassert>

#include "ring/record_consumer.h"
#include "ring/record_producer.h"

namespace cdmf::ipc::shm {

const char* to_string(RingFault fault) noexcept {
  switch (fault) {
    case RingFault::none:
      return "no fault";
    case RingFault::bad_stamp:
      return "a commit word belongs to no lap that can be";
    case RingFault::bad_size:
      return "a record is smaller than its envelope or larger than the largest";
    case RingFault::past_end:
      return "a record reaches over the end of the ring";
    case RingFault::bad_padding:
      return "padding covers the whole ring";
    case RingFault::overrun:
      return "records lie where nothing was freed";
    case RingFault::bad_head:
      return "the head moved where it cannot be";
    case RingFault::bad_tail:
      return "the tail is not what its only writer wrote";
  }
  return "unknown fault";
}

RecordProducer::RecordProducer(const RecordRingMemory& memory)
    : control_(memory.control),
      bytes_(memory.bytes),
      end_(memory.bytes + memory.capacity_bytes),
      capacity_(memory.capacity_bytes),
      payload_bytes_max_(shm::payload_bytes_max(memory.capacity_bytes)),
      next_(memory.bytes),
      free_end_(memory.bytes + memory.capacity_bytes),
      dirty_(memory.capacity_bytes / kLineBytes) {
  assert(is_valid_capacity(memory.capacity_bytes));
}

/// A claim that is too large, does not fit before the end, or needs a look at the consumer's head.
ClaimOutcome RecordProducer::claim_slowly(std::uint64_t payload_bytes) noexcept {
  abort();
  if (payload_bytes > payload_bytes_max_) return ClaimOutcome::too_large;
  const std::uint64_t record_bytes = whole_lines(kEnvelopeBytes + payload_bytes);
  const std::uint64_t padding_bytes = record_bytes <= to_end() ? 0 : to_end();
  if (fault_ != RingFault::none || (padding_bytes + record_bytes > free_bytes() && !refresh_head())) {
    free_end_ = next_;  // Every claim comes by here from now on.
    return ClaimOutcome::corrupt;
  }
  if (padding_bytes + record_bytes > free_bytes()) {
    flush();
    control_->claims_refused.store(++claims_refused_, std::memory_order_relaxed);
    return ClaimOutcome::full;
  }
  return lend(padding_bytes == 0 ? next_ : bytes_, payload_bytes, record_bytes);
}

/// Fills what is left of this lap, so that the record being committed begins the next one.
void RecordProducer::pad() noexcept {
  put_word(next_, commit_word(stamp_, kPaddingSize));
  dirty_.mark(line_of(next_) + 1, capacity_ / kLineBytes);  // (I): passed over, words of any age.
  free_end_ = end_;  // Of it the consumer may have told nothing yet: the claim has looked at the whole.
  advance(to_end());
}

/// Sets the words of the dirty lines to 0 that may soon be the next header's place, when records of several sizes have
/// made flush() meet one: there, it stands between the sender and FILLED, and has to fetch the line from the consumer's
/// core first. Here the sender has nothing else to do. (I) allows it for every line that is free and not lent.
void RecordProducer::clean_ahead() noexcept {
  const std::uint64_t free_lines = free_bytes() / kLineBytes;
  std::uint64_t line = line_of(next_);
  for (std::uint64_t ahead = 0; ahead < kCleanLines && ahead < free_lines; ++ahead) {
    if (dirty_.test(line)) {
      word_at(bytes_ + line * kLineBytes).store(0, std::memory_order_relaxed);  // Ordered by the next FILLED.
      dirty_.clear(line);
    }
    if (++line == capacity_ / kLineBytes) line = 0;
  }
}

/// Looks at the consumer's head; false when it is impossible, now or before.
bool RecordProducer::refresh_head() noexcept {
  if (fault_ != RingFault::none) return false;
  const std::uint64_t head = control_->head.load(std::memory_order_acquire);  // FREED
  if (head < head_seen_ || head > flushed_tail_ || head % kLineBytes != 0) {
    fault_ = RingFault::bad_head;
    return false;
  }
  // ring_has_room() believes it: a wild one would send its caller round and round between a wait and a claim.
  if (control_->tail.load(std::memory_order_relaxed) != flushed_tail_) {
    fault_ = RingFault::bad_tail;
    return false;
  }
  head_seen_ = head;
  if (tail() - head > high_water_) {
    high_water_ = tail() - head;
    control_->high_water.store(high_water_, std::memory_order_relaxed);
  }
  free_end_ = next_ + std::min(to_end(), free_bytes());
  return true;
}

std::uint64_t RecordProducer::used_bytes() noexcept { return refresh_head() ? tail() - head_seen_ : 0; }

bool ring_has_room(const RecordRingMemory& memory, std::uint64_t payload_bytes) noexcept {
  const std::uint64_t capacity = memory.capacity_bytes;
  const std::uint64_t tail = memory.control->tail.load(std::memory_order_relaxed);
  const std::uint64_t head = memory.control->head.load(std::memory_order_acquire);
  const std::uint64_t record_bytes = whole_lines(kEnvelopeBytes + payload_bytes);
  const std::uint64_t used = tail - head;
  if (used > capacity || record_bytes > record_bytes_max(capacity)) return true;
  const std::uint64_t to_end = capacity - tail % capacity;
  return used + record_bytes + (record_bytes <= to_end ? 0 : to_end) <= capacity;
}

std::uint64_t count_unreleased(const RecordRingMemory& memory) noexcept {
  const std::uint64_t capacity = memory.capacity_bytes;
  const std::uint64_t tail = memory.control->tail.load(std::memory_order_relaxed);
  std::uint64_t at = memory.control->head.load(std::memory_order_acquire);
  if (tail - at > capacity || at % kLineBytes != 0) return 0;
  std::uint64_t count = 0;
  while (tail - at - 1 < capacity) {  // at < tail; a step too far ends it as well.
    const std::uint64_t offset = at % capacity;
    std::uint32_t& word = *reinterpret_cast<std::uint32_t*>(memory.bytes + offset);
    const std::uint32_t size = std::atomic_ref(word).load(std::memory_order_relaxed) & kSizeMask;
    if (size != kPaddingSize) {
      if (size < kEnvelopeBytes) break;  // Not what a producer wrote.
      ++count;
    }
    at += size == kPaddingSize ? capacity - offset : whole_lines(size);
  }
  return count;
}

RecordConsumer::RecordConsumer(const RecordRingMemory& memory) noexcept
    : control_(memory.control),
      bytes_(memory.bytes),
      end_(memory.bytes + memory.capacity_bytes),
      capacity_(memory.capacity_bytes),
      record_bytes_max_(record_bytes_max(memory.capacity_bytes)),
      publish_quantum_(std::max(memory.capacity_bytes / 8, kLineBytes)),
      at_(memory.bytes) {
  assert(is_valid_capacity(memory.capacity_bytes));
  renew_room();
}

/// At most how large a record can be that begins here: not over the end, and not where nothing was freed.
void RecordConsumer::renew_room() noexcept {
  linear_ = std::min(to_end(), head_ + capacity_ - next_);
  set_room();
}

bool RecordConsumer::fail(RingFault fault) noexcept {
  fault_ = fault;
  room_ = 0;  // No word passes the first look any more.
  return false;
}

/// Anything but a record in the middle of the ring. The word is loaded again: it may have come meanwhile.
bool RecordConsumer::look_closely(RecordView& view) noexcept {
  if (fault_ != RingFault::none) return false;
  for (;;) {  // Twice at most: padding leads to offset 0, and padding there is a fault.
    const std::uint32_t word = load_word(at_);
    if (is_nothing(word)) return false;
    if (word >> kStampShift != stamp_) return fail(RingFault::bad_stamp);  // By (I) nothing else can stand here.
    const std::uint32_t size = word & kSizeMask;
    const bool padding = size == kPaddingSize;
    if (padding) {
      if (at_ == bytes_) return fail(RingFault::bad_padding);
    } else if (size < kEnvelopeBytes || size > record_bytes_max_) {
      return fail(RingFault::bad_size);
    }
    const std::uint64_t length = padding ? to_end() : whole_lines(size);
    if (length > to_end()) return fail(RingFault::past_end);
    if (next_ + length - head_ > capacity_) return fail(RingFault::overrun);
    renew_room();  // The head may have been published since.
    if (!padding) {
      deliver(view, size);
      return true;
    }
    advance(length);
  }
}

bool RecordConsumer::hold(std::uint64_t begin) noexcept {
  assert(begin >= released_ && begin < next_);
  if (held_count_ == kHeldMax) return false;
  held_[held_count_++] = begin;
  return true;
}

bool RecordConsumer::release_held(std::uint64_t begin) noexcept {
  const auto held_end = held_.begin() + static_cast<std::ptrdiff_t>(held_count_);
  const auto found = std::find(held_.begin(), held_end, begin);
  if (found == held_end) return false;
  *found = held_[--held_count_];
  // Holds are rare and keep much space behind them: tell at once.
  publish_head();
  return true;
}

/// The words of the peer only say which lines of the ring are asked for, and no more than a few at a time.
void RecordConsumer::fetch_written() noexcept {
  const std::uint64_t written_to = control_->written_to.load(std::memory_order_relaxed);
  const std::uint64_t begin = std::max(control_->writing_from.load(std::memory_order_relaxed), next_);
  const std::uint64_t from = std::max(begin, fetched_to_ <= written_to ? fetched_to_ : 0);
  fetched_to_ = written_to;
  if (written_to <= from || written_to - next_ > capacity_) return;
  fetched_to_ = std::min(written_to, from + kFetchedAtOnce);
  for (std::uint64_t at = from & ~(kLineBytes - 1); at + kLineBytes <= fetched_to_; at += kLineBytes) {
    ring_buffer_detail::prefetch_for_reading(bytes_ + (at & (capacity_ - 1)));
  }
}

void RecordConsumer::publish_head() noexcept {
  const std::uint64_t head = releasable();
  if (head == head_) return;
  head_ = head;
  control_->head.store(head, std::memory_order_release);  // FREED
}

}  // namespace cdmf::ipc::shm
