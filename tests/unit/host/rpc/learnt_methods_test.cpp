#include "rpc/learnt_methods.h"

#include <gtest/gtest.h>

#include <thread>

namespace cdmf::ipc::rpc {
namespace {

TEST(LearntMethods, ANameHasOneEntryForEver) {
  for (const bool alone : {true, false}) {
    LearntMethods methods(alone);
    auto* const first = methods.find("first");
    auto* const second = methods.find("second");
    ASSERT_NE(first, nullptr);
    ASSERT_NE(second, nullptr);
    EXPECT_NE(first, second);
    EXPECT_EQ(methods.find("first"), first);
    EXPECT_EQ(methods.find("second"), second);
    EXPECT_EQ(second->name(), "second");
  }
}

TEST(LearntMethods, ThereIsRoomForSoManyNamesAndNoneForTheEmptyOne) {
  LearntMethods methods(true);
  EXPECT_EQ(methods.find(""), nullptr);
  for (std::size_t i = 0; i < LearntMethods::kNamesMax; ++i) EXPECT_NE(methods.find(std::to_string(i)), nullptr);
  EXPECT_EQ(methods.find("one more"), nullptr);
  EXPECT_NE(methods.find("0"), nullptr);
}

TEST(LearntMethods, ANumberComesWithItsPeerAndGoesWithTheLink) {
  LearntMethods methods(true);
  auto* const method = methods.find("echo");
  EXPECT_EQ(method->number().number, 0);
  method->learn(0x1234'5678'9abc, 127);
  EXPECT_EQ(method->number().peer, 0x1234'5678'9abcu);
  EXPECT_EQ(method->number().number, 127);
  methods.forget_numbers();
  EXPECT_EQ(method->number().number, 0);
}

TEST(LearntMethods, WhatIsNoNumberIsNotLearnt) {
  LearntMethods methods(true);
  auto* const method = methods.find("echo");
  method->learn(1, 0);
  method->learn(1, 128);
  method->learn(PeerId{1} << 57, 1);  // No room for this peer beside it: better none than another.
  EXPECT_EQ(method->number().number, 0);
}

TEST(LearntMethods, ManyThreadsAgreeOnTheEntries) {
  LearntMethods methods(false);
  std::array<std::array<LearntMethods::Method*, 40>, 4> found{};
  std::vector<std::jthread> threads;
  for (auto& mine : found) {
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < mine.size(); ++i) mine[i] = methods.find("method " + std::to_string(i));
    });
  }
  threads.clear();
  for (const auto& other : found) EXPECT_EQ(other, found[0]);
  for (std::size_t i = 0; i < found[0].size(); ++i) EXPECT_EQ(found[0][i]->name(), "method " + std::to_string(i));
}

}  // namespace
}  // namespace cdmf::ipc::rpc
