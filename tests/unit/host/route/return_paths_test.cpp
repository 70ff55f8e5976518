#include "route/return_paths.h"

#include <gtest/gtest.h>

#include <set>

namespace cdmf::ipc::route {
namespace {

ReturnPath path(std::uint64_t id, PeerId via, std::uint64_t expires_ns) {
  return {.origin = nullptr, .peer = 7, .id = id, .via = via, .route = nullptr, .expires_ns = expires_ns};
}

TEST(ReturnPaths, AreTakenOnceAndOnlyByWhoWasAsked) {
  ReturnPaths paths;
  const auto number = paths.add(path(42, 3, 1000), 0);
  ASSERT_TRUE(number);
  EXPECT_FALSE(paths.take(*number, 4)) << "another peer answered for it";
  const auto taken = paths.take(*number, 3);
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->id, 42u);
  EXPECT_EQ(taken->peer, 7u);
  EXPECT_FALSE(paths.take(*number, 3));
}

TEST(ReturnPaths, NumbersAreNeverUsedAgainAndDifferBetweenProcesses) {
  ReturnPaths paths;
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    const auto number = paths.add(path(1, 3, 1000), 0);
    EXPECT_TRUE(seen.insert(*number).second);
    (void)paths.take(*number, 3);
  }
  ReturnPaths others;
  EXPECT_EQ(seen.count(*others.add(path(1, 3, 1000), 0)), 0u);
}

TEST(ReturnPaths, OfOnePeerAreTakenTogether) {
  ReturnPaths paths;
  for (std::uint64_t id = 0; id < 10; ++id) (void)paths.add(path(id, 3 + id % 2, 1000), 0);
  EXPECT_EQ(paths.take_all(3).size(), 5u);
  EXPECT_EQ(paths.take_all(3).size(), 0u);
  EXPECT_EQ(paths.take_all(4).size(), 5u);
}

TEST(ReturnPaths, AreBoundedAndExpire) {
  ReturnPaths paths;
  for (std::size_t i = 0; i < ReturnPaths::kCountMax; ++i) ASSERT_TRUE(paths.add(path(i, 3, 1000 + i), 0));
  EXPECT_FALSE(paths.add(path(1, 3, 5000), 999));
  EXPECT_TRUE(paths.add(path(1, 3, 5000), 1000)) << "one has expired";
  EXPECT_FALSE(paths.add(path(1, 3, 5000), 1000));
}

}  // namespace
}  // namespace cdmf::ipc::route
