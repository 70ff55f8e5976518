#pragma once
// A record ring with both of its ends in one thread, for tests.

#include <cstring>
#include <random>

#include "ring/record_consumer.h"
#include "ring/record_producer.h"
#include "ring_memory.h"

namespace cdmf::ipc::shm::testing {

struct Random {
  explicit Random(std::uint32_t seed) : engine(seed) {}
  std::uint32_t operator()() { return static_cast<std::uint32_t>(engine()); }
  std::mt19937 engine;
};

/// A ring, its producer and its consumer.
struct WholeRing {
  explicit WholeRing(std::uint64_t capacity_bytes)
      : memory(capacity_bytes), producer(memory.ring), consumer(memory.ring) {}

  ClaimOutcome put(std::size_t bytes, unsigned char fill = 0) {
    const ClaimOutcome outcome = producer.claim(bytes);
    if (outcome != ClaimOutcome::claimed) return outcome;
    std::memset(producer.payload().data(), fill, bytes);
    producer.commit(bytes, 0, 0);
    return outcome;
  }
  bool take(RecordView& view) { return consumer.receive_burst({&view, 1}) == 1; }

  RingMemory memory;
  RecordProducer producer;
  RecordConsumer consumer;
};

inline constexpr std::size_t kOneLine = 64 - kEnvelopeBytes;  // A payload that fills a line with its envelope.

}  // namespace cdmf::ipc::shm::testing
