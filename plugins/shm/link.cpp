#include "link.h"

#include <utility>

namespace cdmf::ipc::shm {

Link::Link(const LinkTerms& terms, Segment segment, std::unique_ptr<Channel> channel, UniqueFd own_bell,
           UniqueFd peer_bell)
    : drain_left(terms.plan.ring_bytes()),
      terms_(terms),
      segment_(std::move(segment)),
      channel_(std::move(channel)),
      own_bell_(std::move(own_bell)),
      peer_bell_(std::move(peer_bell)) {
  // A peer that is not trusted could make an eventfd block (its counter full, O_NONBLOCK taken off: both are shared),
  // so this one is woken through the channel.
  if (terms.hostile) peer_bell_.reset();
  const bool two_way = terms.plan.bidirectional;
  if (terms.is_server) {
    in_ = segment_.tx();
    consumer.emplace(in_);
    if (two_way) producer.emplace(out_ = segment_.rx());
  } else {
    producer.emplace(out_ = segment_.tx());
    if (two_way) consumer.emplace(in_ = segment_.rx());
  }
  if (can_receive()) segment_.control().counts.reader_count.fetch_add(1, std::memory_order_relaxed);
  if (can_send()) segment_.control().counts.writer_count.fetch_add(1, std::memory_order_relaxed);
  if (can_send()) put_size_max_.store(terms.plan.frame_size_max, std::memory_order_relaxed);
  returned_.reserve(RecordConsumer::kHeldMax);
}

Link::~Link() {
  if (can_receive()) segment_.control().counts.reader_count.fetch_sub(1, std::memory_order_relaxed);
  if (can_send()) segment_.control().counts.writer_count.fetch_sub(1, std::memory_order_relaxed);
}

bool Link::end(cdmf_status reason) noexcept {
  cdmf_status alive = CDMF_OK;
  if (!ended_.compare_exchange_strong(alive, reason, std::memory_order_acq_rel)) return false;
  put_size_max_.store(0, std::memory_order_relaxed);  // Seen late, one message more goes into the ring.
  wake_own_senders();
  return true;
}

void Link::sleep(std::uint32_t how, std::uint64_t deadline) noexcept {
  if (how != kArmedSemaphore) return futex_wait(in_.control->armed, how, deadline);
  sem_t* const semaphore = channel_->own_semaphore();
  if (semaphore == nullptr) return;  // Spoilt since; best_sleep() knows another way.
  if (deadline == kForever) {
    sem_wait(semaphore);
    return;
  }
  const timespec until{static_cast<time_t>(deadline / 1'000'000'000), static_cast<long>(deadline % 1'000'000'000)};
  sem_clockwait(semaphore, CLOCK_MONOTONIC, &until);
}

/// Takes back what was posted for earlier announcements, at most one each: whoever is yet to sleep would be woken by it
/// for nothing. When there is more and more, somebody floods it, and the receiver sleeps in the word instead.
bool Link::has_sound_semaphore() noexcept {
  constexpr int kPostsMax = 4096;
  sem_t* const semaphore = channel_->own_semaphore();
  if (semaphore == nullptr || semaphore_flooded_) return false;
  for (int taken = 0; sem_trywait(semaphore) == 0; ++taken) {
    if (taken == kPostsMax) {
      semaphore_flooded_ = true;
      return false;
    }
  }
  return true;
}

void Link::wake_own_receiver() noexcept {
  wake_own(in_.control->armed);
  if (sem_t* const semaphore = channel_->own_semaphore()) sem_post(semaphore);
}

void Link::give_back(std::uint64_t record_begin) {
  const std::lock_guard lock(returned_mutex_);
  returned_.push_back(record_begin);  // Within the quota of holds, hence within what was reserved.
  has_returned_.store(true, std::memory_order_release);
}

void Link::collect_returned_slowly() noexcept {
  const std::lock_guard lock(returned_mutex_);
  for (const std::uint64_t begin : returned_) consumer->release_held(begin);
  returned_.clear();
  has_returned_.store(false, std::memory_order_relaxed);
  offer_space();
}

void Link::notify_by_channel() noexcept {
  if (!terms_.peer_may_sleep) return;
  full_fence();  // ANNOUNCE
  const std::uint32_t armed = out_.control->armed.load(std::memory_order_relaxed);
  if (armed == kNotArmed) return;
  out_.control->armed.store(kNotArmed, std::memory_order_relaxed);
  out_.control->wakes.fetch_add(1, std::memory_order_relaxed);
  if (armed == kArmedFutex) {
    futex_wake_all(out_.control->armed);
    return;
  }
  channel_->ring(armed);
}

}  // namespace cdmf::ipc::shm
