#pragma once
// ipc/time_left.h: how long the sender of a request still waits for its answer, in one byte of the frame's header.
#include <bit>
#include <chrono>
#include <cstdint>

namespace cdmf::ipc {

/// A duration with four significant bits, 9 µs … 8.9 h, or "not said". Rounded up, by at most an eighth: who works for
/// a sender never gives up before it. One byte, because a request of 32 bytes must still fit one cache line.
class TimeLeft {
 public:
  constexpr TimeLeft() noexcept = default;  ///< Not said.
  /// Not said for a time of 0 or less, and for one beyond the scale: nobody needs to be told to hurry then.
  static constexpr TimeLeft of(std::chrono::nanoseconds left) noexcept {
    if (left.count() <= 0 || left > kLongest) return {};
    const auto us = static_cast<std::uint64_t>((left.count() + 999) / 1000);
    if (us <= 9) return from_code(1);
    // us = significand * 2^exponent with a significand of 8 … 15, what lies below it rounded up.
    const int width = static_cast<int>(std::bit_width(us));
    const int exponent = width > 4 ? width - 4 : 0;
    const std::uint64_t significand = (us + (std::uint64_t{1} << exponent) - 1) >> exponent;
    const std::uint64_t code = (static_cast<std::uint64_t>(exponent) << 3) + significand - 8;  // 16 carries over.
    return from_code(static_cast<std::uint8_t>(code));
  }
  static constexpr TimeLeft from_code(std::uint8_t code) noexcept {
    TimeLeft left;
    left.code_ = code;
    return left;
  }

  [[nodiscard]] constexpr bool said() const noexcept { return code_ != 0; }
  /// 0 when not said.
  [[nodiscard]] constexpr std::chrono::microseconds duration() const noexcept {
    if (code_ == 0) return std::chrono::microseconds(0);
    return std::chrono::microseconds(static_cast<std::int64_t>(8 + (code_ & 7)) << (code_ >> 3));
  }
  [[nodiscard]] constexpr std::uint8_t code() const noexcept { return code_; }
  friend constexpr bool operator==(TimeLeft, TimeLeft) noexcept = default;

 private:
  static constexpr std::chrono::microseconds kLongest{std::int64_t{15} << 31};
  std::uint8_t code_ = 0;  // exponent << 3 | significand - 8; the 0 that would be 8 µs says nothing.
};

}  // namespace cdmf::ipc
