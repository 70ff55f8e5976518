// spsc_record_relacy [iterations]: the record ring's own code (record_producer.h, record_consumer.h, record_ring.cpp)
// under Relacy, which executes it with the reorderings that C++ memory orders allow: stale loads of every shared word,
// and data races on the records. Mixed sizes, batches, shrunk and aborted claims, padding and several laps of a ring
// of four lines. Then the same with one order weakened at a time: Relacy must find each.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

// What stands in for std::atomic in the ring's code. The objects are the real size and at their real places; their
// values are kept by Relacy, one of its variables for each place.
std::uint64_t relacy_load(const void* place, std::memory_order order);
void relacy_store(const void* place, std::uint64_t value, std::memory_order order);
// Relacy gives the names of the orders another meaning.
constexpr bool is_relaxed(std::memory_order order) { return order == std::memory_order_relaxed; }
constexpr bool is_acquire(std::memory_order order) { return order == std::memory_order_acquire; }

namespace std {
template <typename T>
class RelacyRef {
 public:
  static constexpr bool is_always_lock_free = true;
  explicit RelacyRef(T& place) : place_(&place) {}
  T load(memory_order order) const { return static_cast<T>(relacy_load(place_, order)); }
  void store(T value, memory_order order) const { relacy_store(place_, value, order); }

 private:
  T* place_;
};
template <typename T>
class RelacyAtomic {
 public:
  static constexpr bool is_always_lock_free = true;
  RelacyAtomic(T) {}
  T load(memory_order order) const { return static_cast<T>(relacy_load(this, order)); }
  void store(T value, memory_order order) { relacy_store(this, value, order); }

 private:
  T space_;
};
}  // namespace std

#define atomic RelacyAtomic
#define atomic_ref RelacyRef
#include "ring/record_ring.cpp"
#undef atomic
#undef atomic_ref

// It redefines words of the language: after everything else.
#include <relacy/relacy.hpp>

namespace {

using namespace cdmf::ipc::shm;

constexpr unsigned kLines = 4;
constexpr unsigned kRecords = 6;

enum class Weak { nothing, filled_store, filled_load, freed_store, freed_load };

/// Memory of one ring, and Relacy's variables for the words in it.
struct Shared {
  alignas(kSharedBlockBytes) std::byte control[sizeof(RecordRingControl)];
  alignas(kLineBytes) std::byte bytes[kLines * kLineBytes];
  rl::atomic<std::uint64_t> control_words[sizeof(RecordRingControl) / sizeof(std::uint64_t)];
  rl::atomic<std::uint32_t> line_words[kLines];
  rl::var<unsigned> lines[kLines];  // What else is in a line: whoever touches it must be alone.

  RecordRingMemory memory() { return {reinterpret_cast<RecordRingControl*>(control), bytes, sizeof bytes}; }
  std::size_t line_of(const void* place) const {
    return static_cast<std::size_t>(static_cast<const std::byte*>(place) - bytes) / kLineBytes;
  }
  bool is_line_word(const void* place) const { return place >= bytes && place < bytes + sizeof bytes; }
  rl::atomic<std::uint64_t>& control_word(const void* place) {
    return control_words[static_cast<std::size_t>(static_cast<const std::byte*>(place) - control) / 8];
  }
};
Shared* shared;
Weak weak;

rl::memory_order as_relacy(std::memory_order order, Weak weakened) {
  if (is_relaxed(order) || weak == weakened) return rl::mo_relaxed;
  return is_acquire(order) ? rl::mo_acquire : rl::mo_release;
}

struct RingTest : rl::test_suite<RingTest, 2> {
  Shared ring;
  unsigned lengths[kRecords];
  unsigned committed = 0,
           flushed =
               0;  // Records, the latter at most so many. Only one thread runs at a time; these are the checker's.

  void before() {
    shared = &ring;
    for (auto& word : ring.control_words) word.store(0, rl::mo_relaxed, $);
    for (auto& word : ring.line_words) word.store(0, rl::mo_relaxed, $);
    for (auto& line : ring.lines) line($) = 0;
    std::memset(ring.bytes, 0, sizeof ring.bytes);
  }

  /// Writes what was lent; the lines' first words, but for the envelope's, look like commits of either lap.
  void fill(std::span<std::byte> payload, unsigned number) {
    const std::size_t first = ring.line_of(payload.data());
    const std::size_t last = payload.empty() ? first : ring.line_of(payload.data() + payload.size() - 1);
    for (std::size_t line = first; line <= last; ++line) {
      ring.lines[line]($) = number;
      if (line != first) ring.line_words[line].store(commit_word(1 + rl::rand(3), 20), rl::mo_relaxed, $);
    }
  }

  void send() {
    RecordProducer producer(ring.memory());
    for (unsigned number = 0; number < kRecords;) {
      const unsigned length = rl::rand(2) == 0 ? 48 : 100;  // One line, two.
      const unsigned before = flushed;
      flushed = committed;  // A claim that finds no room flushes.
      if (producer.claim(length) != ClaimOutcome::claimed) {
        RL_ASSERT(producer.fault() == RingFault::none);
        rl::yield(1, $);
        continue;
      }
      flushed = before;
      fill(producer.payload(), number + 1);
      if (rl::rand(6) == 0) {
        producer.abort();
        continue;
      }
      lengths[number] = rl::rand(4) == 0 ? 10 : length;
      ++committed;
      producer.commit(lengths[number], number, ~number);
      ++number;
      if (rl::rand(3) == 0) continue;
      flushed = committed;
      producer.flush();
    }
    flushed = committed;
    producer.flush();
  }

  void receive() {
    RecordConsumer consumer(ring.memory());
    RecordView view;
    for (unsigned number = 0; number < kRecords;) {
      if (!consumer.receive(view)) {
        RL_ASSERT(consumer.fault() == RingFault::none);
        consumer.release(view);  // The last of those kept: the producer may be waiting for its lines.
        rl::yield(1, $);
        continue;
      }
      RL_ASSERT(number < flushed);
      RL_ASSERT(view.payload_bytes == lengths[number] && view.timestamp_us == number && view.checksum == ~number);
      const std::size_t first = ring.line_of(view.payload);
      const std::size_t last = ring.line_of(view.payload + view.payload_bytes - 1);
      for (std::size_t line = first; line <= last; ++line) RL_ASSERT(ring.lines[line]($) == number + 1);
      ++number;
      if (rl::rand(2) == 0) consumer.release(view);
    }
  }

  void thread(unsigned index) {
    if (index == 0) {
      send();
    } else {
      receive();
    }
  }
};

/// Whether Relacy found nothing. The history that it prints is shown only when there should be none.
bool holds(Weak weakened, unsigned long iterations, const char* name) {
  weak = weakened;
  std::ostream nowhere(nullptr);
  std::ostream& said = weakened == Weak::nothing ? std::cout : nowhere;
  rl::test_params params;
  params.iteration_count = iterations;
  params.output_stream = &said;
  params.progress_stream = &said;
  params.execution_depth_limit = 20'000;
  const bool good = rl::simulate<RingTest>(params);
  std::printf("%-14s %s after %lu executions\n", name, good ? "nothing" : rl::test_result_str(params.test_result),
              static_cast<unsigned long>(good ? iterations : params.stop_iteration));
  std::fflush(stdout);
  return good;
}

}  // namespace

std::uint64_t relacy_load(const void* place, std::memory_order order) {
  if (shared->is_line_word(place)) {
    return shared->line_words[shared->line_of(place)].load(as_relacy(order, Weak::filled_load), $);
  }
  return shared->control_word(place).load(as_relacy(order, Weak::freed_load), $);
}
void relacy_store(const void* place, std::uint64_t value, std::memory_order order) {
  if (shared->is_line_word(place)) {
    shared->line_words[shared->line_of(place)].store(static_cast<std::uint32_t>(value),
                                                     as_relacy(order, Weak::filled_store), $);
  } else {
    shared->control_word(place).store(value, as_relacy(order, Weak::freed_store), $);
  }
}

int main(int argc, char** argv) {
  const unsigned long iterations = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 2'000'000;
  bool right = holds(Weak::nothing, iterations, "as it is");
  right &= !holds(Weak::filled_store, iterations, "filled_store");
  right &= !holds(Weak::filled_load, iterations, "filled_load");
  right &= !holds(Weak::freed_store, iterations, "freed_store");
  right &= !holds(Weak::freed_load, iterations, "freed_load");
  std::printf(right ? "the ring is right, and 4 weaker ones are found wrong\n" : "not as it must be\n");
  return right ? 0 : 1;
}
