#include "typed_rings.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <stdexcept>

#include "cli/bench/round_trips.h"
#include "ipc/ring_buffer.h"
#include "peers/classics.h"
#include "peers/libraries.h"
#include "two_processes.h"

namespace cdmf::bench {
namespace {

constexpr std::size_t kCapacity = 4096;
constexpr std::uint64_t kStop = ~std::uint64_t{0};

template <std::size_t kBytes>
struct Item {
  std::uint64_t words[kBytes / 8];
  explicit Item(std::uint64_t number = 0) { std::fill(std::begin(words), std::end(words), number); }
  [[nodiscard]] bool is(std::uint64_t number) const {  // Reads all of it, as a consumer would.
    std::uint64_t difference = 0;
    for (const std::uint64_t word : words) difference |= word ^ number;
    return difference == 0;
  }
};

/// Lamport's ring with everything together, as the specification's counterexample has it.
template <typename T>
class PackedLamportRing {
 public:
  using value_type = T;
  bool try_push(const T& item) noexcept {
    const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_acquire) == kCapacity) return false;
    items_[tail % kCapacity] = item;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  bool try_pop(T& item) noexcept {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_.load(std::memory_order_acquire)) return false;
    item = items_[head % kCapacity];
    head_.store(head + 1, std::memory_order_release);
    return true;
  }

 private:
  std::atomic<std::uint64_t> tail_{0};
  std::atomic<std::uint64_t> head_{0};
  T items_[kCapacity];
};

/// The same with a line for each position.
template <typename T>
class PaddedLamportRing {
 public:
  using value_type = T;
  bool try_push(const T& item) noexcept {
    const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_acquire) == kCapacity) return false;
    items_[tail % kCapacity] = item;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  bool try_pop(T& item) noexcept {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_.load(std::memory_order_acquire)) return false;
    item = items_[head % kCapacity];
    head_.store(head + 1, std::memory_order_release);
    return true;
  }

 private:
  alignas(128) std::atomic<std::uint64_t> tail_{0};
  alignas(128) std::atomic<std::uint64_t> head_{0};
  alignas(128) T items_[kCapacity];
};

template <typename Ring>
struct Shared {
  Ring there, back;
  alignas(128) std::atomic<std::uint64_t> read{0};
};

template <typename Ring>
Outcome trip(const Setting& setting) {
  using T = typename Ring::value_type;
  SharedMemory memory(sizeof(Shared<Ring>));
  auto* const shared = new (memory.bytes()) Shared<Ring>;
  OtherProcess other(setting.cpus, [&] {
    memory.map_all();
    for (T item;;) {
      while (!shared->there.try_pop(item)) {
      }
      while (!shared->back.try_push(item)) {
      }
    }
  });
  std::uint64_t number = 0;
  const auto trips = ipc::cli::measure_round_trips(
      [&] {
        T item;
        ++number;
        other.poll_until([&] { return shared->there.try_push(T(number)); });
        other.poll_until([&] { return shared->back.try_pop(item); });
        if (!item.is(number)) throw std::runtime_error("an item came back that was not sent");
      },
      setting.budget, 128);
  return {trips.untimed_ns, trips.timed};
}

template <typename Ring>
Outcome stream(const Setting& setting) {
  using T = typename Ring::value_type;
  SharedMemory memory(sizeof(Shared<Ring>));
  auto* const shared = new (memory.bytes()) Shared<Ring>;
  OtherProcess other(setting.cpus, [&] {
    memory.map_all();
    std::uint64_t number = 0;
    for (T item;;) {
      while (!shared->there.try_pop(item)) {
      }
      if (item.is(number)) {
        ++number;
      } else if (item.is(kStop)) {
        shared->read.store(number, std::memory_order_release);
      } else {
        throw std::runtime_error("an item is wrong or missing");  // The process ends, and the producer hears of it.
      }
    }
  });
  std::uint64_t number = 0;
  const auto push_until = [&](auto until) {
    do {
      for (int i = 0; i < 1024; ++i, ++number) {
        other.poll_until([&] { return shared->there.try_push(T(number)); });
      }
    } while (std::chrono::steady_clock::now() < until);
    other.poll_until([&] { return shared->there.try_push(T(kStop)); });
    other.poll_until([&] { return shared->read.load(std::memory_order_acquire) == number; });
  };
  push_until(std::chrono::steady_clock::now() + setting.budget / 8);
  const std::uint64_t first = number;
  const auto begin = std::chrono::steady_clock::now();
  push_until(begin + setting.budget);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return {static_cast<double>(number - first) / took.count()};
}

template <typename Ring>
RingSubject subject(const char* name, const char* label, const char* library, bool ours = false) {
  return {name, label, library, ours, trip<Ring>, stream<Ring>};
}

template <std::size_t kBytes>
std::vector<RingSubject> rings() {
  using T = Item<kBytes>;
  return {
      subject<ipc::SPSCRingBuffer<T, kCapacity>>("ring_spsc", "cdmf SPSCRingBuffer", "cdmf", true),
      subject<ipc::MPMCRingBuffer<T, kCapacity>>("ring_mpmc", "cdmf MPMCRingBuffer", "cdmf", true),
      subject<LamportRing<T, kCapacity>>("ring_lamport", "textbook: Lamport SPSC", "tests/bench/peers/classics.h"),
      subject<VyukovRing<T, kCapacity>>("ring_vyukov", "textbook: Vyukov MPMC", "tests/bench/peers/classics.h"),
      subject<BoostSpscQueue<T, kCapacity>>("ring_boost", "Boost spsc_queue", "Boost.Lockfree"),
  };
}

}  // namespace

std::vector<RingSubject> ring_subjects(std::size_t item_bytes) { return item_bytes == 8 ? rings<8>() : rings<64>(); }

RingSubject packed_ring() { return subject<PackedLamportRing<Item<8>>>("packed", "packed", ""); }
RingSubject padded_ring() { return subject<PaddedLamportRing<Item<8>>>("padded", "padded", ""); }

}  // namespace cdmf::bench
