// Lives of the objects in a typed ring: each constructed once, destroyed once, whatever throws where.
#include <gtest/gtest.h>

#include <functional>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "ipc/ring_buffer.h"
#include "ring_buffer_test_support.h"

namespace {

using namespace cdmf::ipc;
using ring_buffer_test::Tracked;

template <typename Ring>
class RingBufferObjects : public testing::Test {
 protected:
  ~RingBufferObjects() override {
    Tracked::throw_in(0);
    EXPECT_EQ(Tracked::alive(), 0u);
  }

  /// The ring is empty, takes its whole capacity and gives it back in order, whatever happened before.
  static void expect_sound(Ring& ring) {
    for (int lap = 0; lap < 5; ++lap) {
      ASSERT_TRUE(ring.is_empty());
      const int capacity = static_cast<int>(Ring::capacity());
      for (int i = 0; i < capacity; ++i) ASSERT_TRUE(ring.try_emplace(i)) << "lap " << lap << " item " << i;
      ASSERT_FALSE(ring.try_emplace(0));
      for (int i = 0; i < capacity; ++i) ASSERT_EQ(ring.try_pop()->value(), i);
      ASSERT_FALSE(ring.try_pop().has_value());
    }
  }
};

using Rings = testing::Types<SPSCRingBuffer<Tracked, 4>, MPMCRingBuffer<Tracked, 4>, SPSCRingBuffer<Tracked, 1>,
                             MPMCRingBuffer<Tracked, 1>, SPSCRingBuffer<Tracked, 32>, MPMCRingBuffer<Tracked, 32>>;
TYPED_TEST_SUITE(RingBufferObjects, Rings);

template <typename Ring>
class LargerRingBufferObjects : public RingBufferObjects<Ring> {};
using LargerRings = testing::Types<SPSCRingBuffer<Tracked, 4>, MPMCRingBuffer<Tracked, 4>, SPSCRingBuffer<Tracked, 32>,
                                   MPMCRingBuffer<Tracked, 32>>;
TYPED_TEST_SUITE(LargerRingBufferObjects, LargerRings);

TYPED_TEST(RingBufferObjects, ItemsLeftInsideAreDestroyedWithTheRing) {
  for (std::size_t left = 0; left <= TypeParam::capacity(); ++left) {
    for (std::size_t offset = 0; offset <= 2 * TypeParam::capacity(); ++offset) {
      {
        TypeParam ring;
        for (std::size_t i = 0; i < offset; ++i) {
          ASSERT_TRUE(ring.try_emplace(1));
          ASSERT_TRUE(ring.try_pop().has_value());
        }
        ASSERT_EQ(Tracked::alive(), 0u) << "a popped item stays alive";
        for (std::size_t i = 0; i < left; ++i) ASSERT_TRUE(ring.try_emplace(2));
        ASSERT_EQ(Tracked::alive(), left);
      }
      ASSERT_EQ(Tracked::alive(), 0u) << left << " left at offset " << offset;
    }
  }
}

TYPED_TEST(RingBufferObjects, PopIntoAnObjectDestroysTheOneInTheRing) {
  TypeParam ring;
  Tracked target(0);
  ASSERT_TRUE(ring.try_emplace(5));
  ASSERT_EQ(Tracked::alive(), 2u);
  ASSERT_TRUE(ring.try_pop(target));
  EXPECT_EQ(target.value(), 5);
  EXPECT_EQ(Tracked::alive(), 1u);
}

TYPED_TEST(RingBufferObjects, ARefusedPushConstructsNothing) {
  TypeParam ring;
  while (ring.try_emplace(1)) {
  }
  const Tracked copied(7);
  Tracked moved(8);
  const std::size_t alive = Tracked::alive();
  Tracked::throw_in(1);  // Any construction at all would throw.
  EXPECT_FALSE(ring.try_push(copied));
  EXPECT_FALSE(ring.try_push(std::move(moved)));
  EXPECT_FALSE(ring.try_emplace(9));
  Tracked::throw_in(0);
  EXPECT_EQ(moved.value(), 8);
  EXPECT_EQ(Tracked::alive(), alive);
}

TYPED_TEST(RingBufferObjects, AThrowingConstructorLeavesNoItemAndNoHole) {
  TypeParam ring;
  const Tracked source(3);
  // More throws than cells: in the MPMC ring each takes a cell out of use until a pop passes over it.
  for (std::size_t i = 0; i < 3 * TypeParam::capacity(); ++i) {
    Tracked::throw_in(1);
    EXPECT_THROW((void)ring.try_push(source), std::runtime_error);
    Tracked::throw_in(0);
    EXPECT_EQ(Tracked::alive(), 1u);
    EXPECT_FALSE(ring.try_pop().has_value());
  }
  this->expect_sound(ring);
}

TYPED_TEST(LargerRingBufferObjects, AThrowBetweenTwoItemsKeepsTheirOrder) {
  TypeParam ring;
  ASSERT_TRUE(ring.try_emplace(1));
  Tracked::throw_in(1);
  EXPECT_THROW((void)ring.try_emplace(2), std::runtime_error);
  ASSERT_TRUE(ring.try_emplace(3));
  EXPECT_EQ(ring.try_pop()->value(), 1);
  EXPECT_EQ(ring.try_pop()->value(), 3);
  EXPECT_FALSE(ring.try_pop().has_value());
  this->expect_sound(ring);
}

TYPED_TEST(RingBufferObjects, AThrowInABulkPushKeepsWhatWasMadeBeforeIt) {
  const int capacity = static_cast<int>(TypeParam::capacity());
  std::vector<Tracked> source;
  for (int i = 0; i < capacity; ++i) source.emplace_back(i);
  for (int fails = 0; fails < capacity; ++fails) {
    TypeParam ring;
    Tracked::throw_in(fails + 1);
    EXPECT_THROW((void)ring.try_push_bulk(source.begin(), source.size()), std::runtime_error);
    for (int i = 0; i < fails; ++i) ASSERT_EQ(ring.try_pop()->value(), i);
    ASSERT_FALSE(ring.try_pop().has_value());
    this->expect_sound(ring);
  }
}

TYPED_TEST(LargerRingBufferObjects, DestructionPassesOverWhatWasNeverMade) {
  TypeParam ring;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(ring.try_emplace(1));
    Tracked::throw_in(1);
    EXPECT_THROW((void)ring.try_emplace(2), std::runtime_error);
  }
}

struct AsksAtItsEnd {
  explicit AsksAtItsEnd(int n) : number(n) {}
  AsksAtItsEnd(const AsksAtItsEnd&) = default;
  AsksAtItsEnd& operator=(const AsksAtItsEnd&) = default;
  ~AsksAtItsEnd() {
    if (at_end) at_end();
  }
  int number;
  static inline std::function<void()> at_end;
};

template <typename Ring>
void frees_a_place_only_after_its_item_is_destroyed() {
  Ring ring;
  AsksAtItsEnd item(0);
  int next = 0;
  while (ring.try_emplace(next)) ++next;
  for (int lap = 0; lap < 3 * next; ++lap) {
    int asked = 0;
    AsksAtItsEnd::at_end = [&] {
      ++asked;
      EXPECT_FALSE(ring.try_emplace(-1)) << "made where another is being destroyed";
    };
    const bool popped = ring.try_pop(item);
    AsksAtItsEnd::at_end = nullptr;
    ASSERT_TRUE(popped);
    ASSERT_EQ(item.number, lap);
    ASSERT_EQ(asked, 1);
    ASSERT_TRUE(ring.try_emplace(next + lap));
  }
}
TEST(SpscRingBufferObjects, APlaceIsFreeOnlyOnceItsItemIsDestroyed) {
  frees_a_place_only_after_its_item_is_destroyed<SPSCRingBuffer<AsksAtItsEnd, 1>>();
  frees_a_place_only_after_its_item_is_destroyed<SPSCRingBuffer<AsksAtItsEnd, 16>>();
}
TEST(MpmcRingBufferObjects, APlaceIsFreeOnlyOnceItsItemIsDestroyed) {
  frees_a_place_only_after_its_item_is_destroyed<MPMCRingBuffer<AsksAtItsEnd, 1>>();
  frees_a_place_only_after_its_item_is_destroyed<MPMCRingBuffer<AsksAtItsEnd, 16>>();
}

// Where the rings differ: the one consumer can leave an item it failed to take; one of many has claimed it.

TEST(SpscRingBufferObjects, AThrowingPopLeavesTheItemForTheNext) {
  {
    SPSCRingBuffer<Tracked, 4> ring;
    Tracked target(0);
    ASSERT_TRUE(ring.try_emplace(1));
    ASSERT_TRUE(ring.try_emplace(2));
    Tracked::throw_in(1);
    EXPECT_THROW((void)ring.try_pop(target), std::runtime_error);
    EXPECT_EQ(ring.size(), 2u);
    Tracked::throw_in(1);
    EXPECT_THROW((void)ring.try_pop(), std::runtime_error);
    EXPECT_EQ(ring.size(), 2u);
    ASSERT_TRUE(ring.try_pop(target));
    EXPECT_EQ(target.value(), 1);

    ASSERT_TRUE(ring.try_emplace(3));
    std::vector<Tracked> out(2, Tracked(0));
    Tracked::throw_in(2);
    EXPECT_THROW((void)ring.try_pop_bulk(out.begin(), 2), std::runtime_error);
    EXPECT_EQ(out[0].value(), 2) << "the item before the throw is out";
    EXPECT_EQ(ring.size(), 1u);
    EXPECT_EQ(ring.try_pop()->value(), 3) << "the item of the throw is still inside";
  }
  EXPECT_EQ(Tracked::alive(), 0u);
}

TEST(MpmcRingBufferObjects, AThrowingPopLosesItsOwnItemAndNoOther) {
  {
    MPMCRingBuffer<Tracked, 4> ring;
    Tracked target(0);
    for (int i = 1; i <= 4; ++i) ASSERT_TRUE(ring.try_emplace(i));
    Tracked::throw_in(1);
    EXPECT_THROW((void)ring.try_pop(target), std::runtime_error);
    EXPECT_EQ(Tracked::alive(), 4u) << "the lost item is destroyed";
    ASSERT_TRUE(ring.try_emplace(5)) << "and its cell is free";

    std::vector<Tracked> out(4, Tracked(0));
    Tracked::throw_in(2);
    EXPECT_THROW((void)ring.try_pop_bulk(out.begin(), 4), std::runtime_error);
    EXPECT_EQ(out[0].value(), 2);
    EXPECT_EQ(ring.try_pop()->value(), 4) << "a bulk pop loses one item to a throw, not its whole claim";
    EXPECT_EQ(ring.try_pop()->value(), 5);
    EXPECT_FALSE(ring.try_pop().has_value());
  }
  EXPECT_EQ(Tracked::alive(), 0u);
}

TEST(MpmcRingBufferObjects, CountsOnlyItemsThatExisted) {
  {
    MPMCRingBuffer<Tracked, 4, RingBufferCounting::on> ring;
    std::vector<Tracked> source(4, Tracked(1));
    Tracked::throw_in(3);
    EXPECT_THROW((void)ring.try_push_bulk(source.begin(), 4), std::runtime_error);
    EXPECT_EQ(ring.getStats().total_pushes, 2u);
    EXPECT_EQ(ring.getStats().max_size, 2u);
    EXPECT_TRUE(ring.try_pop().has_value());
    EXPECT_TRUE(ring.try_pop().has_value());
    EXPECT_FALSE(ring.try_pop().has_value());
    EXPECT_EQ(ring.getStats().total_pops, 2u);
    EXPECT_EQ(ring.size(), 0u);
  }
  EXPECT_EQ(Tracked::alive(), 0u);
}

// What cannot throw says so.
static_assert(noexcept(std::declval<SPSCRingBuffer<int, 4>&>().try_push(1)));
static_assert(noexcept(std::declval<MPMCRingBuffer<int, 4>&>().try_push(1)));
static_assert(!noexcept(std::declval<SPSCRingBuffer<Tracked, 4>&>().try_emplace(1)));
static_assert(!noexcept(std::declval<MPMCRingBuffer<Tracked, 4>&>().try_emplace(1)));

}  // namespace
