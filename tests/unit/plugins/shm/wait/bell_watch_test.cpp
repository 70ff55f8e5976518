// Whether a peer rings as it should: what a correct one can do at most, and what one that does not is told apart by.

#include "wait/bell_watch.h"

#include <gtest/gtest.h>

#include <random>

namespace cdmf::ipc::shm {
namespace {

using Ring = BellWatch::Ring;

TEST(BellWatch, NoOrderOfStepsHasACorrectPeerRingUnasked) {
  // The receiver announces and takes back; the sender takes the word, and rings later; epoll reports later still, and
  // holds one ring at most. After each ring something was received, or nothing.
  std::mt19937 random(1);
  BellWatch watch;
  std::uint64_t received = 0;
  bool armed = false;
  bool taken = false;
  bool reported = false;
  int heard = 0;
  for (int step = 0; step < 200'000; ++step) {
    switch (random() % 6) {
      case 0:
        if (!armed) watch.announced();
        armed = true;
        break;
      case 1:
        armed = armed && random() % 4 != 0;  // Disarmed, now and then.
        break;
      case 2:
        if (armed && !taken) taken = !(armed = false);
        break;
      case 3:
        reported |= taken;
        taken = false;
        break;
      case 4:
        received += random() % 2;
        break;
      default:
        if (!reported) break;
        reported = false;
        ++heard;
        ASSERT_NE(watch.heard(received), Ring::unasked) << "at step " << step;
    }
  }
  EXPECT_GT(heard, 1000);
}

TEST(BellWatch, RingsBeyondTheCreditProveThatNobodyAsked) {
  BellWatch watch;
  for (std::uint32_t i = 0; i < BellWatch::kCredit; ++i) ASSERT_NE(watch.heard(i), Ring::unasked);
  EXPECT_EQ(watch.heard(1000), Ring::unasked);
  watch.announced();
  EXPECT_EQ(watch.heard(1001), Ring::fine);
  EXPECT_EQ(watch.heard(1002), Ring::unasked);
}

TEST(BellWatch, AnnouncementsThatNobodyAnsweredAreNoCreditToFloodWith) {
  BellWatch watch;
  for (int i = 0; i < 1'000'000; ++i) watch.announced();
  for (std::uint32_t i = 0; i < BellWatch::kCredit; ++i) ASSERT_NE(watch.heard(i), Ring::unasked);
  EXPECT_EQ(watch.heard(1000), Ring::unasked);
}

TEST(BellWatch, RingsThatBringSomethingAreFineHoweverMany) {
  BellWatch watch;
  for (std::uint64_t i = 1; i <= 100'000; ++i) {
    watch.announced();
    ASSERT_EQ(watch.heard(i), Ring::fine);
  }
}

TEST(BellWatch, RingsThatBringNothingAreInVainAfterSomeAndOutweighedByOthers) {
  BellWatch watch;
  const auto ring = [&](std::uint64_t received) {
    watch.announced();
    return watch.heard(received);
  };
  for (std::uint32_t i = 0; i < BellWatch::kVainMax; ++i) ASSERT_EQ(ring(0), Ring::fine);
  EXPECT_EQ(ring(0), Ring::in_vain);
  EXPECT_EQ(ring(0), Ring::in_vain);  // It need not start again.
  EXPECT_EQ(ring(1), Ring::fine);
  EXPECT_EQ(ring(1), Ring::fine);
  EXPECT_EQ(ring(1), Ring::in_vain);
}

}  // namespace
}  // namespace cdmf::ipc::shm
