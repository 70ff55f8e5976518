// The typed rings between threads. Would catch an item that is lost, repeated, torn, out of order, or readable before
// it is complete; under ThreadSanitizer also any missing happens-before edge. Small rings make both sides meet at full
// and empty all the time, larger ones let them run apart.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <iterator>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ipc/ring_buffer.h"
#include "ring_buffer_test_support.h"

namespace {

using namespace cdmf::ipc;
using ring_buffer_test::Sized;
using ring_buffer_test::Watchdog;

// --- one producer, one consumer ---

struct Owned {  // On the heap: a leak or a double free shows under AddressSanitizer, an unordered write under the
                // other.
  Owned() = default;
  explicit Owned(std::uint64_t number) : value(std::make_unique<std::uint64_t>(number)) {}
  bool is(std::uint64_t number) const { return value != nullptr && *value == number; }
  std::unique_ptr<std::uint64_t> value;
};

// With one thread at each end only the SPSC ring can tell what the next push or pop will say: in the other, a claim
// shows before its cell is ready.
template <typename Ring>
inline constexpr bool kForesees = requires(Ring& ring) {
  ring.front();
};

template <typename Ring>
class OneToOne : public testing::Test {
 protected:
  // Through a ring of a few items each takes a change of threads, which on a busy machine is a time slice.
  static constexpr std::uint64_t kItems = Ring::capacity() < 8 ? 10'000 : 60'000;

  /// Calls `step(next item)`, which returns how many items it moved, until all are through. False: gave up waiting.
  template <typename Step>
  bool run_all(Step step) {
    std::uint64_t done = 0;
    while (done < kItems && !failed_) {
      const std::uint64_t before = done;
      done += step(done);
      if (done == before && !watchdog_.keep_waiting()) failed_ = true;
    }
    return !failed_;
  }

  std::unique_ptr<Ring> ring_ = std::make_unique<Ring>();
  std::atomic<bool> failed_{false};
  Watchdog watchdog_;
};

using OneToOneRings =
    testing::Types<SPSCRingBuffer<Sized<8>, 1>, SPSCRingBuffer<Sized<8>, 4>, SPSCRingBuffer<Sized<8>, 1024>,
                   SPSCRingBuffer<Sized<1>, 64>, SPSCRingBuffer<Sized<24>, 16>, SPSCRingBuffer<Sized<256>, 4>,
                   SPSCRingBuffer<Sized<256>, 256>, SPSCRingBuffer<Owned, 16>,
                   SPSCRingBuffer<Sized<8>, 64, RingBufferCounting::on>, MPMCRingBuffer<Sized<8>, 1>,
                   MPMCRingBuffer<Sized<8>, 64>, MPMCRingBuffer<Owned, 16>,
                   MPMCRingBuffer<Sized<8>, 64, RingBufferCounting::on>>;
TYPED_TEST_SUITE(OneToOne, OneToOneRings);

TYPED_TEST(OneToOne, EveryItemArrivesWholeAndInOrder) {
  using T = typename TypeParam::value_type;
  std::thread producer([&] {
    EXPECT_TRUE(this->run_all([&](std::uint64_t next) { return this->ring_->try_push(T(next)) ? 1u : 0u; }));
  });
  EXPECT_TRUE(this->run_all([&](std::uint64_t next) {
    T item;
    if (!this->ring_->try_pop(item)) return 0u;
    if (!item.is(next)) {
      ADD_FAILURE() << "item " << next << " is not what was pushed";
      this->failed_ = true;
    }
    return 1u;
  }));
  producer.join();
  EXPECT_TRUE(this->ring_->is_empty());
}

TYPED_TEST(OneToOne, BulkAndSingleOperationsMixFreely) {
  using T = typename TypeParam::value_type;
  std::thread producer([&] {
    std::minstd_rand random(1);
    EXPECT_TRUE(this->run_all([&](std::uint64_t next) -> std::uint64_t {
      if (random() % 2 == 0) return this->ring_->try_emplace(next) ? 1 : 0;
      std::vector<T> items;
      for (std::uint64_t i = next; i < std::min(next + random() % 40, this->kItems); ++i) items.emplace_back(i);
      return this->ring_->try_push_bulk(std::make_move_iterator(items.begin()), items.size());
    }));
  });
  std::minstd_rand random(2);
  EXPECT_TRUE(this->run_all([&](std::uint64_t next) -> std::uint64_t {
    std::vector<T> items(1 + random() % 40);
    const std::size_t count = this->ring_->try_pop_bulk(items.begin(), items.size());
    for (std::size_t i = 0; i < count; ++i) {
      if (items[i].is(next + i)) continue;
      ADD_FAILURE() << "item " << next + i << " is not what was pushed";
      this->failed_ = true;
    }
    return count;
  }));
  producer.join();
  EXPECT_TRUE(this->ring_->is_empty());
}

TYPED_TEST(OneToOne, SizeStaysWithinTheRingForEveryObserver) {
  using T = typename TypeParam::value_type;
  std::atomic<bool> stop{false};
  std::thread observer([&] {
    while (!stop) {
      EXPECT_LE(this->ring_->size(), TypeParam::capacity());
      if constexpr (requires { this->ring_->getStats(); }) {
        const RingBufferStats stats = this->ring_->getStats();
        EXPECT_LE(stats.total_pops, stats.total_pushes);
        EXPECT_LE(stats.max_size, TypeParam::capacity());
      }
      std::this_thread::yield();
    }
  });
  std::thread producer([&] {
    EXPECT_TRUE(this->run_all([&](std::uint64_t next) {
      // What the producer sees as room stays room: only it can take it.
      const bool room = !this->ring_->is_full();
      const bool pushed = this->ring_->try_push(T(next));
      EXPECT_TRUE(pushed || !room || !kForesees<TypeParam>);
      return pushed ? 1u : 0u;
    }));
  });
  EXPECT_TRUE(this->run_all([&](std::uint64_t) {
    const bool there = !this->ring_->is_empty();
    const bool popped = this->ring_->try_pop().has_value();
    EXPECT_TRUE(popped || !there || !kForesees<TypeParam>);
    return popped ? 1u : 0u;
  }));
  producer.join();
  stop = true;
  observer.join();
}

TEST(SpscRingBufferBulk, ABatchIsSeenWholeOrNotAtAll) {
  constexpr std::size_t kBatch = 24;  // Over several lines of seven, and beginning anywhere in the first.
  constexpr int kBatches = 20'000;
  SPSCRingBuffer<std::uint64_t, 256> ring;
  const Watchdog watchdog;
  std::atomic<bool> failed{false};
  std::thread producer([&] {
    const std::vector<std::uint64_t> items(kBatch, 1);
    for (int i = 0; i < kBatches && !failed;) {
      if (ring.capacity() - ring.size() >= kBatch) {
        EXPECT_EQ(ring.try_push_bulk(items.begin(), kBatch), kBatch);
        ++i;
      } else if (!watchdog.keep_waiting()) {
        failed = true;
      }
    }
  });
  std::vector<std::uint64_t> got(kBatch);
  for (int i = 0; i < kBatches && !failed;) {
    const std::size_t count = ring.try_pop_bulk(got.begin(), kBatch);
    if (count == kBatch) {
      ++i;
    } else if (count != 0) {
      ADD_FAILURE() << "saw " << count << " of " << kBatch;
      failed = true;
    } else if (!watchdog.keep_waiting()) {
      failed = true;
    }
  }
  producer.join();
  EXPECT_FALSE(failed);
}

// --- many to many ---

struct Ticket {
  std::uint32_t producer;
  std::uint32_t number;
  std::uint64_t seal;

  static Ticket make(std::uint32_t producer, std::uint32_t number) {
    return {producer, number, (std::uint64_t{number} << 32 | producer) * 0x9e3779b97f4a7c15u};
  }
  bool whole() const { return seal == make(producer, number).seal; }
};

/// Four producers and four consumers. Every consumer must see each producer's tickets in rising order, and all
/// consumers together each ticket once.
template <typename Ring, typename Push, typename Pop>
void many_to_many(std::uint32_t tickets_each, Push push, Pop pop) {
  constexpr std::uint32_t kThreads = 4;
  auto ring = std::make_unique<Ring>();
  const Watchdog watchdog;
  std::vector<std::atomic<std::uint8_t>> seen(kThreads * tickets_each);
  std::atomic<std::uint32_t> left{kThreads * tickets_each};
  std::atomic<bool> failed{false};
  std::atomic<std::uint32_t> missing{2 * kThreads};  // The threads begin together, or the first would be done alone.
  const auto begin_together = [&] {
    for (--missing; missing != 0 && watchdog.keep_waiting();) {
    }
  };

  std::vector<std::thread> threads;
  for (std::uint32_t producer = 0; producer < kThreads; ++producer) {
    threads.emplace_back([&, producer] {
      begin_together();
      for (std::uint32_t next = 0; next < tickets_each && !failed;) {
        const std::uint32_t pushed = push(*ring, producer, next, tickets_each - next);
        next += pushed;
        if (pushed == 0 && !watchdog.keep_waiting()) failed = true;
      }
    });
    threads.emplace_back([&] {
      std::vector<std::int64_t> newest(kThreads, -1);
      begin_together();
      while (left != 0 && !failed) {
        const std::vector<Ticket> got = pop(*ring);
        if (got.empty() && !watchdog.keep_waiting()) failed = true;
        for (const Ticket& ticket : got) {
          if (!ticket.whole() || ticket.producer >= kThreads || ticket.number >= tickets_each) {
            ADD_FAILURE() << "a torn ticket";
            failed = true;
            return;
          }
          EXPECT_GT(ticket.number, newest[ticket.producer]) << "out of order for producer " << ticket.producer;
          newest[ticket.producer] = ticket.number;
          if (seen[ticket.producer * tickets_each + ticket.number].fetch_add(1) != 0) ADD_FAILURE() << "seen twice";
          --left;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(failed);
  EXPECT_EQ(left, 0u);
  EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](const auto& count) { return count == 1; }));
  EXPECT_TRUE(ring->is_empty());
}

const auto push_one = [](auto& ring, std::uint32_t producer, std::uint32_t next, std::uint32_t) -> std::uint32_t {
  return ring.try_push(Ticket::make(producer, next)) ? 1 : 0;
};
const auto pop_one = [](auto& ring) {
  std::vector<Ticket> got;
  if (const auto ticket = ring.try_pop()) got.push_back(*ticket);
  return got;
};

TEST(ManyToMany, SinglesLoseNothingAndKeepEachProducersOrder) {
  many_to_many<MPMCRingBuffer<Ticket, 256>>(150'000, push_one, pop_one);
}

TEST(ManyToMany, ATinyRingIsNoDifferent) {
  many_to_many<MPMCRingBuffer<Ticket, 1>>(1'500, push_one, pop_one);
  many_to_many<MPMCRingBuffer<Ticket, 2>>(3'000, push_one, pop_one);
}

TEST(ManyToMany, BulkClaimsAreSharedOutLikeSingleOnes) {
  many_to_many<MPMCRingBuffer<Ticket, 64>>(
      20'000,
      [](auto& ring, std::uint32_t producer, std::uint32_t next, std::uint32_t left) {
        std::vector<Ticket> tickets;
        for (std::uint32_t i = 0; i < std::min(left, 1 + next % 23); ++i) {
          tickets.push_back(Ticket::make(producer, next + i));
        }
        return static_cast<std::uint32_t>(ring.try_push_bulk(tickets.begin(), tickets.size()));
      },
      [](auto& ring) {
        std::vector<Ticket> got(17);
        got.resize(ring.try_pop_bulk(got.data(), got.size()));
        return got;
      });
}

struct Moody : Ticket {  // Refuses to be made now and then, after its cell has been claimed.
  Moody(const Ticket& ticket, bool refuses) : Ticket(ticket) {
    if (refuses) throw std::runtime_error("as asked");
  }
};

TEST(ManyToMany, ConstructorsThatThrowCostNobodyAnItem) {
  many_to_many<MPMCRingBuffer<Moody, 32>>(
      10'000,
      [](auto& ring, std::uint32_t producer, std::uint32_t next, std::uint32_t) -> std::uint32_t {
        static thread_local std::minstd_rand random(producer + 1);
        try {
          return ring.try_emplace(Ticket::make(producer, next), random() % 8 == 0) ? 1 : 0;
        } catch (const std::runtime_error&) {
          return 0;
        }
      },
      pop_one);
}

// Threads that lose a race for a position must look again, not report what they saw there.
TEST(ManyToMany, ARaceLostIsNotRefused) {
  constexpr std::uint64_t kThreads = 3;
  constexpr std::uint64_t kEach = 20'000;
  const auto ring = std::make_unique<MPMCRingBuffer<std::uint64_t, 65536>>();
  std::atomic<std::uint64_t> refused{0};
  std::atomic<std::uint64_t> sum{0};
  const auto race = [&](auto each) {
    std::atomic<std::uint64_t> missing{kThreads};
    const Watchdog watchdog;
    std::vector<std::thread> threads;
    for (std::uint64_t thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&] {
        for (--missing; missing != 0 && watchdog.keep_waiting();) {
        }
        for (std::uint64_t i = 0; i < kEach; ++i) each(i);
      });
    }
    for (std::thread& thread : threads) thread.join();
  };
  race([&](std::uint64_t i) { refused += ring->try_push(i) ? 0 : 1; });
  EXPECT_EQ(refused, 0u) << "pushes, though there was room for all";
  race([&](std::uint64_t) {
    const auto item = ring->try_pop();
    refused += item.has_value() ? 0 : 1;
    sum += item.value_or(0);
  });
  EXPECT_EQ(refused, 0u) << "pops, though there was an item for each";
  EXPECT_EQ(sum, kThreads * kEach * (kEach - 1) / 2);
}

TEST(ManyToMany, CountersAddUpWhenAllIsQuiet) {
  constexpr int kThreads = 3;
  constexpr std::uint64_t kEach = 20'000;
  MPMCRingBuffer<std::uint64_t, 16, RingBufferCounting::on> ring;
  const Watchdog watchdog;
  std::atomic<std::uint64_t> refused_pushes{0};
  std::atomic<std::uint64_t> refused_pops{0};
  std::atomic<bool> failed{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (std::uint64_t n = 0; n < kEach && !failed;) {
        if (ring.try_push(n)) {
          ++n;
        } else {
          ++refused_pushes;
          if (!watchdog.keep_waiting()) failed = true;
        }
      }
    });
    threads.emplace_back([&] {
      for (std::uint64_t n = 0; n < kEach && !failed;) {
        if (ring.try_pop().has_value()) {
          ++n;
        } else {
          ++refused_pops;
          if (!watchdog.keep_waiting()) failed = true;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_FALSE(failed);
  const RingBufferStats stats = ring.getStats();
  EXPECT_EQ(stats.total_pushes, kThreads * kEach);
  EXPECT_EQ(stats.total_pops, kThreads * kEach);
  EXPECT_EQ(stats.failed_pushes, refused_pushes);
  EXPECT_EQ(stats.failed_pops, refused_pops);
  EXPECT_GE(stats.max_size, 1u);
  EXPECT_LE(stats.max_size, 16u);
}

}  // namespace
