// bench_record_ring: the record ring alone between two pinned processes, beside what the machine allows.
// No driver, no frame, no waiting: claim, write, commit, flush; poll, read, release. Every message carries a number
// that its receiver checks, and every line of it is written and read.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <numeric>
#include <string>
#include <vector>

#include "arguments.h"
#include "checksum.h"
#include "cli/bench/machine_limits.h"
#include "cli/bench/round_trips.h"
#include "ipc/ring_buffer/prefetch.h"
#include "ring/record_consumer.h"
#include "ring/record_pace.h"
#include "ring/record_producer.h"
#include "rounds.h"
#include "two_processes.h"
#include "wait/spinner.h"
#include "wall_clock.h"

namespace {

using namespace cdmf::bench;
using namespace cdmf::ipc::shm;
using cdmf::ipc::cli::CpuPair;
using std::chrono::nanoseconds;
using Clock = std::chrono::steady_clock;

constexpr nanoseconds kTripBudget = std::chrono::milliseconds(40);
constexpr nanoseconds kStreamBudget = std::chrono::milliseconds(60);
constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;
constexpr std::size_t kBurst = 32;

enum class Checks { off, on };  // on: CRC-32 made and compared, and one reading of the driver's clock per flush.

/// What the messages carry: a number, then a pattern.
class Content {
 public:
  explicit Content(std::size_t size_max) : bytes_(size_max) {
    for (std::size_t i = 0; i < size_max; ++i) bytes_[i] = static_cast<std::byte>(i * 131 + i / 64);
  }
  void write(std::byte* to, std::size_t size, std::uint64_t number) const noexcept {
    if (size == 32) {  // Inline, as for a struct.
      std::memcpy(to, bytes_.data(), 32);
    } else if (size == 64) {
      std::memcpy(to, bytes_.data(), 64);
    } else {
      std::memcpy(to, bytes_.data(), size);
    }
    std::memcpy(to, &number, sizeof number);
  }
  /// Reads every line.
  bool check(const std::byte* from, std::size_t size, std::uint64_t number) const noexcept {
    const auto differs = [&](std::size_t at) { return word(from + at) ^ word(bytes_.data() + at); };
    std::uint64_t wrong[4] = {word(from) ^ number, differs(size - 8), 0, 0};
    std::size_t at = 64;
    for (; at + 200 <= size; at += 256) {
      for (std::size_t k = 0; k < 4; ++k) wrong[k] |= differs(at + k * 64);
    }
    for (; at + 8 <= size; at += 64) wrong[0] |= differs(at);
    return (wrong[0] | wrong[1] | wrong[2] | wrong[3]) == 0;
  }

 private:
  static std::uint64_t word(const std::byte* at) noexcept {
    std::uint64_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  std::vector<std::byte> bytes_;
};

/// Memory of one ring, and a word beside it for the other process's count.
class Ring {
 public:
  explicit Ring(std::uint64_t capacity) : memory_(4096 + capacity), capacity_(capacity) {}
  RecordRingMemory parts() const noexcept {
    return {reinterpret_cast<RecordRingControl*>(memory_.bytes()), memory_.bytes() + 4096, capacity_};
  }
  void map_all() const noexcept { memory_.map_all(); }
  std::atomic<std::uint64_t>& received() const noexcept {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(memory_.bytes() + 2048);
  }

 private:
  SharedMemory memory_;
  std::uint64_t capacity_;
};

template <Checks kChecks>
bool try_send(RecordProducer& producer, const Content& content, std::size_t size, std::uint64_t number,
              std::uint64_t time_us) noexcept {
  if (producer.claim(size) != ClaimOutcome::claimed) return false;
  std::byte* const payload = producer.payload().data();
  content.write(payload, size, number);
  producer.commit(size, time_us, kChecks == Checks::on ? crc32_ieee(payload, size) : 0);
  return true;
}

template <Checks kChecks>
bool is_right(const RecordView& view, const Content& content, std::size_t size, std::uint64_t number) noexcept {
  if (kChecks == Checks::on && crc32_ieee(view.payload, view.payload_bytes) != view.checksum) return false;
  return view.payload_bytes == size && content.check(view.payload, size, number);
}

[[noreturn]] void wrong_message() { throw std::runtime_error("a message arrived that was not sent"); }

/// Always the same, known when compiled: what a program sends that sends a struct.
template <std::size_t kSize>
struct OneSize {
  explicit OneSize(const std::vector<std::size_t>&) noexcept {}
  static constexpr std::size_t of(std::uint64_t) noexcept { return kSize; }
};
/// One size, or two in turn.
class Sizes {
 public:
  explicit Sizes(const std::vector<std::size_t>& sizes) noexcept : turns_{sizes.front(), sizes.back()} {}
  std::size_t of(std::uint64_t number) const noexcept { return turns_[number % 2]; }

 private:
  std::size_t turns_[2];
};

/// Nanoseconds there and back, sizes in turn. `pause`: from one trip to the next, 0 for none.
template <Checks kChecks>
Measured round_trip(const CpuPair& cpus, const std::vector<std::size_t>& sizes, std::uint64_t capacity,
                    nanoseconds pause = {}) {
  const Ring there(capacity);
  const Ring back(capacity);
  const Content content(*std::max_element(sizes.begin(), sizes.end()));
  const Sizes turns(sizes);
  WallClock clock;
  const auto time_us = [&] { return kChecks == Checks::on ? clock.now_us() : 0; };
  OtherProcess other(cpus, [&] {
    there.map_all();
    back.map_all();
    RecordConsumer consumer(there.parts());
    RecordProducer producer(back.parts());
    RecordView view;
    for (std::uint64_t number = 0;; ++number) {
      while (!consumer.receive(view)) {
      }
      const std::size_t size = turns.of(number);
      if (!is_right<kChecks>(view, content, size, number)) wrong_message();
      while (!try_send<kChecks>(producer, content, size, number, time_us())) {
      }
      producer.flush();
      consumer.release(view);
    }
  });
  RecordProducer producer(there.parts());
  RecordConsumer consumer(back.parts());
  RecordView view;
  std::uint64_t number = 0;
  const auto once = [&] {
    const std::size_t size = turns.of(number);
    while (!try_send<kChecks>(producer, content, size, number, time_us())) {
    }
    producer.flush();
    other.poll_until([&] { return consumer.receive(view); });
    if (!is_right<kChecks>(view, content, size, number)) wrong_message();
    consumer.release(view);
    ++number;
  };
  if (pause == nanoseconds{}) {
    const auto trips = cdmf::ipc::cli::measure_round_trips(once, kTripBudget, 128);
    return {trips.untimed_ns, cdmf::ipc::cli::summarize(trips.timed)};
  }
  for (std::uint64_t i = 0; i < 2 * capacity / 64; ++i) once();
  cdmf::ipc::cli::LatencyHistogram paced;
  const auto cost = cdmf::ipc::cli::clock_cost();
  auto next = Clock::now();
  for (int i = 0; i < 100; ++i) {
    next += pause;
    while (Clock::now() < next) {
    }
    const auto sent = Clock::now();
    once();
    paced.record(Clock::now() - sent - cost);
  }
  return {static_cast<double>(paced.quantile_ns(0.5)), cdmf::ipc::cli::summarize(paced)};
}

/// The least a ring of records can do: a word stamped with the lap, 32 bytes, and on to the next line (or, with
/// `stride` 0, to the same line again). No envelope, no sizes, no checks, never full. What the record ring takes above
/// this is its own.
Measured least_round_trip(const CpuPair& cpus, std::size_t stride) {
  constexpr std::size_t kBytes = 2 * kMiB;
  const SharedMemory there(kBytes);
  const SharedMemory back(kBytes);
  const Content content(32);
  const auto place = [&](const SharedMemory& ring, std::uint64_t number) {
    return ring.bytes() + number * stride % kBytes;
  };
  const auto stamp = [&](std::uint64_t number) {
    return static_cast<std::uint32_t>((stride == 0 ? number : number * stride / kBytes) + 1);
  };
  const auto word = [](std::byte* at) { return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(at)); };
  const auto send = [&](const SharedMemory& ring, std::uint64_t number) {
    content.write(place(ring, number) + 16, 32, number);
    word(place(ring, number)).store(stamp(number), std::memory_order_release);
  };
  const auto here = [&](const SharedMemory& ring, std::uint64_t number) {
    return word(place(ring, number)).load(std::memory_order_acquire) == stamp(number);
  };
  OtherProcess other(cpus, [&] {
    there.map_all();
    back.map_all();
    for (std::uint64_t number = 0;; ++number) {
      while (!here(there, number)) {
      }
      if (!content.check(place(there, number) + 16, 32, number)) wrong_message();
      send(back, number);
    }
  });
  std::uint64_t number = 0;
  const auto once = [&] {
    send(there, number);
    other.poll_until([&] { return here(back, number); });
    if (!content.check(place(back, number) + 16, 32, number)) wrong_message();
    ++number;
  };
  const auto trips = cdmf::ipc::cli::measure_round_trips(once, kTripBudget, 128);
  return {trips.untimed_ns, cdmf::ipc::cli::summarize(trips.timed)};
}

/// The same pace for two bare lines: what a trip costs to cores that did something else meanwhile.
double bare_line_paced_ns(const CpuPair& cpus, nanoseconds pause) {
  const SharedMemory memory(4096);
  auto& there = *reinterpret_cast<std::atomic<std::uint64_t>*>(memory.bytes());
  auto& back = *reinterpret_cast<std::atomic<std::uint64_t>*>(memory.bytes() + 128);
  OtherProcess other(cpus, [&] {
    for (std::uint64_t turn = 1;; ++turn) {
      while (there.load(std::memory_order_acquire) != turn) {
      }
      back.store(turn, std::memory_order_release);
    }
  });
  std::uint64_t turn = 0;
  const auto once = [&] {
    there.store(++turn, std::memory_order_release);
    other.poll_until([&] { return back.load(std::memory_order_acquire) == turn; });
  };
  for (int i = 0; i < 1000; ++i) once();
  cdmf::ipc::cli::LatencyHistogram paced;
  const auto cost = cdmf::ipc::cli::clock_cost();
  auto next = Clock::now();
  for (int i = 0; i < 100; ++i) {
    next += pause;
    while (Clock::now() < next) {
    }
    const auto sent = Clock::now();
    once();
    paced.record(Clock::now() - sent - cost);
  }
  return static_cast<double>(paced.quantile_ns(0.5));
}

enum class Reader { eager, paced };  // paced: rests when RecordPace says so.

/// Messages per second one way. batch: messages per flush.
template <Checks kChecks, Reader kReader, typename Turns>
Measured stream_of(const CpuPair& cpus, const std::vector<std::size_t>& sizes, std::uint64_t capacity, int batch) {
  const Ring ring(capacity);
  const Content content(*std::max_element(sizes.begin(), sizes.end()));
  const Turns turns(sizes);
  OtherProcess other(cpus, [&] {
    ring.map_all();
    RecordConsumer consumer(ring.parts());
    RecordView views[kBurst];
    RecordPace pace;
    for (std::uint64_t number = 0;;) {
      const std::size_t count = consumer.receive_burst(views);
      if (kReader == Reader::paced && pace.after_poll(count)) {
        for (unsigned pause = 0; pause < RecordPace::kRestPauses; ++pause) cpu_relax();
      }
      if (count == 0) continue;
      for (std::size_t i = 0; i < count; ++i, ++number) {
        if (!is_right<kChecks>(views[i], content, turns.of(number), number)) wrong_message();
      }
      consumer.release(views[count - 1]);
      ring.received().store(number, std::memory_order_release);
    }
  });
  RecordProducer producer(ring.parts());
  std::uint64_t number = 0;
  WallClock clock;
  const auto send_batch = [&] {
    const std::uint64_t time_us = kChecks == Checks::on ? clock.now_us() : 0;
    for (int i = 0; i < batch; ++i, ++number) {
      const std::size_t size = turns.of(number);
      if (!try_send<kChecks>(producer, content, size, number, time_us)) {
        other.poll_until([&] { return try_send<kChecks>(producer, content, size, number, time_us); });
      }
    }
    producer.flush();
  };
  const auto drain = [&] {
    other.poll_until([&] { return ring.received().load(std::memory_order_acquire) == number; });
  };
  const std::uint64_t stretch = std::max<std::uint64_t>(1, 64 * kKiB / (sizes.back() * static_cast<unsigned>(batch)));
  const auto send_for = [&](nanoseconds budget) {
    const auto begin = Clock::now();
    do {
      for (std::uint64_t i = 0; i < stretch; ++i) send_batch();
    } while (Clock::now() - begin < budget);
  };
  // Two laps at least.
  for (const auto begin = Clock::now();
       number * sizes.back() < 2 * capacity || Clock::now() - begin < kStreamBudget / 10;) {
    send_batch();
  }
  drain();
  const std::uint64_t before = number;
  const auto begin = Clock::now();
  send_for(kStreamBudget);
  drain();
  return {static_cast<double>(number - before) / std::chrono::duration<double>(Clock::now() - begin).count()};
}
template <Checks kChecks, Reader kReader = Reader::eager>
Measured stream(const CpuPair& cpus, const std::vector<std::size_t>& sizes, std::uint64_t capacity, int batch) {
  if (sizes == std::vector<std::size_t>{64})
    return stream_of<kChecks, kReader, OneSize<64>>(cpus, sizes, capacity, batch);
  return stream_of<kChecks, kReader, Sizes>(cpus, sizes, capacity, batch);
}

/// The least a stream of records can do: the same lines written, asked for ahead and read, a word stamped with the lap
/// for each batch, the freed room told each eighth of the ring. No records, no sizes, no bounds. Messages per second.
double least_stream(const CpuPair& cpus, std::size_t size, std::uint64_t capacity, int batch) {
  constexpr std::uint64_t kAhead = 8 * kLineBytes;  // The best of 4 to 128.
  const Ring ring(capacity);
  const Content content(size);
  const std::uint64_t record_bytes = whole_lines(kEnvelopeBytes + size);
  const std::uint64_t messages = capacity / record_bytes / static_cast<unsigned>(batch) * static_cast<unsigned>(batch);
  std::byte* const bytes = ring.parts().bytes;
  std::atomic<std::uint64_t>& freed = ring.parts().control->head;  // In messages.
  const auto word = [](std::byte* at) { return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(at)); };
  OtherProcess other(cpus, [&] {
    ring.map_all();
    std::uint64_t told = 0;
    for (std::uint64_t number = 0, at = 0, lap = 1;;) {
      while (word(bytes + at).load(std::memory_order_acquire) != static_cast<std::uint32_t>(lap)) {
        if (told != number) freed.store(told = number, std::memory_order_release);
      }
      for (int i = 0; i < batch; ++i, ++number, at += record_bytes) {
        if (!content.check(bytes + at + kEnvelopeBytes, size, number)) wrong_message();
      }
      if (number - told >= messages / 8) freed.store(told = number, std::memory_order_release);
      if (at != messages * record_bytes) continue;
      at = 0;
      ++lap;
    }
  });
  std::uint64_t number = 0, at = 0, lap = 1, seen = 0;
  const auto send_batch = [&] {
    if (number - seen > messages - static_cast<unsigned>(batch)) {
      other.poll_until([&] {
        seen = freed.load(std::memory_order_acquire);
        return number - seen <= messages - static_cast<unsigned>(batch);
      });
    }
    std::byte* const first = bytes + at;
    for (int i = 0; i < batch; ++i, ++number, at += record_bytes) {
      for (std::uint64_t line = 0; line < std::min<std::uint64_t>(record_bytes, kAhead); line += kLineBytes) {
        cdmf::ipc::ring_buffer_detail::prefetch_for_writing(bytes + at + kAhead + line);
      }
      if (i != 0) word(bytes + at).store(static_cast<std::uint32_t>(lap), std::memory_order_relaxed);
      content.write(bytes + at + kEnvelopeBytes, size, number);
    }
    word(first).store(static_cast<std::uint32_t>(lap), std::memory_order_release);
    if (at != messages * record_bytes) return;
    at = 0;
    ++lap;
  };
  const auto drain = [&] { other.poll_until([&] { return freed.load(std::memory_order_acquire) == number; }); };
  const auto send_until = [&](Clock::time_point end) {
    do {
      for (int i = 0; i < 1024; i += batch) send_batch();
    } while (Clock::now() < end);
  };
  while (lap <= 2) send_batch();
  send_until(Clock::now() + kStreamBudget / 10);
  drain();
  const std::uint64_t before = number;
  const auto begin = Clock::now();
  send_until(begin + kStreamBudget);
  drain();
  return static_cast<double>(number - before) / std::chrono::duration<double>(Clock::now() - begin).count();
}

std::string text_of(std::size_t bytes) {
  if (bytes >= kMiB) return std::to_string(bytes / kMiB) + "MiB";
  return bytes >= 1024 ? std::to_string(bytes / 1024) + "KiB" : std::to_string(bytes) + "B";
}

void add_subjects(Rounds& rounds, const CpuPair& cpus) {
  constexpr std::uint64_t kTripRing = 2 * kMiB;  // The transport's default.
  const auto trip = [&](const std::string& name, auto measure, std::vector<std::size_t> sizes, std::uint64_t capacity) {
    rounds.add({name, Unit::round_trip_ns, [=] { return measure(cpus, sizes, capacity, nanoseconds{}); }});
  };
  rounds.add({"same_line/ping_pong/32B", Unit::round_trip_ns, [=] { return least_round_trip(cpus, 0); }});
  rounds.add({"least_ring/ping_pong/32B", Unit::round_trip_ns, [=] { return least_round_trip(cpus, 64); }});
  trip("record_ring/ping_pong/32B", round_trip<Checks::off>, {32}, kTripRing);
  trip("record_ring/ping_pong/32B/checks", round_trip<Checks::on>, {32}, kTripRing);
  trip("record_ring/ping_pong/32B,200B", round_trip<Checks::off>, {32, 200}, kTripRing);
  trip("record_ring/ping_pong/32B,200B/checks", round_trip<Checks::on>, {32, 200}, kTripRing);
  for (const std::size_t size : {64, 200, 1024, 4096, 65536}) {
    trip("record_ring/ping_pong/" + text_of(size), round_trip<Checks::off>, {size}, kTripRing);
  }
  trip("record_ring/ping_pong/1MiB", round_trip<Checks::off>, {kMiB}, 8 * kMiB);
  const nanoseconds pace = std::chrono::milliseconds(1);
  rounds.add({"record_ring/paced_1kHz/32B", Unit::round_trip_ns,
              [=] { return round_trip<Checks::off>(cpus, {32}, 64 * kKiB, pace); },
              [=] { return bare_line_paced_ns(cpus, pace); }});

  const auto rate = [&](const std::string& name, auto measure, std::vector<std::size_t> sizes, std::uint64_t capacity,
                        int batch) {
    const double mean = std::accumulate(sizes.begin(), sizes.end(), 0.0) / static_cast<double>(sizes.size());
    rounds.add({name + "/ring_" + text_of(capacity), Unit::messages_per_second,
                [=] { return measure(cpus, sizes, capacity, batch); },
                [=] {
                  if (sizes.size() == 1 && sizes[0] == 64) return least_stream(cpus, 64, capacity, batch);
                  return cdmf::ipc::cli::copy_bytes_per_second(cpus, {kMiB, 8}, kStreamBudget) / mean;
                }});
  };
  for (const std::uint64_t capacity : {kMiB / 4, 2 * kMiB, 8 * kMiB}) {
    rate("record_ring/stream/64B", stream<Checks::off>, {64}, capacity, 1);
    rate("record_ring/stream/64B/paced", stream<Checks::off, Reader::paced>, {64}, capacity, 1);
    rate("record_ring/stream/64B/batch_16", stream<Checks::off>, {64}, capacity, 16);
    rate("record_ring/stream/64B/batch_16/paced", stream<Checks::off, Reader::paced>, {64}, capacity, 16);
    rate("record_ring/stream/64B/batch_16/checks", stream<Checks::on>, {64}, capacity, 16);
    rate("record_ring/stream/32B,200B/batch_16", stream<Checks::off>, {32, 200}, capacity, 16);
    rate("record_ring/stream/4KiB", stream<Checks::off>, {4096}, capacity, 1);
    rate("record_ring/stream/4KiB/paced", stream<Checks::off, Reader::paced>, {4096}, capacity, 1);
    rate("record_ring/stream/16KiB", stream<Checks::off>, {16384}, capacity, 1);
    rate("record_ring/stream/64KiB", stream<Checks::off>, {65536}, capacity, 1);
    rate("record_ring/stream/64KiB/checks", stream<Checks::on>, {65536}, capacity, 1);
  }
  rate("record_ring/stream/1MiB", stream<Checks::off>, {kMiB}, 8 * kMiB, 1);
}

}  // namespace

int main(int argc, char** argv) {
  const auto arguments = read_arguments(argc, argv);
  if (!arguments) return 2;
  const CpuPair cpus = cdmf::ipc::cli::choose_cpu_pair();
  if (!cpus.pinned) {
    std::fprintf(stderr, "bench_record_ring: needs two CPUs; on one, figures would be those of the scheduler\n");
    return 1;
  }
  try {
    Rounds rounds(cpus);
    add_subjects(rounds, cpus);
    rounds.keep_only(arguments->only);
    if (rounds.empty()) throw std::runtime_error("nothing has '" + arguments->only + "' in its name");
    rounds.run(arguments->rounds);
    std::fputs((arguments->json ? rounds.json("record_ring") : rounds.table()).c_str(), stdout);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "bench_record_ring: %s\n", problem.what());
    return 1;
  }
  return 0;
}
