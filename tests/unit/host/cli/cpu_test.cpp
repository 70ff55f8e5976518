#include "cli/cpu.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace cdmf::ipc::cli {
namespace {

int allowed_count() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  return CPU_COUNT(&allowed);
}

int first_allowed() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<unsigned>(cpu), &allowed)) return cpu;
  }
  return -1;
}

TEST(CpuPair, AreTwoDifferentUsableProcessorsWhenThereAreTwo) {
  if (allowed_count() < 2) GTEST_SKIP() << "one usable processor";
  const CpuPair pair = choose_cpu_pair();
  EXPECT_TRUE(pair.pinned);
  EXPECT_NE(pair.first, pair.second);
  std::thread([&] {  // Pinning belongs to a thread; the others keep theirs.
    EXPECT_TRUE(pin_to_cpu(pair.second));
    EXPECT_EQ(sched_getcpu(), pair.second);
  })
      .join();
}

TEST(CpuPair, IsNotPinnedAndSaysSoWhenOneProcessorIsUsable) {
  std::thread([] {
    ASSERT_TRUE(pin_to_cpu(first_allowed()));
    const CpuPair pair = choose_cpu_pair();
    EXPECT_FALSE(pair.pinned);
    EXPECT_LT(pair.first, 0);
    EXPECT_LT(pair.second, 0);
    EXPECT_NE(pair.note.find("not pinned"), std::string::npos) << pair.note;
  }).join();
}

TEST(PinToCpu, RefusesAProcessorThatDoesNotExistAndIgnoresNone) {
  const int before = allowed_count();
  EXPECT_FALSE(pin_to_cpu(1'000'000));
  EXPECT_TRUE(pin_to_cpu(-1));
  EXPECT_EQ(allowed_count(), before);
}

TEST(ScopedPin, PinsInsideTheScopeAndRestoresAfterIt) {
  const int before = allowed_count();
  {
    const ScopedPin pin(first_allowed());
    EXPECT_EQ(allowed_count(), 1);
  }
  EXPECT_EQ(allowed_count(), before);
}

}  // namespace
}  // namespace cdmf::ipc::cli
