#pragma once
// wait/futex.h: sleeping on a word of shared memory. Not std::atomic::wait, which in libstdc++ works within one process
// only.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

#include "ipc/driver.h"

namespace cdmf::ipc::shm {

/// Sleeps while the word has the value `expected`, until woken or the deadline. Returns for other reasons too: look
/// again.
inline void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint64_t deadline) noexcept {
  timespec until{};
  if (deadline != kForever) {
    until.tv_sec = static_cast<time_t>(deadline / 1'000'000'000);
    until.tv_nsec = static_cast<long>(deadline % 1'000'000'000);
  }
  // BITSET for its absolute time-out on CLOCK_MONOTONIC. Not PRIVATE: the other process must find us.
  syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, expected, deadline == kForever ? nullptr : &until, nullptr,
          FUTEX_BITSET_MATCH_ANY);
}

/// Wakes every process and thread that sleeps on the word. Returns how many there were.
inline long futex_wake_all(std::atomic<std::uint32_t>& word) noexcept {
  return syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace cdmf::ipc::shm
