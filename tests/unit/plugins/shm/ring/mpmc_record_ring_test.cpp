// The record ring of many producers and consumers in one thread: what each call promises, and death at each call.

#include "ring/mpmc_record_ring.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "mortal_ring.h"

namespace cdmf::ipc::shm {
namespace {

using Ring = testing::MortalRing;
using testing::MpmcTestMemory;
using testing::put;
using testing::take;
using testing::value_of;

constexpr auto kNobodyIsDead = [](std::uint32_t, std::uint64_t) { return false; };

TEST(MpmcRecordRing, MessageArrivesWithItsEnvelopeAndContents) {
  Ring ring(4);
  ASSERT_EQ(ring[0].claim(), MpmcOutcome::done);
  EXPECT_EQ(ring[0].payload().size(), 32u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(ring[0].payload().data()) % 32, 0u);
  std::memcpy(ring[0].payload().data(), "hello", 5);
  MpmcRecordView view;
  EXPECT_EQ(ring[1].receive(view), MpmcOutcome::blocked) << "claimed, and not committed";
  ring[0].commit(5, 0x1122334455667788, 0xCAFEBABE);
  ASSERT_EQ(ring[1].receive(view), MpmcOutcome::done);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(view.payload), view.payload_bytes), "hello");
  EXPECT_EQ(view.timestamp_us, 0x1122334455667788u);
  EXPECT_EQ(view.checksum, 0xCAFEBABEu);
  ring[1].release(view);
  EXPECT_EQ(ring[1].receive(view), MpmcOutcome::unavailable);
}

TEST(MpmcRecordRing, SizesFromNothingToAWholeSlotArrive) {
  MpmcTestMemory memory(2, 256, 1);
  MpmcRecordMember member(memory.ring, 0);
  ASSERT_TRUE(member.attach());
  ASSERT_EQ(member.payload_bytes_max(), 224u);
  for (std::uint32_t bytes = 0; bytes <= 224; ++bytes) {
    ASSERT_EQ(member.claim(), MpmcOutcome::done);
    std::memset(member.payload().data(), static_cast<int>(bytes), bytes);
    member.commit(bytes, 0, 0);
    MpmcRecordView view;
    ASSERT_EQ(member.receive(view), MpmcOutcome::done);
    ASSERT_EQ(view.payload_bytes, bytes);
    for (std::uint32_t i = 0; i < bytes; ++i) ASSERT_EQ(static_cast<std::uint32_t>(view.payload[i]), bytes);
    member.release(view);
  }
}

TEST(MpmcRecordRing, BytesLieAsTheLayoutSays) {
  MpmcTestMemory memory(2, 64, 1);
  MpmcRecordMember member(memory.ring, 0);
  ASSERT_TRUE(member.attach());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(put(member, 7));
    ASSERT_EQ(take(member), 7u);
  }
  ASSERT_EQ(member.claim(), MpmcOutcome::done);
  std::memcpy(member.payload().data(), "abc", 3);
  member.commit(3, 0x0807060504030201, 0x44332211);
  const unsigned char expected[35] = {
      1 << 3 | 1, 0,   0,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0,    0,    0,     // lap 1, full
      19,         0,   0,  0, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x22, 0x33, 0x44,  // envelope
      'a',        'b', 'c'};
  const std::byte* const slots = memory.bytes() + 3 * 128 + 1 * 128;
  EXPECT_EQ(std::memcmp(slots, expected, sizeof expected), 0);
}

TEST(MpmcRecordRing, ExactlyAllSlotsAreUsable) {
  for (const std::uint32_t slots : {1u, 2u, 4u, 64u, 256u}) {
    Ring ring(slots);
    for (std::uint64_t lap = 0; lap < 3; ++lap) {
      for (std::uint64_t i = 0; i < slots; ++i) ASSERT_TRUE(put(ring[i % 2], i)) << slots << ' ' << i;
      EXPECT_EQ(ring[0].claim(), MpmcOutcome::unavailable);
      for (std::uint64_t i = 0; i < slots; ++i) ASSERT_EQ(take(ring[2 + i % 2]), i);
      MpmcRecordView view;
      EXPECT_EQ(ring[3].receive(view), MpmcOutcome::unavailable);
    }
  }
}

TEST(MpmcRecordRing, BatchIsReceivedInItsOrderWhateverTheOrderOfCommits) {
  Ring ring(8);
  ASSERT_EQ(ring[0].claim(3), MpmcOutcome::done);
  ASSERT_EQ(ring[0].claimed_count(), 3u);
  EXPECT_EQ(ring[0].claim(), MpmcOutcome::blocked) << "the last claim is still open";
  ASSERT_TRUE(put(ring[1], 100));
  for (const std::uint32_t which : {2u, 1u, 0u}) {
    MpmcRecordView view;
    EXPECT_EQ(ring[2].receive(view), MpmcOutcome::blocked) << "the first is not committed";
    const std::uint64_t value = which;
    std::memcpy(ring[0].payload(which).data(), &value, sizeof value);
    ring[0].commit(sizeof value, value + 1, which + 2, which);
  }
  MpmcRecordView views[8];
  const MpmcReceived received = ring[2].receive_burst(views);
  ASSERT_EQ(received.count, 4u);
  for (std::uint64_t i = 0; i < 4; ++i) EXPECT_EQ(value_of(views[i]), i < 3 ? i : 100);
  EXPECT_EQ(ring[2].receive_burst(views).outcome, MpmcOutcome::blocked) << "the last burst is not released";
  ring[2].release_all();
  EXPECT_EQ(ring[2].receive_burst(views).outcome, MpmcOutcome::unavailable);
}

TEST(MpmcRecordRing, BatchTakesWhatIsFreeAndNoMoreThanItsLimit) {
  Ring ring(128);
  ASSERT_EQ(ring[0].claim(1000), MpmcOutcome::done);
  EXPECT_EQ(ring[0].claimed_count(), kMpmcBatchMax);
  ASSERT_EQ(ring[1].claim(63), MpmcOutcome::done);
  ASSERT_EQ(ring[2].claim(5), MpmcOutcome::done);
  EXPECT_EQ(ring[2].claimed_count(), 1u);
  EXPECT_EQ(ring[3].claim(5), MpmcOutcome::unavailable);
  for (std::size_t i = 0; i < 3; ++i) ring[i].abort_all();
  std::vector<MpmcRecordView> views(200);
  EXPECT_EQ(ring[3].receive_burst(views).outcome, MpmcOutcome::unavailable) << "aborted: nothing was sent";
  EXPECT_EQ(ring[3].claim(), MpmcOutcome::done);
}

TEST(MpmcRecordRing, HeldMessageStaysWhileOthersPassUntilItsSlotIsNeeded) {
  Ring ring(4);
  ASSERT_TRUE(put(ring[0], 1));
  MpmcRecordView held;
  ASSERT_EQ(ring[1].receive(held), MpmcOutcome::done);
  ASSERT_TRUE(ring[1].hold(held));
  for (std::uint64_t i = 2; i < 5; ++i) {
    ASSERT_TRUE(put(ring[0], i));
    ASSERT_EQ(take(ring[1]), i) << "a hold does not keep its owner from receiving";
  }
  EXPECT_EQ(ring[0].claim(), MpmcOutcome::blocked);
  EXPECT_EQ(value_of(held), 1u);
  EXPECT_EQ(ring.recover(0).recovered, 0u);
  EXPECT_EQ(ring[0].claim(), MpmcOutcome::blocked) << "its holder lives";
  EXPECT_TRUE(ring[1].release_held(held.position));
  EXPECT_FALSE(ring[1].release_held(held.position));
  EXPECT_TRUE(put(ring[0], 5));
}

TEST(MpmcRecordRing, HoldIsRefusedBeyondItsQuota) {
  Ring ring(128);
  MpmcRecordView view;
  for (std::size_t i = 0; i <= MpmcRecordMember::kHeldMax; ++i) {
    ASSERT_TRUE(put(ring[0], i));
    ASSERT_EQ(ring[1].receive(view), MpmcOutcome::done);
    ASSERT_EQ(ring[1].hold(view), i < MpmcRecordMember::kHeldMax);
  }
  ring[1].release(view);
}

TEST(MpmcRecordRing, DetachGivesEverythingBack) {
  Ring ring(4);
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(put(ring[0], i));
  MpmcRecordView views[3];
  ASSERT_EQ(ring[1].receive_burst(views).count, 3u);
  ASSERT_TRUE(ring[1].hold(views[1]));
  ring[1].release(views[0]);
  ASSERT_EQ(ring[1].claim(), MpmcOutcome::done);
  MpmcRecordMember second(ring.memory.ring, 1);
  EXPECT_FALSE(second.attach()) << "the line is in use";
  ring[1].detach();
  EXPECT_EQ(ring[2].receive(views[0]), MpmcOutcome::unavailable) << "aborted: nothing was sent";
  for (std::uint64_t i = 0; i < 4; ++i) ASSERT_TRUE(put(ring[0], i));
  EXPECT_TRUE(second.attach());
  EXPECT_EQ(ring[0].counters().lost, 0u);
  EXPECT_EQ(ring[0].counters().recoveries, 0u);
}

TEST(MpmcRecordRing, DeadProducersClaimIsSkippedAndWhatItCommittedArrives) {
  Ring ring(8);
  ASSERT_EQ(ring[0].claim(3), MpmcOutcome::done);
  const std::uint64_t value = 42;
  std::memcpy(ring[0].payload(1).data(), &value, sizeof value);
  ring[0].commit(sizeof value, 43, 44, 1);
  ASSERT_TRUE(put(ring[1], 5));
  MpmcRecordView view;
  EXPECT_EQ(ring[2].recover(kNobodyIsDead).recovered, 0u);
  EXPECT_EQ(ring[2].receive(view), MpmcOutcome::blocked) << "slow is not dead";
  ring.die(0);
  const MpmcRecovery recovery = ring.recover(2);
  EXPECT_EQ(recovery.recovered, 1u);
  EXPECT_EQ(recovery.waiting, 0u);
  EXPECT_EQ(take(ring[2]), 42u);
  EXPECT_EQ(take(ring[2]), 5u);
  const MpmcRecordCounters counters = ring[2].counters();
  EXPECT_EQ(counters.tombstones, 2u);
  EXPECT_EQ(counters.lost, 0u);
  EXPECT_EQ(counters.recoveries, 1u);
  EXPECT_EQ(ring.recover(2).recovered, 0u) << "once";
}

TEST(MpmcRecordRing, DeadConsumersMessagesAreLostOnceEach) {
  Ring ring(4);
  for (std::uint64_t i = 0; i < 4; ++i) ASSERT_TRUE(put(ring[0], i));
  MpmcRecordView views[3];
  ASSERT_EQ(ring[1].receive_burst(views).count, 3u);
  ring[1].release(views[1]);
  ASSERT_TRUE(ring[1].hold(views[2]));
  EXPECT_EQ(ring[0].claim(), MpmcOutcome::blocked);
  ring.die(1);
  EXPECT_EQ(ring.recover(0).recovered, 1u);
  EXPECT_EQ(ring[0].counters().lost, 2u);
  EXPECT_EQ(take(ring[2]), 3u);
  for (std::uint64_t i = 0; i < 4; ++i) ASSERT_TRUE(put(ring[0], i));
  for (std::uint64_t i = 0; i < 4; ++i) ASSERT_EQ(take(ring[2]), i);
  EXPECT_EQ(ring[0].counters().lost, 2u);
}

TEST(MpmcRecordRing, LineOfTheDeadIsFreeOnlyAfterRecovery) {
  Ring ring(4);
  ASSERT_EQ(ring[1].claim(), MpmcOutcome::done);
  ring.die(1);
  MpmcRecordMember heir(ring.memory.ring, 1);
  EXPECT_FALSE(heir.attach());
  EXPECT_EQ(heir.recover([&](std::uint32_t i, std::uint64_t) { return i == 1; }).recovered, 1u)
      << "who has no line yet may recover as well";
  EXPECT_TRUE(heir.attach());
  EXPECT_TRUE(put(heir, 3));
  EXPECT_EQ(take(ring[0]), 3u);
}

TEST(MpmcRecordRing, NewUserOfALineIsNotTakenForItsDeadPredecessor) {
  Ring ring(4);
  ring.die(1);
  ASSERT_EQ(ring.recover(0).recovered, 1u);
  MpmcRecordMember heir(ring.memory.ring, 1);
  ASSERT_TRUE(heir.attach());
  ASSERT_EQ(heir.claim(), MpmcOutcome::done);
  std::uint64_t asked = 0;
  const auto first_user_is_dead = [&](std::uint32_t i, std::uint64_t generation) {
    if (i == 1) asked = generation;
    return i == 1 && generation == 1;
  };
  EXPECT_EQ(ring[0].recover(first_user_is_dead).recovered, 0u);
  EXPECT_EQ(asked, 2u);
  MpmcRecordView view;
  EXPECT_EQ(ring[0].receive(view), MpmcOutcome::blocked) << "the heir's claim stands";
}

// What a survivor leaves that dies in the middle of counting a loss, at each of its steps, made by hand.
TEST(MpmcRecordRing, LossIsCountedOnceWhereverItsCounterDied) {
  for (const std::uint32_t before : {0u, 1u}) {
    for (const bool counted : {false, true}) {
      for (const bool by_producer : {false, true}) {
        Ring ring(1);
        auto& slot = ring.memory.ring.slot(0);
        slot.losses = before;
        ASSERT_TRUE(put(ring[0], 1));
        MpmcRecordView view;
        ASSERT_EQ(ring[1].receive(view), MpmcOutcome::done);
        ring.die(1);
        slot.word = mpmc_word(0, before == 0 ? MpmcSlotState::lost_even : MpmcSlotState::lost_odd);
        if (counted) ++slot.losses;
        if (!by_producer) {
          EXPECT_EQ(ring.recover(2).recovered, 1u);
        }
        EXPECT_TRUE(put(ring[0], 2)) << "a producer that needs the slot finishes what was begun";
        EXPECT_EQ(slot.losses, before + 1);
        EXPECT_EQ(take(ring[2]), 2u);
        ring.recover(2);
        EXPECT_EQ(slot.losses, before + 1);
      }
    }
  }
}

TEST(MpmcRecordRing, LiveLoserOfTheSamePositionDelaysRecoveryUntilItWithdraws) {
  Ring ring(4);
  ASSERT_EQ(ring[0].claim(), MpmcOutcome::done);
  ring.die(0);
  // As member 1 leaves it between its announcement and the swap that will fail.
  ring.memory.ring.participant(1).producing = mpmc_announcement(0, 1);
  const MpmcRecovery early = ring.recover(2);
  EXPECT_EQ(early.recovered, 0u);
  EXPECT_EQ(early.waiting, 1u);
  ring.memory.ring.participant(1).producing = 0;
  EXPECT_EQ(ring.recover(2).recovered, 1u);
}

// Both would make recovery wait for ever for a member that lives and has nothing to do with the position.
TEST(MpmcRecordRing, NewUserOfALineIsNoCandidateForWhatItsDeadPredecessorAnnounced) {
  for (const bool consuming : {false, true}) {
    Ring ring(4);
    if (consuming) {
      ASSERT_TRUE(put(ring[0], 1));
    }
    // As member 1 leaves it that dies between its announcement and its swap.
    auto& line = ring.memory.ring.participant(1);
    (consuming ? line.consuming : line.producing) = mpmc_announcement(0, 1);
    ring.die(1);
    ASSERT_EQ(ring.recover(2).recovered, 1u) << "announced, never claimed";
    ring.dead.erase(1);
    MpmcRecordMember heir(ring.memory.ring, 1);
    ASSERT_TRUE(heir.attach());
    MpmcRecordView view;
    ASSERT_EQ(consuming ? ring[0].receive(view) : ring[0].claim(), MpmcOutcome::done) << "the same position";
    ring.die(0);
    const MpmcRecovery recovery = ring.recover(2);
    EXPECT_EQ(recovery.waiting, 0u) << "for the heir, which announced nothing";
    EXPECT_EQ(recovery.recovered, 1u);
  }
}

/// The ring's memory, in which another member acts just before a swap of the tail or the head: the swap then fails.
class ContendedMemory : public MpmcRecordMemory {
 public:
  struct Counter {
    std::atomic<std::uint64_t>& counter;
    const std::function<void()>& meddle;
    std::uint64_t load(std::memory_order order) const { return counter.load(order); }
    bool compare_exchange_strong(std::uint64_t& expected, std::uint64_t desired, std::memory_order success,
                                 std::memory_order failure) const {
      meddle();
      return counter.compare_exchange_strong(expected, desired, success, failure);
    }
  };
  ContendedMemory(const MpmcRecordMemory& memory, const std::function<void()>& meddle)
      : MpmcRecordMemory(memory), tail_{memory.tail(), meddle}, head_{memory.head(), meddle} {}
  const Counter& tail() const noexcept { return tail_; }
  const Counter& head() const noexcept { return head_; }

 private:
  Counter tail_, head_;
};

TEST(MpmcRecordRing, LoserOfARaceIsNoCandidateForThePositionItLost) {
  for (const bool consuming : {false, true}) {
    Ring ring(1);
    if (consuming) {
      ASSERT_TRUE(put(ring[0], 1));
    }
    MpmcRecordView view;
    MpmcOutcome winners = MpmcOutcome::blocked;
    const std::function<void()> meddle = [&] { winners = consuming ? ring[0].receive(view) : ring[0].claim(); };
    MpmcProtocol<ContendedMemory> loser(ContendedMemory(ring.memory.ring, meddle), 1);
    const MpmcGrant grant = consuming ? loser.receive(1) : loser.claim(1);
    ASSERT_EQ(winners, MpmcOutcome::done);
    ASSERT_NE(grant.outcome, MpmcOutcome::done) << "of the ring's one slot";
    ring.die(0);
    const MpmcRecovery recovery = ring.recover(2);
    EXPECT_EQ(recovery.waiting, 0u) << "for the loser, which has withdrawn";
    EXPECT_EQ(recovery.recovered, 1u);
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm
