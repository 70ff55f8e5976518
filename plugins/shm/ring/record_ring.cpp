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
  }
  return "unknown fault";
}

RecordProducer::RecordProducer(const RecordRingMemory& memory)
    : control_(memory.control),
      bytes_(memory.bytes),
      mask_(memory.capacity_bytes - 1),
      record_bytes_max_(record_bytes_max(memory.capacity_bytes)),
      dirty_(memory.capacity_bytes / kLineBytes) {
  assert(is_valid_capacity(memory.capacity_bytes));
}

/// Looks at the consumer's head; false when it is impossible, now or before.
bool RecordProducer::refresh_head() noexcept {
  if (fault_ != RingFault::none) return false;
  const std::uint64_t head = control_->head.load(std::memory_order_acquire);  // FREED
  if (head < head_seen_ || head > flushed_tail_ || head % kLineBytes != 0) {
    fault_ = RingFault::bad_head;
    return false;
  }
  head_seen_ = head;
  return true;
}

std::uint64_t RecordProducer::used_bytes() noexcept { return refresh_head() ? tail_ - head_seen_ : 0; }

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
      mask_(memory.capacity_bytes - 1),
      record_bytes_max_(record_bytes_max(memory.capacity_bytes)),
      publish_quantum_(std::max(memory.capacity_bytes / 8, kLineBytes)) {
  assert(is_valid_capacity(memory.capacity_bytes));
}

RecordConsumer::Found RecordConsumer::fail(RingFault fault) noexcept {
  fault_ = fault;
  return Found::fault;
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

void RecordConsumer::publish_head() noexcept {
  const std::uint64_t head = releasable();
  if (head == head_) return;
  head_ = head;
  control_->head.store(head, std::memory_order_release);  // FREED
}

}  // namespace cdmf::ipc::shm
