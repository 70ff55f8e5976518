#pragma once
// rpc/waiter.h: a thread that waits for the end of its call, and the turn at receiving that such threads give each
// other.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <vector>

#include "ipc/call.h"

namespace cdmf::ipc::rpc {

/// Where a thread sleeps. One for each thread, so that a call makes none.
struct Parking {
  std::mutex mutex;
  std::condition_variable changed;
  static Parking& mine() {
    thread_local Parking parking;
    return parking;
  }
};

/// On the stack of call(). Who took the call writes `result` and `thrown`, then calls end().
/// Edge ENDED  done store(release) -> ended(acquire).
struct Waiter {
  /// alone  The caller receives for itself, and no other thread ends calls.
  explicit Waiter(bool alone) : parking_(alone ? nullptr : &Parking::mine()) {}

  CallResult<void> result;
  std::exception_ptr thrown;  // By the reader of the reply.
  void* context = nullptr;
  bool (*read)(void* context, std::span<const std::byte> payload) = nullptr;

  [[nodiscard]] bool ended() const noexcept { return done_.load(std::memory_order_acquire); }  // ENDED

  void end() {
    if (parking_ == nullptr || parking_ == &Parking::mine()) {
      done_.store(true, std::memory_order_relaxed);  // The caller receives for itself.
      return;
    }
    const std::lock_guard lock(parking_->mutex);
    done_.store(true, std::memory_order_release);  // ENDED
    parking_->changed
        .notify_one();  // With the lock: when the caller can have it, this thread needs the waiter no more.
  }

  /// Sleeps until the end, its turn, or the deadline on the monotonic clock.
  void park(std::uint64_t deadline_ns) {
    const std::chrono::steady_clock::time_point until{std::chrono::nanoseconds(
        static_cast<std::int64_t>(std::min<std::uint64_t>(deadline_ns, std::uint64_t{1} << 62)))};
    std::unique_lock lock(parking_->mutex);
    parking_->changed.wait_until(lock, until, [this] { return ended() || has_turn_; });
  }
  void park() {
    if (parking_ == nullptr) return;  // Nobody else could have taken the call: it has ended.
    std::unique_lock lock(parking_->mutex);
    parking_->changed.wait(lock, [this] { return ended(); });
  }
  /// After ended() was seen without the lock: another thread may still be in end().
  void let_go() { const std::lock_guard lock(parking_->mutex); }

 private:
  friend class Turn;
  void give_turn() {
    const std::lock_guard lock(parking_->mutex);
    has_turn_ = true;
    parking_->changed.notify_one();
  }

  Parking* const parking_;
  std::atomic<bool> done_{false};
  bool has_turn_ = false;  // Guarded by the mutex of *parking_.
};

/// Who receives (Receive::POLL): one thread at a time. Whoever leaves gives the turn to the one that waits longest.
/// Order of locks: mutex_, then that of a Parking.
class Turn {
 public:
  [[nodiscard]] bool try_take() {
    const std::lock_guard lock(mutex_);
    return !std::exchange(taken_, true);
  }
  /// Waits. True: the turn is the caller's, also if its call has ended meanwhile. False: it is not, and the call has
  /// ended or the deadline has passed.
  [[nodiscard]] bool take(Waiter& waiter, std::uint64_t deadline_ns) {
    {
      const std::lock_guard lock(mutex_);
      if (!std::exchange(taken_, true)) return true;
      queue_.push_back(&waiter);
    }
    waiter.park(deadline_ns);
    const std::lock_guard lock(mutex_);
    return std::erase(queue_, &waiter) == 0;  // pass() takes it out when it gives it the turn.
  }
  void pass() {
    const std::lock_guard lock(mutex_);
    if (queue_.empty()) {
      taken_ = false;
      return;
    }
    Waiter* const next = queue_.front();
    queue_.erase(queue_.begin());
    next->give_turn();
  }

 private:
  std::mutex mutex_;
  bool taken_ = false;
  std::vector<Waiter*> queue_;
};

}  // namespace cdmf::ipc::rpc
