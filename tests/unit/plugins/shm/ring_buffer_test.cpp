// The interface of the typed rings, one thread at a time: outcomes, limits, bulk, counting, where a ring may live.
#include "ipc/ring_buffer.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "ring_buffer_test_support.h"

namespace {

using namespace cdmf::ipc;
using ring_buffer_test::Sized;

template <typename T, std::size_t kCapacity, RingBufferCounting kCounting = RingBufferCounting::off>
struct Spsc {
  using Ring = SPSCRingBuffer<T, kCapacity, kCounting>;
};
template <typename T, std::size_t kCapacity, RingBufferCounting kCounting = RingBufferCounting::off>
struct Mpmc {
  using Ring = MPMCRingBuffer<T, kCapacity, kCounting>;
};

// --- when a side rests ---

TEST(RingBufferPace, ASideThatLooksInVainRestsOnceUntilItHasMoved) {
  ring_buffer_detail::Pace pace;
  EXPECT_FALSE(pace.moved(0)) << "nothing was there yet to come to the end of";
  EXPECT_TRUE(pace.moved(5));
  pace.rest(5);
  EXPECT_FALSE(pace.moved(5)) << "polling goes on without rests";
  EXPECT_TRUE(pace.moved(6));
}

TEST(RingBufferPace, WithItemsOneByOneALongRestIsTriedEverMoreRarely) {
  ring_buffer_detail::ProbingPace pace;
  EXPECT_FALSE(pace.moved(0));
  std::vector<std::uint64_t> long_rests;
  std::uint32_t shortest = 0;
  for (std::uint64_t position = 1; position <= 2000; ++position) {
    EXPECT_TRUE(pace.moved(position));
    const std::uint32_t pauses = pace.rest(position);
    EXPECT_FALSE(pace.moved(position)) << "polling goes on without rests";
    if (position == 1) shortest = pauses;
    if (pauses != shortest) long_rests.push_back(position);
  }
  EXPECT_EQ(long_rests, (std::vector<std::uint64_t>{64, 192, 448, 960, 1984}));
}

TEST(RingBufferPace, ALongRestIsKeptToAsLongAsEachBringsARunOfItems) {
  ring_buffer_detail::ProbingPace pace;
  const std::uint32_t shortest = pace.rest(1);
  std::uint64_t position = 2;
  while (position != 64) EXPECT_EQ(pace.rest(position++), shortest);
  const std::uint32_t longest = pace.rest(position);
  EXPECT_GT(longest, shortest);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(pace.rest(position += 1000), longest);
  EXPECT_EQ(pace.rest(position += 1), shortest) << "it brought one item: the stream is over";
}

// --- outcomes and limits, for each ring, item size and capacity ---

template <typename Kind>
class RingBuffer : public testing::Test {};

// 7, 2 and 56 items to a line; the largest that shares one; two that do not; with rings shorter and longer than a line,
// and than a block of larger items.
using Kinds =
    testing::Types<Spsc<std::uint64_t, 1>, Spsc<std::uint64_t, 2>, Spsc<std::uint64_t, 8>, Spsc<std::uint64_t, 64>,
                   Spsc<std::uint8_t, 128>, Spsc<Sized<24>, 16>, Spsc<Sized<56>, 4>, Spsc<Sized<57>, 4>,
                   Spsc<Sized<256>, 1>, Spsc<Sized<64>, 64>, Mpmc<std::uint64_t, 1>, Mpmc<std::uint64_t, 2>,
                   Mpmc<std::uint64_t, 64>, Mpmc<std::uint8_t, 128>, Mpmc<Sized<24>, 16>, Mpmc<Sized<256>, 4>>;
TYPED_TEST_SUITE(RingBuffer, Kinds);

TYPED_TEST(RingBuffer, HoldsExactlyCapacityItemsInOrderAtEveryOffset) {
  using Ring = typename TypeParam::Ring;
  using T = typename Ring::value_type;
  auto ring = std::make_unique<Ring>();
  std::uint8_t pushed = 0;
  std::uint8_t popped = 0;
  for (int round = 0; round < 150; ++round) {  // Each round starts one slot further on.
    ASSERT_TRUE(ring->is_empty());
    for (std::size_t i = 0; i < Ring::capacity(); ++i) {
      ASSERT_EQ(ring->size(), i);
      ASSERT_FALSE(ring->is_full());
      ASSERT_TRUE(ring->try_push(T(pushed++)));
    }
    ASSERT_TRUE(ring->is_full());
    ASSERT_FALSE(ring->try_push(T(99)));
    for (std::size_t i = Ring::capacity(); i > 0; --i) {
      ASSERT_EQ(ring->size(), i);
      ASSERT_FALSE(ring->is_empty());
      T item;
      ASSERT_TRUE(ring->try_pop(item));
      ASSERT_EQ(item, T(popped++));
    }
    T untouched(77);
    ASSERT_FALSE(ring->try_pop(untouched));
    ASSERT_EQ(untouched, T(77));
    ASSERT_FALSE(ring->try_pop().has_value());

    ASSERT_TRUE(ring->try_push(T(pushed++)));
    ASSERT_EQ(ring->try_pop(), std::optional<T>(T(popped++)));
  }
}

TYPED_TEST(RingBuffer, OneFreedSlotIsRoomForExactlyOneItem) {
  using Ring = typename TypeParam::Ring;
  using T = typename Ring::value_type;
  auto ring = std::make_unique<Ring>();
  std::uint8_t next = 0;
  while (ring->try_push(T(next))) ++next;
  std::uint8_t oldest = 0;
  for (int i = 0; i < 200; ++i) {
    T item;
    ASSERT_TRUE(ring->try_pop(item));
    ASSERT_EQ(item, T(oldest++));
    ASSERT_TRUE(ring->try_push(T(next++)));
    ASSERT_FALSE(ring->try_push(T(next)));
  }
}

TYPED_TEST(RingBuffer, BulkMovesAsMuchAsFitsAndReportsHowMuch) {
  using Ring = typename TypeParam::Ring;
  using T = typename Ring::value_type;
  auto ring = std::make_unique<Ring>();
  const std::size_t capacity = Ring::capacity();
  std::vector<T> source;
  for (std::size_t i = 0; i < capacity + 3; ++i) source.emplace_back(static_cast<std::uint8_t>(i));

  for (int round = 0; round < 60; ++round) {
    ASSERT_EQ(ring->try_push_bulk(source.begin(), 0), 0u);
    ASSERT_EQ(ring->try_push_bulk(source.begin(), capacity + 3), capacity);
    ASSERT_EQ(ring->try_push_bulk(source.begin(), 1), 0u);
    std::vector<T> out(capacity + 3, T(std::uint8_t{200}));
    ASSERT_EQ(ring->try_pop_bulk(out.begin(), 0), 0u);
    ASSERT_EQ(ring->try_pop_bulk(out.begin(), capacity + 3), capacity);
    ASSERT_EQ(ring->try_pop_bulk(out.begin(), 1), 0u);
    for (std::size_t i = 0; i < out.size(); ++i) {
      ASSERT_EQ(out[i], i < capacity ? source[i] : T(std::uint8_t{200})) << "element " << i;
    }
    ASSERT_TRUE(ring->try_push(source[0]));  // The next round starts one slot further on.
    ASSERT_TRUE(ring->try_pop().has_value());
  }
}

TYPED_TEST(RingBuffer, IsSharableBecauseItsItemsAreTriviallyCopyable) { EXPECT_TRUE(TypeParam::Ring::kShareable); }

// --- items that are not plain data ---

template <template <typename, std::size_t, RingBufferCounting> typename Ring>
void takes_movable_only_items() {
  auto ring = std::make_unique<Ring<std::unique_ptr<int>, 2, RingBufferCounting::off>>();
  auto first = std::make_unique<int>(1);
  ASSERT_TRUE(ring->try_push(std::move(first)));
  EXPECT_EQ(first, nullptr);
  ASSERT_TRUE(ring->try_emplace(new int(2)));
  auto kept = std::make_unique<int>(3);
  ASSERT_FALSE(ring->try_push(std::move(kept)));
  ASSERT_NE(kept, nullptr) << "a refused push must not take its argument";
  ASSERT_FALSE(ring->try_emplace(std::move(kept)));
  ASSERT_NE(kept, nullptr);

  std::unique_ptr<int> item;
  ASSERT_TRUE(ring->try_pop(item));
  EXPECT_EQ(*item, 1);
  auto second = ring->try_pop();
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(**second, 2);

  std::vector<std::unique_ptr<int>> source;
  source.push_back(std::make_unique<int>(4));
  source.push_back(std::make_unique<int>(5));
  source.push_back(std::make_unique<int>(6));
  ASSERT_EQ(ring->try_push_bulk(std::make_move_iterator(source.begin()), source.size()), 2u);
  EXPECT_NE(source[2], nullptr) << "what did not fit stays with the caller";
  std::vector<std::unique_ptr<int>> out;
  ASSERT_EQ(ring->try_pop_bulk(std::back_inserter(out), 5), 2u);
  EXPECT_EQ(*out[0], 4);
  EXPECT_EQ(*out[1], 5);
}
TEST(SpscRingBuffer, TakesMovableOnlyItems) { takes_movable_only_items<SPSCRingBuffer>(); }
TEST(MpmcRingBuffer, TakesMovableOnlyItems) { takes_movable_only_items<MPMCRingBuffer>(); }

struct NoDefault {
  explicit NoDefault(int n, std::string t) : number(n), text(std::move(t)) {}
  int number;
  std::string text;
};

TEST(SpscRingBuffer, TakesItemsWithoutDefaultConstructor) {
  SPSCRingBuffer<NoDefault, 4> ring;
  ASSERT_TRUE(ring.try_emplace(7, "seven"));
  const auto item = ring.try_pop();
  ASSERT_TRUE(item.has_value());
  EXPECT_EQ(item->number, 7);
  EXPECT_EQ(item->text, "seven");
}
TEST(MpmcRingBuffer, TakesItemsWithoutDefaultConstructor) {
  MPMCRingBuffer<NoDefault, 4> ring;
  ASSERT_TRUE(ring.try_emplace(7, "seven"));
  const auto item = ring.try_pop();
  ASSERT_TRUE(item.has_value());
  EXPECT_EQ(item->number, 7);
  EXPECT_EQ(item->text, "seven");
}

template <std::size_t kAlignment>
struct alignas(kAlignment) Aligned {
  explicit Aligned(int n) : number(n), where(this) {}
  Aligned(Aligned&& other) noexcept : number(other.number), where(this) {}
  Aligned& operator=(Aligned&&) = delete;
  int number;
  const void* where;
};

template <typename Ring>
void keeps_alignment() {
  using T = typename Ring::value_type;
  for (const bool on_heap : {false, true}) {
    Ring local;
    auto heap = std::make_unique<Ring>();
    Ring& ring = on_heap ? *heap : local;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&ring) % alignof(Ring), 0u);
    for (int lap = 0; lap < 3; ++lap) {
      for (int i = 0; i < 4; ++i) ASSERT_TRUE(ring.try_emplace(i));
      for (int i = 0; i < 4; ++i) {
        if constexpr (requires { ring.front(); }) {
          EXPECT_EQ(reinterpret_cast<std::uintptr_t>(ring.front()) % alignof(T), 0u);
          EXPECT_EQ(ring.front()->where, ring.front()) << "constructed in place, never moved in memory";
        }
        EXPECT_EQ(ring.try_pop()->number, i);
      }
    }
  }
}
TEST(SpscRingBuffer, KeepsTheAlignmentOfItsItems) {
  keeps_alignment<SPSCRingBuffer<Aligned<16>, 4>>();
  keeps_alignment<SPSCRingBuffer<Aligned<32>, 4>>();
  keeps_alignment<SPSCRingBuffer<Aligned<64>, 4>>();
  keeps_alignment<SPSCRingBuffer<Aligned<256>, 4>>();
}
TEST(MpmcRingBuffer, KeepsTheAlignmentOfItsItems) {
  keeps_alignment<MPMCRingBuffer<Aligned<16>, 4>>();
  keeps_alignment<MPMCRingBuffer<Aligned<32>, 4>>();
  keeps_alignment<MPMCRingBuffer<Aligned<64>, 4>>();
  keeps_alignment<MPMCRingBuffer<Aligned<256>, 4>>();
}

struct Huge {  // Of which nothing but the number is ever touched.
  explicit Huge(int n) noexcept : number(n) {}
  Huge(const Huge& other) noexcept : number(other.number) {}
  Huge& operator=(const Huge& other) noexcept {
    number = other.number;
    return *this;
  }
  int number;
  std::byte rest[(1 << 20) - sizeof(int)];
};

// A place is found from the position, by which the distance from the start outgrows 32 bits.
template <typename Ring>
void finds_items_far_from_the_start() {
  auto ring = std::make_unique<Ring>();
  const auto item = std::make_unique<Huge>(0);
  for (int i = 0; i < 5000; ++i) {  // 5 GiB on.
    ASSERT_TRUE(ring->try_emplace(i));
    ASSERT_TRUE(ring->try_pop(*item));
    ASSERT_EQ(item->number, i);
  }
}
TEST(SpscRingBuffer, FindsItemsFarFromTheStart) {
  finds_items_far_from_the_start<SPSCRingBuffer<Huge, 1>>();
  finds_items_far_from_the_start<SPSCRingBuffer<Huge, 4>>();
}
TEST(MpmcRingBuffer, FindsItemsFarFromTheStart) { finds_items_far_from_the_start<MPMCRingBuffer<Huge, 4>>(); }

TEST(SpscRingBuffer, FrontShowsTheOldestItemUntilPop) {
  SPSCRingBuffer<std::string, 4> ring;
  EXPECT_EQ(ring.front(), nullptr);
  ASSERT_TRUE(ring.try_push("one"));
  ASSERT_TRUE(ring.try_push("two"));
  ASSERT_NE(ring.front(), nullptr);
  EXPECT_EQ(*ring.front(), "one");
  ring.front()->append("!");
  EXPECT_EQ(*ring.front(), "one!");
  EXPECT_EQ(ring.size(), 2u);
  ring.pop();
  EXPECT_EQ(*ring.front(), "two");
  ring.pop();
  EXPECT_EQ(ring.front(), nullptr);
}

// --- counting ---

template <typename Ring>
concept HasStats = requires(const Ring& ring) {
  ring.getStats();
};
static_assert(!HasStats<SPSCRingBuffer<int, 8>>);
static_assert(!HasStats<MPMCRingBuffer<int, 8>>);
static_assert(HasStats<SPSCRingBuffer<int, 8, RingBufferCounting::on>>);
static_assert(HasStats<MPMCRingBuffer<int, 8, RingBufferCounting::on>>);
// Counting that nobody asked for takes no room either.
static_assert(sizeof(MPMCRingBuffer<int, 8>) < sizeof(MPMCRingBuffer<int, 8, RingBufferCounting::on>));

template <typename Ring>
void counts_what_happened() {
  Ring ring;
  RingBufferStats stats = ring.getStats();
  EXPECT_EQ(stats.getDropRate(), 0.0);
  EXPECT_EQ(stats.getUtilization(), 0.0);
  EXPECT_EQ(stats.capacity, 8u);

  int item = 0;
  EXPECT_FALSE(ring.try_pop(item));
  EXPECT_FALSE(ring.try_pop().has_value());
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(ring.try_push(i));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(ring.try_pop(item));
  EXPECT_EQ(ring.getStats().max_size, 5u) << "the most it held, not what it holds";
  EXPECT_DOUBLE_EQ(ring.getStats().getUtilization(), 5.0 / 8.0);

  const std::vector<int> more(10, 1);
  EXPECT_EQ(ring.try_push_bulk(more.begin(), 10), 6u);
  EXPECT_EQ(ring.try_push_bulk(more.begin(), 10), 0u);
  EXPECT_FALSE(ring.try_push(1));
  std::vector<int> out(10);
  EXPECT_EQ(ring.try_pop_bulk(out.begin(), 10), 8u);
  EXPECT_EQ(ring.try_pop_bulk(out.begin(), 10), 0u);
  EXPECT_EQ(ring.try_pop_bulk(out.begin(), 0), 0u);
  EXPECT_EQ(ring.try_push_bulk(more.begin(), 0), 0u);

  stats = ring.getStats();
  EXPECT_EQ(stats.total_pushes, 11u);
  EXPECT_EQ(stats.total_pops, 11u);
  EXPECT_EQ(stats.failed_pushes, 2u);
  EXPECT_EQ(stats.failed_pops, 3u);
  EXPECT_EQ(stats.max_size, 8u);
  EXPECT_DOUBLE_EQ(stats.getUtilization(), 1.0);
  EXPECT_DOUBLE_EQ(stats.getDropRate(), 2.0 / 11.0);
}
TEST(SpscRingBuffer, CountsWhatHappenedWhenAskedTo) {
  counts_what_happened<SPSCRingBuffer<int, 8, RingBufferCounting::on>>();
}
TEST(MpmcRingBuffer, CountsWhatHappenedWhenAskedTo) {
  counts_what_happened<MPMCRingBuffer<int, 8, RingBufferCounting::on>>();
}

TEST(RingBufferStats, RatesAreZeroWhenThereIsNothingToDivideBy) {
  RingBufferStats stats;
  stats.failed_pushes = 3;
  stats.max_size = 3;
  EXPECT_EQ(stats.getDropRate(), 0.0);
  EXPECT_EQ(stats.getUtilization(), 0.0);
}

// --- where a ring may live ---

// Ready before any constructor runs, hence usable from the constructors of other static objects.
constinit SPSCRingBuffer<std::uint64_t, 4096> static_spsc;
constinit SPSCRingBuffer<std::string, 16> static_spsc_of_strings;
constinit MPMCRingBuffer<std::uint64_t, 4096> static_mpmc;
constinit MPMCRingBuffer<std::string, 16, RingBufferCounting::on> static_mpmc_of_strings;

TEST(RingBufferStorage, AStaticRingWorksLikeAnyOther) {
  ASSERT_TRUE(static_spsc.try_push(1));
  ASSERT_TRUE(static_spsc_of_strings.try_push("one"));
  ASSERT_TRUE(static_mpmc.try_push(1));
  ASSERT_TRUE(static_mpmc_of_strings.try_push("one"));
  EXPECT_EQ(static_spsc.try_pop(), 1u);
  EXPECT_EQ(static_spsc_of_strings.try_pop(), "one");
  EXPECT_EQ(static_mpmc.try_pop(), 1u);
  EXPECT_EQ(static_mpmc_of_strings.try_pop(), "one");
}

template <typename Ring>
void is_all_zero() {
  const auto memory = std::make_unique<std::byte[]>(sizeof(Ring) + alignof(Ring));
  std::memset(memory.get(), 0, sizeof(Ring) + alignof(Ring));
  void* at = memory.get();
  std::size_t room = sizeof(Ring) + alignof(Ring);
  ASSERT_NE(std::align(alignof(Ring), sizeof(Ring), at, room), nullptr);
  Ring* const ring = new (at) Ring;
  const auto* const bytes = static_cast<const std::byte*>(at);
  for (std::size_t i = 0; i < sizeof(Ring); ++i) ASSERT_EQ(bytes[i], std::byte{0}) << "at byte " << i;
  ring->~Ring();
}

// Otherwise a static ring would lie in the program's file, with all of its cells.
TEST(RingBufferStorage, AFreshRingIsAllZero) {
  is_all_zero<SPSCRingBuffer<std::uint64_t, 64>>();
  is_all_zero<SPSCRingBuffer<Sized<200>, 64, RingBufferCounting::on>>();
  is_all_zero<MPMCRingBuffer<std::uint64_t, 64>>();
  is_all_zero<MPMCRingBuffer<Sized<200>, 64, RingBufferCounting::on>>();
}

TEST(RingBufferStorage, WordsOfDifferentWritersAreTwoLinesApart) {
  EXPECT_EQ(alignof(decltype(static_spsc)) % 128, 0u);
  EXPECT_EQ(alignof(decltype(static_mpmc)) % 128, 0u);
  // Seven items and their count to a line.
  EXPECT_LE(sizeof(static_spsc), 3 * 128 + 64 * (4096 / 7 + 1) + 64);
  // The word beside each item.
  EXPECT_EQ(sizeof(static_mpmc), 2 * 128 + 16 * 4096u);
}

static_assert(!std::is_copy_constructible_v<SPSCRingBuffer<int, 8>>);
static_assert(!std::is_move_constructible_v<SPSCRingBuffer<int, 8>>);
static_assert(!std::is_copy_assignable_v<MPMCRingBuffer<int, 8>>);
static_assert(!std::is_move_assignable_v<MPMCRingBuffer<int, 8>>);
static_assert(!SPSCRingBuffer<std::string, 8>::kShareable);
static_assert(!MPMCRingBuffer<std::string, 8>::kShareable);

}  // namespace
