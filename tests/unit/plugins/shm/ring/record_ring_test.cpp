// The record ring in one thread: what each call promises, and every mix of sizes against a model.

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "whole_ring.h"

namespace cdmf::ipc::shm {
namespace {

using Ring = testing::WholeRing;
using testing::kOneLine;
using testing::Random;

TEST(RecordRing, RecordArrivesWithItsEnvelopeAndContents) {
  Ring ring(4096);
  ASSERT_EQ(ring.producer.claim(5), ClaimOutcome::claimed);
  ASSERT_EQ(ring.producer.payload().size(), 5u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(ring.producer.payload().data()) % 16, 0u);
  std::memcpy(ring.producer.payload().data(), "hello", 5);
  ring.producer.commit(5, 0x1122334455667788, 0xCAFEBABE);
  EXPECT_TRUE(ring.producer.flush());
  RecordView view;
  ASSERT_TRUE(ring.take(view));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(view.payload), view.payload_bytes), "hello");
  EXPECT_EQ(view.timestamp_us, 0x1122334455667788u);
  EXPECT_EQ(view.checksum, 0xCAFEBABEu);
  EXPECT_FALSE(ring.take(view));
}

TEST(RecordRing, BytesLieAsTheLayoutSays) {
  Ring ring(256);
  ASSERT_EQ(ring.producer.claim(3), ClaimOutcome::claimed);
  std::memcpy(ring.producer.payload().data(), "abc", 3);
  ring.producer.commit(3, 0x0807060504030201, 0x44332211);
  ring.producer.flush();
  const unsigned char expected[19] = {19, 0, 0, 0x10, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x22, 0x33, 0x44, 'a', 'b', 'c'};
  EXPECT_EQ(std::memcmp(ring.memory.ring.bytes, expected, sizeof expected), 0);
}

TEST(RecordRing, CommitIsInvisibleUntilFlush) {
  Ring ring(4096);
  RecordView view;
  ASSERT_EQ(ring.put(1), ClaimOutcome::claimed);
  ASSERT_EQ(ring.put(1), ClaimOutcome::claimed);
  EXPECT_FALSE(ring.consumer.has_input());
  EXPECT_FALSE(ring.take(view));
  EXPECT_TRUE(ring.producer.flush());
  EXPECT_FALSE(ring.producer.flush()) << "nothing was committed since";
  EXPECT_TRUE(ring.consumer.has_input());
  EXPECT_TRUE(ring.take(view));
  EXPECT_TRUE(ring.take(view));
  EXPECT_FALSE(ring.consumer.has_input());
}

TEST(RecordRing, AbortedClaimLeavesNoTrace) {
  Ring ring(512);
  RecordView view;
  for (int round = 0; round < 100; ++round) {
    ASSERT_EQ(ring.producer.claim(200), ClaimOutcome::claimed);
    std::memset(ring.producer.payload().data(), 0x1F, 200);  // Looks like commit words of lap 1.
    ring.producer.abort();
    EXPECT_TRUE(ring.producer.payload().empty());
    ASSERT_FALSE(ring.producer.flush());
    ASSERT_FALSE(ring.take(view));
    ASSERT_EQ(ring.put(8, static_cast<unsigned char>(round)), ClaimOutcome::claimed);
    ring.producer.flush();
    ASSERT_TRUE(ring.take(view));
    ASSERT_EQ(static_cast<unsigned char>(view.payload[0]), round);
    ring.consumer.release(view);
    ASSERT_FALSE(ring.take(view)) << to_string(ring.consumer.fault());
  }
}

TEST(RecordRing, ShrunkCommitGivesTheRestBack) {
  Ring ring(256);
  ASSERT_EQ(ring.producer.claim(100), ClaimOutcome::claimed);
  ring.producer.commit(0, 0, 0);
  // One line used of four: three more fit.
  for (int i = 0; i < 3; ++i) ASSERT_EQ(ring.put(kOneLine), ClaimOutcome::claimed);
  EXPECT_EQ(ring.put(1), ClaimOutcome::full);
  RecordView view;
  ASSERT_TRUE(ring.take(view));
  EXPECT_EQ(view.payload_bytes, 0u);
}

TEST(RecordRing, EveryLineOfTheRingIsUsable) {
  Ring ring(256);
  RecordView view;
  for (int lap = 0; lap < 40; ++lap) {
    for (int i = 0; i < 4; ++i) ASSERT_EQ(ring.put(kOneLine), ClaimOutcome::claimed);
    ASSERT_EQ(ring.put(0), ClaimOutcome::full);
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(ring.take(view));
    ring.consumer.release(view);
    ASSERT_FALSE(ring.take(view));
  }
}

TEST(RecordRing, ClaimOnFullRingFlushesTheOpenBatchSoThatTheConsumerCanMakeRoom) {
  Ring ring(256);
  RecordView view;
  for (int i = 0; i < 4; ++i) ASSERT_EQ(ring.put(1), ClaimOutcome::claimed);
  ASSERT_FALSE(ring.take(view));
  ASSERT_EQ(ring.put(1), ClaimOutcome::full);
  EXPECT_TRUE(ring.take(view));
}

// Payloads look like commit words of any lap: an overlooked one would be taken for a record.
void put_and_take_mixed_sizes(Ring& ring, int count, std::uint64_t* end = nullptr) {
  for (int i = 0; i < count; ++i) {
    ASSERT_EQ(ring.put(i % 3 == 0 ? 300 : 20, 0x11), ClaimOutcome::claimed);
    ring.producer.flush();
    RecordView view;
    ASSERT_TRUE(ring.take(view));
    ASSERT_FALSE(ring.take(view));
    ring.consumer.release(view);
    if (end != nullptr) *end = view.end;
  }
}

TEST(RecordRing, MixedSizesLeaveTheNextPlacesClearedInAdvance) {
  Ring ring(4096);
  std::uint64_t end = 0;
  put_and_take_mixed_sizes(ring, 200);
  static_cast<void>(ring.producer.used_bytes());  // Looks at the head: all is free, as far as the producer knows.
  put_and_take_mixed_sizes(ring, 1, &end);
  for (std::uint64_t at = end; at < end + 8 * kLineBytes; at += kLineBytes) {
    EXPECT_NE(ring.memory.peek(at % 4096), 0x1111'1111u) << "payload of an earlier lap at " << at;
  }
  RecordView view;
  EXPECT_FALSE(ring.take(view));
}

TEST(RecordRing, AFlushLeavesTheBytesOfAnOpenClaimAlone) {
  Ring ring(4096);
  put_and_take_mixed_sizes(ring, 200);
  static_cast<void>(ring.producer.used_bytes());
  ASSERT_EQ(ring.put(20), ClaimOutcome::claimed);
  ASSERT_EQ(ring.producer.claim(800), ClaimOutcome::claimed);
  const std::span<std::byte> lent = ring.producer.payload();
  std::memset(lent.data(), 0x77, lent.size());
  ring.producer.flush();
  for (const std::byte byte : lent) ASSERT_EQ(byte, std::byte{0x77});
  ring.producer.commit(800, 0, 0);
  ring.producer.flush();
  RecordView views[2];
  ASSERT_EQ(ring.consumer.receive_burst(views), 2u);
  EXPECT_EQ(views[1].payload_bytes, 800u);
  for (std::size_t i = 0; i < 800; ++i) ASSERT_EQ(views[1].payload[i], std::byte{0x77}) << i;
}

TEST(RecordRing, AFlushLeavesUnreadRecordsAlone) {
  Ring ring(4096);
  put_and_take_mixed_sizes(ring, 200);
  // Fills the ring with records whose payload lies right behind the tail at each flush.
  int sent = 0;
  while (ring.put(sent % 2 == 0 ? 300 : 20, 0x55) == ClaimOutcome::claimed) {
    ring.producer.flush();
    ++sent;
  }
  ASSERT_GT(sent, 10);
  RecordView view;
  for (int i = 0; i < sent; ++i) {
    ASSERT_TRUE(ring.take(view));
    for (std::size_t at = 0; at < view.payload_bytes; ++at) ASSERT_EQ(view.payload[at], std::byte{0x55}) << i;
  }
}

TEST(RecordRing, LargestRecordFitsAnEmptyRingWhereverItStands) {
  Ring ring(1024);
  RecordView view;
  const std::uint64_t largest = ring.producer.payload_bytes_max();
  EXPECT_EQ(largest, 512 - kEnvelopeBytes);
  EXPECT_EQ(ring.producer.claim(largest + 1), ClaimOutcome::too_large);
  EXPECT_EQ(ring.producer.claim(UINT64_MAX), ClaimOutcome::too_large);
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(ring.put(1), ClaimOutcome::claimed);  // Shifts the place by a line each time.
    ring.producer.flush();
    ASSERT_TRUE(ring.take(view));
    ring.consumer.release(view);
    ASSERT_FALSE(ring.take(view));
    ASSERT_EQ(ring.put(largest, 0x1F), ClaimOutcome::claimed) << i;
    ring.producer.flush();
    ASSERT_TRUE(ring.take(view));
    ASSERT_EQ(view.payload_bytes, largest);
    ring.consumer.release(view);
    ASSERT_FALSE(ring.take(view));
  }
}

TEST(RecordRing, BurstDeliversInOrderAndReleaseFreesUpToTheRecordGiven) {
  Ring ring(1024);
  for (unsigned char i = 0; i < 16; ++i) ASSERT_EQ(ring.put(1, i), ClaimOutcome::claimed);
  ring.producer.flush();
  RecordView views[20];
  ASSERT_EQ(ring.consumer.receive_burst({views, 10}), 10u);
  ASSERT_EQ(ring.consumer.receive_burst({views + 10, 10}), 6u);
  for (unsigned char i = 0; i < 16; ++i) EXPECT_EQ(static_cast<unsigned char>(views[i].payload[0]), i);
  ring.consumer.release(views[3]);
  ring.consumer.publish_head();
  EXPECT_EQ(ring.producer.used_bytes(), 12 * kLineBytes);
  ring.consumer.release(views[15]);
  ring.consumer.publish_head();
  EXPECT_EQ(ring.producer.used_bytes(), 0u);
}

TEST(RecordRing, HeadIsToldLateButAtOnceWhenSpaceIsWantedOrTheRingIsEmpty) {
  Ring ring(4096);
  RecordView view;
  for (int i = 0; i < 3; ++i) ASSERT_EQ(ring.put(1), ClaimOutcome::claimed);
  ring.producer.flush();
  ASSERT_TRUE(ring.take(view));
  ring.consumer.release(view);
  EXPECT_EQ(ring.memory.ring.control->head.load(), 0u);
  ring.memory.ring.control->space_wanted.store(1);
  ASSERT_TRUE(ring.take(view));
  ring.consumer.release(view);
  EXPECT_EQ(ring.memory.ring.control->head.load(), 2 * kLineBytes);
  ring.memory.ring.control->space_wanted.store(0);
  ASSERT_TRUE(ring.take(view));
  ring.consumer.release(view);
  EXPECT_EQ(ring.memory.ring.control->head.load(), 2 * kLineBytes);
  ASSERT_FALSE(ring.take(view));
  EXPECT_EQ(ring.memory.ring.control->head.load(), 3 * kLineBytes);
}

TEST(RecordRing, HeldRecordKeepsItsBytesAndTheHeadBehindIt) {
  Ring ring(256);
  RecordView held;
  RecordView view;
  ASSERT_EQ(ring.put(kOneLine, 0x77), ClaimOutcome::claimed);
  ring.producer.flush();
  ASSERT_TRUE(ring.take(held));
  ASSERT_TRUE(ring.consumer.hold(held.begin));
  ring.consumer.release(held);
  int more = 0;
  while (ring.put(kOneLine, 0x11) == ClaimOutcome::claimed) {
    ring.producer.flush();
    ASSERT_TRUE(ring.take(view));
    ring.consumer.release(view);
    ring.consumer.publish_head();
    ++more;
  }
  EXPECT_EQ(more, 3);
  for (std::size_t i = 0; i < kOneLine; ++i) ASSERT_EQ(static_cast<unsigned char>(held.payload[i]), 0x77);
  EXPECT_TRUE(ring.consumer.release_held(held.begin));
  EXPECT_FALSE(ring.consumer.release_held(held.begin)) << "held no more";
  EXPECT_EQ(ring.put(kOneLine), ClaimOutcome::claimed);
}

TEST(RecordRing, HoldIsRefusedBeyondTheQuota) {
  Ring ring(128 * 64);
  std::vector<RecordView> views(RecordConsumer::kHeldMax + 1);
  for (std::size_t i = 0; i < views.size(); ++i) ASSERT_EQ(ring.put(1), ClaimOutcome::claimed);
  ring.producer.flush();
  ASSERT_EQ(ring.consumer.receive_burst(views), views.size());
  for (std::size_t i = 0; i + 1 < views.size(); ++i) ASSERT_TRUE(ring.consumer.hold(views[i].begin));
  EXPECT_FALSE(ring.consumer.hold(views.back().begin));
  ASSERT_TRUE(ring.consumer.release_held(views[5].begin));
  EXPECT_TRUE(ring.consumer.hold(views.back().begin));
}

TEST(RecordRing, UnreleasedRecordsAreCountedPaddingApart) {
  Ring ring(512);
  RecordView view;
  for (int i = 0; i < 5; ++i) ASSERT_EQ(ring.put(1), ClaimOutcome::claimed);
  ring.producer.flush();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(ring.take(view));
  ring.consumer.release(view);
  ring.consumer.publish_head();
  ASSERT_EQ(ring.put(200), ClaimOutcome::claimed);  // Four lines, three are left: padding first.
  ASSERT_EQ(ring.put(1), ClaimOutcome::claimed);
  EXPECT_EQ(count_unreleased(ring.memory.ring), 0u) << "not flushed, not lost";
  ring.producer.flush();
  EXPECT_EQ(count_unreleased(ring.memory.ring), 2u);
}

TEST(RecordRing, HasRoomAgreesWithClaim) {
  Ring ring(512);
  RecordView view;
  Random random(11);
  for (int i = 0; i < 20000; ++i) {
    const std::size_t bytes = random() % (ring.producer.payload_bytes_max() + 1);
    const bool room = ring_has_room(ring.memory.ring, bytes);
    ASSERT_EQ(ring.producer.claim(bytes), room ? ClaimOutcome::claimed : ClaimOutcome::full);
    if (room && random() % 4 != 0) ring.producer.commit(bytes, 0, 0);
    ring.producer.flush();
    if (random() % 2 == 0 && ring.take(view)) ring.consumer.release(view);
  }
}

// Catches a stale word taken for a commit: payloads consist of nothing but plausible commit words, of every stamp and
// of small sizes, in rings so small that laps, and the 15 stamps, come round thousands of times.
class RecordRingMix : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(RecordRingMix, DeliversExactlyWhatWasFlushedForAnyMixOfSizesBatchesAbortsAndShrinks) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    Ring ring(GetParam());
    Random random(seed);
    struct Sent {
      std::size_t bytes;
      std::uint64_t number;
    };
    std::deque<Sent> committed;
    std::deque<Sent> flushed;
    std::deque<RecordView> delivered;
    std::uint64_t number = 0;
    const std::uint64_t largest = ring.producer.payload_bytes_max();
    const auto publish = [&] {
      ring.producer.flush();
      flushed.insert(flushed.end(), committed.begin(), committed.end());
      committed.clear();
    };
    const unsigned flush_one_in = 1 + random() % 6;
    for (int step = 0; step < 30000; ++step) {
      if (random() % 2 == 0) {
        const std::size_t bytes = random() % 3 == 0 ? random() % 48 : random() % (largest + 1);
        const ClaimOutcome outcome = ring.producer.claim(bytes);
        if (outcome == ClaimOutcome::full) {
          flushed.insert(flushed.end(), committed.begin(), committed.end());
          committed.clear();
        } else {
          ASSERT_EQ(outcome, ClaimOutcome::claimed);
          const auto payload = ring.producer.payload();
          ASSERT_EQ(payload.size(), bytes);
          for (std::size_t at = 0; at + 4 <= bytes; at += 4) {
            const std::uint32_t word =
                commit_word(1 + random() % 15, random() % 2 ? 16 + random() % 100 : kPaddingSize);
            std::memcpy(payload.data() + at, &word, sizeof word);
          }
          const unsigned end = random() % 8;
          if (end == 0) {
            ring.producer.abort();
          } else {
            const std::size_t used = end == 1 ? random() % (bytes + 1) : bytes;
            ring.producer.commit(used, number, static_cast<std::uint32_t>(number * 7));
            committed.push_back({used, number++});
          }
        }
      }
      if (random() % flush_one_in == 0) publish();
      if (random() % 2 == 0) {
        RecordView views[3];
        const std::size_t count = ring.consumer.receive_burst({views, 1 + random() % 3});
        ASSERT_EQ(ring.consumer.fault(), RingFault::none);
        for (std::size_t i = 0; i < count; ++i) {
          ASSERT_FALSE(flushed.empty()) << "seed " << seed << ": a record nobody flushed";
          ASSERT_EQ(views[i].payload_bytes, flushed.front().bytes);
          ASSERT_EQ(views[i].timestamp_us, flushed.front().number);
          ASSERT_EQ(views[i].checksum, static_cast<std::uint32_t>(flushed.front().number * 7));
          flushed.pop_front();
          delivered.push_back(views[i]);
        }
        if (count == 0) {
          ASSERT_TRUE(flushed.empty()) << "seed " << seed << ": a flushed record is missing";
        }
      }
      if (!delivered.empty() && random() % 3 == 0) {
        const std::size_t last = random() % delivered.size();
        ring.consumer.release(delivered[last]);
        delivered.erase(delivered.begin(), delivered.begin() + static_cast<std::ptrdiff_t>(last) + 1);
      }
    }
    EXPECT_GT(number, 1000u);
  }
}
INSTANTIATE_TEST_SUITE_P(Capacity, RecordRingMix, ::testing::Values(256, 512, 1024, 8192));

TEST(RecordRing, ObserversSeeWhatWasRefusedAndHowFullItGot) {
  Ring ring(4096);
  const RecordRingControl& control = *ring.memory.ring.control;
  RecordView view;
  for (int i = 0; i < 32; ++i) ASSERT_EQ(ring.put(kOneLine), ClaimOutcome::claimed);
  ring.producer.flush();
  EXPECT_EQ(control.claims_refused.load(), 0u);
  EXPECT_EQ(control.high_water.load(), 0u) << "nobody has looked yet";
  for (int i = 0; i < 32; ++i) ASSERT_EQ(ring.put(kOneLine), ClaimOutcome::claimed);
  EXPECT_EQ(ring.put(kOneLine), ClaimOutcome::full);
  EXPECT_EQ(ring.put(kOneLine), ClaimOutcome::full);
  EXPECT_EQ(control.claims_refused.load(), 2u);
  EXPECT_EQ(control.high_water.load(), 4096u);
  EXPECT_EQ(control.records_flushed.load(), 64u);
  std::uint64_t taken = 0;
  while (ring.take(view)) {
    ring.consumer.release(view);
    ++taken;
  }
  ring.consumer.count_taken(taken);
  ring.consumer.count_taken(3);
  EXPECT_EQ(control.records_taken.load(), 67u);
  EXPECT_EQ(ring.put(kOneLine), ClaimOutcome::claimed);
  EXPECT_EQ(control.high_water.load(), 4096u) << "a mark stays";
}

TEST(RecordRing, HighWaterIsSeenEachLapThoughTheRingIsNeverFull) {
  Ring ring(4096);
  RecordView view;
  // Ten lines in flight, for several laps.
  for (int i = 0; i < 10; ++i) ASSERT_EQ(ring.put(kOneLine), ClaimOutcome::claimed);
  for (int i = 0; i < 256; ++i) {
    ASSERT_EQ(ring.put(kOneLine), ClaimOutcome::claimed);
    ring.producer.flush();
    ASSERT_TRUE(ring.take(view));
    ring.consumer.release(view);
    ring.consumer.publish_head();
  }
  EXPECT_GE(ring.memory.ring.control->high_water.load(), 10 * 64u);
  EXPECT_LE(ring.memory.ring.control->high_water.load(), 11 * 64u);
  EXPECT_EQ(ring.memory.ring.control->claims_refused.load(), 0u);
}

}  // namespace
}  // namespace cdmf::ipc::shm
