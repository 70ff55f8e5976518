#pragma once
// log_limit.h: keeps what peers can cause at any rate from filling the log.
#include <algorithm>
#include <cstdint>

namespace cdmf::ipc::shm {

/// Lets through kBurst lines at once, and one each kEachNs in the long run; counts the others. One thread.
class LogLimit {
 public:
  static constexpr std::uint64_t kBurst = 64;
  static constexpr std::uint64_t kEachNs = 1'000'000'000;

  /// now_ns    of a clock that does not go back.
  /// left_out  set when true is returned: how many lines were not let through since the last that was.
  bool allows(std::uint64_t now_ns, std::uint64_t& left_out) noexcept {
    const std::uint64_t earned = (now_ns - counted_to_ns_) / kEachNs;
    counted_to_ns_ += earned * kEachNs;
    allowed_ = std::min(kBurst, allowed_ + earned);
    if (allowed_ == 0) {
      ++left_out_;
      return false;
    }
    --allowed_;
    left_out = left_out_;
    left_out_ = 0;
    return true;
  }

 private:
  std::uint64_t counted_to_ns_ = 0;
  std::uint64_t allowed_ = kBurst;
  std::uint64_t left_out_ = 0;
};

}  // namespace cdmf::ipc::shm
