// The record ring between two threads and between two processes. Catches a missing release or acquire (the payload is
// then torn or old; the thread sanitizer says so in the first test), stale words taken for commits, and lost or doubled
// records.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <thread>

#include "ring/record_consumer.h"
#include "ring/record_producer.h"
#include "ring_memory.h"

namespace cdmf::ipc::shm {
namespace {

using testing::RingMemory;

// Both ends derive every record's size and contents from its number, so that the consumer knows what to expect.
std::size_t size_of(std::uint64_t number, std::uint64_t largest) {
  const std::uint64_t mixed = number * 0x9E3779B97F4A7C15u >> 32;
  return mixed % 4 == 0 ? mixed / 4 % (largest + 1) : mixed / 4 % 100;
}
std::uint32_t word_of(std::uint64_t number, std::size_t at) {
  // Plausible commit words, so that a stale one would be believed.
  return commit_word(static_cast<std::uint32_t>(1 + (number + at) % 15), static_cast<std::uint32_t>(16 + number % 64));
}

void produce(const RecordRingMemory& memory, std::uint64_t count) {
  RecordProducer producer(memory);
  std::mt19937 random(3);
  const std::uint64_t largest = producer.payload_bytes_max();
  for (std::uint64_t number = 0; number < count;) {
    const std::size_t bytes = size_of(number, largest);
    const std::size_t extra = random() % 5 == 0 ? random() % (largest - bytes + 1) : 0;
    if (producer.claim(bytes + extra) != ClaimOutcome::claimed) {
      if (producer.fault() != RingFault::none) return;
      std::this_thread::yield();
      continue;
    }
    const auto payload = producer.payload();
    for (std::size_t at = 0; at + 4 <= payload.size(); at += 4) {
      const std::uint32_t word = word_of(number, at);
      std::memcpy(payload.data() + at, &word, sizeof word);
    }
    if (random() % 7 == 0) {
      producer.abort();
      continue;
    }
    producer.commit(bytes, number, ~static_cast<std::uint32_t>(number));
    ++number;
    if (random() % 3 == 0) producer.flush();
  }
  producer.flush();
}

// Returns how many records came as they should before the first that did not.
std::uint64_t consume(const RecordRingMemory& memory, std::uint64_t count) {
  RecordConsumer consumer(memory);
  std::mt19937 random(4);
  const std::uint64_t largest = payload_bytes_max(memory.capacity_bytes);
  std::uint64_t number = 0;
  RecordView views[8];
  RecordView held;
  bool holding = false;
  while (number < count) {
    const std::size_t got = consumer.receive_burst({views, 1 + random() % 8});
    if (got == 0) {
      if (consumer.fault() != RingFault::none) return number;
      if (holding) {
        if (!consumer.release_held(held.begin)) return number;
        holding = false;
      }
      std::this_thread::yield();
      continue;
    }
    for (std::size_t i = 0; i < got; ++i, ++number) {
      const RecordView& view = views[i];
      if (view.timestamp_us != number || view.checksum != ~static_cast<std::uint32_t>(number)) return number;
      if (view.payload_bytes != size_of(number, largest)) return number;
      for (std::size_t at = 0; at + 4 <= view.payload_bytes; at += 4) {
        std::uint32_t word;
        std::memcpy(&word, view.payload + at, sizeof word);
        if (word != word_of(number, at)) return number;
      }
    }
    if (!holding && random() % 16 == 0 && consumer.hold(views[0].begin)) {
      held = views[0];
      holding = true;
    }
    consumer.release(views[got - 1]);
  }
  return number;
}

class RecordRingStress : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(RecordRingStress, TwoThreadsExchangeEveryRecordOnceInOrderAndWhole) {
  constexpr std::uint64_t kCount = 15'000;
  RingMemory memory(GetParam());
  std::thread producer([&] { produce(memory.ring, kCount); });
  const std::uint64_t received = consume(memory.ring, kCount);
  if (received != kCount) memory.ring.control->head.store(1);  // Ends the producer, so that the join does.
  producer.join();
  EXPECT_EQ(received, kCount);
}

TEST_P(RecordRingStress, TwoProcessesExchangeEveryRecordOnceInOrderAndWhole) {
  constexpr std::uint64_t kCount = 30'000;
  RingMemory memory(GetParam());
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(100);  // Never outlives a test that went wrong.
    produce(memory.ring, kCount);
    _exit(0);
  }
  const std::uint64_t received = consume(memory.ring, kCount);
  if (received != kCount) memory.ring.control->head.store(1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(received, kCount);
}

INSTANTIATE_TEST_SUITE_P(Capacity, RecordRingStress, ::testing::Values(256, 1024, 8192));

TEST(RecordRingCrash, WhatWasFlushedOutlivesTheProducerAndNothingElseIsSeen) {
  for (int round = 0; round < 40; ++round) {
    RingMemory memory(4096);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      RecordProducer producer(memory.ring);
      for (int i = 0; i < 10 + round; ++i) {
        (void)producer.claim(20);
        producer.commit(20, 1, 0);
        if (i == 7) producer.flush();
      }
      (void)producer.claim(500);
      std::memset(producer.payload().data(), 0x1F, 500);
      kill(getpid(), SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    RecordConsumer consumer(memory.ring);
    RecordView views[64];
    EXPECT_EQ(consumer.receive_burst(views), 8u);
    EXPECT_EQ(consumer.receive_burst(views), 0u);
    EXPECT_EQ(consumer.fault(), RingFault::none);
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm
