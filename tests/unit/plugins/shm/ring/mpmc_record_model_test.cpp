// The record ring of many producers and consumers in one thread: every mix of operations and deaths against a model.

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "mortal_ring.h"

namespace cdmf::ipc::shm {
namespace {

using Ring = testing::MortalRing;
using testing::MortalMember;
using testing::value_of;

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

}  // namespace
}  // namespace cdmf::ipc::shm
