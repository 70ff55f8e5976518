#pragma once
// Two threads on one mapping; meant for the thread sanitizer.
#include <thread>

#include "fault/record_ring/checked_ring.h"

namespace record_ring_check {

inline int threads() {
  g_doing = "threads";
  constexpr std::uint64_t kRecords = 60'000;
  for (const std::uint64_t capacity : {kRingBytesMin, 64 * kLineBytes}) {
    Shared shared(capacity);
    RecordProducer producer(shared.ring);
    RecordConsumer consumer(shared.ring);
    std::thread receiving([&] {
      RecordView views[4];
      for (std::uint64_t next = 0; next < kRecords;) {
        const std::size_t count = consumer.receive_burst(views);
        CHECK(consumer.fault() == RingFault::none);
        if (count == 0) std::this_thread::yield();
        for (std::size_t index = 0; index < count; ++index, ++next) {
          check_contents(views[index], next, length_of(next, payload_bytes_max(capacity)));
        }
        if (count > 0) consumer.release(views[count - 1]);
      }
    });
    for (std::uint64_t sequence = 0; sequence < kRecords; ++sequence) {
      const std::uint64_t length = length_of(sequence, payload_bytes_max(capacity));
      while (producer.claim(length) != ClaimOutcome::claimed) {
        CHECK(producer.fault() == RingFault::none);
        std::this_thread::yield();
      }
      fill(producer.payload(), sequence);
      commit(producer, length, sequence);
      if (sequence % 3 != 1) producer.flush();
    }
    producer.flush();
    receiving.join();
  }
  std::printf("threads: %llu records crossed twice\n", static_cast<unsigned long long>(kRecords));
  return 0;
}

}  // namespace record_ring_check
