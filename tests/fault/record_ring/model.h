#pragma once
// A queue says what is right: random claims, shrinks, aborts, batches, bursts and holds.
#include <deque>
#include <random>
#include <vector>

#include "fault/record_ring/checked_ring.h"

namespace record_ring_check {

struct Expected {
  std::uint64_t sequence;
  std::uint64_t length;
};

inline void run_model(std::uint64_t seed, std::uint64_t capacity, int operations) {
  g_seed = seed;
  Shared shared(capacity);
  RecordProducer producer(shared.ring);
  RecordConsumer consumer(shared.ring);
  const std::uint64_t largest = producer.payload_bytes_max();
  std::mt19937_64 random(seed);
  std::deque<Expected> open;     // committed
  std::deque<Expected> visible;  // flushed
  struct Received {
    RecordView view;
    Expected expected;
    bool held;
  };
  std::deque<Received> unreleased;
  std::vector<Received> held;
  std::uint64_t sequence = 0;
  std::uint64_t full_in_a_row = 0;
  const auto publish = [&] {
    visible.insert(visible.end(), open.begin(), open.end());
    open.clear();
  };
  for (int step = 0; step < operations; ++step) {
    switch (random() % 8) {
      case 0:
      case 1:
      case 2: {
        const std::uint64_t length = length_of(sequence, largest);
        if (random() % 3 == 0 && producer.put(length, sequence, [&](std::byte* payload) {
              fill({payload, length}, sequence);
              return static_cast<std::uint32_t>(~sequence);
            })) {
          full_in_a_row = 0;
          open.push_back({sequence, length});
          ++sequence;
          break;
        }
        const std::uint64_t asked = std::min(largest, length + (random() % 4 == 0 ? random() % 300 : 0));
        const ClaimOutcome outcome = producer.claim(asked);
        CHECK(outcome == ClaimOutcome::claimed || outcome == ClaimOutcome::full);
        if (outcome == ClaimOutcome::full) {
          publish();
          ++full_in_a_row;
          break;
        }
        full_in_a_row = 0;
        CHECK(producer.payload().size() == asked);
        // The borrower may write all of what it was lent, whatever becomes of it.
        for (std::size_t at = 0; at + 4 <= asked; at += 4) {
          const std::uint32_t word = fake_word(step, at / 64);
          std::memcpy(producer.payload().data() + at, &word, 4);
        }
        if (random() % 8 == 0) {
          producer.abort();
          break;
        }
        fill(producer.payload().first(length), sequence);
        if (random() % 4 == 0) {
          CHECK(producer.flush() == !open.empty());  // What was committed before; not what is lent.
          publish();
        }
        commit(producer, length, sequence);
        open.push_back({sequence, length});
        ++sequence;
        break;
      }
      case 3:
        CHECK(producer.flush() == !open.empty());
        publish();
        break;
      case 4:
      case 5: {
        std::vector<RecordView> views(random() % 5);
        CHECK(visible.empty() || views.empty() || consumer.has_input());
        const std::size_t count = consumer.receive_burst(views);
        CHECK(consumer.fault() == RingFault::none);
        CHECK(count == std::min(views.size(), visible.size()));
        for (std::size_t index = 0; index < count; ++index) {
          check_contents(views[index], visible.front().sequence, visible.front().length);
          unreleased.push_back({views[index], visible.front(), false});
          visible.pop_front();
        }
        break;
      }
      case 6:
        if (!unreleased.empty()) {
          Received& chosen = unreleased[random() % unreleased.size()];
          if (!chosen.held && held.size() < 3 && consumer.hold(chosen.view.begin)) {
            chosen.held = true;
            held.push_back(chosen);
          }
          const std::size_t count = 1 + random() % unreleased.size();
          for (const auto& each : unreleased) check_contents(each.view, each.expected.sequence, each.expected.length);
          consumer.release(unreleased[count - 1].view);
          unreleased.erase(unreleased.begin(), unreleased.begin() + static_cast<std::ptrdiff_t>(count));
        }
        break;
      case 7:
        if (!held.empty()) {
          const std::size_t index = random() % held.size();
          check_contents(held[index].view, held[index].expected.sequence, held[index].expected.length);
          // Released or not: a hold ends once.
          CHECK(consumer.release_held(held[index].view.begin));
          CHECK(!consumer.release_held(held[index].view.begin));
          for (auto& each : unreleased) {
            if (each.view.begin == held[index].view.begin) each.held = false;
          }
          held.erase(held.begin() + static_cast<std::ptrdiff_t>(index));
        }
        break;
    }
    CHECK(producer.fault() == RingFault::none);
    CHECK(producer.records_flushed() == sequence - open.size());
    // A consumer that keeps nothing and finds nothing leaves an empty ring, where anything fits.
    if (full_in_a_row > 20 && held.empty()) {
      if (!unreleased.empty()) consumer.release(unreleased.back().view);
      unreleased.clear();
      RecordView view;
      while (consumer.receive(view)) {
        CHECK(!visible.empty());
        check_contents(view, visible.front().sequence, visible.front().length);
        visible.pop_front();
        consumer.release(view);
      }
      CHECK(visible.empty());
      CHECK(count_unreleased(shared.ring) == 0);
      CHECK(producer.used_bytes() == 0 || !open.empty());
      CHECK(producer.claim(largest) == ClaimOutcome::claimed);
      producer.abort();
      full_in_a_row = 0;
      // Filled to the last record: the observer counts them. Then to the last line.
      for (const bool one_line : {false, true}) {
        std::uint64_t count = 0;
        for (;; ++count, ++sequence) {
          const std::uint64_t length = one_line ? kLineBytes - kEnvelopeBytes : length_of(sequence, largest);
          if (producer.claim(length) != ClaimOutcome::claimed) break;
          commit(producer, length, sequence);
        }
        CHECK(count_unreleased(shared.ring) == count);
        CHECK(!one_line || count == capacity / kLineBytes);
        while (consumer.receive(view)) consumer.release(view);
        CHECK(count_unreleased(shared.ring) == 0);
      }
    }
  }
}

inline int model() {
  g_doing = "model";
  int runs = 0;
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    for (const std::uint64_t capacity : {kRingBytesMin, 8 * kLineBytes, 32 * kLineBytes}) {
      run_model(seed, capacity, 1500);
      ++runs;
    }
  }
  std::printf("model: %d runs of 1500 operations agree with a queue\n", runs);
  return 0;
}

}  // namespace record_ring_check
