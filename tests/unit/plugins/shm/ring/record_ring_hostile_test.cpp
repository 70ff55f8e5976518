// The record ring against a hostile peer: words that no producer writes, heads that no consumer tells.

#include <gtest/gtest.h>

#include <string>

#include "whole_ring.h"

namespace cdmf::ipc::shm {
namespace {

using Ring = testing::WholeRing;
using testing::kOneLine;
using testing::Random;
using testing::RingMemory;

struct HostileWord {
  const char* name;
  std::uint32_t word;
  RingFault fault;
};
class HostileProducer : public ::testing::TestWithParam<HostileWord> {};

TEST_P(HostileProducer, EndsTheConsumerWithAReasonAndNothingElse) {
  Ring ring(1024);
  RecordView views[4];
  ASSERT_EQ(ring.put(1, 0x42), ClaimOutcome::claimed);
  ring.producer.flush();
  ring.memory.poke(64, GetParam().word);
  EXPECT_TRUE(ring.consumer.has_input());
  ASSERT_EQ(ring.consumer.receive_burst(views), 1u) << "what came before is delivered";
  EXPECT_EQ(ring.consumer.fault(), GetParam().fault) << to_string(ring.consumer.fault());
  EXPECT_EQ(static_cast<unsigned char>(views[0].payload[0]), 0x42);
  ring.memory.poke(64, commit_word(1, 16));
  EXPECT_EQ(ring.consumer.receive_burst(views), 0u) << "no repair after a fault";
  EXPECT_FALSE(ring.consumer.has_input());
}
INSTANTIATE_TEST_SUITE_P(Words, HostileProducer,
                         ::testing::Values(HostileWord{"size_0", commit_word(1, 0), RingFault::bad_size},
                                           HostileWord{"size_2", commit_word(1, 2), RingFault::bad_size},
                                           HostileWord{"size_15", commit_word(1, 15), RingFault::bad_size},
                                           HostileWord{"above_half", commit_word(1, 513), RingFault::bad_size},
                                           HostileWord{"huge", commit_word(1, kSizeMask), RingFault::bad_size},
                                           HostileWord{"next_lap", commit_word(2, 16), RingFault::bad_stamp},
                                           HostileWord{"stamp_0", commit_word(0, 16), RingFault::bad_stamp},
                                           HostileWord{"all_ones", 0xFFFFFFFF, RingFault::bad_stamp}),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(HostileProducer, RecordOverTheEndIsAFault) {
  Ring ring(1024);
  RecordView view;
  for (int i = 0; i < 9; ++i) {
    ASSERT_EQ(ring.put(1), ClaimOutcome::claimed);
    ring.producer.flush();
    ASSERT_TRUE(ring.take(view));
    ring.consumer.release(view);
  }
  ring.memory.poke(9 * 64, commit_word(1, 7 * 64 + 1));
  EXPECT_FALSE(ring.take(view));
  EXPECT_EQ(ring.consumer.fault(), RingFault::past_end);
}

TEST(HostileProducer, PaddingAtTheStartIsAFaultAndNoEndlessLoop) {
  Ring ring(1024);
  RecordView view;
  ring.memory.poke(0, commit_word(1, kPaddingSize));
  EXPECT_FALSE(ring.take(view));
  EXPECT_EQ(ring.consumer.fault(), RingFault::bad_padding);
}

TEST(HostileProducer, RecordsOverUnreleasedOnesAreAFault) {
  Ring ring(256);
  RecordView view;
  for (std::uint64_t line = 0; line < 4; ++line) ring.memory.poke(line * 64, commit_word(1, 16));
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(ring.take(view));
  ring.memory.poke(0, commit_word(2, 16));  // The consumer has released nothing.
  EXPECT_FALSE(ring.take(view));
  EXPECT_EQ(ring.consumer.fault(), RingFault::overrun);
}

TEST(HostileProducer, RandomWordsNeverLeadOutsideTheRing) {
  Random random(5);
  for (int round = 0; round < 3000; ++round) {
    RingMemory memory(256);
    RecordConsumer consumer(memory.ring);
    for (int step = 0; step < 40; ++step) {
      const std::uint32_t size = random() % 3 == 0 ? random() : random() % 140;
      memory.poke((random() % 4) * 64, commit_word(1 + random() % 3, size & kSizeMask));
      RecordView views[3];
      const std::size_t count = consumer.receive_burst(views);
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_GE(views[i].payload, memory.ring.bytes + kEnvelopeBytes);
        ASSERT_LE(views[i].payload + views[i].payload_bytes, memory.ring.bytes + 256);
      }
      if (count != 0 && random() % 2 == 0) consumer.release(views[count - 1]);
    }
  }
}

TEST(HostileConsumer, ImpossibleHeadEndsTheProducer) {
  const std::uint64_t heads[] = {64, 6 * 64, 32, UINT64_MAX, std::uint64_t{1} << 63};
  for (const std::uint64_t head : heads) {
    Ring ring(256);
    for (int i = 0; i < 4; ++i) ASSERT_EQ(ring.put(1), ClaimOutcome::claimed);
    if (head == 64) {  // Plausible, but nothing is flushed yet.
      ring.memory.ring.control->head.store(head);
      EXPECT_EQ(ring.put(1), ClaimOutcome::corrupt);
    } else {
      ring.producer.flush();
      ring.memory.ring.control->head.store(head);
      EXPECT_EQ(ring.put(1), ClaimOutcome::corrupt) << head;
    }
    EXPECT_EQ(ring.producer.fault(), RingFault::bad_head);
    ring.memory.ring.control->head.store(256);
    EXPECT_EQ(ring.put(kOneLine * 4), ClaimOutcome::too_large);
    EXPECT_EQ(ring.put(1), ClaimOutcome::corrupt) << "no repair after a fault";
  }
}

TEST(HostileConsumer, HeadThatMovesBackIsAFault) {
  Ring ring(256);
  for (int i = 0; i < 4; ++i) ASSERT_EQ(ring.put(1), ClaimOutcome::claimed);
  ring.producer.flush();
  ring.memory.ring.control->head.store(128);
  ASSERT_EQ(ring.producer.used_bytes(), 128u);
  ring.memory.ring.control->head.store(64);
  EXPECT_EQ(ring.producer.used_bytes(), 0u);
  EXPECT_EQ(ring.producer.fault(), RingFault::bad_head);
}

}  // namespace
}  // namespace cdmf::ipc::shm
