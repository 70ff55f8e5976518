#include "route/pattern.h"

#include <gtest/gtest.h>

#include <string>

namespace cdmf::ipc::route {
namespace {

TEST(Pattern, WithoutWildcardsIsTheSubjectItself) {
  EXPECT_TRUE(matches("orders", "orders"));
  EXPECT_FALSE(matches("orders", "order"));
  EXPECT_FALSE(matches("orders", "orders2"));
  EXPECT_TRUE(matches("", ""));
  EXPECT_FALSE(matches("", "x"));
}

TEST(Pattern, StarStandsForAnyBytesAndNone) {
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("*", "anything"));
  EXPECT_TRUE(matches("orders.*", "orders."));
  EXPECT_TRUE(matches("orders.*", "orders.new.eu"));
  EXPECT_FALSE(matches("orders.*", "orders"));
  EXPECT_TRUE(matches("*.eu", "orders.new.eu"));
  EXPECT_TRUE(matches("a*b*c", "a--b--b-c"));
  EXPECT_FALSE(matches("a*b*c", "a--b--b-"));
  EXPECT_TRUE(matches("**", "x"));
  EXPECT_TRUE(matches("*aab", "aaaab"));
}

TEST(Pattern, QuestionMarkStandsForOneByte) {
  EXPECT_TRUE(matches("till-?", "till-1"));
  EXPECT_FALSE(matches("till-?", "till-"));
  EXPECT_FALSE(matches("till-?", "till-12"));
  EXPECT_TRUE(matches("?*", "x"));
  EXPECT_FALSE(matches("?*", ""));
}

TEST(Pattern, OfManyStarsEndsOnALongSubject) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "*a";
  EXPECT_FALSE(matches(pattern + "b", std::string(256, 'a')));
}

TEST(Pattern, TakesBytesThatAreNoText) {
  using namespace std::string_view_literals;
  EXPECT_TRUE(matches("a*b",
                      "a\0\xff"
                      "b"sv));
}

}  // namespace
}  // namespace cdmf::ipc::route
