#pragma once
// The other end writes anything anywhere: work stays inside the ring, and ends.
#include <random>

#include "fault/record_ring/checked_ring.h"

namespace record_ring_check {

inline void hostile_producer(std::uint64_t seed) {
  g_seed = seed;
  constexpr std::uint64_t kBytes = 16 * kLineBytes;
  Shared shared(kBytes);
  RecordProducer producer(shared.ring);
  RecordConsumer consumer(shared.ring);
  std::mt19937_64 random(seed);
  std::uint64_t released = 0;
  for (int step = 0; step < 400; ++step) {
    const std::uint64_t length = random() % 200;
    if (producer.claim(length) == ClaimOutcome::claimed) {
      producer.commit(length, 0, 0);
      producer.flush();
    }
    // Words as a fault would leave them, and words chosen to fit the lap.
    for (std::uint64_t pokes = random() % 3; step > 40 && pokes > 0; --pokes) {
      const std::uint32_t size = random() % 2 == 0 ? static_cast<std::uint32_t>(random() % 1100) : kPaddingSize;
      const std::uint32_t stamp = static_cast<std::uint32_t>(random() % 16);
      const std::uint32_t word = random() % 4 == 0 ? static_cast<std::uint32_t>(random()) : commit_word(stamp, size);
      std::memcpy(shared.ring.bytes + random() % 16 * kLineBytes, &word, sizeof word);
      if (random() % 4 != 0) continue;
      const std::uint64_t polled = released + consumer.occupied_bytes();  // With the stamp that is looked for there.
      const std::uint32_t fitting = commit_word(1 + static_cast<std::uint32_t>(polled / kBytes % kStampCount), size);
      std::memcpy(shared.ring.bytes + polled % kBytes, &fitting, sizeof fitting);
    }
    RecordView view;
    for (int count = 0; consumer.receive(view); ++count) {
      CHECK(count < 100);  // Sixteen lines hold no more, whatever they say.
      const auto offset = static_cast<std::uint64_t>(view.payload - shared.ring.bytes);
      CHECK(offset < kBytes && offset + view.payload_bytes <= kBytes);
      CHECK(view.payload_bytes <= payload_bytes_max(kBytes));
      CHECK(view.end - released <= kBytes);  // Nothing handed out twice before it was given back.
      if (random() % 3 == 0) {
        consumer.release(view);
        consumer.publish_head();
        released = view.end;
      }
    }
    if (consumer.fault() != RingFault::none) return;
    (void)count_unreleased(shared.ring);
    consumer.release_until(consumer.occupied_bytes() == 0 ? released : view.end);
    consumer.publish_head();
    released = std::max(released, view.end);
  }
}

inline void hostile_consumer() {
  struct Lie {
    const char* what;
    std::uint64_t head;
  };
  // Six lines are flushed, the consumer has freed four.
  for (const Lie lie : {Lie{"beyond what was flushed", 40 * kLineBytes}, Lie{"back", 3 * kLineBytes},
                        Lie{"inside a line", 5 * kLineBytes + 8}, Lie{"far away", ~std::uint64_t{63}}}) {
    g_doing = lie.what;
    Shared shared(8 * kLineBytes);
    RecordProducer producer(shared.ring);
    const auto send = [&] {
      CHECK(producer.claim(48) == ClaimOutcome::claimed);
      producer.commit(48, 0, 0);
      producer.flush();
    };
    for (int line = 0; line < 6; ++line) send();
    shared.ring.control->head.store(4 * kLineBytes);
    CHECK(producer.used_bytes() == 2 * kLineBytes);
    shared.ring.control->head.store(lie.head);
    ClaimOutcome outcome = ClaimOutcome::claimed;
    for (int claims = 0; claims < 9 && outcome == ClaimOutcome::claimed; ++claims) {
      outcome = producer.claim(48);
      if (outcome == ClaimOutcome::claimed) {
        producer.commit(48, 0, 0);
        producer.flush();
      }
    }
    CHECK(outcome == ClaimOutcome::corrupt);
    CHECK(producer.fault() == RingFault::bad_head);
    CHECK(producer.claim(0) == ClaimOutcome::corrupt);
  }
  // Noticed by somebody who only looks, while memory is lent: the loan ends well, and what follows stays in the ring.
  g_doing = "a lie seen while memory is lent";
  Shared shared(8 * kLineBytes);
  RecordProducer producer(shared.ring);
  CHECK(producer.claim(100) == ClaimOutcome::claimed);
  shared.ring.control->head.store(kLineBytes);
  CHECK(producer.used_bytes() == 0);
  CHECK(producer.fault() == RingFault::bad_head);
  producer.commit(100, 0, 0);
  int claims = 0;
  while (producer.claim(48) == ClaimOutcome::claimed) {
    CHECK(producer.payload().data() + 48 <= shared.ring.bytes + shared.ring.capacity_bytes);
    CHECK(++claims <= 6);
    producer.commit(48, 0, 0);
    producer.flush();
  }
  CHECK(producer.claim(0) == ClaimOutcome::corrupt);
}

inline int hostile() {
  g_doing = "hostile producer";
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) hostile_producer(seed);
  hostile_consumer();
  g_doing = "padding all round";
  Shared shared(8 * kLineBytes);
  RecordConsumer consumer(shared.ring);
  const std::uint32_t padding = commit_word(1, kPaddingSize);
  std::memcpy(shared.ring.bytes, &padding, sizeof padding);
  RecordView view;
  CHECK(!consumer.receive(view));
  CHECK(consumer.fault() == RingFault::bad_padding);
  const std::uint32_t good = commit_word(1, 64);
  std::memcpy(shared.ring.bytes, &good, sizeof good);
  CHECK(!consumer.receive(view));
  CHECK(!consumer.has_input());
  std::printf("hostile: 2000 producers and 4 consumers that lie did no harm\n");
  return 0;
}

}  // namespace record_ring_check
