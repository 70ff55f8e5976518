// The deadlines of asynchronous calls: looked at by whoever receives (Receive::POLL), or by a timer thread.
#include "coarse_clock.h"
#include "ipc/driver.h"
#include "rpc/proxy_core.h"

namespace cdmf::ipc::rpc {
namespace {

using namespace std::chrono_literals;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::chrono::nanoseconds kDoze = 1s;  // Between looks of a timer with nothing to do.

constexpr std::uint64_t count_of(std::chrono::nanoseconds duration) noexcept {
  return static_cast<std::uint64_t>(duration.count());
}

}  // namespace

void ProxyCore::expire(std::uint64_t now_ns) {
  pending_.take_expired(now_ns, [this](Call& call) {
    finish(call, {CallStatus::UNKNOWN, TransportError::TIMEOUT, 0, "no answer in time", {}});
  });
}

/// With the turn.
void ProxyCore::expire_if_due() {
  if (!async_used_.load(kRelaxed)) return;
  const std::uint64_t now = coarse_now_ns();
  if (now - last_expiry_ns_ < count_of(kDeadlineTick)) return;
  last_expiry_ns_ = now;
  expire(monotonic_now_ns());
}

/// The timer looks every kDeadlineTick while calls are in flight. One that falls asleep just when a call is made is
/// woken by nobody, and finds it at its next look: that deadline is kept kDoze late.
void ProxyCore::wake_timer() {
  const std::lock_guard lock(timer_mutex_);
  if (timer_ending_) return;
  timer_dozes_.store(false, kRelaxed);
  if (timer_.joinable()) {
    timer_changed_.notify_one();
  } else {
    timer_ = std::thread([self = shared_from_this()] { self->timer_loop(); });
  }
}

void ProxyCore::timer_loop() {
  const Visit visit(*this);
  std::unique_lock lock(timer_mutex_);
  std::uint64_t idle_since = monotonic_now_ns();
  while (!timer_ending_) {
    timer_changed_.wait_for(lock, timer_dozes_.load(kRelaxed) ? kDoze : kDeadlineTick);
    if (timer_ending_) return;
    lock.unlock();
    const std::uint64_t now = monotonic_now_ns();
    expire(now);
    if (pending_.in_flight() > 0) idle_since = now;
    lock.lock();
    timer_dozes_.store(now - idle_since > count_of(kDoze), kRelaxed);
  }
}

void ProxyCore::end_timer() {
  {
    const std::lock_guard lock(timer_mutex_);
    timer_ending_ = true;
    timer_changed_.notify_one();
  }
  if (!timer_.joinable()) return;
  if (timer_.get_id() == std::this_thread::get_id()) {
    timer_.detach();  // A callback that it runs stops the proxy; it keeps the core and leaves.
  } else {
    timer_.join();
  }
}

}  // namespace cdmf::ipc::rpc
