// How long a receiver spins: as long as it pays.
#include "spin_budget.h"

#include <gtest/gtest.h>

namespace cdmf::ipc::grpc_transport {
namespace {

constexpr std::uint64_t kLimitNs = 100'000;

TEST(SpinBudget, ShrinksToNothingWhileSpinningDoesNotPayAndProbesNowAndThen) {
  SpinBudget budget(kLimitNs);
  std::uint64_t before = budget.next();
  EXPECT_EQ(before, kLimitNs);
  for (int i = 0; i < 4; ++i) {
    budget.wasted();
    EXPECT_LT(budget.next(), before);
    before = budget.next();
  }
  EXPECT_EQ(before, 0u);
  unsigned probes = 0;
  for (unsigned i = 0; i < 10 * SpinBudget::kProbe; ++i) {
    const std::uint64_t spin = budget.next();
    EXPECT_TRUE(spin == 0 || spin == kLimitNs);
    probes += spin != 0;
    if (spin != 0) budget.wasted();
  }
  EXPECT_EQ(probes, 10u);
}

TEST(SpinBudget, IsWholeAgainAfterOneSpinThatPaid) {
  SpinBudget budget(kLimitNs);
  for (int i = 0; i < 10; ++i) budget.wasted();
  budget.paid();
  EXPECT_EQ(budget.next(), kLimitNs);
}

TEST(SpinBudget, OfNothingNeverSpins) {
  SpinBudget budget(0);
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(budget.next(), 0u);
    budget.paid();
  }
}

}  // namespace
}  // namespace cdmf::ipc::grpc_transport
