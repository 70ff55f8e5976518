#include "pump.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "ipc/driver.h"

namespace cdmf::ipc::grpc_transport {

Pump::Pump(grpc::CompletionQueue& queue, Complete complete, std::chrono::nanoseconds spin_max)
    : queue_(queue),
      complete_(complete),
      budget_(static_cast<std::uint64_t>(spin_max.count())),
      thread_([this] { run(); }) {}

void Pump::run() {
  void* tag = nullptr;
  for (bool ok = false; queue_.Next(&tag, &ok);) {
    complete_(tag, ok);
    if (step_aside_.exchange(false)) stand_aside();
  }
}

void Pump::stand_aside() {
  std::unique_lock lock(mutex_);
  aside_ = !finishing_;
  while (aside_) {
    const std::uint64_t turns = turns_;
    changed_.wait_for(lock, kAway, [this] { return go_on_ || finishing_; });
    if (go_on_ || finishing_ || (!driving_ && turns == turns_)) aside_ = false;
  }
  go_on_ = false;
}

void Pump::drive(std::uint64_t deadline, const std::function<bool()>& ready) {
  {
    const std::lock_guard lock(mutex_);
    if (!aside_) return;
    driving_ = true;
    ++turns_;
  }
  bool idle = false;
  std::uint64_t now = monotonic_now_ns();
  const std::uint64_t awake_until = std::min(deadline, now + budget_.next());
  bool spins = now < awake_until;
  while (!idle && !ready()) {
    now = monotonic_now_ns();
    if (spins && now < awake_until) {
      if (next_event(0)) continue;
      sched_yield();  // Whoever has to bring it may need this CPU.
      if (monotonic_now_ns() - now < SpinBudget::kCrowdedNs) continue;
      budget_.crowded();
      spins = false;
      continue;
    }
    if (std::exchange(spins, false)) budget_.wasted();
    const std::uint64_t hot_ns = std::chrono::nanoseconds(kHot).count();
    idle = !next_event(std::min(hot_ns, deadline - std::min(now, deadline)));
  }
  if (spins) budget_.paid();
  const std::lock_guard lock(mutex_);
  driving_ = false;
  ++turns_;
  if (!idle) return;
  go_on_ = true;
  changed_.notify_one();
}

/// Handles one event, waiting for it that long. False: none came.
bool Pump::next_event(std::uint64_t wait_ns) {
  const auto until = wait_ns == 0 ? std::chrono::system_clock::time_point{}  // Past whatever the clock says.
                                  : std::chrono::system_clock::now() + std::chrono::nanoseconds(wait_ns);
  void* tag = nullptr;
  bool ok = false;
  if (queue_.AsyncNext(&tag, &ok, until) != grpc::CompletionQueue::GOT_EVENT) return false;
  complete_(tag, ok);
  return true;
}

void Pump::go_on() {
  const std::lock_guard lock(mutex_);
  if (!aside_ || driving_) return;
  go_on_ = true;
  changed_.notify_one();
}

void Pump::finish() {
  const std::lock_guard lock(mutex_);
  finishing_ = true;
  changed_.notify_one();
}

}  // namespace cdmf::ipc::grpc_transport
