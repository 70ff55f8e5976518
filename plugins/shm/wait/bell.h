#pragma once
// wait/bell.h: how the two ends of a ring wake each other: the message bell (the receiver sleeps) and the space bell
// (the sender sleeps). The words live in RecordRingControl.
//
// No wake-up is lost. A sleeper announces itself in a word, passes a full fence, and looks at the ring once more before
// it sleeps; the other side changes the ring, passes a full fence, and looks at the word. Whoever is second sees the
// first (ANNOUNCE). The fences are what that needs; release and acquire do not order a store before a later load.
// tests/model/shm_wake.pml has Spin search all of it, store buffers, parked links and deaths of senders included.
//
// The space bell has no fence at the consumer's end, whose fast path it would burden: the consumer looks at the word at
// each release, at each empty poll, and behind a fence before it sleeps itself. A consumer that does none of these runs
// a handler; the sender looks again every kSpaceSliceNs for that case.
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "ring/record_ring.h"
#include "wait/full_fence.h"
#include "wait/futex.h"

namespace cdmf::ipc::shm {

inline constexpr std::uint32_t kNotArmed = 0;
inline constexpr std::uint32_t kArmedFd = 1;         // The receiver sleeps in epoll on its eventfd.
inline constexpr std::uint32_t kArmedFutex = 2;      // The receiver sleeps on the word itself.
inline constexpr std::uint32_t kArmedSemaphore = 3;  // In the link's named semaphore; see Channel::ring().
inline constexpr std::uint64_t kSpaceSliceNs = 50'000'000;

inline void signal_fd(int eventfd) noexcept {
  const std::uint64_t one = 1;
  // It cannot be full in the life of the universe; and if it could, it would be readable, which is all we want.
  [[maybe_unused]] const ssize_t written = ::write(eventfd, &one, sizeof one);
}

/// The same for an eventfd that a peer has as well. False: the peer has taken O_NONBLOCK off, which both share; with
/// the counter full, the write would then never return. (A peer that does so in the very moment between look and write
/// is one for `trust: hostile`, where no eventfd is written to.)
inline bool signal_shared_fd(int eventfd) noexcept {
  if ((fcntl(eventfd, F_GETFL) & O_NONBLOCK) == 0) return false;
  signal_fd(eventfd);
  return true;
}

/// Wakes the receiver if it is announced. At most one wake-up per announcement. False: as signal_shared_fd().
inline bool wake_receiver(RecordRingControl& control, int bell_fd) noexcept {
  const std::uint32_t armed = control.armed.exchange(kNotArmed, std::memory_order_acq_rel);
  control.wakes.fetch_add(1, std::memory_order_relaxed);
  if (armed == kArmedFutex) futex_wake_all(control.armed);
  return armed != kArmedFd || signal_shared_fd(bell_fd);
}

/// Wakes the threads of this process that sleep on a word of theirs, whatever it says: a peer takes the word back
/// before it wakes, and may have died in between.
inline void wake_own(std::atomic<std::uint32_t>& word) noexcept {
  word.store(0, std::memory_order_release);
  futex_wake_all(word);
}

/// After a flush: wakes the receiver, unless it is known never to sleep. False: as signal_shared_fd().
inline bool after_flush(RecordRingControl& control, int bell_fd, bool receiver_may_sleep) noexcept {
  if (!receiver_may_sleep) return true;
  full_fence();  // ANNOUNCE: between the commit word and `armed`.
  if (control.armed.load(std::memory_order_relaxed) == kNotArmed) [[likely]]
    return true;
  return wake_receiver(control, bell_fd);
}

/// Whether a sender waits for room: then publish the head and call wake_senders().
inline bool space_wanted(const RecordRingControl& control) noexcept {
  return control.space_wanted.load(std::memory_order_relaxed) != 0;
}
/// Wakes every thread that waits for room in this ring.
inline void wake_senders(RecordRingControl& control) noexcept {
  if (control.space_wanted.exchange(0, std::memory_order_acq_rel) != 0) futex_wake_all(control.space_wanted);
}
/// One sleep of a sender, until woken or a slice has passed; `ready` is looked at once more after the announcement.
template <typename Ready>
void wait_for_space(RecordRingControl& control, std::uint64_t deadline, Ready&& ready) noexcept {
  control.space_wanted.store(1, std::memory_order_relaxed);
  full_fence();  // ANNOUNCE: between `space_wanted` and the head.
  if (ready()) return;
  control.space_waits.fetch_add(1, std::memory_order_relaxed);  // Several threads may wait.
  const std::uint64_t slice = monotonic_now_ns() + kSpaceSliceNs;
  futex_wait(control.space_wanted, 1, deadline < slice ? deadline : slice);
}

}  // namespace cdmf::ipc::shm
