// How long a receiver spins: as long as it pays.
#include "ipc/spin_budget.h"

#include <gtest/gtest.h>

namespace cdmf::ipc {
namespace {

constexpr std::uint64_t kLimitNs = 100'000;

/// Waits up to and including the next one that may spin.
unsigned waits_until_a_spin(SpinBudget& budget) {
  unsigned waits = 1;
  for (std::uint64_t spin = budget.next(); spin == 0; spin = budget.next()) ++waits;
  return waits;
}

TEST(SpinBudget, ShrinksToNothingWhileSpinningDoesNotPay) {
  SpinBudget budget(kLimitNs);
  std::uint64_t before = budget.next();
  EXPECT_EQ(before, kLimitNs);
  for (int i = 0; i < 4; ++i) {
    budget.wasted();
    EXPECT_LT(budget.next(), before);
    before = budget.next();
  }
  EXPECT_EQ(before, 0u);
}

TEST(SpinBudget, TriesTheLimitNowAndThenAndMoreSeldomEachTime) {
  SpinBudget budget(kLimitNs);
  while (budget.next() != 0) budget.wasted();
  unsigned expected = SpinBudget::kProbeMin - 1;  // One has gone by.
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(waits_until_a_spin(budget), expected);
    budget.wasted();
    expected = i == 0 ? 2 * SpinBudget::kProbeMin : std::min(2 * expected, SpinBudget::kProbeMax);
  }
  EXPECT_EQ(expected, SpinBudget::kProbeMax);
}

TEST(SpinBudget, IsWholeAgainAfterOneSpinThatPaid) {
  SpinBudget budget(kLimitNs);
  for (int i = 0; i < 10; ++i) budget.wasted();
  budget.paid();
  EXPECT_EQ(budget.next(), kLimitNs);
  while (budget.next() != 0) budget.wasted();
  EXPECT_EQ(waits_until_a_spin(budget), SpinBudget::kProbeMin - 1) << "tries are frequent again as well";
}

TEST(SpinBudget, IsNothingAtOnceWhereOthersWantTheCpu) {
  SpinBudget budget(kLimitNs);
  budget.crowded();
  EXPECT_EQ(waits_until_a_spin(budget), 2 * SpinBudget::kProbeMin);
}

TEST(SpinBudget, OfNothingNeverSpins) {
  SpinBudget budget(0);
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(budget.next(), 0u);
    budget.paid();
  }
}

}  // namespace
}  // namespace cdmf::ipc
