#pragma once
// deadline.h: from durations of the API to the absolute deadlines used inside.
#include <chrono>
#include <cstdint>

#include "ipc/driver.h"

namespace cdmf::ipc {

/// kNoWait for 0 and less. Saturates, so that a huge time-out means "for ever" and not "at once".
[[nodiscard]] inline std::uint64_t deadline_after(std::chrono::nanoseconds timeout) noexcept {
  if (timeout.count() <= 0) return kNoWait;
  const std::uint64_t now = monotonic_now_ns();
  const auto wait = static_cast<std::uint64_t>(timeout.count());
  return wait > kForever - now ? kForever : now + wait;
}

[[nodiscard]] inline bool passed(std::uint64_t deadline) noexcept {
  return deadline != kForever && monotonic_now_ns() >= deadline;
}

}  // namespace cdmf::ipc
