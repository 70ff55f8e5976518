// How long a receiver spins: the adaptive budget, and when spinning is left out.

#include "wait/spinner.h"

#include <gtest/gtest.h>

namespace cdmf::ipc::shm {
namespace {

TEST(AdaptiveBudget, IsNothingWhileSpinningDoesNotPayButForAProbeNowAndThen) {
  AdaptiveBudget budget(30'000);
  EXPECT_EQ(budget.next(false), 30'000u);
  for (int i = 0; i < 10; ++i) budget.wasted();
  int probes = 0;
  for (int i = 0; i < 160; ++i) {
    const std::uint64_t spin = budget.next(false);
    EXPECT_TRUE(spin == 0 || spin == 30'000u);
    probes += spin != 0;
  }
  EXPECT_EQ(probes, 10);
}

TEST(AdaptiveBudget, IsWholeAgainAfterOneProbeThatPaid) {
  AdaptiveBudget budget(30'000);
  for (int i = 0; i < 10; ++i) budget.wasted();
  int waits = 1;
  while (budget.next(false) == 0) ASSERT_LT(++waits, 100);
  budget.paid();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(budget.next(false), 30'000u);
}

TEST(AdaptiveBudget, StaysWholeForThreeWaitsThatDoNotPayAndEndsWithTheFourth) {
  AdaptiveBudget budget(30'000);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(budget.next(false), 30'000u);
    budget.wasted();
  }
  EXPECT_EQ(budget.next(false), 0u);
}

TEST(AdaptiveBudget, StaysWholeWhileItPaysEverySecondTimeAndEndsWhenItPaysEveryThird) {
  AdaptiveBudget half(30'000);
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(half.next(false), 30'000u);
    i % 2 == 0 ? half.wasted() : half.paid();
  }
  AdaptiveBudget third(30'000);
  int waits = 0;
  for (; waits < 40 && third.next(false) != 0; ++waits) waits % 3 == 2 ? third.paid() : third.wasted();
  EXPECT_LT(waits, 40);
}

TEST(AdaptiveBudget, WithoutABudgetNeverSpins) {
  AdaptiveBudget budget(0);
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(budget.next(false), 0u);
    budget.paid();
  }
}

TEST(AdaptiveBudget, AddsTheTimeOfWakingThePeerToWhatItSpinsAnyway) {
  AdaptiveBudget budget(30'000);
  EXPECT_EQ(budget.next(true), 30'000u + AdaptiveBudget::kWakeMaxNs);
  for (int i = 0; i < 10; ++i) budget.wasted();
  int probes = 0;
  for (int i = 0; i < 160; ++i) {
    const std::uint64_t spin = budget.next(true);
    EXPECT_TRUE(spin == 0 || spin == 30'000u + AdaptiveBudget::kWakeMaxNs);
    probes += spin != 0;
  }
  EXPECT_EQ(probes, 10);
  AdaptiveBudget none(0);
  EXPECT_EQ(none.next(true), 0u);
}

TEST(CanRunTogether, OnlyTheSameSingleCpuKeepsTwoProcessesApart) {
  EXPECT_FALSE(can_run_together(3, 3));
  EXPECT_TRUE(can_run_together(3, 4));
  EXPECT_TRUE(can_run_together(kSeveralCpus, 3));
  EXPECT_TRUE(can_run_together(3, kSeveralCpus));
  EXPECT_TRUE(can_run_together(kSeveralCpus, kSeveralCpus));
}

TEST(SpinUntil, EndsWhenDoneAtTheDeadlineAndAfterItsTime) {
  int looks = 0;
  EXPECT_TRUE(spin_until(kForever, kForever, false, [&] { return ++looks == 1000; }));
  const std::uint64_t before = monotonic_now_ns();
  EXPECT_FALSE(spin_until(kForever, before + 2'000'000, true, [] { return false; }));
  EXPECT_GE(monotonic_now_ns() - before, 2'000'000u);
  const std::uint64_t again = monotonic_now_ns();
  EXPECT_FALSE(spin_until(1'000'000, kForever, false, [] { return false; }));
  EXPECT_GE(monotonic_now_ns() - again, 1'000'000u);
}

}  // namespace
}  // namespace cdmf::ipc::shm
