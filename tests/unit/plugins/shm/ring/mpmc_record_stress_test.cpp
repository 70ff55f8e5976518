// Threads on one mapping: what the thread sanitizer can see of the ring's memory orders, claims that race with
// recoveries by several survivors, and lines that change hands. Would catch: a message torn, doubled, lost or out of
// its producer's order, a live member's slot taken away, a loss counted twice, members that stand still.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "mpmc_record_memory.h"

namespace cdmf::ipc::shm {
namespace {

using testing::MpmcTestMemory;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kMessages = 6'000;
#else
constexpr std::uint64_t kMessages = 60'000;
#endif

struct Message {
  std::uint64_t producer;
  std::uint64_t number;
  std::uint64_t check;
};

/// Ends the program when the test stands still: a thread that waits for ever cannot be joined.
class Watchdog {
 public:
  Watchdog() : thread_([this] { watch(); }) {}
  ~Watchdog() {
    done_ = true;
    thread_.join();
  }

 private:
  void watch() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(100);
    while (!done_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      if (std::chrono::steady_clock::now() < end) continue;
      std::fprintf(stderr, "the ring stands still\n");
      std::abort();
    }
  }
  std::atomic<bool> done_{false};
  std::thread thread_;
};

/// Producers and consumers as given, each member of the ring in its own thread. With `dying`, each producer and
/// consumer "dies" now and then in the middle of a call's work: its thread leaves the member as it is, says so, and
/// goes on as a new member of another line.
void run(std::uint32_t slot_count, std::uint32_t producers, std::uint32_t consumers, std::uint32_t batch, bool dying) {
  Watchdog watchdog;
  // Through one or two slots each message may wait for a thread that the scheduler has put aside for milliseconds.
  const std::uint64_t messages = slot_count > 2 ? kMessages : kMessages / 10;
  const std::uint32_t lines = (producers + consumers) * (dying ? 2 : 1);
  MpmcTestMemory memory(slot_count, 64, lines);
  std::vector<std::atomic<std::uint64_t>> dead(lines);  // The last generation that is dead.
  const auto is_dead = [&](std::uint32_t i, std::uint64_t generation) {
    return dead[i].load(std::memory_order_acquire) >= generation;
  };
  std::atomic<std::uint32_t> producing{producers};
  std::atomic<std::uint64_t> dropped{0};  // Received by a member that died with it.
  std::vector<std::vector<Message>> received(consumers);
  std::vector<std::uint64_t> sent(producers, 0);

  // A thread uses its two lines in turn.
  const auto reborn = [&](MpmcRecordMember* member, std::byte* storage, std::uint32_t self) {
    std::uint32_t index = self;
    if (member != nullptr) {
      dead[member->index()].store(
          mpmc_generation(memory.ring.participant(member->index()).state.load(std::memory_order_relaxed)),
          std::memory_order_release);
      index = member->index() == self ? self + producers + consumers : self;
    }
    auto* const next = new (storage) MpmcRecordMember(memory.ring, index);
    while (!next->attach()) {
      (void)next->recover(is_dead);
      std::this_thread::yield();
    }
    return next;
  };

  std::vector<std::thread> threads;
  for (std::uint32_t p = 0; p < producers; ++p) {
    threads.emplace_back([&, p] {
      alignas(MpmcRecordMember) std::byte storage[sizeof(MpmcRecordMember)];
      MpmcRecordMember* member = reborn(nullptr, storage, p);
      std::uint64_t next = 0;
      std::uint64_t claims = 0;
      while (next < messages) {
        const MpmcOutcome outcome = member->claim(batch);
        ASSERT_NE(outcome, MpmcOutcome::fault);
        if (outcome != MpmcOutcome::done) {
          if (dying) (void)member->recover(is_dead);
          std::this_thread::yield();
          continue;
        }
        const std::uint32_t count = member->claimed_count();
        const bool dies = dying && ++claims % 97 == 0;
        for (std::uint32_t i = 0; i < count; ++i) {
          if (dies && i == count / 2) break;
          if (claims % 13 == 5 || next == messages) {
            member->abort(i);
            continue;
          }
          const Message message{p, next, next * 31 + p};
          std::memcpy(member->payload(i).data(), &message, sizeof message);
          member->commit(sizeof message, 0, 0, i);
          ++next;
        }
        if (dies) member = reborn(member, storage, p);
      }
      sent[p] = next;
      member->~MpmcRecordMember();
      --producing;
    });
  }
  for (std::uint32_t c = 0; c < consumers; ++c) {
    threads.emplace_back([&, c] {
      alignas(MpmcRecordMember) std::byte storage[sizeof(MpmcRecordMember)];
      MpmcRecordMember* member = reborn(nullptr, storage, producers + c);
      std::uint64_t bursts = 0;
      std::vector<MpmcRecordView> views(batch);
      for (;;) {
        const bool last = producing == 0;
        const MpmcReceived burst = member->receive_burst(views);
        ASSERT_NE(burst.outcome, MpmcOutcome::fault);
        if (burst.outcome == MpmcOutcome::unavailable && last) break;
        if (burst.outcome != MpmcOutcome::done) {
          if (dying) (void)member->recover(is_dead);
          std::this_thread::yield();
          continue;
        }
        const bool dies = dying && ++bursts % 89 == 0;
        std::uint64_t held = ~std::uint64_t{0};
        for (std::size_t i = 0; i < burst.count; ++i) {
          if (dies && i == burst.count / 2) {
            dropped += burst.count - i;
            break;
          }
          Message message;
          std::memcpy(&message, views[i].payload, sizeof message);
          ASSERT_EQ(views[i].payload_bytes, sizeof message);
          received[c].push_back(message);
          if (bursts % 7 == 3 && i == 0) {
            ASSERT_TRUE(member->hold(views[i]));
            held = views[i].position;
          } else {
            member->release(views[i]);
          }
        }
        if (dies) {
          if (held != ~std::uint64_t{0}) ++dropped;
          member = reborn(member, storage, producers + c);
        } else if (held != ~std::uint64_t{0}) {
          ASSERT_TRUE(member->release_held(held));
        }
      }
      member->~MpmcRecordMember();
    });
  }
  for (std::thread& thread : threads) thread.join();

  std::vector<std::vector<int>> seen(producers);
  for (std::uint32_t p = 0; p < producers; ++p) seen[p].assign(sent[p], 0);
  std::uint64_t total = 0;
  for (const auto& stream : received) {
    std::vector<std::uint64_t> last(producers, 0);
    for (const Message& message : stream) {
      ASSERT_LT(message.producer, producers);
      ASSERT_LT(message.number, sent[message.producer]);
      ASSERT_EQ(message.check, message.number * 31 + message.producer);
      ASSERT_GE(message.number + 1, last[message.producer] + 1) << "order of one producer, at one consumer";
      last[message.producer] = message.number + 1;
      ASSERT_EQ(seen[message.producer][message.number]++, 0) << "twice";
      ++total;
    }
  }
  MpmcRecordMember observer(memory.ring, 0);
  while (dying && observer.recover(is_dead).waiting != 0) {
  }
  std::uint64_t all_sent = 0;
  for (const std::uint64_t count : sent) all_sent += count;
  const std::uint64_t lost = observer.counters().lost;
  if (!dying) {
    EXPECT_EQ(total, all_sent);
    EXPECT_EQ(lost, 0u);
  } else {
    // A message both read and lost is one that died while held.
    EXPECT_EQ(lost, dropped.load());
    EXPECT_LE(all_sent - total, lost);
    EXPECT_GT(observer.counters().recoveries, 0u);
    EXPECT_GT(observer.counters().tombstones, 0u);
  }
}

TEST(MpmcRecordStress, TwoProducersTwoConsumersOneAtATime) { run(64, 2, 2, 1, false); }
TEST(MpmcRecordStress, RingOfOneSlot) { run(1, 2, 2, 1, false); }
TEST(MpmcRecordStress, ManyMembersWithBatches) { run(16, 4, 4, 5, false); }
TEST(MpmcRecordStress, MembersDieAndSeveralRecoverAtOnce) { run(8, 3, 3, 3, true); }
TEST(MpmcRecordStress, MembersDieOneAtATimeInARingOfTwo) { run(2, 2, 2, 1, true); }

}  // namespace
}  // namespace cdmf::ipc::shm
