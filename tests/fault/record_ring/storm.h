#pragma once
// 20,000 producers are killed at any time, while the consumer reads.
#include <sched.h>
#include <sys/wait.h>

#include <csignal>
#include <random>

#include "fault/record_ring/checked_ring.h"

namespace record_ring_check {

/// A producer that sends batches as fast as it can, killed when the consumer has read for a while.
inline void kill_in_flight(std::mt19937_64& random) {
  Shared shared(64 * kLineBytes);
  RecordConsumer consumer(shared.ring);
  Told& told = *shared.told;
  const std::uint64_t batch = 1 + random() % 4;
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    RecordProducer producer(shared.ring);
    for (std::uint64_t sequence = 0;;) {
      const std::uint64_t length = length_of(sequence, producer.payload_bytes_max());
      if (producer.claim(length) != ClaimOutcome::claimed) {
        CHECK(producer.fault() == RingFault::none);
        told.flushed.store(sequence, std::memory_order_relaxed);
        sched_yield();
        continue;
      }
      told.claimed.store(sequence + 1, std::memory_order_relaxed);
      fill(producer.payload(), sequence);
      commit(producer, length, sequence++);
      if (sequence % batch != 0) continue;
      producer.flush();
      told.flushed.store(sequence, std::memory_order_relaxed);
    }
  }
  std::uint64_t next = 0;
  const auto drain = [&] {
    RecordView view;
    while (consumer.receive(view)) {
      check_contents(view, next, length_of(next, payload_bytes_max(64 * kLineBytes)));
      ++next;
      consumer.release(view);
    }
    CHECK(consumer.fault() == RingFault::none);
  };
  const std::uint64_t read_at_least = random() % 60;
  for (std::uint64_t spins = random() % 300; next < read_at_least || spins > 0; spins -= spins > 0) {
    drain();
    if (next < read_at_least) sched_yield();
  }
  kill(pid, SIGKILL);
  drain();  // While it dies.
  CHECK(waitpid(pid, nullptr, 0) == pid);
  drain();
  CHECK(next >= told.flushed.load());
  CHECK(next <= told.claimed.load());
  CHECK(count_unreleased(shared.ring) == 0);
}

inline int storm() {
  g_doing = "storm";
  std::mt19937_64 random(std::random_device{}());
  constexpr int kKills = 20'000;
  for (int kills = 0; kills < kKills; ++kills) kill_in_flight(random);
  std::printf("storm: after %d kills at any time, no record flushed was lost, torn, doubled or out of order\n", kKills);
  return 0;
}

}  // namespace record_ring_check
