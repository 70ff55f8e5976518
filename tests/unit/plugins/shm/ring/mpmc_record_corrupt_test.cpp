// The record ring of many producers and consumers, over words that no member writes.

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "mortal_ring.h"

namespace cdmf::ipc::shm {
namespace {

using Ring = testing::MortalRing;
using testing::MortalMember;
using testing::MpmcTestMemory;
using testing::put;
using testing::take;

TEST(MpmcRecordRingCorrupt, SlotWordThatCannotBeIsAFaultForBothEnds) {
  const std::uint64_t words[] = {mpmc_word(0, MpmcSlotState::full),
                                 mpmc_word(2, MpmcSlotState::empty),
                                 mpmc_word(2, MpmcSlotState::full),
                                 mpmc_word(1, MpmcSlotState::kept),
                                 mpmc_word(9, MpmcSlotState::tomb),
                                 mpmc_word(1, static_cast<MpmcSlotState>(6)),
                                 mpmc_word(0, static_cast<MpmcSlotState>(7)),
                                 ~std::uint64_t{0},
                                 std::uint64_t{1} << 63};
  for (const std::uint64_t word : words) {
    Ring ring(2);
    for (std::uint64_t i = 0; i < 2; ++i) {
      ASSERT_TRUE(put(ring[0], i));
      ASSERT_EQ(take(ring[1]), i);
    }
    ring.memory.ring.slot(0).word = word;
    MpmcRecordView view;
    if (mpmc_lap(word) != 0 || mpmc_state(word) > MpmcSlotState::lost_odd) {
      EXPECT_EQ(ring[0].claim(), MpmcOutcome::fault) << word;
      EXPECT_EQ(ring[0].fault(), MpmcFault::bad_word) << to_string(ring[0].fault());
      EXPECT_EQ(ring[0].claim(), MpmcOutcome::fault) << "no repair";
      EXPECT_EQ(ring[1].receive(view), MpmcOutcome::fault) << word;
      EXPECT_EQ(ring[1].receive(view), MpmcOutcome::fault) << "no repair";
    } else {
      EXPECT_EQ(ring[0].claim(), MpmcOutcome::blocked) << "just what a reader that is not done leaves";
    }
  }
}

TEST(MpmcRecordRingCorrupt, PositionsThatCannotBeAreFaults) {
  {
    Ring ring(2);
    ASSERT_TRUE(put(ring[0], 1));
    ring.memory.ring.tail() = 0;
    EXPECT_EQ(ring[0].claim(), MpmcOutcome::fault) << "words say that the tail has been further";
  }
  {
    Ring ring(2);
    ASSERT_TRUE(put(ring[0], 1));
    ASSERT_TRUE(put(ring[0], 1));
    ASSERT_EQ(take(ring[0]), 1u);
    ASSERT_TRUE(put(ring[0], 1));
    ring.memory.ring.tail() = 1;
    EXPECT_EQ(ring[0].claim(), MpmcOutcome::fault);
    EXPECT_EQ(ring[0].fault(), MpmcFault::bad_position) << "the tail went back";
  }
  {
    Ring ring(2);
    ring.memory.ring.tail() = ~std::uint64_t{0};
    EXPECT_EQ(ring[0].claim(), MpmcOutcome::fault);
    ring.memory.ring.head() = kMpmcPositionMax + 1;
    MpmcRecordView view;
    EXPECT_EQ(ring[1].receive(view), MpmcOutcome::fault);
    EXPECT_EQ(ring[1].fault(), MpmcFault::bad_position);
  }
  {
    Ring ring(4);
    ring.memory.ring.head() = 2;
    MpmcRecordView view;
    EXPECT_EQ(ring[1].receive(view), MpmcOutcome::fault) << "head before tail";
  }
}

TEST(MpmcRecordRingCorrupt, SizeLargerThanItsSlotOrSmallerThanItsEnvelopeIsAFault) {
  for (const std::uint32_t size : {0u, 15u, 49u, ~0u}) {
    Ring ring(2);
    ASSERT_TRUE(put(ring[0], 1));
    std::memcpy(ring.memory.ring.slot(0).envelope, &size, sizeof size);
    MpmcRecordView view;
    EXPECT_EQ(ring[1].receive(view), MpmcOutcome::fault) << size;
    EXPECT_EQ(ring[1].fault(), MpmcFault::bad_size);
  }
}

TEST(MpmcRecordRingCorrupt, AnnouncementThatCannotBeStopsRecovery) {
  for (const std::uint64_t announcement : {mpmc_announcement(0, 65), mpmc_announcement(1, 1), ~std::uint64_t{0}}) {
    for (const bool producing : {true, false}) {
      Ring ring(2);
      ring.die(0);
      auto& line = ring.memory.ring.participant(0);
      (producing ? line.producing : line.consuming) = announcement;
      EXPECT_EQ(ring.recover(1).fault, MpmcFault::bad_announcement);
      EXPECT_EQ(ring[1].claim(), MpmcOutcome::fault);
    }
  }
}

TEST(MpmcRecordRingCorrupt, RandomBytesNeverLeadOutsideTheRingNorIntoAnEndlessLoop) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 4000; ++round) {
    MpmcTestMemory memory(4, 64, 3);
    MortalMember a(memory.ring, 0), b(memory.ring, 1);
    ASSERT_TRUE(a->attach() && b->attach());
    const auto word = [&] {
      return random() % 8 == 0 ? random() : mpmc_word(random() % 3, static_cast<MpmcSlotState>(random() % 8));
    };
    for (int step = 0; step < 12; ++step) {
      switch (random() % 6) {
        case 0:
          memory.ring.slot(random() % 4).word = word();
          break;
        case 1:
          (random() % 2 == 0 ? memory.ring.tail() : memory.ring.head()) = random() % 8 == 0 ? random() : random() % 9;
          break;
        case 2:
          memory.ring.participant(static_cast<std::uint32_t>(random() % 3)).producing =
              mpmc_announcement(random() % 6, static_cast<std::uint32_t>(random() % 70));
          break;
        case 3: {
          memory.ring.slot(random() % 4).owner = static_cast<std::uint32_t>(random() % 5);
          memory.ring.participant(2).state = random();
          break;
        }
        default:
          if (a->claim(2) == MpmcOutcome::done) a->abort_all();
          MpmcRecordView views[3];
          const MpmcReceived received = b->receive_burst(views);
          for (std::size_t i = 0; i < received.count; ++i) {
            ASSERT_GE(views[i].payload, memory.bytes());
            ASSERT_LE(views[i].payload + views[i].payload_bytes, memory.bytes() + memory.size_bytes());
          }
          if (received.outcome == MpmcOutcome::done) b->release_all();
          (void)b->recover([&](std::uint32_t, std::uint64_t) { return random() % 2 == 0; });
      }
    }
    a.die();
    b.die();
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm
