#pragma once
// inspect/troubles.h: the last thing that went wrong in an endpoint, for observers.
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <mutex>
#include <sstream>
#include <string>

#include "ipc/inspect_abi.h"

namespace cdmf::ipc::shm {

inline std::uint64_t wall_now_us() noexcept {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(now.tv_nsec) / 1000;
}

/// Every method may be called from any thread. None is on a path that is in a hurry.
class Troubles {
 public:
  template <typename... Parts>
  void record(cdmf_status status, const Parts&... parts) noexcept {
    try {
      std::ostringstream text;
      (text << ... << parts);
      const std::lock_guard lock(mutex_);
      text_ = text.str();
      status_ = status;
      time_us_ = wall_now_us();
      ++count_;
    } catch (...) {  // Out of memory: the count at least.
      const std::lock_guard lock(mutex_);
      ++count_;
    }
  }
  void report(cdmf_endpoint_report& endpoint) const noexcept {
    const std::lock_guard lock(mutex_);
    endpoint.error_count = count_;
    endpoint.last_error = status_;
    endpoint.last_error_us = time_us_;
    std::snprintf(endpoint.last_error_text, sizeof endpoint.last_error_text, "%s", text_.c_str());
  }

 private:
  mutable std::mutex mutex_;
  std::uint64_t count_ = 0;
  std::uint64_t time_us_ = 0;
  cdmf_status status_ = CDMF_OK;
  std::string text_;
};

}  // namespace cdmf::ipc::shm
