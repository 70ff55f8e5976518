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
