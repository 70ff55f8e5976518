#pragma once
// support/eventually.h: waiting for what another thread or process does, under a watchdog instead of a guess.
#include <chrono>
#include <thread>

namespace cdmf::ipc::testing {

/// Long enough for a loaded machine under a sanitizer; only a test that fails waits that long.
inline constexpr std::chrono::seconds kWatchdog{30};

/// Whether condition() becomes true before the watchdog barks.
template <typename Condition>
[[nodiscard]] bool eventually(Condition&& condition, std::chrono::nanoseconds watchdog = kWatchdog) {
  const auto until = std::chrono::steady_clock::now() + watchdog;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= until) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

}  // namespace cdmf::ipc::testing
