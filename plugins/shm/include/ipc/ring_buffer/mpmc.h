#pragma once
// ipc/ring_buffer/mpmc.h: ring of objects of one type for any number of producers and consumers.
// Part of ipc/ring_buffer.h; include that one, it says which ring to choose and what both promise.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "ipc/ring_buffer/layout.h"
#include "ipc/ring_buffer/pace.h"
#include "ipc/ring_buffer/prefetch.h"
#include "ipc/ring_buffer/stats.h"

namespace cdmf::ipc {

namespace ring_buffer_detail {

/// Waits a little longer after each lost race, so that of many threads at one position most are out of the way while
/// one gets through. Stays on the CPU: who lost a race knows that another thread is making progress.
class Backoff {
 public:
  void wait() noexcept {
    for (unsigned i = 0; i < pauses_; ++i) pause();
    pauses_ = std::min(2 * pauses_, kPausesMax);
  }

 private:
  static constexpr unsigned kPausesMax = 64;  // About a microsecond, the scale of a few contended hand-overs.

  unsigned pauses_ = 1;
};

/// One item and the word that says whose turn it is. A cell never straddles a line that it could fit into.
template <typename T>
struct MpmcCell {
  static constexpr std::size_t kItemOffset = std::max(sizeof(std::uint64_t), alignof(T));
  static constexpr std::size_t kAlignment =
      std::max(alignof(T), std::min(kCacheLineBytes, std::bit_ceil(kItemOffset + sizeof(T))));

  alignas(kAlignment) std::atomic<std::uint64_t> turn{0};
  alignas(T) std::byte storage[sizeof(T)]{};

  /// Where the item is or will be; dereference only while an object lives there.
  T* item() noexcept { return reinterpret_cast<T*>(storage); }
};

}  // namespace ring_buffer_detail

/// Bounded FIFO between any number of producers and consumers, which may live in different processes. Items of one
/// producer leave in the order they were pushed. Never blocks in the kernel, allocates or calls the system. The first
/// look in vain at each position rests for a moment and looks again, see pace.h: less than 0.1 us, a few us in streams
/// and now and then.
///
/// Ring        Positions count claims since the start and never wrap: 64 bits last 580 years at one per nanosecond.
///             Position p is cell p % Capacity in lap p / Capacity. Producers claim positions by advancing `tail`,
///             consumers by advancing `head`; the claimed cell is then theirs alone until they set its turn.
/// Turns       of a cell in lap n, with k turns to a lap: kn free, kn+1 filled, kn+2 void (its constructor threw: pass
///             over it), k(n+1) free for the next lap. Only the claimant moves it on. This is the sequence of Vyukov's
///             cell without the cell's index, so that fresh memory is all zero, and with room for the state, so that a
///             ring of one cell can tell filled from free.
/// Edges       FILLED  turn kn+1 or kn+2: store(release) -> load(acquire). The item may be read.
///             FREED   turn k(n+1):       store(release) -> load(acquire). The cell may be written.
///             The claims themselves are relaxed: they share out positions and carry no item.
/// Source      Vyukov, "Bounded MPMC queue", 1024cores; counting in laps as in rigtorp/MPMCQueue and folly/MPMCQueue.
///
/// Blocking    A thread stopped between claim and publication holds up its cell: the ring goes on until its other side
///             arrives there, then says full or empty until the thread goes on. So false from try_push or try_pop
///             means "not now", and size() may differ meanwhile. Constructors and assignments of T run in that window.
/// Threads     Every method is [any]: every thread, at any time. Construction and destruction alone need ordering.
template <typename T, std::size_t Capacity, RingBufferCounting kCounting = RingBufferCounting::off>
class MPMCRingBuffer {
  static_assert(std::has_single_bit(Capacity), "Capacity must be a power of two");
  static_assert(std::is_object_v<T> && !std::is_array_v<T> && std::is_same_v<T, std::remove_cv_t<T>>,
                "items are plain objects, neither const nor volatile nor arrays");
  static_assert(std::is_nothrow_destructible_v<T>, "an item's destructor must not throw");
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a hidden lock would belong to one process");

 public:
  using value_type = T;

  /// True when processes may share the ring through a mapping; see ipc/ring_buffer.h.
  static constexpr bool kShareable = std::is_trivially_copyable_v<T>;

  constexpr MPMCRingBuffer() noexcept {}
  MPMCRingBuffer(const MPMCRingBuffer&) = delete;
  MPMCRingBuffer& operator=(const MPMCRingBuffer&) = delete;

  /// Destroys the items left inside. No other thread may be using the ring.
  ~MPMCRingBuffer() {
    if constexpr (!std::is_trivially_destructible_v<T>) {
      while (const Claim claim = claim_filled(1)) Taking taking(*this, claim.position);
    }
  }

  /// Appends a copy of `item`. Returns false when the ring is full. [any]
  /// When copying throws, the ring holds no new item; one cell is out of use until a consumer passes over it.
  [[nodiscard]] bool try_push(const T& item) noexcept(
      std::is_nothrow_copy_constructible_v<T>) requires std::is_copy_constructible_v<T> {
    return try_emplace(item);
  }

  /// Appends `item` by moving it. Returns false, leaving `item` untouched, when the ring is full. [any]
  /// When moving throws: as for a copy.
  [[nodiscard]] bool try_push(T&& item) noexcept(
      std::is_nothrow_move_constructible_v<T>) requires std::is_move_constructible_v<T> {
    return try_emplace(std::move(item));
  }

  /// Constructs an item in place from `args`. Returns false, leaving `args` untouched, when the ring is full. [any]
  /// When the constructor throws: as for a copy. A constructor that may throw often, or takes long, is better run
  /// before the push, since consumers wait for it at this position.
  template <typename... Args>
  requires std::is_constructible_v<T, Args...>
  [[nodiscard]] bool try_emplace(Args&&... args) noexcept(std::is_nothrow_constructible_v<T, Args...>) {
    const Claim claim = claim_free(1);
    if (!claim) return refused_push();
    Filling cells(*this, claim);
    cells.fill(std::forward<Args>(args)...);
    return true;
  }

  /// Appends up to `count` items made from `*first`, `*++first`, ...; as many as there is room for, next to each other
  /// and by a single claim. Returns how many; the source beyond them is unread. Each is published when made. [any]
  /// Give std::make_move_iterator to move. When making an item throws, those before it are in the ring, and it and the
  /// rest of the claim are out of use until consumers pass over them.
  template <std::input_iterator It>
  requires std::is_constructible_v<T, std::iter_reference_t<It>>
  [[nodiscard]] std::size_t try_push_bulk(It first, std::size_t count) {
    const Claim claim = claim_free(count);
    if (!claim) {
      if (count != 0) refused_push();
      return 0;
    }
    Filling cells(*this, claim);
    for (std::size_t made = 0; made != claim.count; ++made, ++first) cells.fill(*first);
    return claim.count;
  }

  /// Moves the oldest item into `item` and destroys what is left of it. Returns false, leaving `item` untouched, when
  /// the ring is empty. [any]
  /// When the assignment throws, the item is lost: the ring has gone on and cannot take it back.
  [[nodiscard]] bool try_pop(T& item) noexcept(
      std::is_nothrow_move_assignable_v<T>) requires std::is_move_assignable_v<T> {
    const Claim claim = claim_filled(1);
    if (!claim) return refused_pop();
    Taking cell(*this, claim.position);
    item = std::move(cell.item());
    return true;
  }

  /// The oldest item, or nothing when the ring is empty: for types without default constructor or assignment. [any]
  /// When moving throws, the item is lost, as above.
  [[nodiscard]] std::optional<T> try_pop() noexcept(
      std::is_nothrow_move_constructible_v<T>) requires std::is_move_constructible_v<T> {
    std::optional<T> result;
    if (const Claim claim = claim_filled(1)) {
      Taking cell(*this, claim.position);
      result.emplace(std::move(cell.item()));
    } else {
      refused_pop();
    }
    return result;
  }

  /// Moves up to `count` of the oldest items to `*out`, `*++out`, ..., taken by a single claim and so next to each
  /// other in the ring. Returns how many; fewer when it holds fewer, or when the next one is not complete yet. [any]
  /// Items whose assignment may throw are claimed one by one, so that a throw loses no more than its own item.
  template <typename OutIt>
  requires std::output_iterator<OutIt, T&&>
  [[nodiscard]] std::size_t try_pop_bulk(OutIt out, std::size_t count) {
    constexpr bool kSafe = (noexcept(*out = std::declval<T&&>())) && (noexcept(++out));
    std::size_t taken = 0;
    while (taken != count) {
      const Claim claim = claim_filled(kSafe ? count - taken : 1);
      if (!claim) break;
      for (std::size_t i = 0; i != claim.count; ++i, ++out, ++taken) {
        Taking cell(*this, claim.position + i);
        *out = std::move(cell.item());
      }
      if constexpr (kSafe) break;
    }
    if (taken == 0 && count != 0) refused_pop();
    return taken;
  }

  /// Items the ring can hold at once: all of Capacity. [any]
  [[nodiscard]] static constexpr std::size_t capacity() noexcept { return Capacity; }

  /// Positions claimed by producers and not yet by consumers, 0 to capacity(): the items inside, and those about to
  /// be. For display and rough decisions; others may change it before the caller looks. [any]
  [[nodiscard]] std::size_t size() const noexcept {
    // The head first, so that pops after the call began are not taken for pops of items it has not counted. Relaxed
    // claims promise no order between the two even so, hence the inner min.
    const std::uint64_t head = head_.load(std::memory_order_acquire);
    const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
    return static_cast<std::size_t>(std::min<std::uint64_t>(tail - std::min(head, tail), Capacity));
  }

  /// size() == 0. [any]
  [[nodiscard]] bool is_empty() const noexcept { return size() == 0; }

  /// size() == capacity(). [any]
  [[nodiscard]] bool is_full() const noexcept { return size() == Capacity; }

  /// What was counted so far. An item counts as pushed or popped from its claim on. [any]
  [[nodiscard]] RingBufferStats getStats() const noexcept requires(kCounting == RingBufferCounting::on) {
    RingBufferStats stats;
    // What is taken off is read before what it is taken off from, which only grows: no difference can go below 0.
    const std::uint64_t skipped = consumer_counts_.skipped.load(std::memory_order_acquire);
    stats.total_pops = head_.load(std::memory_order_acquire) - skipped;
    const std::uint64_t voided = producer_counts_.voided.load(std::memory_order_acquire);
    // At least what was popped: relaxed claims promise no order between the two ends.
    stats.total_pushes = std::max(stats.total_pops, tail_.load(std::memory_order_relaxed) - voided);
    stats.failed_pushes = producer_counts_.failed.load(std::memory_order_relaxed);
    stats.failed_pops = consumer_counts_.failed.load(std::memory_order_relaxed);
    stats.max_size = producer_counts_.max_size.load(std::memory_order_relaxed);
    stats.capacity = Capacity;
    return stats;
  }

 private:
  using Cell = ring_buffer_detail::MpmcCell<T>;
  static constexpr bool kCounts = kCounting == RingBufferCounting::on;
  static constexpr std::uint64_t kFree = 0;
  static constexpr std::uint64_t kFilled = 1;
  static constexpr std::uint64_t kVoid = 2;
  // At least one per state; and Capacity rather than 4, since position / Capacity * Capacity is a single AND.
  static constexpr std::uint64_t kTurnsPerLap = std::max<std::uint64_t>(4, Capacity);
  static constexpr std::size_t kFetchedAhead = 4;

  /// Neighbouring positions that belong to one thread.
  struct Claim {
    std::uint64_t position = 0;
    std::size_t count = 0;
    explicit operator bool() const noexcept { return count != 0; }
  };

  /// Claimed free cells on their way to be filled, in order. Those not filled when the scope ends, because a
  /// constructor threw, are published void: left free they would hold up every consumer for ever.
  class Filling {
   public:
    Filling(MPMCRingBuffer& ring, Claim claim) noexcept
        : ring_(ring), position_(claim.position), end_(claim.position + claim.count) {}
    Filling(const Filling&) = delete;
    Filling& operator=(const Filling&) = delete;
    ~Filling() {
      if constexpr (kCounts) ring_.note_filled(position_, end_ - position_);
      for (; position_ != end_; ++position_) ring_.set_turn(position_, kVoid);  // FILLED
    }
    template <typename... Args>
    void fill(Args&&... args) noexcept(std::is_nothrow_constructible_v<T, Args...>) {
      ring_.fetch_ahead(position_);
      std::construct_at(ring_.cell(position_).item(), std::forward<Args>(args)...);
      ring_.set_turn(position_, kFilled);  // FILLED
      ++position_;
    }

   private:
    MPMCRingBuffer& ring_;
    std::uint64_t position_;
    const std::uint64_t end_;
  };

  /// One claimed filled cell. Its item is destroyed and the cell freed when the scope ends, even by an exception.
  class Taking {
   public:
    Taking(MPMCRingBuffer& ring, std::uint64_t position) noexcept : ring_(ring), position_(position) {}
    Taking(const Taking&) = delete;
    Taking& operator=(const Taking&) = delete;
    ~Taking() {
      std::destroy_at(&item());
      ring_.set_turn(position_, kTurnsPerLap);  // FREED
    }
    T& item() noexcept { return *std::launder(ring_.cell(position_).item()); }

   private:
    MPMCRingBuffer& ring_;
    const std::uint64_t position_;
  };

  /// cells_[position % Capacity]. Cells of a power of two are found in bytes, which the compiler does in fewer steps:
  /// the next push or pop waits for all of this one's.
  Cell& cell(std::uint64_t position) noexcept {
    if constexpr (!std::has_single_bit(sizeof(Cell))) return cells_[position & (Capacity - 1)];
    const std::uint64_t place = position * sizeof(Cell) & (Capacity * sizeof(Cell) - 1);
    return *reinterpret_cast<Cell*>(reinterpret_cast<std::byte*>(cells_) + place);
  }

  static constexpr std::uint64_t first_turn(std::uint64_t position) noexcept {
    return kTurnsPerLap * (position / Capacity);
  }

  bool has_turn(std::uint64_t position, std::uint64_t turn) noexcept {
    return cell(position).turn.load(std::memory_order_acquire) == first_turn(position) + turn;  // FILLED, FREED
  }

  void set_turn(std::uint64_t position, std::uint64_t turn) noexcept {
    cell(position).turn.store(first_turn(position) + turn, std::memory_order_release);  // FILLED, FREED
  }

  /// Claims up to `wanted` neighbouring cells from `end` on whose turn is `turn`; none when the first one's turn has
  /// not come. A turn seen before the claim holds after it: only the claimant of that very position can change it.
  Claim claim(std::atomic<std::uint64_t>& end, ring_buffer_detail::ProbingPace& pace, std::uint64_t turn,
              std::size_t wanted) noexcept {
    ring_buffer_detail::Backoff backoff;
    std::uint64_t position = end.load(std::memory_order_relaxed);  // A hint: the exchange below decides.
    while (wanted != 0) {
      const std::uint64_t word = cell(position).turn.load(std::memory_order_acquire);  // FILLED, FREED
      if (word != first_turn(position) + turn) [[unlikely]] {
        // Negative: the cell is still in an earlier lap. kTurnsPerLap and more: in a later one, so `position` is old.
        const auto seen = static_cast<std::int64_t>(word - first_turn(position));
        if (seen < static_cast<std::int64_t>(turn)) {  // The position cannot be old then: never claimed in this lap.
          if (!pace.moved(position)) break;
          pace.rest(position);
        } else if (turn == kFilled && seen == static_cast<std::int64_t>(kVoid)) {
          skip_void(position);
        }
        position = end.load(std::memory_order_relaxed);
        continue;
      }
      std::size_t count = 1;
      while (count < wanted && has_turn(position + count, turn)) ++count;
      std::uint64_t expected = position;  // A copy, so that nothing below waits for what the exchange read.
      if (end.compare_exchange_weak(expected, position + count, std::memory_order_relaxed)) return {position, count};
      backoff.wait();
      position = end.load(std::memory_order_relaxed);
    }
    return {};
  }

  Claim claim_free(std::size_t wanted) noexcept { return claim(tail_, producers_pace_, kFree, wanted); }
  Claim claim_filled(std::size_t wanted) noexcept { return claim(head_, consumers_pace_, kFilled, wanted); }

  /// The consumers' cores still have the lines of the lap before. Asked back when it is written to, each would hold up
  /// the next exchange. For items that fill lines only: a hand-over of one small item takes longer by it (measured).
  void fetch_ahead(std::uint64_t position) noexcept {
    if constexpr (sizeof(Cell) >= ring_buffer_detail::kCacheLineBytes && Capacity > kFetchedAhead) {
      const auto* const at = reinterpret_cast<const std::byte*>(&cell(position + kFetchedAhead));
      ring_buffer_detail::prefetch_for_writing(at);
      if constexpr (sizeof(Cell) > ring_buffer_detail::kCacheLineBytes)
        ring_buffer_detail::prefetch_for_writing(at + ring_buffer_detail::kCacheLineBytes);
    }
  }

  /// Frees the void cell at `position` unless another consumer does.
  void skip_void(std::uint64_t position) noexcept {
    if (!head_.compare_exchange_strong(position, position + 1, std::memory_order_relaxed)) return;
    if constexpr (kCounts) consumer_counts_.skipped.fetch_add(1, std::memory_order_release);
    set_turn(position, kTurnsPerLap);  // FREED
  }

  /// Cells up to `end` were filled by the caller, and the `void_count` after them are about to be published void.
  void note_filled(std::uint64_t end, std::uint64_t void_count) noexcept {
    if (void_count != 0) producer_counts_.voided.fetch_add(void_count, std::memory_order_release);
    const std::uint64_t head = head_.load(std::memory_order_relaxed);  // A moment ago is as good: this is a sample.
    const std::uint64_t size = std::min<std::uint64_t>(end - std::min(head, end), Capacity);
    std::uint64_t most = producer_counts_.max_size.load(std::memory_order_relaxed);
    while (size > most && !producer_counts_.max_size.compare_exchange_weak(most, size, std::memory_order_relaxed)) {
    }
  }

  bool refused_push() noexcept {
    if constexpr (kCounts) producer_counts_.failed.fetch_add(1, std::memory_order_relaxed);
    return false;
  }

  bool refused_pop() noexcept {
    if constexpr (kCounts) consumer_counts_.failed.fetch_add(1, std::memory_order_relaxed);
    return false;
  }

  struct NoCounts {};
  struct alignas(ring_buffer_detail::kRoleBytes) ProducerCounts {
    std::atomic<std::uint64_t> failed{0};
    std::atomic<std::uint64_t> max_size{0};
    std::atomic<std::uint64_t> voided{0};  // Claimed positions that never held an item.
  };
  struct alignas(ring_buffer_detail::kRoleBytes) ConsumerCounts {
    std::atomic<std::uint64_t> failed{0};
    std::atomic<std::uint64_t> skipped{0};  // Void cells passed over.
  };

  // Written by producers.
  alignas(ring_buffer_detail::kRoleBytes) std::atomic<std::uint64_t> tail_{0};
  ring_buffer_detail::ProbingPace producers_pace_;
  [[no_unique_address]] std::conditional_t<kCounts, ProducerCounts, NoCounts> producer_counts_;
  // Written by consumers.
  alignas(ring_buffer_detail::kRoleBytes) std::atomic<std::uint64_t> head_{0};
  ring_buffer_detail::ProbingPace consumers_pace_;
  [[no_unique_address]] std::conditional_t<kCounts, ConsumerCounts, NoCounts> consumer_counts_;
  // Written by the claimant of the position.
  alignas(std::max(ring_buffer_detail::kRoleBytes, alignof(Cell))) Cell cells_[Capacity];
};

}  // namespace cdmf::ipc
