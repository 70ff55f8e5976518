#include "rpc/pending_calls.h"

#include <sys/random.h>

#include <bit>
#include <random>

namespace cdmf::ipc::rpc {
namespace {

std::uint64_t random_word() noexcept {
  std::uint64_t word = 0;
  // Up to 256 bytes are never cut short once the system has seeded itself, which it has when programs run.
  if (getrandom(&word, sizeof word, 0) == sizeof word) return word;
  return std::random_device{}() | std::uint64_t{std::random_device{}()} << 32;
}

}  // namespace

PendingCalls::PendingCalls(std::size_t capacity, bool alone)
    : capacity_(capacity),
      alone_(alone),
      bits_(static_cast<unsigned>(std::countr_zero(capacity))),
      slots_(std::make_unique<Slot[]>(capacity)),
      free_(0) {
  for (std::size_t index = 0; index < capacity; ++index) {
    slots_[index].next = index + 1 < capacity ? static_cast<std::uint32_t>(index + 1) : kNone;
  }
  renew_key();
}

void PendingCalls::renew_key() noexcept {
  key_.store(random_word() >> bits_ << bits_, std::memory_order_relaxed);  // Any key will do for a call in between.
}

inline bool PendingCalls::exchange_free(std::uint64_t& head, std::uint64_t next, std::memory_order order) noexcept {
  if (!alone_) return free_.compare_exchange_weak(head, next, order, std::memory_order_relaxed);
  free_.store(next, std::memory_order_relaxed);
  return true;
}

std::uint64_t PendingCalls::add(Call&& call, std::uint64_t timeout_ns) {
  std::uint64_t head = free_.load(std::memory_order_acquire);
  std::uint32_t index;
  do {
    index = static_cast<std::uint32_t>(head);
    if (index >= kClosed) return 0;
    // Another thread may take this slot and change `next` meanwhile; the exchange fails then, as the count has changed.
  } while (!exchange_free(head, changed(head, slots_[index].next.load(std::memory_order_relaxed)),
                          std::memory_order_acquire));  // RELEASED
  Slot& slot = slots_[index];
  slot.call.waiter = call.waiter;
  slot.call.started_ns = call.started_ns;
  slot.call.method = call.method;
  if (call.callback != nullptr) slot.call.callback.swap(call.callback);  // That of a free slot is empty.
  slot.deadline_ns.store(timeout_ns >= kNoDeadline ? kNoDeadline : timeout_ns | kNotBegun, std::memory_order_relaxed);
  std::uint64_t generation = slot.generation.load(std::memory_order_relaxed);
  std::uint64_t id;
  do {
    ++generation;
    id = (generation << bits_ | index) ^ key_.load(std::memory_order_relaxed);
  } while (id == 0);  // 0 says "not in use".
  slot.generation.store(generation, std::memory_order_relaxed);
  slot.id.store(id, std::memory_order_release);  // PUBLISHED
  return id;
}

bool PendingCalls::take(std::uint64_t id, Call& call) {
  const auto index = static_cast<std::uint32_t>(id & (capacity_ - 1));
  Slot& slot = slots_[index];
  if (id == 0 || slot.id.load(std::memory_order_relaxed) != id) return false;
  if (alone_) {
    slot.id.store(0, std::memory_order_relaxed);
  } else if (!slot.id.compare_exchange_strong(id, 0, std::memory_order_acquire, std::memory_order_relaxed)) {
    return false;
  }
  call.waiter = slot.call.waiter;
  call.started_ns = slot.call.started_ns;
  call.method = slot.call.method;
  call.callback = nullptr;
  if (slot.call.callback != nullptr) call.callback.swap(slot.call.callback);
  release(index);
  return true;
}

void PendingCalls::release(std::uint32_t index) noexcept {
  std::uint64_t head = free_.load(std::memory_order_relaxed);
  do {
    if (static_cast<std::uint32_t>(head) == kClosed) {
      returned_after_close_.fetch_add(1, std::memory_order_release);
      return;
    }
    slots_[index].next.store(static_cast<std::uint32_t>(head), std::memory_order_relaxed);
  } while (!exchange_free(head, changed(head, index), std::memory_order_release));  // RELEASED
}

bool PendingCalls::was_given(std::uint64_t id) const noexcept {
  const std::uint64_t generation = (id ^ key_.load(std::memory_order_relaxed)) >> bits_;
  return generation != 0 && generation <= slots_[id & (capacity_ - 1)].generation.load(std::memory_order_relaxed);
}

std::size_t PendingCalls::in_flight() const noexcept {
  std::size_t count = 0;
  for (std::size_t index = 0; index < capacity_; ++index) {
    count += slots_[index].id.load(std::memory_order_relaxed) != 0;
  }
  return count;
}

}  // namespace cdmf::ipc::rpc
