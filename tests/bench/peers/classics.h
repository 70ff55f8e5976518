#pragma once
// bench/peers/classics.h: two rings of the textbooks, as faithful and as fast as we can write them, for comparison.
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cdmf::bench {

/// Lamport's ring: one producer, one consumer, a position for each on a line of its own, and each side's copy of the
/// other's position so that it looks only when it must. What most SPSC libraries are.
template <typename T, std::size_t kCapacity>
class LamportRing {
 public:
  using value_type = T;
  bool try_push(const T& item) noexcept {
    const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ == kCapacity) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ == kCapacity) return false;
    }
    items_[tail % kCapacity] = item;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  bool try_pop(T& item) noexcept {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return false;
    }
    item = items_[head % kCapacity];
    head_.store(head + 1, std::memory_order_release);
    return true;
  }

 private:
  alignas(128) std::atomic<std::uint64_t> tail_{0};
  alignas(128) std::uint64_t head_seen_ = 0;
  alignas(128) std::atomic<std::uint64_t> head_{0};
  alignas(128) std::uint64_t tail_seen_ = 0;
  alignas(128) T items_[kCapacity];
};

/// Vyukov's bounded queue: any number of producers and consumers, a sequence number in each cell.
template <typename T, std::size_t kCapacity>
class VyukovRing {
 public:
  using value_type = T;
  VyukovRing() noexcept {
    for (std::size_t i = 0; i < kCapacity; ++i) cells_[i].sequence.store(i, std::memory_order_relaxed);
  }
  bool try_push(const T& item) noexcept {
    std::uint64_t position = tail_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[position % kCapacity];
      const auto ahead = static_cast<std::int64_t>(cell.sequence.load(std::memory_order_acquire) - position);
      if (ahead == 0) {
        if (!tail_.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) continue;
        cell.item = item;
        cell.sequence.store(position + 1, std::memory_order_release);
        return true;
      }
      if (ahead < 0) return false;
      position = tail_.load(std::memory_order_relaxed);
    }
  }
  bool try_pop(T& item) noexcept {
    std::uint64_t position = head_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[position % kCapacity];
      const auto ahead = static_cast<std::int64_t>(cell.sequence.load(std::memory_order_acquire) - (position + 1));
      if (ahead == 0) {
        if (!head_.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) continue;
        item = cell.item;
        cell.sequence.store(position + kCapacity, std::memory_order_release);
        return true;
      }
      if (ahead < 0) return false;
      position = head_.load(std::memory_order_relaxed);
    }
  }

 private:
  struct Cell {
    std::atomic<std::uint64_t> sequence;
    T item;
  };
  alignas(128) std::atomic<std::uint64_t> tail_{0};
  alignas(128) std::atomic<std::uint64_t> head_{0};
  alignas(128) Cell cells_[kCapacity];
};

}  // namespace cdmf::bench
