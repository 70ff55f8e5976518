// Checks the one-producer, one-consumer record ring; without GoogleTest, because seeded_bugs.sh compiles it once per
// seeded bug.
//
//   record_ring_check model     random claims, shrinks, aborts, batches, bursts, holds: a model queue says what is
//   right record_ring_check threads   two threads on one mapping; meant for the thread sanitizer record_ring_check
//   hostile   the other end writes anything anywhere: work stays inside the ring and ends record_ring_check kill one
//   end in a process of its own, killed at every instruction of its operations; the
//                               other end then accounts for every record
//   record_ring_check storm     20,000 producers killed at any time, while the consumer reads
//
// Prints what it did; the exit code is 1 with the first thing that is wrong, 77 when the machine forbids tracing.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "fault/support/stepped_process.h"
#include "ring/record_consumer.h"
#include "ring/record_producer.h"

using namespace cdmf::ipc::shm;
using cdmf::ipc::test::SteppedProcess;

namespace {

#define CHECK(condition) \
  if (!(condition)) wrong(__LINE__, #condition)

const char* g_doing = "";
std::uint64_t g_seed = 0;

[[noreturn]] void wrong(int line, const char* condition) {
  std::printf("line %d: not so: %s (%s, seed %llu)\n", line, condition, g_doing,
              static_cast<unsigned long long>(g_seed));
  std::fflush(stdout);
  _exit(1);
}

/// A ring, and a page for what the processes tell each other beside it.
struct Told {
  std::atomic<std::uint64_t> claimed{0};     // records begun
  std::atomic<std::uint64_t> flushed{0};     // records whose flush has returned
  std::atomic<std::uint64_t> to_release{0};  // records whose release has begun
  std::atomic<std::uint64_t> released{0};    // records whose release has returned
};

class Shared {
 public:
  explicit Shared(std::uint64_t capacity) : bytes_(kBefore + capacity) {
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory_ != MAP_FAILED);
    told = new (memory_) Told;
    auto* const base = static_cast<std::byte*>(memory_);
    ring = {new (base + 4096) RecordRingControl, base + kBefore, capacity};
  }
  ~Shared() { munmap(memory_, bytes_); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  /// The same bytes at the same place, but this process's own from now on.
  void make_private() {
    const std::vector<std::byte> copy = image();
    CHECK(mmap(memory_, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory_);
    std::memcpy(memory_, copy.data(), copy.size());
  }
  const void* data() const { return memory_; }
  std::vector<std::byte> image() const {
    const auto* const begin = static_cast<const std::byte*>(memory_);
    return {begin, begin + bytes_};
  }

  Told* told;
  RecordRingMemory ring;

 private:
  static constexpr std::size_t kBefore = 8192;
  std::size_t bytes_;
  void* memory_;
};

// Contents tell producer's sequence and length in every byte. The timestamp repeats the sequence, the checksum its
// complement: a torn envelope shows.
std::byte content(std::uint64_t sequence, std::size_t index) {
  return static_cast<std::byte>(sequence * 131 + index * 7 + (index >> 8));
}
// Some records look like commit words all over: stamps of every lap, small sizes.
bool looks_like_words(std::uint64_t sequence) { return sequence % 3 == 0; }
std::uint32_t fake_word(std::uint64_t sequence, std::size_t index) {
  return commit_word(1 + static_cast<std::uint32_t>(sequence + index) % 15, 16 + (sequence & 31));
}

void fill(std::span<std::byte> payload, std::uint64_t sequence) {
  for (std::size_t index = 0; index < payload.size(); ++index) payload[index] = content(sequence, index);
  if (!looks_like_words(sequence)) return;
  for (std::size_t at = 0; at + 4 <= payload.size(); at += 4) {
    const std::uint32_t word = fake_word(sequence, at);
    std::memcpy(payload.data() + at, &word, 4);
  }
}

void check_contents(const RecordView& view, std::uint64_t sequence, std::uint64_t length) {
  CHECK(view.timestamp_us == sequence);
  CHECK(view.checksum == static_cast<std::uint32_t>(~sequence));
  CHECK(view.payload_bytes == length);
  for (std::size_t index = 0; index < length; ++index) {
    if (looks_like_words(sequence) && index < length / 4 * 4) continue;
    CHECK(view.payload[index] == content(sequence, index));
  }
  if (!looks_like_words(sequence)) return;
  for (std::size_t at = 0; at + 4 <= length; at += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, view.payload + at, 4);
    CHECK(word == fake_word(sequence, at));
  }
}

void commit(RecordProducer& producer, std::uint64_t bytes, std::uint64_t sequence) {
  producer.commit(bytes, sequence, static_cast<std::uint32_t>(~sequence));
}

std::uint64_t length_of(std::uint64_t sequence, std::uint64_t largest) {
  std::uint64_t x = (sequence + 1) * 0x9E3779B97F4A7C15ull;
  x ^= x >> 29;
  // Lines matter, not bytes: one to a few of them mostly, the largest now and then, 0 as well.
  switch (x % 8) {
    case 0:
      return 0;
    case 1:
      return largest;
    case 2:
      return x / 8 % (largest + 1);
    default:
      return x / 8 % std::min<std::uint64_t>(largest + 1, 180);
  }
}

// ---------------------------------------------------------------------------------------------------------- model

struct Expected {
  std::uint64_t sequence;
  std::uint64_t length;
};

void run_model(std::uint64_t seed, std::uint64_t capacity, int operations) {
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

int model() {
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

// -------------------------------------------------------------------------------------------------------- threads

int threads() {
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

// -------------------------------------------------------------------------------------------------------- hostile

void hostile_producer(std::uint64_t seed) {
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

void hostile_consumer() {
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

int hostile() {
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

// ----------------------------------------------------------------------------------------------------------- kill
//
// One end runs in a process of its own, instruction by instruction. What a death leaves behind is the shared memory as
// it is at that instruction; so after every instruction that changed it, a fork of the surviving end takes a private
// copy of that memory and accounts for every record in it. At the end the process is killed where it stands, at
// another instruction in each run, and the survivor itself does the same.

constexpr std::uint64_t kCapacity = 16 * kLineBytes;
std::uint64_t g_states = 0;  // shared states after which the survivor's account was checked
std::uint64_t g_kills = 0;

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
bool kill_producer(std::uint64_t before, std::uint64_t steps) {
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
bool kill_consumer(std::uint64_t before, std::uint64_t steps) {
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

int kill_everywhere() {
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

// ---------------------------------------------------------------------------------------------------------- storm

/// A producer that sends batches as fast as it can, killed when the consumer has read for a while.
void kill_in_flight(std::mt19937_64& random) {
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
  ++g_kills;
}

int storm() {
  g_doing = "storm";
  std::mt19937_64 random(std::random_device{}());
  while (g_kills < 20'000) kill_in_flight(random);
  std::printf("storm: after %llu kills at any time, no record flushed was lost, torn, doubled or out of order\n",
              static_cast<unsigned long long>(g_kills));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc == 2 ? argv[1] : "";
  alarm(mode == "storm" ? 500 : 100);  // Whatever loops for ever ends here, as a failure.
  if (mode == "model") return model();
  if (mode == "threads") return threads();
  if (mode == "hostile") return hostile();
  if (mode == "storm") return storm();
  if (mode == "kill") return kill_everywhere();
  std::fprintf(stderr, "record_ring_check model | threads | hostile | kill | storm\n");
  return 2;
}
