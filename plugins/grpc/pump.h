#pragma once
// pump.h: who drives gRPC's completion queue. Nothing in gRPC moves unless a thread waits in it.
//
// A thread of its own does, so that links make progress whatever the program does. But a message that this thread takes
// reaches the receiver by a second wake-up, which costs as much as the first. So when the thread has woken a receiver
// that waits in await_messages(), it steps aside and the receiver drives the queue itself as long as something comes
// every kHot, looking without sleeping as far as its SpinBudget goes. Whenever the receiver is away for kAway, sleeps
// for longer, or a sender waits, the thread goes on.
#include <grpcpp/completion_queue.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "ipc/spin_budget.h"

namespace cdmf::ipc::grpc_transport {

class Pump {
 public:
  static constexpr std::chrono::milliseconds kHot{2};
  static constexpr std::chrono::milliseconds kAway{1};

  /// complete  What to do with an event: called by whoever drives, one at a time.
  using Complete = void (*)(void* tag, bool ok);
  Pump(grpc::CompletionQueue& queue, Complete complete, std::chrono::nanoseconds spin_max);

  /// Drives the queue until ready(), the deadline, or nothing came for kHot; not at all while the thread does.
  /// [receiver, without locks]
  void drive(std::uint64_t deadline, const std::function<bool()>& ready);
  /// The receiver sleeps from now on, or does not any more; only then is it worth stepping aside for. [receiver]
  void sleeping(bool yes) noexcept { receiver_sleeps_ = yes; }
  /// Whether it is the receiver who drives.
  [[nodiscard]] bool receiver_drives() const noexcept { return driving_; }
  /// The receiver was woken. [any]
  void woken() noexcept {
    if (receiver_sleeps_) step_aside_ = true;
  }
  /// Somebody waits for what only the queue can bring. [any]
  void go_on();
  /// From now on the thread drives alone, until the queue has shut down.
  void finish();
  void join() { thread_.join(); }

 private:
  void run();
  void stand_aside();
  [[nodiscard]] bool next_event(std::uint64_t wait_ns);

  grpc::CompletionQueue& queue_;
  const Complete complete_;
  SpinBudget budget_;  // The receiver's.
  std::atomic<bool> receiver_sleeps_{false};
  std::atomic<bool> step_aside_{false};

  std::mutex mutex_;  // Guards everything below.
  std::condition_variable changed_;
  bool aside_ = false;                // The thread leaves the queue to the receiver.
  std::atomic<bool> driving_{false};  // The receiver is in drive().
  bool go_on_ = false;                // Ends `aside_`.
  bool finishing_ = false;            // For good.
  std::uint64_t turns_ = 0;
  std::thread thread_;  // Last: it uses what is above.
};

}  // namespace cdmf::ipc::grpc_transport
