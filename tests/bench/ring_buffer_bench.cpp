// bench_ring_buffer [rounds]: the typed rings between two pinned threads, beside what the machine allows.
//
// Absolute figures mean little where a hypervisor moves the cores about, so every round measures the limit, the round
// trip of two bare cache lines, and every subject within a second; ratios are taken in each round and their median is
// printed. Within a measurement the median of many short stretches counts, so that the scheduler's pauses do not.
// `lamport` is the ring that most libraries offer, both positions on lines of their own, for comparison.
#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ipc/ring_buffer.h"

namespace {

using Clock = std::chrono::steady_clock;
using cdmf::ipc::MPMCRingBuffer;
using cdmf::ipc::SPSCRingBuffer;

constexpr std::size_t kCapacity = 4096;
constexpr int kTrips = 20'000;
constexpr int kTripsPerStretch = 100;  // About 15 to 50 us.
constexpr int kTimedTrips = 10'000;    // Each with a clock read of its own.
constexpr int kItems = 1'000'000;
constexpr int kItemsPerStretch = 20'000;  // More than the ring holds, so that draining a full ring does not count.

std::pair<int, int> cpus;

void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) {
    std::perror("bench_ring_buffer: sched_setaffinity");
    std::exit(1);
  }
}

/// Runs `here` on the first CPU and `there` on the second, both at once.
template <typename Here, typename There>
void run_pair(Here here, There there) {
  std::atomic<bool> ready{false};
  std::thread other([&] {
    pin(cpus.second);
    ready = true;
    there();
  });
  pin(cpus.first);
  while (!ready) {
  }
  here();
  other.join();
}

double nanoseconds(Clock::duration time) { return std::chrono::duration<double, std::nano>(time).count(); }

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Cuts a run of equal steps into stretches and knows the typical time of a step.
class Stretches {
 public:
  explicit Stretches(int steps_each) : steps_each_(steps_each) {}
  void step() {
    if (++steps_ != steps_each_) return;
    steps_ = 0;
    const auto now = Clock::now();
    times_.push_back(nanoseconds(now - last_) / steps_each_);
    last_ = now;
  }
  double median_step_ns() const { return median(times_); }

 private:
  const int steps_each_;
  int steps_ = 0;
  std::vector<double> times_;
  Clock::time_point last_ = Clock::now();
};

// --- subjects ---

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

template <typename T, std::size_t Capacity>
class LamportRing {
 public:
  using value_type = T;
  bool try_push(const T& item) {
    const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ == Capacity) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ == Capacity) return false;
    }
    items_[tail % Capacity] = item;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  bool try_pop(T& item) {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return false;
    }
    item = items_[head % Capacity];
    head_.store(head + 1, std::memory_order_release);
    return true;
  }

 private:
  alignas(128) std::atomic<std::uint64_t> tail_{0};
  alignas(128) std::uint64_t head_seen_ = 0;
  alignas(128) std::atomic<std::uint64_t> head_{0};
  alignas(128) std::uint64_t tail_seen_ = 0;
  alignas(128) T items_[Capacity];
};

// --- measurements ---

/// Nanoseconds for one line there and another back, with nothing else: no hand-over between two cores can be faster.
double limit() {
  struct Lines {
    alignas(128) std::atomic<int> there{0};
    alignas(128) std::atomic<int> back{0};
  } lines;
  double result = 0;
  run_pair(
      [&] {
        Stretches stretches(kTripsPerStretch);
        for (int i = 1; i <= kTrips; ++i) {
          lines.there.store(i, std::memory_order_release);
          while (lines.back.load(std::memory_order_acquire) != i) {
          }
          stretches.step();
        }
        result = stretches.median_step_ns();
      },
      [&] {
        for (int i = 1; i <= kTrips; ++i) {
          while (lines.there.load(std::memory_order_acquire) != i) {
          }
          lines.back.store(i, std::memory_order_release);
        }
      });
  return result;
}

[[noreturn]] void wrong_item() {
  std::fprintf(stderr, "bench_ring_buffer: an item arrived that was not sent\n");
  std::exit(1);
}

/// Nanoseconds for an item there and back through two rings. With `times`, those of every single trip as well, each
/// with a clock read of some 25 ns in it.
template <typename Ring>
double ping_pong(std::vector<double>* times) {
  using T = typename Ring::value_type;
  const auto there = std::make_unique<Ring>();
  const auto back = std::make_unique<Ring>();
  const int trips = times != nullptr ? kTimedTrips : kTrips;
  double result = 0;
  run_pair(
      [&] {
        T item;
        Stretches stretches(kTripsPerStretch);
        auto last = Clock::now();
        for (int i = 0; i < trips; ++i) {
          const auto number = static_cast<std::uint64_t>(i);
          while (!there->try_push(T(number))) {
          }
          while (!back->try_pop(item)) {
          }
          if (!item.is(number)) wrong_item();
          stretches.step();
          if (times == nullptr) continue;
          const auto now = Clock::now();
          times->push_back(nanoseconds(now - last));
          last = now;
        }
        result = stretches.median_step_ns();
      },
      [&] {
        T item;
        for (int i = 0; i < trips; ++i) {
          while (!there->try_pop(item)) {
          }
          while (!back->try_push(item)) {
          }
        }
      });
  return result;
}

/// Million items a second through one ring, pushed and popped one at a time as fast as it goes.
template <typename Ring>
double stream() {
  using T = typename Ring::value_type;
  const auto ring = std::make_unique<Ring>();
  double result = 0;
  run_pair(
      [&] {
        for (std::uint64_t i = 0; i < kItems; ++i) {
          while (!ring->try_push(T(i))) {
          }
        }
      },
      [&] {
        T item;
        Stretches stretches(kItemsPerStretch);
        for (std::uint64_t i = 0; i < kItems; ++i) {
          while (!ring->try_pop(item)) {
          }
          if (!item.is(i)) wrong_item();
          stretches.step();
        }
        result = 1e3 / stretches.median_step_ns();
      });
  return result;
}

// --- report ---

struct Subject {
  std::string name;
  std::function<double(std::vector<double>*)> ping_pong;
  std::function<double()> stream;
  std::vector<double> trip_ns{}, trip_ratio{}, million_per_s{}, items_per_limit{}, times{};
};

template <typename Ring>
Subject subject(std::string name) {
  return {std::move(name), ping_pong<Ring>, stream<Ring>};
}

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown CPU";
}

bool choose_cpus() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return false;
  std::vector<int> found;
  for (int cpu = 0; cpu < CPU_SETSIZE && found.size() < 2; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) found.push_back(cpu);
  }
  if (found.size() < 2) return false;
  cpus = {found[0], found[1]};
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 15;
  if (argc > 2 || rounds < 1) {
    std::fprintf(stderr, "usage: bench_ring_buffer [rounds, 1 or more; default 15]\n");
    return 2;
  }
  if (!choose_cpus()) {
    std::fprintf(stderr, "bench_ring_buffer: needs two CPUs; on one, figures would be those of the scheduler\n");
    return 1;
  }

  std::vector<Subject> subjects;
  subjects.push_back(subject<LamportRing<Item<8>, kCapacity>>("lamport/8B"));
  subjects.push_back(subject<SPSCRingBuffer<Item<8>, kCapacity>>("spsc_ring_buffer/8B"));
  subjects.push_back(subject<SPSCRingBuffer<Item<56>, kCapacity>>("spsc_ring_buffer/56B"));
  subjects.push_back(subject<SPSCRingBuffer<Item<256>, kCapacity>>("spsc_ring_buffer/256B"));
  subjects.push_back(subject<MPMCRingBuffer<Item<8>, kCapacity>>("mpmc_ring_buffer/8B"));
  subjects.push_back(subject<MPMCRingBuffer<Item<256>, kCapacity>>("mpmc_ring_buffer/256B"));

  utsname system{};
  uname(&system);
  std::printf("%s, %s %s, %s, CPUs %d and %d pinned, capacity %zu, %d rounds\n", cpu_model().c_str(), system.sysname,
              system.release, __VERSION__, cpus.first, cpus.second, kCapacity, rounds);

  std::vector<double> limits;
  for (int round = 0; round < rounds; ++round) {
    for (Subject& each : subjects) {
      // The limit before and after: when the cores were moved in between, the round says nothing about the ring.
      const double before = limit();
      const double trip = each.ping_pong(nullptr);
      const double rate = each.stream();
      const double after = limit();
      limits.push_back(before);
      if (std::max(before, after) > 1.3 * std::min(before, after)) continue;
      const double bound = (before + after) / 2;
      each.trip_ns.push_back(trip);
      each.trip_ratio.push_back(trip / bound);
      each.million_per_s.push_back(rate);
      each.items_per_limit.push_back(rate * bound / 1e3);
      each.ping_pong(&each.times);
    }
  }

  std::printf("limit, two cache lines: median %.0f ns, %.0f to %.0f ns\n\n", median(limits),
              *std::min_element(limits.begin(), limits.end()), *std::max_element(limits.begin(), limits.end()));
  std::printf("%-24s %9s %9s | %7s %7s %7s %9s | %9s %12s | %s\n", "", "ping_pong", "x limit", "p50", "p99", "p99.9",
              "max ns", "M items/s", "items/limit", "steady rounds");
  for (Subject& each : subjects) {
    if (each.times.empty()) {
      std::printf("%-24s no round in which the machine held still\n", each.name.c_str());
      continue;
    }
    std::sort(each.times.begin(), each.times.end());
    const auto percentile = [&](double part) {
      return each.times[static_cast<std::size_t>(part * static_cast<double>(each.times.size() - 1))];
    };
    std::printf("%-24s %6.0f ns %9.2f | %7.0f %7.0f %7.0f %9.0f | %9.1f %12.1f | %zu\n", each.name.c_str(),
                median(each.trip_ns), median(each.trip_ratio), percentile(0.5), percentile(0.99), percentile(0.999),
                each.times.back(), median(each.million_per_s), median(each.items_per_limit), each.trip_ns.size());
  }
  return 0;
}
