// The receiver's half: links that have something, frames that stall, waiting and holding.
#include <sched.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "unix_socket_driver.h"

namespace cdmf::ipc::unix_socket {
namespace {

// Blocks of one link that holds may keep: with them, the memory of a link stays bounded whatever a program holds.
constexpr unsigned kHeldBlocksMax = 16;

// A program that polls without waiting asks its only link and not the epoll set; but the set also knows of the peer's
// process and of stalled frames, hence every so many looks it is asked as well.
constexpr unsigned kUnaskedMax = 256;

}  // namespace

std::size_t UnixSocketDriver::receive_burst(cdmf_view* views, std::size_t capacity) {
  if (!epoll_) return 0;
  if (!std::exchange(looked_, false)) {
    if (has_news_.load(std::memory_order_acquire)) take_news();
    if (watched_.size() == 1 && !watched_.begin()->second->is_behind() && ++unasked_ < kUnaskedMax) {
      // Asking the only socket directly costs as much as asking epoll, and brings the data.
      Link& only = *watched_.begin()->second;
      if (!only.queued) only.set_readable();
      make_ready(only);
    } else {
      unasked_ = 0;
      look(0);
    }
  }
  if (ready_.empty()) return 0;
  // A share of the burst for each, then a next turn: nobody can crowd out the others.
  const std::size_t share = std::max<std::size_t>(1, capacity / ready_.size());
  std::size_t count = 0;
  while (count < capacity && !ready_.empty()) {
    Link& link = *ready_.front();
    ready_.pop_front();
    const std::size_t wanted = std::min(share, capacity - count);
    const std::size_t taken = link.receive({views + count, wanted}, burst_);
    count += taken;
    if (link.is_done()) {
      link.queued = false;
      forget(link);
    } else if (taken == wanted && link.has_more()) {
      ready_.push_back(&link);
    } else {
      link.queued = false;
      watch_frame(link);
    }
  }
  return count;
}

/// Sees to it that a frame which has begun and does not go on is looked at in time.
void UnixSocketDriver::watch_frame(const Link& link) {
  const std::uint64_t deadline = link.frame_deadline();
  if (deadline >= frame_timer_at_) return;  // Mostly: kForever.
  itimerspec at{};
  at.it_value.tv_sec = static_cast<time_t>(deadline / 1'000'000'000u);
  at.it_value.tv_nsec = static_cast<long>(deadline % 1'000'000'000u);
  if (timerfd_settime(frame_timer_.get(), TFD_TIMER_ABSTIME, &at, nullptr) == 0) frame_timer_at_ = deadline;
}

void UnixSocketDriver::look_for_stalled_frames() {
  std::uint64_t expirations = 0;
  (void)!read(frame_timer_.get(), &expirations, sizeof expirations);
  frame_timer_at_ = kForever;
  for (const auto& [key, link] : watched_) {
    if (link->frame_deadline() == kForever) continue;
    link->set_readable();  // What has come while the program was busy elsewhere counts.
    make_ready(*link);
  }
}

void UnixSocketDriver::release_burst() {
  for (const auto& segment : burst_.segments) segment.block->unpin();
  burst_.segments.clear();
}

cdmf_status UnixSocketDriver::await_messages(std::uint64_t deadline) {
  if (!epoll_) return CDMF_NOT_INITIALIZED;
  for (bool has_spun = false;;) {
    const std::uint64_t interrupts = interrupts_.load();
    if (interrupts != std::exchange(interrupts_seen_receiving_, interrupts)) return CDMF_INTERRUPTED;
    if (!ready_.empty()) return CDMF_OK;
    if (!std::exchange(has_spun, true)) {
      looked_ = spin(deadline);
      continue;
    }
    int timeout_ms = poll_timeout_ms(deadline);
    if (timeout_ms < 0 || timeout_ms > Link::kReadWaitMs) {
      if (wait_for_only_link()) return CDMF_OK;
      timeout_ms = poll_timeout_ms(deadline);
    }
    look(timeout_ms);
    looked_ = !ready_.empty();
    if (looked_) return CDMF_OK;
    if (timeout_ms == 0 || (deadline != kForever && monotonic_now_ns() >= deadline)) {
      return interrupts_.load() != interrupts ? CDMF_INTERRUPTED : CDMF_TIMEOUT;
    }
  }
}

/// Looks again and again, for as long as that pays, and gives way to others in between. True: something is ready.
bool UnixSocketDriver::spin(std::uint64_t deadline) {
  std::uint64_t now = monotonic_now_ns();
  const std::uint64_t until = std::min(deadline, now + spin_budget_.next());
  if (now >= until || watched_.empty()) return false;
  while (now < until) {
    if (Link* const only = only_link(); only == nullptr || ++unasked_ >= kUnaskedMax) {
      unasked_ = 0;
      look(0);
    } else if (only->read_now()) {
      make_ready(*only);
    }
    if (!ready_.empty()) {
      spin_budget_.paid();
      return true;
    }
    if (interrupts_.load(std::memory_order_relaxed) != interrupts_seen_receiving_) return false;
    sched_yield();
    const std::uint64_t before = std::exchange(now, monotonic_now_ns());
    if (now - before >= SpinBudget::kCrowdedNs) {
      spin_budget_.crowded();
      return false;
    }
  }
  spin_budget_.wasted();
  return false;
}

/// Where one link is all there is, and nothing else to see to.
Link* UnixSocketDriver::only_link() const noexcept {
  if (watched_.size() != 1 || has_news_.load(std::memory_order_acquire)) return nullptr;
  Link* const only = watched_.begin()->second.get();
  return only->is_behind() ? nullptr : only;
}

/// Where one link is all there is, the next message is waited for in recv(), for a few milliseconds. An interrupt or a
/// new client is noticed that much later; who is silent for longer costs no further wake-up.
bool UnixSocketDriver::wait_for_only_link() {
  Link* const only = only_link();
  if (only == nullptr || !only->wait_by_reading()) return false;
  make_ready(*only);
  looked_ = true;
  return true;
}

cdmf_arm_result UnixSocketDriver::arm() {
  // The epoll set is level-triggered: whatever comes from here on makes it readable.
  if (epoll_ && ready_.empty()) look(0);
  looked_ = !ready_.empty();
  return ready_.empty() ? CDMF_ARMED : CDMF_READY;
}

int UnixSocketDriver::poll_fd() {
  const std::lock_guard lock(mutex_);
  return epoll_.get();
}

/// Asks the kernel which links have something to do.
void UnixSocketDriver::look(int timeout_ms) {
  epoll_event events[64];
  const int count = epoll_wait(epoll_.get(), events, 64, timeout_ms);
  bool woken = false;
  for (int i = 0; i < count; ++i) {
    if (events[i].data.ptr == nullptr) {
      woken = true;
      continue;
    }
    if (events[i].data.ptr == &frame_timer_) {
      look_for_stalled_frames();
      continue;
    }
    // Alive: this thread alone takes it out of watched_.
    Link& link = *reinterpret_cast<Link*>(events[i].data.u64 & ~std::uint64_t{Link::kProcessTag});
    if ((events[i].data.u64 & Link::kProcessTag) != 0) {
      link.set_process_ended();
      make_ready(link);
      continue;
    }
    if ((events[i].events & EPOLLOUT) != 0) link.send_rest();
    if ((events[i].events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) {
      link.set_readable();
      make_ready(link);
    }
  }
  if (woken) {
    std::uint64_t drained = 0;
    (void)!read(wake_.get(), &drained, sizeof drained);
    take_news();
  }
}

void UnixSocketDriver::take_news() {
  std::vector<std::shared_ptr<Link>> news;
  {
    const std::lock_guard lock(mutex_);
    has_news_ = false;
    news.swap(news_);
  }
  for (auto& link : news) {
    if (link->is_done()) continue;  // It ended by itself before this news of its end was read.
    if (!watched_.contains(link.get())) {
      if (!link->watch(epoll_.get())) {
        host_.log(CDMF_LOG_ERROR, address_, ": epoll_ctl failed with errno ", errno, "; peer ", link->id(),
                  " is disconnected");
        link->end(CDMF_RESOURCE_EXHAUSTED, kNoWait);
      }
      watched_.emplace(link.get(), link);
    }
    make_ready(*link);
  }
}

void UnixSocketDriver::make_ready(Link& link) {
  if (std::exchange(link.queued, true)) return;
  ready_.push_back(&link);
}

/// The link's PEER_DISCONNECTED is in the burst.
void UnixSocketDriver::forget(Link& link) {
  const auto found = watched_.find(&link);
  const std::shared_ptr<Link> last = std::move(found->second);
  watched_.erase(found);
  if (last->problem()[0] != '\0') {
    host_.log(CDMF_LOG_WARNING, address_, ": peer ", last->id(), " of user ", last->uid(), " sent ", last->problem(),
              "; it is disconnected");
  }
  const std::lock_guard lock(mutex_);
  links_.erase(last->id());
}

cdmf_status UnixSocketDriver::hold(cdmf_peer peer, std::uint64_t token, std::uint64_t& held) {
  if (token >= burst_.segments.size() || burst_.segments[token].peer != peer) return CDMF_INVALID_ARGUMENT;
  const std::shared_ptr<Block>& block = burst_.segments[token].block;
  const std::lock_guard lock(mutex_);
  if (block->holds == 0) {
    unsigned& blocks = held_blocks_[peer];
    if (blocks >= kHeldBlocksMax) return CDMF_RESOURCE_EXHAUSTED;
    ++blocks;
  }
  ++block->holds;
  block->pin();
  held = ++last_held_;
  held_.emplace(held, Held{block, peer});
  return CDMF_OK;
}

void UnixSocketDriver::unhold(std::uint64_t held) {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(held);
  if (found == held_.end()) return;
  const auto& [block, peer] = found->second;
  block->unpin();
  if (--block->holds == 0) {
    const auto blocks = held_blocks_.find(peer);
    if (--blocks->second == 0) held_blocks_.erase(blocks);
  }
  held_.erase(found);
}

}  // namespace cdmf::ipc::unix_socket
