#pragma once
// coarse_clock.h: the monotonic clock, cheaper than an exact reading and behind it by some milliseconds.
#include <time.h>

#include <cstdint>

namespace cdmf::ipc {

inline std::uint64_t coarse_now_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace cdmf::ipc
