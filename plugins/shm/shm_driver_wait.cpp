// How the receiver waits. wait/bell.h tells why no wake-up is lost.
#include <sched.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>

#include "shm_driver.h"

namespace cdmf::ipc::shm {
namespace {

constexpr std::uint64_t kFutexSliceNs = 250'000'000;

}  // namespace

bool ShmDriver::has_input() const noexcept {
  if (!receiver_links_.is_current(links_)) return true;
  return std::any_of(polled_.begin(), polled_.end(),
                     [](const Link* link) { return !link->finished && link->has_input(); });
}

/// Announces on every link that the receiver will sleep. False: do not, there is something.
bool ShmDriver::announce_sleep(std::uint32_t how) noexcept {
  for (Link* const link : polled_) {
    // Links announced earlier and quiet since stay so: a sleeper does not touch them again.
    if (link->can_receive() && link->armed() != how) link->arm(how);
  }
  full_fence();  // ANNOUNCE: between `armed` and the commit words, and between the heads and `space_wanted`.
  for (Link* const link : polled_) {
    if (link->can_receive()) link->offer_space();
  }
  return !has_input();
}

/// Sleeps once, until woken, kicked or the deadline. Does not when there is something already.
void ShmDriver::sleep(std::uint64_t deadline, std::uint64_t began) noexcept {
  // With one link the receiver sleeps on its word: that wakes faster than an eventfd in an epoll set.
  Link* const only =
      polled_.size() == 1 && polled_[0]->can_receive() && !polled_[0]->terms().hostile ? polled_[0] : nullptr;
  if (only == nullptr) {
    if (!announce_sleep(kArmedFd) || message_interrupt_.raised(began)) return;
    // Edges are kept until somebody waits, so a kick or a bell between the look and this is not missed.
    std::array<epoll_event, 16> events;
    epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), poll_timeout_ms(deadline));
    return;
  }
  {
    const std::lock_guard lock(sleep_mutex_);
    futex_sleeper_ = only;  // A kick from here on takes the word back; one before it is seen by the look below.
  }
  if (announce_sleep(kArmedFutex) && !message_interrupt_.raised(began)) {
    // The peer can write to the word as well, also what a kick has just taken back: then the kick would be missed.
    futex_wait(only->in_control().armed, kArmedFutex, std::min(deadline, monotonic_now_ns() + kFutexSliceNs));
  }
  const std::lock_guard lock(sleep_mutex_);
  futex_sleeper_ = nullptr;
}

cdmf_status ShmDriver::await_messages(std::uint64_t deadline) {
  const std::uint64_t began = message_interrupt_.count();
  if (message_interrupt_.take(began)) return CDMF_INTERRUPTED;
  if (has_input()) return CDMF_OK;
  if (deadline == kNoWait) return CDMF_TIMEOUT;
  const auto done = [&] { return has_input() || message_interrupt_.raised(began); };
  const auto outcome = [&] { return message_interrupt_.take(began) ? CDMF_INTERRUPTED : CDMF_OK; };

  if (!options_.may_sleep()) {
    return spin_until(kForever, deadline, options_.wait == WaitMode::yield, done) ? outcome() : CDMF_TIMEOUT;
  }
  if (const std::uint64_t spin = options_.wait == WaitMode::adaptive && spinning_helps_ ? budget_.next() : 0;
      spin != 0) {
    if (spin_until(spin, deadline, false, done)) {
      budget_.paid();
      return outcome();
    }
    budget_.wasted();
  }
  for (;;) {
    sleep(deadline, began);
    if (done()) return outcome();
    if (deadline != kForever && monotonic_now_ns() >= deadline) return CDMF_TIMEOUT;
  }
}

int ShmDriver::poll_fd() {
  if (!can_poll_fd()) return -1;
  const std::lock_guard lock(sleep_mutex_);
  return epoll_.get();
}

cdmf_arm_result ShmDriver::arm() {
  if (!can_poll_fd()) return CDMF_READY;
  // Whoever sleeps on our epoll descriptor never takes events out of it: old ones would keep it readable for ever.
  std::array<epoll_event, 64> events;
  while (epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0) ==
         static_cast<int>(events.size())) {
  }
  return announce_sleep(kArmedFd) ? CDMF_ARMED : CDMF_READY;
}

void ShmDriver::interrupt() {
  message_interrupt_.raise();
  space_interrupt_.raise();
  for (const std::shared_ptr<Link>& link : links_.all()) {
    if (link) link->wake_own_senders();
  }
  kick();
}

}  // namespace cdmf::ipc::shm
