#include "log_limit.h"

#include <gtest/gtest.h>

namespace cdmf::ipc::shm {
namespace {

TEST(LogLimit, LetsABurstThroughThenOneASecondAndTellsOfTheRest) {
  LogLimit limit;
  std::uint64_t left_out = 0;
  const std::uint64_t start = 5 * LogLimit::kEachNs;
  for (std::uint64_t i = 0; i < LogLimit::kBurst; ++i) {
    EXPECT_TRUE(limit.allows(start, left_out));
    EXPECT_EQ(left_out, 0u);
  }
  for (int i = 0; i < 7; ++i) EXPECT_FALSE(limit.allows(start + LogLimit::kEachNs - 1, left_out));
  EXPECT_TRUE(limit.allows(start + LogLimit::kEachNs, left_out));
  EXPECT_EQ(left_out, 7u);
  EXPECT_FALSE(limit.allows(start + LogLimit::kEachNs, left_out));
}

TEST(LogLimit, AQuietTimeEarnsABurstAndNoMore) {
  LogLimit limit;
  std::uint64_t left_out = 0;
  std::uint64_t through = 0;
  for (int i = 0; i < 1000; ++i) through += limit.allows(LogLimit::kEachNs, left_out);
  for (int i = 0; i < 1000; ++i) through += limit.allows(3600 * LogLimit::kEachNs, left_out);
  EXPECT_EQ(through, 2 * LogLimit::kBurst);
}

}  // namespace
}  // namespace cdmf::ipc::shm
