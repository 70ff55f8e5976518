#include "ipc/time_left.h"

#include <gtest/gtest.h>

namespace cdmf::ipc {
namespace {

using namespace std::chrono_literals;

TEST(TimeLeft, IsNeverLessThanWhatWasSaidAndAnEighthMoreAtMost) {
  for (std::int64_t us = 1; us < std::int64_t{15} << 31; us += us / 97 + 1) {
    const auto left = TimeLeft::of(std::chrono::microseconds(us));
    ASSERT_TRUE(left.said()) << us;
    ASSERT_GE(left.duration().count(), us);
    ASSERT_LE(left.duration().count(), std::max<std::int64_t>(us + us / 8, 9)) << us;
  }
}

TEST(TimeLeft, KeepsEveryCodeThereAndBack) {
  for (int code = 1; code < 256; ++code) {
    const auto left = TimeLeft::from_code(static_cast<std::uint8_t>(code));
    EXPECT_EQ(TimeLeft::of(left.duration()), left) << code;
  }
}

TEST(TimeLeft, SaysNothingForNoTimeAndForTooMuch) {
  EXPECT_FALSE(TimeLeft().said());
  EXPECT_EQ(TimeLeft().duration(), 0us);
  EXPECT_FALSE(TimeLeft::of(0ns).said());
  EXPECT_FALSE(TimeLeft::of(-1ns).said());
  EXPECT_TRUE(TimeLeft::of(1ns).said());
  EXPECT_TRUE(TimeLeft::of(std::chrono::microseconds(std::int64_t{15} << 31)).said());
  EXPECT_FALSE(TimeLeft::of(std::chrono::hours(9)).said());
  EXPECT_FALSE(TimeLeft::of(std::chrono::nanoseconds::max()).said());
}

}  // namespace
}  // namespace cdmf::ipc
