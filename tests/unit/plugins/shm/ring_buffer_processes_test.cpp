// The typed rings between real processes that map them at different addresses.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "ipc/ring_buffer.h"
#include "ring_buffer_test_support.h"

namespace {

using namespace cdmf::ipc;
using ring_buffer_test::Sized;
using ring_buffer_test::Watchdog;

/// Memory for one object of type Shared, constructed in it. Never destroyed: what may be shared needs no destructor.
template <typename Shared>
class Segment {
 public:
  Segment() : fd_(::memfd_create("ring_buffer_test", MFD_CLOEXEC)) {
    if (fd_ < 0 || ::ftruncate(fd_, sizeof(Shared)) != 0) throw std::bad_alloc();
    mapping_ = map();
    new (mapping_) Shared;
  }
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;
  ~Segment() {
    ::munmap(mapping_, sizeof(Shared));
    ::close(fd_);
  }

  Shared& get() { return *std::launder(static_cast<Shared*>(mapping_)); }

  /// For a child: gives up the inherited mapping for one elsewhere. False when the address is the same after all.
  bool move() {
    void* const inherited = mapping_;
    mapping_ = map();  // While the old one is still in place, so it cannot get that address.
    ::munmap(inherited, sizeof(Shared));
    return mapping_ != inherited;
  }

 private:
  void* map() const {
    void* const mapping = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (mapping == MAP_FAILED) throw std::bad_alloc();
    return mapping;
  }

  int fd_;
  void* mapping_;
};

/// A child that runs `work` and reports whether it returned true. Killed when the test leaves before it ended, or dies.
class Child {
 public:
  template <typename Work>
  explicit Child(Work work) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::_exit(work() ? 0 : 1);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  bool succeeded() {
    int status = 0;
    const bool ended = pid_ > 0 && ::waitpid(pid_, &status, 0) == pid_;
    pid_ = -1;
    return ended && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

 private:
  pid_t pid_;
};

/// Repeats `attempt` until it is true; false when it never became so.
template <typename Attempt>
bool eventually(const Watchdog& watchdog, Attempt attempt) {
  while (!attempt()) {
    if (!watchdog.keep_waiting()) return false;
  }
  return true;
}

template <typename Ring>
struct Conversation {
  Ring there;
  Ring back;
};

/// Numbers go to the child and come back, so that each process is the producer of one ring and the consumer of another.
template <typename Ring>
void echo_between_processes() {
  static_assert(Ring::kShareable);
  using T = typename Ring::value_type;
  constexpr std::uint64_t kItems = 20'000;
  Segment<Conversation<Ring>> segment;
  const Watchdog watchdog;
  Child child([&] {
    if (!segment.move()) return false;
    Ring& there = segment.get().there;
    Ring& back = segment.get().back;
    for (std::uint64_t i = 0; i < kItems; ++i) {
      T item;
      if (!eventually(watchdog, [&] { return there.try_pop(item); })) return false;
      if (!item.is(i)) return false;
      if (!eventually(watchdog, [&] { return back.try_push(item); })) return false;
    }
    return true;
  });
  Ring& there = segment.get().there;
  Ring& back = segment.get().back;
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  ASSERT_TRUE(eventually(watchdog, [&] {
    while (sent < kItems && there.try_push(T(sent))) ++sent;
    T item;
    while (back.try_pop(item)) {
      if (!item.is(received)) {
        ADD_FAILURE() << "item " << received << " came back as another";
        return true;
      }
      ++received;
    }
    return received == kItems;
  }));
  EXPECT_EQ(received, kItems);
  EXPECT_TRUE(child.succeeded());
  EXPECT_TRUE(there.is_empty());
  EXPECT_TRUE(back.is_empty());
}

TEST(RingBufferProcesses, SpscRingsCarryItemsThereAndBack) {
  echo_between_processes<SPSCRingBuffer<Sized<8>, 64>>();
  echo_between_processes<SPSCRingBuffer<Sized<8>, 1>>();
  echo_between_processes<SPSCRingBuffer<Sized<256>, 16>>();
}

TEST(RingBufferProcesses, MpmcRingsCarryItemsThereAndBack) {
  echo_between_processes<MPMCRingBuffer<Sized<8>, 64>>();
  echo_between_processes<MPMCRingBuffer<Sized<256>, 16>>();
}

TEST(RingBufferProcesses, APoolOfProcessesHandlesEachItemOnce) {
  constexpr std::uint64_t kProducers = 2;
  constexpr std::uint64_t kWorkers = 2;
  constexpr std::uint64_t kEach = 10'000;
  constexpr std::uint64_t kStop = kProducers * kEach;
  Segment<Conversation<MPMCRingBuffer<std::uint64_t, 32>>> segment;
  const Watchdog watchdog;

  std::vector<std::unique_ptr<Child>> children;
  for (std::uint64_t producer = 0; producer < kProducers; ++producer) {
    children.push_back(std::make_unique<Child>([&, producer] {
      if (!segment.move()) return false;
      for (std::uint64_t i = producer * kEach; i < (producer + 1) * kEach; ++i) {
        if (!eventually(watchdog, [&] { return segment.get().there.try_push(i); })) return false;
      }
      return true;
    }));
  }
  for (std::uint64_t worker = 0; worker < kWorkers; ++worker) {
    children.push_back(std::make_unique<Child>([&] {
      if (!segment.move()) return false;
      for (std::uint64_t item = 0; item != kStop;) {
        if (!eventually(watchdog, [&] { return segment.get().there.try_pop(item); })) return false;
        if (!eventually(watchdog, [&] { return segment.get().back.try_push(item); })) return false;
      }
      return true;
    }));
  }

  std::vector<int> seen(kStop, 0);
  for (std::uint64_t received = 0; received < kStop; ++received) {
    std::uint64_t item = kStop;
    ASSERT_TRUE(eventually(watchdog, [&] { return segment.get().back.try_pop(item); })) << received << " received";
    ASSERT_LT(item, kStop);
    ++seen[item];
  }
  EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int count) { return count == 1; }));
  for (std::uint64_t worker = 0; worker < kWorkers; ++worker) ASSERT_TRUE(segment.get().there.try_push(kStop));
  for (const auto& child : children) EXPECT_TRUE(child->succeeded());
}

// A producer may die at any time: what it pushed stays, what it had not published was never there.
TEST(RingBufferProcesses, WhatWasPushedOutlivesItsProducer) {
  Segment<SPSCRingBuffer<Sized<24>, 64>> segment;
  const Watchdog watchdog;
  {
    Child producer([&] {
      for (std::uint64_t i = 0;; ++i) {
        if (!eventually(watchdog, [&] { return segment.get().try_push(Sized<24>(i)); })) return false;
      }
    });
    ASSERT_TRUE(eventually(watchdog, [&] { return segment.get().is_full(); }));
    // It goes on into the room made here while it is killed.
    for (std::uint64_t i = 0; i < 40; ++i) ASSERT_TRUE(segment.get().try_pop()->is(i));
  }
  std::uint64_t next = 40;
  for (; auto item = segment.get().try_pop(); ++next) ASSERT_TRUE(item->is(next));
  EXPECT_GE(next, 64u);
}

// All that a side knows lies in the ring, as offsets: the next process goes on where the last one left off.
template <typename Ring>
void ends_pass_from_process_to_process() {
  using T = typename Ring::value_type;
  Segment<Ring> segment;
  std::uint64_t pushed = 0;
  std::uint64_t popped = 0;
  for (std::uint64_t turn = 1; turn <= 12; ++turn) {
    const std::uint64_t pushes = std::min<std::uint64_t>(5 * turn, Ring::capacity() - (pushed - popped));
    Child producer([&] {
      if (!segment.move()) return false;
      for (std::uint64_t i = 0; i < pushes; ++i) {
        if (!segment.get().try_push(T(pushed + i))) return false;
      }
      return true;
    });
    ASSERT_TRUE(producer.succeeded()) << "turn " << turn;
    pushed += pushes;
    const std::uint64_t pops = std::min<std::uint64_t>(7 * turn, pushed - popped);
    Child consumer([&] {
      if (!segment.move()) return false;
      T item;
      for (std::uint64_t i = 0; i < pops; ++i) {
        if (!segment.get().try_pop(item) || !item.is(popped + i)) return false;
      }
      return true;
    });
    ASSERT_TRUE(consumer.succeeded()) << "turn " << turn;
    popped += pops;
    ASSERT_EQ(segment.get().size(), pushed - popped);
  }
}

TEST(RingBufferProcesses, EachEndMayPassFromProcessToProcess) {
  ends_pass_from_process_to_process<SPSCRingBuffer<Sized<8>, 32>>();
  ends_pass_from_process_to_process<SPSCRingBuffer<Sized<200>, 64>>();
  ends_pass_from_process_to_process<MPMCRingBuffer<Sized<8>, 32>>();
}

}  // namespace
