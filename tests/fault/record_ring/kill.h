#pragma once
// One end is killed at every instruction of its operations; the other then accounts for every record.
//
// One end runs in a process of its own, instruction by instruction. What a death leaves behind is the shared memory as
// it is at that instruction; so after every instruction that changed it, a fork of the surviving end takes a private
// copy of that memory and accounts for every record in it. At the end the process is killed where it stands, at
// another instruction in each run, and the survivor itself does the same.
#include <sched.h>
#include <sys/wait.h>

#include <vector>

#include "fault/record_ring/checked_ring.h"
#include "fault/support/stepped_process.h"

namespace record_ring_check {

using cdmf::ipc::test::SteppedProcess;

inline constexpr std::uint64_t kCapacity = 16 * kLineBytes;
inline std::uint64_t g_states = 0;  // shared states after which the survivor's account was checked
inline std::uint64_t g_kills = 0;

/// Runs `account` in a fork, on a copy of the shared memory.
template <class Account>
void check_in_copy(Shared& shared, const Account& account) {
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    shared.make_private();
    account();
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) _exit(1);  // It has said why.
  ++g_states;
}

/// Executes the child to its end, or for `steps` instructions, after which it is killed. True: it came to its end.
template <class Account>
bool step_and_check(SteppedProcess& child, Shared& shared, std::uint64_t steps, const Account& account) {
  std::vector<std::byte> before = shared.image();
  check_in_copy(shared, [&] { account(false); });
  for (std::uint64_t step = 0; step < steps && child.step(); ++step) {
    if (std::memcmp(shared.data(), before.data(), before.size()) == 0) continue;
    before = shared.image();
    check_in_copy(shared, [&] { account(false); });
  }
  const bool finished = child.finished();
  child.kill();
  if (!finished) ++g_kills;
  account(finished);
  return finished;
}

/// The child sends `before` records freely, then two batches step by step.
inline bool kill_producer(std::uint64_t before, std::uint64_t steps) {
  Shared shared(kCapacity);
  RecordConsumer consumer(shared.ring);
  Told& told = *shared.told;
  std::uint64_t next = 0;
  const auto drain = [&] {
    RecordView view;
    while (consumer.receive(view)) {
      check_contents(view, next, length_of(next, payload_bytes_max(kCapacity)));
      ++next;
      consumer.release(view);
    }
    CHECK(consumer.fault() == RingFault::none);
  };
  SteppedProcess child(
      [&] {
        RecordProducer producer(shared.ring);
        std::uint64_t sequence = 0;
        const auto put = [&](std::uint64_t spare) {
          const std::uint64_t length = length_of(sequence, producer.payload_bytes_max());
          const std::uint64_t asked = std::min(length + spare, producer.payload_bytes_max());
          const ClaimOutcome outcome = producer.claim(asked);
          if (outcome != ClaimOutcome::claimed) {
            CHECK(outcome == ClaimOutcome::full);
            told.flushed.store(sequence, std::memory_order_relaxed);  // A claim that finds no room has flushed.
            return false;
          }
          told.claimed.store(sequence + 1, std::memory_order_relaxed);
          fill(producer.payload().first(length), sequence);
          commit(producer, length, sequence);
          ++sequence;
          return true;
        };
        const auto flush = [&] {
          producer.flush();
          told.flushed.store(sequence, std::memory_order_relaxed);
        };
        while (sequence < before) {
          if (put(0)) {
            flush();
          } else {
            sched_yield();
          }
        }
        SteppedProcess::stop_here();
        put(100);  // Shrunk.
        flush();
        if (producer.claim(50) == ClaimOutcome::claimed) producer.abort();
        put(0);  // A batch, as long as there is room.
        put(30);
        put(0);
        flush();
      },
      drain);
  drain();
  CHECK(next == before);
  // The last act of the dead is whole, or nothing: no less than was promised, no more than was begun.
  return step_and_check(child, shared, steps, [&](bool finished) {
    const std::uint64_t promised = told.flushed.load();
    const std::uint64_t unread = next;
    const std::uint64_t counted = count_unreleased(shared.ring);
    drain();
    CHECK(next >= promised);
    CHECK(next <= told.claimed.load());
    CHECK(!finished || next == promised);
    CHECK(counted <= next - unread);
    CHECK(!consumer.has_input());
    // `tail` and the last flush are two stores: what is told to observers may be one batch behind, never ahead.
    CHECK(shared.ring.control->tail.load() <= shared.ring.control->head.load());
  });
}

/// The child receives `before` records freely, then the rest of what the ring holds step by step.
inline bool kill_consumer(std::uint64_t before, std::uint64_t steps) {
  Shared shared(kCapacity);
  RecordProducer producer(shared.ring);
  Told& told = *shared.told;
  std::uint64_t sequence = 0;
  const auto supply = [&] {  // As much as the ring takes.
    for (;;) {
      const std::uint64_t length = length_of(sequence, producer.payload_bytes_max());
      const ClaimOutcome outcome = producer.claim(length);
      CHECK(outcome == ClaimOutcome::claimed || outcome == ClaimOutcome::full);
      if (outcome == ClaimOutcome::full) return;
      fill(producer.payload(), sequence);
      commit(producer, length, sequence);
      producer.flush();
      ++sequence;
    }
  };
  SteppedProcess child(
      [&] {
        RecordConsumer consumer(shared.ring);
        RecordView views[2];
        std::uint64_t next = 0;
        const auto take = [&](std::size_t at_most) {
          const std::size_t count = consumer.receive_burst(std::span(views, at_most));
          CHECK(consumer.fault() == RingFault::none);
          for (std::size_t index = 0; index < count; ++index, ++next) {
            CHECK(views[index].timestamp_us == next);
            CHECK(views[index].payload_bytes == length_of(next, payload_bytes_max(kCapacity)));
          }
          return count;
        };
        const auto release = [&](std::size_t count) {
          told.to_release.store(next, std::memory_order_relaxed);
          consumer.release(views[count - 1]);
        };
        while (next < before) {
          const std::size_t count = take(1);
          if (count > 0) {
            release(count);
          } else {
            sched_yield();
          }
        }
        SteppedProcess::stop_here();
        if (const std::size_t count = take(2); count > 0) {
          const bool held = consumer.hold(views[0].begin);
          consumer.release(views[count - 1]);
          consumer.publish_head();  // Up to the one that is held.
          told.to_release.store(next, std::memory_order_relaxed);
          if (held) CHECK(consumer.release_held(views[0].begin));
          told.released.store(next, std::memory_order_relaxed);
        }
        while (const std::size_t count = take(1)) release(count);
        told.released.store(next, std::memory_order_relaxed);  // An empty ring has told everything.
      },
      supply);
  supply();
  return step_and_check(child, shared, steps, [&](bool finished) {
    const std::uint64_t lost = count_unreleased(shared.ring);
    CHECK(sequence - lost >= told.released.load());
    CHECK(sequence - lost <= told.to_release.load());
    CHECK(!finished || lost == 0);
    const std::uint64_t head = shared.ring.control->head.load();
    CHECK(head <= shared.ring.control->tail.load());
    supply();  // What it has freed can be used again, and the rest is full: neither is a fault.
    CHECK(producer.fault() == RingFault::none);
  });
}

inline int kill_everywhere() {
  if (!cdmf::ipc::test::can_trace()) {
    std::printf("kill: skipped: tracing a child is not permitted here\n");
    return 77;
  }
  const cdmf::ipc::test::StayOnOneProcessor stay;
  for (std::uint64_t before = 1; before <= 24; ++before) {  // One lap and a bit: every kind of place.
    g_seed = before;
    g_doing = "kill the producer";
    CHECK(kill_producer(before, UINT64_MAX));
    kill_producer(before, before * 37);
    g_doing = "kill the consumer";
    CHECK(kill_consumer(before, UINT64_MAX));
    kill_consumer(before, before * 17);
  }
  std::printf("kill: survivors accounted for every record in %llu states a death can leave, and after %llu kills\n",
              static_cast<unsigned long long>(g_states), static_cast<unsigned long long>(g_kills));
  return 0;
}

}  // namespace record_ring_check
