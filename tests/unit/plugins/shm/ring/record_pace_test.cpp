#include "ring/record_pace.h"

#include <gtest/gtest.h>

namespace cdmf::ipc::shm {
namespace {

/// How many of `times` rounds of `records` records, then `empty` polls that find nothing, end in a rest. A rest brings
/// `after_rest` records at once.
int rests(RecordPace& pace, int times, std::size_t records, int empty, std::size_t after_rest) {
  int count = 0;
  for (int round = 0; round < times; ++round) {
    pace.after_poll(records);
    for (int poll = 0; poll < empty; ++poll) {
      if (!pace.after_poll(0)) continue;
      ++count;
      if (after_rest != 0) pace.after_poll(after_rest);
    }
  }
  return count;
}

TEST(RecordPace, MessagesThatAreWaitedForOneByOneNeverCauseARest) {
  RecordPace pace;
  EXPECT_EQ(rests(pace, 100'000, 1, 1, 0), 0);
  EXPECT_EQ(rests(pace, 100'000, 30, 40, 0), 0);
}

TEST(RecordPace, AStreamReadAtItsHeelsRestsEachTimeItIsFoundEmpty) {
  RecordPace pace;
  EXPECT_GE(rests(pace, 100, 3, 1, 200), 80);  // One by one flushed: a few records at each poll.
  EXPECT_EQ(rests(pace, 100, 24, 1, 200), 100);
}

TEST(RecordPace, RestsThatBringLittleBecomeRare) {
  RecordPace pace;
  const int first = rests(pace, 1000, 64, 1, 0);
  EXPECT_GT(first, 0);
  EXPECT_LT(first, 20);  // 64'000 records, and the distance doubles each time.
  EXPECT_LE(rests(pace, 1000, 64, 1, 0), 1);
}

TEST(RecordPace, AStreamAfterManyMistakesIsFoundAgain) {
  RecordPace pace;
  for (int i = 0; i < 5; ++i) rests(pace, 1000, 64, 1, 0);
  EXPECT_GT(rests(pace, 100'000, 64, 1, 200), 0);
  EXPECT_GE(rests(pace, 100, 64, 1, 200), 100);
}

TEST(RecordPace, TheEndOfAStreamRestsOnce) {
  RecordPace pace;
  rests(pace, 100, 24, 1, 200);
  EXPECT_TRUE(rests(pace, 1, 24, 1, 0) == 1);
  EXPECT_EQ(rests(pace, 1, 0, 100'000, 0), 0);
}

}  // namespace
}  // namespace cdmf::ipc::shm
