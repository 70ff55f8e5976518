// How the receiver waits. wait/bell.h tells why no wake-up is lost.
#include <sched.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "shm_driver.h"

namespace cdmf::ipc::shm {
namespace {

constexpr std::uint64_t kFutexSliceNs = 250'000'000;
constexpr std::uint64_t kQuietIsOver = UINT64_MAX;  // In place of a link's id.

}  // namespace

/// Parked links apart.
bool ShmDriver::has_input() const noexcept {
  if (!receiver_links_.is_current(links_) || calls_.any()) return true;
  for (const Link* const link : polled_.hot()) {
    if (!link->finished && link->has_input()) return true;
  }
  return false;
}

/// Announces on every link that the receiver will sleep. False: do not, there is something.
bool ShmDriver::announce_sleep(std::uint32_t how) noexcept {
  // Links announced earlier and quiet since stay so. One that is parked and was announced is not looked at either: what
  // came since rang its bell, which is heard by whoever sleeps next.
  polled_.visit_unannounced([&](Link& link) {
    if (link.can_receive() && link.armed() != how && !(link.bell_watch.quiet && how == kArmedFd)) link.arm(how);
  });
  full_fence();  // ANNOUNCE: between `armed` and the commit words, and between the heads and `space_wanted`.
  bool input = false;
  polled_.visit_unannounced([&](Link& link) {
    if (link.can_receive()) link.offer_space();
    if (link.finished || !link.has_input()) return;
    polled_.unpark(link);
    input = true;
  });
  polled_.announced();
  return !input && receiver_links_.is_current(links_) && !calls_.any();
}

/// Waits for bells and kicks at most so long; those links that rang are hot from then on.
void ShmDriver::take_bells(int timeout_ms) {
  std::array<epoll_event, 64> events;
  int count;
  do {
    count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
    for (int i = 0; i < count; ++i) {
      const std::uint64_t id = events[static_cast<std::size_t>(i)].data.u64;
      if (id == kQuietIsOver) {
        some_quiet_ = false;
        polled_.end_quiet();
        continue;
      }
      // The kicker, and a link that is gone or not yet in the snapshot, are none: attend() sees to those.
      if (Link* const link = receiver_links_.find(id)) hear(*link);
    }
    timeout_ms = 0;
  } while (count == static_cast<int>(events.size()));
}

void ShmDriver::hear(Link& link) {
  polled_.unpark(link);
  switch (link.heard()) {
    case BellWatch::Ring::fine:
      break;
    case BellWatch::Ring::in_vain:
      hush(link);
      break;
    case BellWatch::Ring::unasked:
      break_link(link, "it rings its bell without being asked");
      break;
  }
}

/// Not announced for a while. Links hushed during that of another have a shorter one, so that nobody prolongs it.
void ShmDriver::hush(Link& link) noexcept {
  if (!quiet_timer_) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = kQuietIsOver;
    quiet_timer_.reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!quiet_timer_ || epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, quiet_timer_.get(), &event) != 0) {
      quiet_timer_.reset();  // Without descriptors the link goes on taking our time.
      return;
    }
  }
  if (!some_quiet_) {
    const itimerspec once{{}, {0, static_cast<long>(BellWatch::kQuietNs)}};
    if (timerfd_settime(quiet_timer_.get(), 0, &once, nullptr) != 0) return;
    some_quiet_ = true;
  }
  link.bell_watch.quiet = true;
}

/// Sleeps once, until woken, kicked or the deadline. Does not when there is something already.
void ShmDriver::sleep(std::uint64_t deadline, std::uint64_t began) {
  // With one link the receiver sleeps on its word: that wakes faster than an eventfd in an epoll set.
  Link* only = polled_.hot().size() == 1 && !polled_.has_parked() ? polled_.hot()[0] : nullptr;
  if (only != nullptr && (!only->can_receive() || only->terms().hostile)) only = nullptr;
  if (only == nullptr) {
    if (!announce_sleep(kArmedFd) || message_interrupt_.raised(began)) return;
    // Edges are kept until somebody waits, so a kick or a bell between the look and this is not missed.
    take_bells(poll_timeout_ms(deadline));
    return;
  }
  {
    const std::lock_guard lock(sleep_mutex_);
    futex_sleeper_ = only;  // A kick from here on takes the word back; one before it is seen by the look below.
  }
  const std::uint32_t how = only->best_sleep(options_.wait == WaitMode::semaphore);
  if (announce_sleep(how) && !message_interrupt_.raised(began)) {
    // The peer can write to the word as well, also what a kick has just taken back: then the kick would be missed.
    only->sleep(how, std::min(deadline, monotonic_now_ns() + kFutexSliceNs));
  }
  const std::lock_guard lock(sleep_mutex_);
  futex_sleeper_ = nullptr;
}

/// How long this wait spins, in nanoseconds.
std::uint64_t ShmDriver::next_spin() noexcept {
  std::uint64_t wakes = 0;
  for (const Link* const link : polled_.hot()) {
    if (link->can_send()) wakes += link->out_control().wakes.load(std::memory_order_relaxed);
  }
  return budget_.next(std::exchange(wakes_before_, wakes) != wakes);
}

cdmf_status ShmDriver::await_messages(std::uint64_t deadline) {
  const std::uint64_t began = message_interrupt_.count();
  if (message_interrupt_.take(began)) return CDMF_INTERRUPTED;
  unsigned turn = 0;
  Link* const only = polled_.hot().size() == 1 && polled_.hot()[0]->plain ? polled_.hot()[0] : nullptr;
  const auto done = [&] {
    if (only != nullptr) only->consumer->fetch_early();
    return has_input() || polled_.look_while_waiting(turn++) || message_interrupt_.raised(began);
  };
  const auto outcome = [&] { return message_interrupt_.take(began) ? CDMF_INTERRUPTED : CDMF_OK; };
  if (done()) return outcome();
  if (deadline == kNoWait) return CDMF_TIMEOUT;

  if (!options_.may_sleep()) {
    return spin_until(kForever, deadline, options_.wait == WaitMode::yield, done) ? outcome() : CDMF_TIMEOUT;
  }
  if (const std::uint64_t spin = options_.wait == WaitMode::adaptive && spinning_helps_ ? next_spin() : 0; spin != 0) {
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
  take_bells(0);
  if (!announce_sleep(kArmedFd)) return CDMF_READY;
  bells_may_ring_ = polled_.has_parked();  // Which of them did, only their events tell.
  return CDMF_ARMED;
}

void ShmDriver::interrupt() {
  message_interrupt_.raise();
  space_interrupt_.raise();
  for (const std::shared_ptr<Link>& link : links_.all()) {
    if (link) link->wake_own_senders();
  }
  kick(CDMF_NO_PEER);
}

}  // namespace cdmf::ipc::shm
