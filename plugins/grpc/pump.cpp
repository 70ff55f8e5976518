#include "pump.h"

#include <algorithm>

#include "ipc/driver.h"

namespace cdmf::ipc::grpc_transport {

Pump::Pump(grpc::CompletionQueue& queue, Complete complete)
    : queue_(queue), complete_(complete), thread_([this] { run(); }) {}

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
  while (!idle && !ready()) {
    const std::uint64_t now = monotonic_now_ns();
    const auto wait =
        std::min<std::uint64_t>(std::chrono::nanoseconds(kHot).count(), deadline - std::min(now, deadline));
    void* tag = nullptr;
    bool ok = false;
    const auto status = queue_.AsyncNext(&tag, &ok, std::chrono::system_clock::now() + std::chrono::nanoseconds(wait));
    if (status == grpc::CompletionQueue::GOT_EVENT) complete_(tag, ok);
    idle = status != grpc::CompletionQueue::GOT_EVENT;
  }
  const std::lock_guard lock(mutex_);
  driving_ = false;
  ++turns_;
  if (!idle) return;
  go_on_ = true;
  changed_.notify_one();
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
