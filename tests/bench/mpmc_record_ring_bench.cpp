// bench_mpmc_record_ring [rounds]: what the announcements of the MPMC record ring cost: the ring against itself with
// announcements compiled out, which no death may then meet. Both are measured in each round, in turns, within
// milliseconds of each other; printed is the median of the per-round ratios, and the quartiles.
//
// 1P1C: two threads, each bound to its CPU, spinning. 2P2C: four threads on these two CPUs, which yield when there is
// nothing to do; that measures the scheduler as well.
#include <sched.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "ring/mpmc_record_ring.h"

namespace {

using namespace cdmf::ipc::shm;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kSlots = 1024;
constexpr std::uint32_t kSlotBytes = 64;
constexpr std::uint32_t kPayloadBytes = 32;
constexpr std::uint64_t kTrips = 20'000;
constexpr std::uint64_t kMessages = 400'000;
constexpr std::uint64_t kContended = 200'000;

int cpus[2];

void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) {
    std::perror("bench_mpmc_record_ring: sched_setaffinity");
    std::exit(1);
  }
}

[[noreturn]] void wrong() {
  std::fprintf(stderr, "bench_mpmc_record_ring: a message arrived that was not sent, or the ring failed\n");
  std::exit(1);
}

template <typename Memory>
class Ring {
 public:
  explicit Ring(std::uint32_t members)
      : size_(Memory::size_bytes(kSlots, kSlotBytes, members)),
        address_(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)),
        memory(static_cast<std::byte*>(address_), kSlots, kSlotBytes, members) {
    if (address_ == MAP_FAILED) std::abort();
  }
  ~Ring() { munmap(address_, size_); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

 private:
  std::size_t size_;
  void* address_;

 public:
  const Memory memory;
};

template <typename Memory>
struct Member : BasicMpmcRecordMember<Memory> {
  Member(const Ring<Memory>& ring, std::uint32_t index) : BasicMpmcRecordMember<Memory>(ring.memory, index) {
    if (!this->attach()) wrong();
  }
  /// Up to `count` messages with the numbers from `next` on; how many.
  std::uint32_t send(std::uint64_t next, std::uint32_t count) {
    const MpmcOutcome outcome = this->claim(count);
    if (outcome == MpmcOutcome::fault) wrong();
    if (outcome != MpmcOutcome::done) return 0;
    const std::uint32_t claimed = this->claimed_count();
    for (std::uint32_t which = 0; which < claimed; ++which) {
      std::uint64_t content[kPayloadBytes / 8];
      std::fill(std::begin(content), std::end(content), next + which);
      std::memcpy(this->payload(which).data(), content, sizeof content);
      this->commit(kPayloadBytes, 0, 0, which);
    }
    return claimed;
  }
  std::size_t receive_some(std::uint64_t* numbers, std::size_t count) {
    const MpmcReceived received = this->receive_burst({views, count});
    if (received.outcome == MpmcOutcome::fault) wrong();
    for (std::size_t i = 0; i < received.count; ++i) {
      std::uint64_t content[kPayloadBytes / 8];
      std::memcpy(content, views[i].payload, sizeof content);
      if (content[0] != content[1] || content[0] != content[2] || content[0] != content[3]) wrong();
      numbers[i] = content[0];
      this->release(views[i]);
    }
    return received.count;
  }

  MpmcRecordView views[kMpmcBatchMax];  // Not in receive_some(): initialised each time, they cost more than a message.
};

double nanoseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Nanoseconds there and back, the median of stretches of 100 trips.
template <typename Memory>
double ping_pong() {
  Ring<Memory> there(2), back(2);
  std::thread other([&there, &back] {  // Looked at once: members keep copies.
    pin(cpus[1]);
    Member<Memory> in(there, 1), out(back, 1);
    for (std::uint64_t i = 0, number; i < kTrips; ++i) {
      while (in.receive_some(&number, 1) == 0) {
      }
      while (out.send(number, 1) == 0) {
      }
    }
  });
  pin(cpus[0]);
  Member<Memory> out(there, 0), in(back, 0);
  std::vector<double> stretches;
  for (std::uint64_t i = 0, number; i < kTrips;) {
    const auto start = Clock::now();
    for (int trip = 0; trip < 100; ++trip, ++i) {
      while (out.send(i, 1) == 0) {
      }
      while (in.receive_some(&number, 1) == 0) {
      }
      if (number != i) wrong();
    }
    stretches.push_back(nanoseconds_since(start) / 100);
  }
  other.join();
  return median(stretches);
}

/// Nanoseconds a message, sent and received `batch` at a time, the median of stretches of 8192.
template <typename Memory>
double stream(std::uint32_t batch) {
  Ring<Memory> ring(2);
  // The batch by value: a line of the caller's stack that both look at would travel with every message.
  std::thread producer([&ring, batch] {
    pin(cpus[1]);
    Member<Memory> out(ring, 0);
    for (std::uint64_t i = 0; i < kMessages;) {
      i += out.send(i, static_cast<std::uint32_t>(std::min<std::uint64_t>(batch, kMessages - i)));
    }
  });
  pin(cpus[0]);
  Member<Memory> in(ring, 1);
  std::vector<double> stretches;
  std::uint64_t numbers[kMpmcBatchMax];
  std::uint64_t marked = 0;
  auto start = Clock::now();
  for (std::uint64_t i = 0; i < kMessages;) {
    const std::size_t count = in.receive_some(numbers, batch);
    for (std::size_t k = 0; k < count; ++k) {
      if (numbers[k] != i++) wrong();
    }
    if (i - marked < 8192) continue;
    stretches.push_back(nanoseconds_since(start) / static_cast<double>(i - marked));
    marked = i;
    start = Clock::now();
  }
  producer.join();
  return median(stretches);
}

/// Nanoseconds a message, two producers and two consumers.
template <typename Memory>
double contended() {
  Ring<Memory> ring(4);
  std::atomic<std::uint64_t> left{kContended};
  std::atomic<int> ready{0};
  std::atomic<Clock::time_point> start{};
  std::vector<std::thread> threads;
  for (std::uint32_t index = 0; index < 4; ++index) {
    threads.emplace_back([&, index] {
      pin(cpus[index % 2]);
      Member<Memory> member(ring, index);
      if (++ready == 4) start = Clock::now();
      while (ready < 4) sched_yield();
      if (index < 2) {
        for (std::uint64_t i = 0; i < kContended / 2;) {
          const std::uint32_t sent = member.send(i, 1);
          i += sent;
          if (sent == 0) sched_yield();
        }
      } else {
        std::uint64_t number;
        while (left != 0) {
          if (member.receive_some(&number, 1) != 0) {
            --left;
          } else {
            sched_yield();
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return nanoseconds_since(start) / static_cast<double>(kContended);
}

using Announcing = BasicMpmcRecordMemory<true>;
using Silent = BasicMpmcRecordMemory<false>;
struct Pattern {
  const char* name;
  std::function<double()> announcing, silent;
  std::vector<double> announcing_ns{}, silent_ns{}, ratios{};
};

bool choose_cpus() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return false;
  int found = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) cpus[found++] = cpu;
  }
  return found == 2;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 31;
  if (argc > 2 || rounds < 1) {
    std::fprintf(stderr, "usage: bench_mpmc_record_ring [rounds, 1 or more; default 31]\n");
    return 2;
  }
  if (!choose_cpus()) {
    std::fprintf(stderr, "bench_mpmc_record_ring: needs two CPUs; on one, figures would be those of the scheduler\n");
    return 1;
  }
  Pattern patterns[] = {
      {"1p1c/ping_pong/32B", ping_pong<Announcing>, ping_pong<Silent>},
      {"1p1c/stream/32B", [] { return stream<Announcing>(1); }, [] { return stream<Silent>(1); }},
      {"1p1c/stream/32Bx16", [] { return stream<Announcing>(16); }, [] { return stream<Silent>(16); }},
      {"2p2c/stream/32B", contended<Announcing>, contended<Silent>},
  };
  for (int round = 0; round < rounds; ++round) {
    for (Pattern& pattern : patterns) {
      double announcing = 0, silent = 0;
      if (round % 2 == 0) announcing = pattern.announcing();
      silent = pattern.silent();
      if (round % 2 != 0) announcing = pattern.announcing();
      pattern.announcing_ns.push_back(announcing);
      pattern.silent_ns.push_back(silent);
      pattern.ratios.push_back(announcing / silent);
    }
  }
  utsname system{};
  uname(&system);
  std::printf("%s %s, %s, CPUs %d and %d, %u slots, %d rounds; medians\n", system.sysname, system.release, __VERSION__,
              cpus[0], cpus[1], kSlots, rounds);
  std::printf("%-20s %14s %14s %8s  quartiles\n", "", "announcing ns", "silent ns", "ratio");
  for (Pattern& pattern : patterns) {
    std::sort(pattern.ratios.begin(), pattern.ratios.end());
    std::printf("%-20s %14.1f %14.1f %8.3f  %.3f to %.3f\n", pattern.name, median(pattern.announcing_ns),
                median(pattern.silent_ns), median(pattern.ratios), pattern.ratios[pattern.ratios.size() / 4],
                pattern.ratios[pattern.ratios.size() * 3 / 4]);
  }
  return 0;
}
