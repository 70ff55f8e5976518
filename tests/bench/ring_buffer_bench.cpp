// bench_ring_buffer: the typed rings between two pinned threads, beside a bare cache line and beside other queues, all
// in the same rounds (rounds.h). Every item carries a number that its receiver checks, and all of it is written and
// read.
//
// Queues of other libraries live in one process, hence threads; the rings that processes share are in
// bench_record_ring. With more threads than cores (4p4c on two) the figures are the scheduler's as much as the queue's.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "arguments.h"
#include "cli/bench/machine_limits.h"
#include "cli/bench/round_trips.h"
#include "ipc/ring_buffer.h"
#include "peers/classics.h"
#include "peers/libraries.h"
#include "rounds.h"

namespace {

using namespace cdmf::bench;
using cdmf::ipc::MPMCRingBuffer;
using cdmf::ipc::SPSCRingBuffer;
using cdmf::ipc::cli::CpuPair;
using std::chrono::nanoseconds;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kCapacity = 4096;
constexpr nanoseconds kTripBudget = std::chrono::milliseconds(20);
constexpr nanoseconds kLimitBudget = std::chrono::milliseconds(5);
constexpr std::uint64_t kItems = 1'000'000;      // Of a stream from one to one.
constexpr std::uint64_t kItemsShared = 100'000;  // Of each producer, when there are several.
constexpr std::uint64_t kItemsPerStretch =
    20'000;  // More than a ring holds, so that draining a full one does not count.

template <std::size_t kBytes>
struct Item {
  std::uint64_t number;
  std::uint64_t rest[kBytes / 8 - 1];
  explicit Item(std::uint64_t n = 0) : number(n) { std::fill(std::begin(rest), std::end(rest), n); }
  // Reads all of it, as a consumer would.
  bool is(std::uint64_t n) const {
    std::uint64_t difference = number ^ n;
    for (const std::uint64_t word : rest) difference |= word ^ n;
    return difference == 0;
  }
};
template <>
struct Item<8> {
  std::uint64_t number;
  explicit Item(std::uint64_t n = 0) : number(n) {}
  bool is(std::uint64_t n) const { return number == n; }
};

[[noreturn]] void wrong_item() {
  std::fprintf(stderr, "bench_ring_buffer: an item arrived that was not sent\n");
  std::exit(1);
}

/// Runs `there` on the second CPU while the caller runs `here` on the first; `there` ends when *over. What both use is
/// given to them as pointers, by value: a line of the caller's stack that both look at would travel with every item.
template <typename Here, typename There>
void run_pair(const CpuPair& cpus, Here here, There there) {
  std::atomic<bool> ready{false};
  std::atomic<bool> over{false};
  std::thread other([&, there] {
    cdmf::ipc::cli::pin_to_cpu(cpus.second);
    ready = true;
    there(over);
  });
  {
    const cdmf::ipc::cli::ScopedPin pin(cpus.first);
    while (!ready) {
    }
    here();
    over = true;
    other.join();
  }
}

/// Nanoseconds for an item there and back through two rings.
template <typename Ring>
Measured ping_pong(const CpuPair& cpus) {
  using T = typename Ring::value_type;
  const auto rings = std::make_unique<std::pair<Ring, Ring>>();
  Measured measured;
  run_pair(
      cpus,
      [&measured, there = &rings->first, back = &rings->second] {
        T item;
        std::uint64_t number = 0;
        const auto trips = cdmf::ipc::cli::measure_round_trips(
            [&] {
              while (!there->try_push(T(number))) {
              }
              while (!back->try_pop(item)) {
              }
              if (!item.is(number)) wrong_item();
              ++number;
            },
            kTripBudget, 128);
        measured = {trips.untimed_ns, cdmf::ipc::cli::summarize(trips.timed)};
      },
      [there = &rings->first, back = &rings->second](const std::atomic<bool>& over) {
        T item;
        for (;;) {
          // The end is looked for now and then only: it would be one more line in the way.
          int polls = 0;
          while (!there->try_pop(item)) {
            if (++polls % 4096 == 0 && over.load(std::memory_order_relaxed)) return;
          }
          while (!back->try_push(item)) {
          }
        }
      });
  return measured;
}

/// Items per second through one ring, pushed and popped one at a time as fast as it goes: the median stretch.
template <typename Ring>
Measured stream(const CpuPair& cpus) {
  using T = typename Ring::value_type;
  const auto memory = std::make_unique<Ring>();
  std::vector<double> rates;
  run_pair(
      cpus,
      [&rates, ring = memory.get()] {
        T item;
        auto last = Clock::now();
        for (std::uint64_t i = 0; i < kItems; ++i) {
          while (!ring->try_pop(item)) {
          }
          if (!item.is(i)) wrong_item();
          if ((i + 1) % kItemsPerStretch != 0) continue;
          const auto now = Clock::now();
          rates.push_back(kItemsPerStretch / std::chrono::duration<double>(now - last).count());
          last = now;
        }
      },
      [ring = memory.get()](const std::atomic<bool>&) {
        for (std::uint64_t i = 0; i < kItems; ++i) {
          while (!ring->try_push(T(i))) {
          }
        }
      });
  return {cdmf::ipc::cli::median(rates).value_or(0)};
}

/// Items per second through one ring of `pairs` producers and as many consumers, which share the two CPUs. Every item
/// is received once: the sum of all numbers says so.
template <typename Ring>
Measured crowd(const CpuPair& cpus, int pairs) {
  using T = typename Ring::value_type;
  const auto ring = std::make_unique<Ring>();
  const std::uint64_t total = kItemsShared * static_cast<std::uint64_t>(pairs);
  std::atomic<std::uint64_t> received{0};
  std::atomic<std::uint64_t> sum{0};
  const auto begin = Clock::now();
  std::vector<std::thread> threads;
  for (int i = 0; i < pairs; ++i) {
    threads.emplace_back([&, i] {
      cdmf::ipc::cli::pin_to_cpu(i % 2 == 0 ? cpus.first : cpus.second);
      for (std::uint64_t n = 0; n < kItemsShared; ++n) {
        while (!ring->try_push(T(n))) std::this_thread::yield();
      }
    });
    threads.emplace_back([&, i] {
      cdmf::ipc::cli::pin_to_cpu(i % 2 == 0 ? cpus.second : cpus.first);
      T item;
      std::uint64_t own = 0;
      std::uint64_t counted = 0;
      while (received.load(std::memory_order_relaxed) + counted < total) {
        if (!ring->try_pop(item)) {
          received += counted;  // So that the others know when to end.
          counted = 0;
          std::this_thread::yield();
          continue;
        }
        if (!item.is(item.number)) wrong_item();
        own += item.number;
        ++counted;
      }
      received += counted;
      sum += own;
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  if (sum != static_cast<std::uint64_t>(pairs) * (kItemsShared * (kItemsShared - 1) / 2)) wrong_item();
  return {static_cast<double>(total) / seconds};
}

enum class Whose { ours, peer };

class Subjects {
 public:
  Subjects(Rounds& rounds, const CpuPair& cpus) : rounds_(rounds), cpus_(cpus) {}

  /// group: "spsc/8B". Both measurements of it are compared within the group.
  template <typename Ring>
  void pair(const std::string& group, const std::string& name, Whose whose) {
    const CpuPair cpus = cpus_;
    rounds_.add({group + "/ping_pong/" + name,
                 Unit::round_trip_ns,
                 [=] { return ping_pong<Ring>(cpus); },
                 {},
                 group + "/ping_pong",
                 whose == Whose::peer});
    rounds_.add({group + "/stream/" + name, Unit::messages_per_second, [=] { return stream<Ring>(cpus); }, per_line(),
                 group + "/stream", whose == Whose::peer});
  }
  template <typename Ring>
  void crowds(const std::string& size, const std::string& name, Whose whose) {
    const CpuPair cpus = cpus_;
    for (const int pairs : {2, 4}) {
      const std::string count = std::to_string(pairs);
      const std::string group = count + "p" + count + "c/" + size;
      rounds_.add({group + "/" + name, Unit::messages_per_second, [=] { return crowd<Ring>(cpus, pairs); }, per_line(),
                   group, whose == Whose::peer});
    }
  }

 private:
  /// A stream's ratio: items per bare cache line there and back.
  std::function<double()> per_line() const {
    return [cpus = cpus_] { return 1e9 / cdmf::ipc::cli::cache_line_round_trip(cpus, kLimitBudget).untimed_ns; };
  }

  Rounds& rounds_;
  const CpuPair cpus_;
};

template <std::size_t kBytes>
void add_spsc(Subjects& subjects) {
  using T = Item<kBytes>;
  const std::string group = "spsc/" + std::to_string(kBytes) + "B";
  subjects.pair<SPSCRingBuffer<T, kCapacity>>(group, "cdmf", Whose::ours);
  subjects.pair<LamportRing<T, kCapacity>>(group, "lamport", Whose::peer);
  subjects.pair<BoostSpscQueue<T, kCapacity>>(group, "boost_spsc_queue", Whose::peer);
#if CDMF_PEER_READERWRITERQUEUE
  subjects.pair<ReaderWriterQueue<T, kCapacity>>(group, "ReaderWriterQueue", Whose::peer);
#endif
#if CDMF_PEER_ATOMIC_QUEUE
  subjects.pair<AtomicQueueSpsc<T, kCapacity>>(group, "atomic_queue", Whose::peer);
#endif
}

template <std::size_t kBytes>
void add_mpmc(Subjects& subjects) {
  using T = Item<kBytes>;
  const std::string size = std::to_string(kBytes) + "B";
  const std::string group = "mpmc/" + size;
  const auto both = [&]<typename Ring>(const std::string& name, Whose whose) {
    subjects.pair<Ring>(group, name, whose);
    subjects.crowds<Ring>(size, name, whose);
  };
  both.template operator()<MPMCRingBuffer<T, kCapacity>>("cdmf", Whose::ours);
  both.template operator()<VyukovRing<T, kCapacity>>("vyukov", Whose::peer);
  both.template operator()<BoostQueue<T, kCapacity>>("boost_queue", Whose::peer);
#if CDMF_PEER_CONCURRENTQUEUE
  subjects.pair<ConcurrentQueuePair<T, kCapacity>>(group, "ConcurrentQueue", Whose::peer);
  subjects.crowds<ConcurrentQueueCrowd<T, kCapacity>>(size, "ConcurrentQueue", Whose::peer);
#endif
#if CDMF_PEER_ATOMIC_QUEUE
  both.template operator()<AtomicQueueMpmc<T, kCapacity>>("atomic_queue", Whose::peer);
#endif
}

void name_the_missing() {
  if (!CDMF_PEER_READERWRITERQUEUE) std::fprintf(stderr, "left out: ReaderWriterQueue (libreaderwriterqueue-dev)\n");
  if (!CDMF_PEER_CONCURRENTQUEUE) std::fprintf(stderr, "left out: ConcurrentQueue (libconcurrentqueue-dev)\n");
  if (!CDMF_PEER_ATOMIC_QUEUE) std::fprintf(stderr, "left out: atomic_queue (libatomic-queue-dev)\n");
}

}  // namespace

int main(int argc, char** argv) {
  const auto arguments = read_arguments(argc, argv);
  if (!arguments) return 2;
  const CpuPair cpus = cdmf::ipc::cli::choose_cpu_pair();
  if (!cpus.pinned) {
    std::fprintf(stderr, "bench_ring_buffer: needs two CPUs; on one, figures would be those of the scheduler\n");
    return 1;
  }
  try {
    name_the_missing();
    Rounds rounds(cpus);
    Subjects subjects(rounds, cpus);
    add_spsc<8>(subjects);
    add_spsc<64>(subjects);
    add_mpmc<8>(subjects);
    add_mpmc<64>(subjects);
    if (!arguments->only.empty()) rounds.keep_only(arguments->only);
    if (rounds.empty()) {
      std::fprintf(stderr, "bench_ring_buffer: nothing has '%s' in its name\n", arguments->only.c_str());
      return 2;
    }
    rounds.run(arguments->rounds);
    std::fputs((arguments->json ? rounds.json("ring_buffer") : rounds.table()).c_str(), stdout);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_ring_buffer: %s\n", error.what());
    return 1;
  }
}
