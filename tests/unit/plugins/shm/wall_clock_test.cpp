#include "wall_clock.h"

#include <gtest/gtest.h>
#include <time.h>

namespace cdmf::ipc::shm {
namespace {

std::uint64_t system_us() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(now.tv_nsec) / 1000;
}

// Wide enough for a system that sets its clock gently meanwhile; a wrong speed or anchor is off by far more.
constexpr std::uint64_t kToleranceUs = 200;

TEST(WallClock, AgreesWithTheSystemAtItsFirstReading) {
  WallClock clock;
  const std::uint64_t before = system_us();
  const std::uint64_t read = clock.now_us();
  EXPECT_GE(read, before);
  EXPECT_LE(read, system_us());
}

TEST(WallClock, StaysWithTheSystemWhileItCountsByItself) {
  WallClock clock;
  const std::uint64_t begin = system_us();
  std::uint64_t before = begin;
  // Past the first measurement of its speed (10 ms) and through many renewals.
  while (before - begin < 60'000) {
    before = system_us();
    const std::uint64_t read = clock.now_us();
    const std::uint64_t after = system_us();
    ASSERT_GE(read + kToleranceUs, before) << before - begin;
    ASSERT_LE(read, after + kToleranceUs) << before - begin;
  }
}

TEST(WallClock, GoesOnAfterALongPause) {
  WallClock clock;
  for (const std::uint64_t begin = system_us(); system_us() - begin < 20'000;) static_cast<void>(clock.now_us());
  const timespec pause{0, 50'000'000};
  nanosleep(&pause, nullptr);
  const std::uint64_t before = system_us();
  const std::uint64_t read = clock.now_us();
  EXPECT_GE(read + kToleranceUs, before);
  EXPECT_LE(read, system_us() + kToleranceUs);
}

}  // namespace
}  // namespace cdmf::ipc::shm
