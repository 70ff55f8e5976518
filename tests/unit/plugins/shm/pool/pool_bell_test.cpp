#include "pool/pool_bell.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <thread>

namespace cdmf::ipc::shm {
namespace {

/// The words of a pool without a ring to speak of.
class PoolBellTest : public ::testing::Test {
 protected:
  static constexpr PoolPlan kPlan{.ring_capacity = 1, .slot_size = 64, .frame_size_max = 1, .checksum = false};
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  static std::byte* zeroed() {
    void* const memory = std::aligned_alloc(4096, kBytes);
    return static_cast<std::byte*>(std::memset(memory, 0, kBytes));
  }
  static constexpr std::size_t kBytes = 128 << 10;

  PoolBell bell(std::uint32_t member) { return {memory_, &PoolControl::consumers, &PoolMember::receiver, member}; }
  std::atomic<std::uint32_t>& word(std::uint32_t member) { return memory_.member(member).receiver; }

  std::unique_ptr<std::byte, Free> bytes_{zeroed()};
  PoolMemory memory_{bytes_.get(), kPlan};
};

TEST_F(PoolBellTest, WakesASleeperInEveryLineOfTheSummary) {
  ASSERT_LE(kPlan.total_size(), kBytes);
  PoolBell caller = bell(100);
  for (const std::uint32_t member : {0u, 1u, 63u, 64u, 99u, 101u, 128u, 255u}) {
    PoolBell sleeper = bell(member);
    sleeper.announce();
    caller.ring(1);
    EXPECT_EQ(word(member), kPoolAwake) << member;
    sleeper.stand_up();
  }
}

TEST_F(PoolBellTest, GoesOnToTheNextWhenNobodySleepsWhereOneSaidSo) {
  PoolBell dead = bell(1);
  dead.announce();  // And died.
  PoolBell sleeper = bell(2);
  sleeper.announce();
  bell(0).ring(1);
  EXPECT_EQ(word(2), kPoolAwake);
}

TEST_F(PoolBellTest, WakesInThePlaceOfACallerThatStoppedHalfway) {
  PoolBell sleeper = bell(1);
  sleeper.announce();
  word(1) = kPoolCalled;
  bell(2).ring(1);
  EXPECT_EQ(word(1), kPoolAwake);
}

TEST_F(PoolBellTest, WakesThoseThatAreNotListedOnlyWhenAllAreWoken) {
  PoolBell sleeper = bell(1);
  sleeper.announce_unlisted();
  PoolBell caller = bell(2);
  caller.ring(1);
  EXPECT_EQ(word(1), kPoolAsleep);
  caller.ring_all();
  EXPECT_EQ(word(1), kPoolAwake);
}

TEST_F(PoolBellTest, ASleeperIsWokenByARingAndByAKick) {
  for (const bool by_kick : {false, true}) {
    PoolBell sleeper = bell(1);
    std::atomic<bool> goes_on{false};
    std::thread thread([&] {
      while (!goes_on) {
        sleeper.announce();
        if (!goes_on) sleeper.sleep(kForever);
        sleeper.stand_up();
      }
    });
    goes_on = true;
    if (by_kick) {
      bell(1).kick();
    } else {
      bell(2).ring(1);
    }
    thread.join();
    EXPECT_EQ(word(1), kPoolAwake);
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm
