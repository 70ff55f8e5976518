// The record ring of many producers and consumers in one thread: what each call promises, death at each call, every
// mix of operations and deaths against a model, and words that cannot be.

#include "ring/mpmc_record_ring.h"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "mpmc_record_memory.h"

namespace cdmf::ipc::shm {
namespace {

using testing::MortalMember;
using testing::MpmcTestMemory;

constexpr auto kNobodyIsDead = [](std::uint32_t, std::uint64_t) { return false; };

bool put(MpmcRecordMember& member, std::uint64_t value) {
  if (member.claim() != MpmcOutcome::done) return false;
  std::memcpy(member.payload().data(), &value, sizeof value);
  member.commit(sizeof value, value + 1, static_cast<std::uint32_t>(value + 2));
  return true;
}
std::uint64_t value_of(const MpmcRecordView& view) {
  std::uint64_t value = 0;
  EXPECT_EQ(view.payload_bytes, sizeof value);
  std::memcpy(&value, view.payload, sizeof value);
  EXPECT_EQ(view.timestamp_us, value + 1);
  EXPECT_EQ(view.checksum, static_cast<std::uint32_t>(value + 2));
  return value;
}
std::uint64_t take(MpmcRecordMember& member) {
  MpmcRecordView view;
  if (member.receive(view) != MpmcOutcome::done) return std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t value = value_of(view);
  member.release(view);
  return value;
}

/// A ring whose members die on demand.
struct Ring {
  explicit Ring(std::uint32_t slot_count, std::uint32_t members = 4) : memory(slot_count, 64, members) {
    for (std::uint32_t i = 0; i < members; ++i) {
      all.push_back(std::make_unique<MortalMember>(memory.ring, i));
      EXPECT_TRUE((*all.back())->attach());
    }
  }
  MpmcRecordMember& operator[](std::size_t i) { return **all[i]; }
  void die(std::uint32_t i) {
    all[i]->die();
    dead.insert(i);
  }
  MpmcRecovery recover(std::size_t by) {
    return (*this)[by].recover([&](std::uint32_t i, std::uint64_t) { return dead.contains(i); });
  }
  MpmcTestMemory memory;
  std::vector<std::unique_ptr<MortalMember>> all;
  std::set<std::uint32_t> dead;
};

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

// Everything against a model: positions one by one, with what must have become of each.
TEST(MpmcRecordRing, AnyMixOfCallsAndDeathsAgreesWithTheModel) {
  enum class Is { claimed, full, tomb, received, held, free };
  struct Position {
    Is is;
    std::size_t owner;
    std::uint64_t value;
  };
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    const std::uint32_t slots = 1u << random() % 5;
    constexpr std::size_t kMembers = 4;
    Ring ring(slots, kMembers);
    std::vector<Position> model;
    std::size_t head = 0;
    std::uint64_t lost = 0, tombstones = 0, recoveries = 0, next_value = 1;
    struct Open {
      std::uint64_t first = 0;
      std::set<std::uint32_t> claims;
      std::vector<MpmcRecordView> views, held;
    } open[kMembers];
    const auto slot_is_free = [&](std::size_t position) {
      return position < slots || model[position - slots].is == Is::free;
    };
    for (int step = 0; step < 3000; ++step) {
      SCOPED_TRACE("seed " + std::to_string(seed) + " step " + std::to_string(step));
      const std::size_t who = random() % kMembers;
      if (ring.all[who]->dead()) continue;
      MpmcRecordMember& member = ring[who];
      Open& mine = open[who];
      switch (random() % 10) {
        case 0:
        case 1: {
          const std::uint32_t wanted = 1 + random() % 5;
          std::uint32_t expected = 0;
          while (expected < wanted && expected < slots && slot_is_free(model.size() + expected)) ++expected;
          const MpmcOutcome outcome = member.claim(wanted);
          if (!mine.claims.empty()) {
            ASSERT_EQ(outcome, MpmcOutcome::blocked);
          } else if (expected == 0) {
            const bool full = model.size() - slots >= head;
            ASSERT_EQ(outcome, full ? MpmcOutcome::unavailable : MpmcOutcome::blocked);
          } else {
            ASSERT_EQ(outcome, MpmcOutcome::done);
            ASSERT_EQ(member.claimed_count(), expected);
            mine.first = model.size();
            for (std::uint32_t i = 0; i < expected; ++i) {
              mine.claims.insert(i);
              model.push_back({Is::claimed, who, 0});
            }
          }
          break;
        }
        case 2:
        case 3:
        case 4:
          if (!mine.claims.empty()) {
            const std::uint32_t which =
                *std::next(mine.claims.begin(), static_cast<std::ptrdiff_t>(random() % mine.claims.size()));
            mine.claims.erase(which);
            Position& position = model[mine.first + which];
            if (random() % 5 == 0) {
              position.is = Is::tomb;
              member.abort(which);
            } else {
              position = {Is::full, who, next_value++};
              std::memcpy(member.payload(which).data(), &position.value, 8);
              member.commit(8, position.value + 1, static_cast<std::uint32_t>(position.value + 2), which);
            }
          }
          break;
        case 5:
        case 6: {
          MpmcRecordView views[5];
          const std::size_t wanted = 1 + random() % 5;
          const MpmcReceived received = member.receive_burst({views, wanted});
          if (!mine.views.empty()) {
            ASSERT_EQ(received.outcome, MpmcOutcome::blocked);
            break;
          }
          std::size_t count = 0;
          while (count == 0 && head < model.size() && model[head].is != Is::claimed) {
            for (std::size_t i = 0; i < wanted && head < model.size(); ++i) {
              Position& position = model[head];
              if (position.is == Is::claimed) break;
              if (position.is == Is::full) {
                ASSERT_LT(count, received.count);
                ASSERT_EQ(value_of(views[count]), position.value);
                ASSERT_EQ(views[count].position, head);
                mine.views.push_back(views[count++]);
                position.owner = who;
                position.is = Is::received;
              } else {
                position.is = Is::free;
              }
              ++head;
            }
          }
          ASSERT_EQ(received.count, count);
          ASSERT_EQ(received.outcome, count != 0             ? MpmcOutcome::done
                                      : head == model.size() ? MpmcOutcome::unavailable
                                                             : MpmcOutcome::blocked);
          break;
        }
        case 7:
          if (!mine.views.empty()) {
            const auto view = std::next(mine.views.begin(), static_cast<std::ptrdiff_t>(random() % mine.views.size()));
            ASSERT_EQ(value_of(*view), model[view->position].value) << "until released";
            if (random() % 4 == 0) {
              ASSERT_TRUE(member.hold(*view));
              model[view->position].is = Is::held;
              mine.held.push_back(*view);
            } else {
              member.release(*view);
              model[view->position].is = Is::free;
            }
            mine.views.erase(view);
          }
          break;
        case 8:
          if (!mine.held.empty()) {
            ASSERT_EQ(value_of(mine.held.back()), model[mine.held.back().position].value) << "until released";
            ASSERT_TRUE(member.release_held(mine.held.back().position));
            model[mine.held.back().position].is = Is::free;
            mine.held.pop_back();
          }
          break;
        default: {
          if (random() % 4 != 0) break;
          const std::size_t survivor = (who + 1) % kMembers;
          if (ring.all[survivor]->dead()) break;
          ring.die(static_cast<std::uint32_t>(who));
          const MpmcRecovery recovery = ring.recover(survivor);
          ASSERT_EQ(recovery.recovered, 1u);
          ASSERT_EQ(recovery.fault, MpmcFault::none);
          ++recoveries;
          for (Position& position : model) {
            if (position.owner != who) continue;
            if (position.is == Is::claimed) {
              position.is = Is::tomb;
              ++tombstones;
            } else if (position.is == Is::received || position.is == Is::held) {
              position.is = Is::free;
              ++lost;
            }
          }
          mine = {};
          ring.dead.erase(static_cast<std::uint32_t>(who));
          ring.all[who] = std::make_unique<MortalMember>(ring.memory.ring, static_cast<std::uint32_t>(who));
          ASSERT_TRUE(ring[who].attach());
        }
      }
    }
    const MpmcRecordCounters counters = ring[0].counters();
    EXPECT_EQ(counters.lost, lost);
    EXPECT_EQ(counters.tombstones, tombstones);
    EXPECT_EQ(counters.recoveries, recoveries);
  }
}

// --- words that no member writes ---

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
