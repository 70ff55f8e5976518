#pragma once
// ipc/ring_buffer/spsc.h: one-producer, one-consumer ring of objects of one type.
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

/// Some items and the word that publishes them. Where an item fits into one cache line together with the word, a block
/// is one line holding as many items as fit (seven of 8 bytes), and a hand-over moves that one line between the cores.
/// Larger items have the word on a line apart, and 31 of them share it: then it moves once for many items, and the
/// consumer of a stream does not poll what the producer is writing. (One word for all items, as in the ring of Lamport,
/// halves the rate of 64-byte items; a word for each does so too.)
template <typename T, std::size_t Capacity>
struct SpscBlock {
  static constexpr std::size_t kItemsOffset = std::max(sizeof(std::uint64_t), alignof(T));
  static constexpr bool kSharesLine = kItemsOffset + sizeof(T) <= kCacheLineBytes;
  static constexpr std::size_t kItems =
      kSharesLine ? (kCacheLineBytes - kItemsOffset) / sizeof(T) : std::min<std::size_t>(Capacity, 31);
  static constexpr std::size_t kItemsAlignment = kSharesLine ? alignof(T) : std::max(kCacheLineBytes, alignof(T));

  alignas(std::max(kCacheLineBytes, kItemsAlignment)) std::atomic<std::uint64_t> filled{0};
  alignas(kItemsAlignment) std::byte storage[kItems * sizeof(T)]{};
};

}  // namespace ring_buffer_detail

/// Bounded FIFO between one producer thread and one consumer thread, which may live in two processes.
/// Never blocks, allocates or calls the system; every operation is wait-free. The first pop in vain after an item, and
/// the first push in vain, rest for a moment and look again, see pace.h: less than 0.1 us, in streams some us.
///
/// Ring        Positions count items since the start and never wrap: 64 bits last 580 years at one item per nanosecond.
///             Item p is item p % kItems of block (p / kItems) % kBlocks.
/// Invariant   head <= tail <= head + Capacity. A batch is one or more items published by one store: its end goes into
///             `filled` of the block its first item lies in. The consumer always waits at the end of a batch, hence in
///             the block where the next one will be announced. A word is true whatever lap it was written in: all items
///             before that position are published. So nothing has to be cleared.
/// Edges       FILLED  Block::filled: store(release) -> load(acquire). Items before that position may be read.
///             FREED   freed_:        store(release) -> load(acquire). Slots before that position may be reused.
///             COUNTED tail:          store(release) -> load(acquire). Whoever saw the size sees the items.
/// Source      Lamport, "Specifying concurrent program modules", 1983, for the ring; each side's remembered copy of the
///             other's position from Lee, Bu and Chandranmenon's MCRingBuffer, 2010; the word beside the data from
///             Giacomoni, Moseley and Vachharajani's FastForward, 2008, here one word for a line of items.
///
/// Threads     [producer] one thread at a time. [consumer] one thread at a time. [any] every thread. Construction,
///             destruction and a change of the producing or consuming thread need ordering from outside.
template <typename T, std::size_t Capacity, RingBufferCounting kCounting = RingBufferCounting::off>
class SPSCRingBuffer {
  static_assert(std::has_single_bit(Capacity), "Capacity must be a power of two");
  static_assert(std::is_object_v<T> && !std::is_array_v<T> && std::is_same_v<T, std::remove_cv_t<T>>,
                "items are plain objects, neither const nor volatile nor arrays");
  static_assert(std::is_nothrow_destructible_v<T>, "an item's destructor must not throw");
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a hidden lock would belong to one process");

 public:
  using value_type = T;

  /// True when two processes may share the ring through a mapping; see ipc/ring_buffer.h.
  static constexpr bool kShareable = std::is_trivially_copyable_v<T>;

  constexpr SPSCRingBuffer() noexcept {}
  SPSCRingBuffer(const SPSCRingBuffer&) = delete;
  SPSCRingBuffer& operator=(const SPSCRingBuffer&) = delete;

  /// Destroys the items left inside.
  ~SPSCRingBuffer() {
    if constexpr (!std::is_trivially_destructible_v<T>) {
      while (front() != nullptr) pop();
    }
  }

  // --- producer ---

  /// Appends a copy of `item`. Returns false, leaving the ring as it was, when the ring is full. [producer]
  /// When copying throws, the ring is as it was.
  [[nodiscard]] bool try_push(const T& item) noexcept(
      std::is_nothrow_copy_constructible_v<T>) requires std::is_copy_constructible_v<T> {
    return try_emplace(item);
  }

  /// Appends `item` by moving it. Returns false, leaving `item` untouched, when the ring is full. [producer]
  /// When moving throws, the ring is as it was.
  [[nodiscard]] bool try_push(T&& item) noexcept(
      std::is_nothrow_move_constructible_v<T>) requires std::is_move_constructible_v<T> {
    return try_emplace(std::move(item));
  }

  /// Constructs an item in place from `args`. Returns false, leaving `args` untouched, when full. [producer]
  /// When the constructor throws, the ring is as it was.
  template <typename... Args>
  requires std::is_constructible_v<T, Args...>
  [[nodiscard]] bool try_emplace(Args&&... args) noexcept(std::is_nothrow_constructible_v<T, Args...>) {
    const std::uint64_t tail = own_tail();
    if (!has_room(tail)) return refused_push();
    PushBatch batch(*this, tail);
    batch.make(std::forward<Args>(args)...);
    return true;
  }

  /// Appends up to `count` items made from `*first`, `*++first`, ...; as many as there is room for. Returns how many;
  /// the source beyond them is unread. Published by one store: the consumer sees none of them or all. [producer]
  /// Give std::make_move_iterator to move. When making an item throws, those before it are in the ring.
  template <std::input_iterator It>
  requires std::is_constructible_v<T, std::iter_reference_t<It>>
  [[nodiscard]] std::size_t try_push_bulk(It first, std::size_t count) {
    if (count == 0) return 0;
    const std::uint64_t tail = own_tail();
    if (!has_room(tail)) {
      refused_push();
      return 0;
    }
    const std::size_t taken = std::min(count, room_for(tail, count));
    PushBatch batch(*this, tail);
    for (; batch.made != taken; ++first) {
      enter_block(producer_, batch.position());
      batch.make(*first);
    }
    return taken;
  }

  // --- consumer ---

  /// Moves the oldest item into `item` and destroys what is left of it. Returns false, leaving `item` untouched, when
  /// the ring is empty. [consumer]
  /// When the assignment throws, the item stays the oldest one, in the state the failed assignment gave it.
  [[nodiscard]] bool try_pop(T& item) noexcept(
      std::is_nothrow_move_assignable_v<T>) requires std::is_move_assignable_v<T> {
    if (!has_item()) return refused_pop();
    item = std::move(*oldest());
    pop();
    return true;
  }

  /// The oldest item, or nothing when empty: for types without default constructor or assignment. [consumer]
  /// When moving throws, the item stays the oldest one, in the state the failed move gave it.
  [[nodiscard]] std::optional<T> try_pop() noexcept(
      std::is_nothrow_move_constructible_v<T>) requires std::is_move_constructible_v<T> {
    std::optional<T> result;
    if (has_item()) {
      result.emplace(std::move(*oldest()));
      pop();
    } else {
      refused_pop();
    }
    return result;
  }

  /// The oldest item where it lies, to read, change or move from, or nullptr when the ring is empty. Valid until the
  /// next pop. Not counted as a failed pop: it takes nothing. [consumer]
  [[nodiscard]] T* front() noexcept { return has_item() ? oldest() : nullptr; }

  /// Destroys the oldest item and frees its slot. Only after front() returned it, which finds where it lies: ask for
  /// each, also when size() says that there are more. [consumer]
  void pop() noexcept {
    PopBatch batch(*this);
    batch.take();
  }

  /// Moves up to `count` of the oldest items to `*out`, `*++out`, ... Returns how many. Their slots are freed
  /// together by one store at the end. [consumer]
  /// When an assignment throws, the items before it are out and its own stays the oldest one.
  template <typename OutIt>
  requires std::output_iterator<OutIt, T&&>
  [[nodiscard]] std::size_t try_pop_bulk(OutIt out, std::size_t count) {
    PopBatch batch(*this);
    for (; batch.taken != count; ++out) {
      // A rest before the first item only: the others are not kept waiting for it.
      if (batch.taken == 0 ? !has_item() : !look_for_item()) break;
      *out = std::move(*oldest());
      batch.take();
    }
    if (batch.taken == 0 && count != 0) refused_pop();
    return batch.taken;
  }

  // --- both ---

  /// Items the ring can hold at once: all of Capacity. [any]
  [[nodiscard]] static constexpr std::size_t capacity() noexcept { return Capacity; }

  /// Items inside at some moment during the call, 0 to capacity(). [any]
  /// The producer can rely on it not growing meanwhile, the consumer on it not shrinking. To poll for an item call
  /// try_pop() or front(): they watch memory the producer writes anyway, this adds a line for both to fight over.
  [[nodiscard]] std::size_t size() const noexcept {
    // The head first: read later it could be from after a pop of items pushed since.
    const std::uint64_t head = freed_.load(std::memory_order_acquire);          // FREED
    const std::uint64_t tail = producer_.tail.load(std::memory_order_acquire);  // COUNTED
    // An item can be popped in the instant between its publication and the count of it.
    if (tail <= head) return 0;
    return static_cast<std::size_t>(std::min<std::uint64_t>(tail - head, Capacity));
  }

  /// size() == 0. When it says false to the consumer, the next pop succeeds. [any]
  [[nodiscard]] bool is_empty() const noexcept { return size() == 0; }

  /// size() == capacity(). When it says false to the producer, the next push succeeds. [any]
  [[nodiscard]] bool is_full() const noexcept { return size() == Capacity; }

  /// What was counted so far. [any]
  [[nodiscard]] RingBufferStats getStats() const noexcept requires(kCounting == RingBufferCounting::on) {
    RingBufferStats stats;
    stats.total_pops = freed_.load(std::memory_order_acquire);  // FREED
    stats.failed_pops = consumer_.counts.failed.get();
    // At least what was popped: an item can be out in the instant between its publication and the count of it.
    stats.total_pushes = std::max(stats.total_pops, producer_.tail.load(std::memory_order_acquire));  // COUNTED
    stats.failed_pushes = producer_.counts.failed.get();
    stats.max_size = producer_.counts.max_size.get();
    stats.capacity = Capacity;
    return stats;
  }

 private:
  using Block = ring_buffer_detail::SpscBlock<T, Capacity>;
  static constexpr bool kCounts = kCounting == RingBufferCounting::on;
  static constexpr std::size_t kFetchedAhead = 8;  // Blocks.
  static constexpr std::size_t kBlocks = (Capacity + Block::kItems - 1) / Block::kItems;

  // Written by one thread, read by any: relaxed, since a counter orders nothing.
  struct Counter {
    void set(std::uint64_t count) noexcept { value.store(count, std::memory_order_relaxed); }
    std::uint64_t get() const noexcept { return value.load(std::memory_order_relaxed); }
    std::atomic<std::uint64_t> value{0};
  };
  struct NoCounts {};
  struct ProducerCounts {
    Counter failed;
    Counter max_size;
  };
  struct ConsumerCounts {
    Counter failed;
  };

  /// Where a side is. Within a block a push or a pop only reads this, and changes the side's position alone: each
  /// further word that it changed, the next one would have to wait for.
  struct Place {
    std::uint64_t limit = 0;   // Positions before it are known to be in this block, and free to this side.
    std::uint64_t origin = 0;  // Bytes from the first block's items to where position 0 would be, were it in this
                               // block; modulo 2^64, as that is before the ring. Adding a position comes back into it.
    std::size_t block = 0;     // Bytes from the first block to this one.
    std::uint64_t first = 0;   // Position of this block's first item.

    [[nodiscard]] std::uint64_t end() const noexcept { return first + Block::kItems; }
  };

  struct alignas(ring_buffer_detail::kRoleBytes) Producer {
    std::atomic<std::uint64_t> tail{0};  // Position after the newest item; others read it for size() alone.
    Place place;
    std::uint64_t freed_seen = 0;  // The consumer's position when last looked at.
    ring_buffer_detail::Pace pace;
    [[no_unique_address]] std::conditional_t<kCounts, ProducerCounts, NoCounts> counts{};

    void set_limit() noexcept { place.limit = std::min(freed_seen + Capacity, place.end()); }
  };

  struct alignas(ring_buffer_detail::kRoleBytes) Consumer {
    std::uint64_t head = 0;  // Position of the oldest item.
    Place place;
    std::uint64_t filled_seen = 0;  // Items before this position may be read.
    ring_buffer_detail::Pace pace;
    [[no_unique_address]] std::conditional_t<kCounts, ConsumerCounts, NoCounts> counts{};

    void set_limit() noexcept { place.limit = std::min(filled_seen, place.end()); }
  };

  /// Items made one after the other and published together when the scope ends, even by an exception: what they were
  /// made from may be gone.
  struct PushBatch {
    PushBatch(SPSCRingBuffer& target, std::uint64_t tail) noexcept
        : ring(target), first(target.block_of(target.producer_.place)), begin(tail) {}
    PushBatch(const PushBatch&) = delete;
    PushBatch& operator=(const PushBatch&) = delete;
    ~PushBatch() {
      if (made != 0) ring.publish(first, position());
    }
    [[nodiscard]] std::uint64_t position() const noexcept { return begin + made; }
    template <typename... Args>
    void make(Args&&... args) noexcept(std::is_nothrow_constructible_v<T, Args...>) {
      std::construct_at(ring.item_at(ring.producer_.place, position()), std::forward<Args>(args)...);
      ++made;
    }

    SPSCRingBuffer& ring;
    Block& first;
    const std::uint64_t begin;
    std::size_t made = 0;
  };

  /// Items taken off one after the other, whose slots are freed together when the scope ends, even by an exception.
  struct PopBatch {
    explicit PopBatch(SPSCRingBuffer& source) noexcept : ring(source) {}
    PopBatch(const PopBatch&) = delete;
    PopBatch& operator=(const PopBatch&) = delete;
    ~PopBatch() {
      if (taken != 0) ring.freed_.store(ring.consumer_.head, std::memory_order_release);  // FREED
    }
    void take() noexcept {
      std::destroy_at(ring.oldest());
      ++ring.consumer_.head;
      ++taken;
    }

    SPSCRingBuffer& ring;
    std::size_t taken = 0;
  };

  std::byte* bytes() noexcept { return reinterpret_cast<std::byte*>(blocks_); }
  Block& block_of(const Place& place) noexcept {
    return *std::launder(reinterpret_cast<Block*>(bytes() + place.block));
  }
  /// Where the item at `position`, which lies in this block, is or will be; dereference only while an object lives
  /// there.
  T* item_at(const Place& place, std::uint64_t position) noexcept {
    return reinterpret_cast<T*>(bytes() + (offsetof(Block, storage) + place.origin + position * sizeof(T)));
  }
  T* oldest() noexcept { return std::launder(item_at(consumer_.place, consumer_.head)); }

  /// Moves a side on to the block in which `position` lies, the next one's first at most.
  template <typename Role>
  void enter_block(Role& role, std::uint64_t position) noexcept {
    Place& place = role.place;
    if (position != place.end()) return;
    place.first = position;
    if constexpr (kBlocks > 1) {
      place.block += sizeof(Block);
      if (place.block == sizeof(blocks_)) place.block = 0;
      fetch_ahead(role);
    }
    place.origin = place.block - position * sizeof(T);
    role.set_limit();
  }
  /// The consumer's core still has the lines of the lap before. Asked back one by one, when they are written to, each
  /// would hold up the stores behind it. Likewise the consumer's loads.
  template <typename Role>
  void fetch_ahead(const Role& role) noexcept {
    if constexpr (Block::kSharesLine && kBlocks > kFetchedAhead) {
      std::size_t block = role.place.block + kFetchedAhead * sizeof(Block);
      if (block >= sizeof(blocks_)) block -= sizeof(blocks_);
      if constexpr (std::is_same_v<Role, Producer>) {
        ring_buffer_detail::prefetch_for_writing(bytes() + block);
      } else {
        ring_buffer_detail::prefetch_for_reading(bytes() + block);
      }
    }
  }

  /// Whether there is an item for the consumer, after a rest if it just came to the end of what there was.
  bool has_item() noexcept {
    if (look_for_item()) [[likely]]
      return true;
    if (!consumer_.pace.moved(consumer_.head)) return false;
    consumer_.pace.rest(consumer_.head);
    return look_for_item();
  }
  /// Looks at the producer's word only when what the consumer remembers is used up.
  bool look_for_item() noexcept {
    const std::uint64_t head = consumer_.head;
    if (head != consumer_.place.limit) [[likely]]
      return true;
    enter_block(consumer_, head);
    if (head != consumer_.place.limit) return true;
    const std::uint64_t filled = block_of(consumer_.place).filled.load(std::memory_order_acquire);  // FILLED
    if (filled <= head) return false;  // Not ==: the word may still be that of an earlier lap.
    consumer_.filled_seen = filled;
    consumer_.set_limit();
    return true;
  }

  /// The producer's own position. Read once by each push: the next one waits for it.
  std::uint64_t own_tail() const noexcept { return producer_.tail.load(std::memory_order_relaxed); }

  /// Whether there is room for an item, after a rest if the ring has just become full.
  bool has_room(std::uint64_t tail) noexcept {
    if (look_for_room(tail)) [[likely]]
      return true;
    if (!producer_.pace.moved(tail)) return false;
    producer_.pace.rest(tail);
    return look_for_room(tail);
  }
  /// Looks at the consumer's line only when what the producer remembers is not enough.
  bool look_for_room(std::uint64_t tail) noexcept {
    if (tail != producer_.place.limit) [[likely]]
      return true;
    enter_block(producer_, tail);
    if (tail != producer_.place.limit) return true;
    look_for_freed();
    return tail != producer_.place.limit;
  }
  /// How many items fit, looked up anew when they are fewer than `wanted`.
  std::size_t room_for(std::uint64_t tail, std::size_t wanted) noexcept {
    if (Capacity - (tail - producer_.freed_seen) < wanted) look_for_freed();
    return static_cast<std::size_t>(Capacity - (tail - producer_.freed_seen));
  }
  void look_for_freed() noexcept {
    producer_.freed_seen = freed_.load(std::memory_order_acquire);  // FREED
    producer_.set_limit();
  }

  /// Hands over the items just made, up to `tail`. The word of the first one's block is enough: the consumer, at the
  /// end of the batch before, waits there, and learns from it about those in further blocks as well.
  void publish(Block& first, std::uint64_t tail) noexcept {
    first.filled.store(tail, std::memory_order_release);    // FILLED
    producer_.tail.store(tail, std::memory_order_release);  // COUNTED
    if constexpr (kCounts) note_size(tail);
  }

  void note_size(std::uint64_t tail) noexcept {
    const std::uint64_t most = producer_.counts.max_size.get();
    if (tail - producer_.freed_seen <= most) return;
    look_for_freed();
    if (tail - producer_.freed_seen > most) producer_.counts.max_size.set(tail - producer_.freed_seen);
  }

  bool refused_push() noexcept {
    if constexpr (kCounts) producer_.counts.failed.set(producer_.counts.failed.get() + 1);
    return false;
  }

  bool refused_pop() noexcept {
    if constexpr (kCounts) consumer_.counts.failed.set(consumer_.counts.failed.get() + 1);
    return false;
  }

  // Written by the producer alone.
  Producer producer_;
  // Written by the consumer alone. `freed_` mirrors its head and lies apart because a producer that waits for room
  // reads it over and over, and would take the consumer's own words away with it.
  Consumer consumer_;
  alignas(ring_buffer_detail::kRoleBytes) std::atomic<std::uint64_t> freed_{0};
  // Items and `filled` words: written by the producer; items moved from and destroyed by the consumer.
  Block blocks_[kBlocks];
};

}  // namespace cdmf::ipc
