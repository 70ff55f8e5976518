#include "config/text_check.h"

#include <gtest/gtest.h>

#include <string>

namespace cdmf::ipc::config {
namespace {

using namespace std::string_literals;

TEST(TextCheck, AcceptsEveryLengthOfUtf8Character) {
  EXPECT_FALSE(find_text_fault(""));
  EXPECT_FALSE(find_text_fault("a: 1\n\tb\r\n"));
  EXPECT_FALSE(
      find_text_fault("\x7E \xC2\x80 \xDF\xBF \xE0\xA0\x80 \xED\x9F\xBF \xEE\x80\x80 \xEF\xBF\xBF "
                      "\xF0\x90\x80\x80 \xF4\x8F\xBF\xBF"));
}

class NotUtf8 : public testing::TestWithParam<std::string> {};

TEST_P(NotUtf8, IsFoundWhereItStarts) {
  const auto fault = find_text_fault("ab" + GetParam());
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->offset, 2U);
  EXPECT_NE(fault->reason.find("is not UTF-8"), std::string::npos) << fault->reason;
}

INSTANTIATE_TEST_SUITE_P(TextCheck, NotUtf8,
                         testing::Values("\x80"s, "\xBF"s, "\xC0\xAF"s, "\xC1\xBF"s, "\xC3"s, "\xC3("s, "\xE0\x9F\xBF"s,
                                         "\xE2\x82"s, "\xE2(\xA1"s, "\xE2\x82("s, "\xED\xA0\x80"s, "\xF0\x8F\xBF\xBF"s,
                                         "\xF0\x9F\x92"s, "\xF4\x90\x80\x80"s, "\xF5\x80\x80\x80"s, "\xFE"s,
                                         "\xFF\xFE"s));

class ControlCharacter : public testing::TestWithParam<std::string> {};

TEST_P(ControlCharacter, IsFoundWhereItStands) {
  const auto fault = find_text_fault("a: " + GetParam() + "\n");
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->offset, 3U);
  EXPECT_NE(fault->reason.find("control character"), std::string::npos) << fault->reason;
}

INSTANTIATE_TEST_SUITE_P(TextCheck, ControlCharacter,
                         testing::Values("\0"s, "\x01"s, "\x04"s, "\x08"s, "\x0B"s, "\x1B[31m"s, "\x7F"s, "\rx"s));

TEST(TextCheck, TakesUtf16ForWhatItIs) {
  const auto fault = find_text_fault("a\0:\0 \0001\0"s);
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->offset, 1U);
  EXPECT_EQ(fault->hint, "save the file as UTF-8");
}

TEST(PositionAt, CountsLinesAndCharacters) {
  const std::string text = "a\nbää x\n";
  EXPECT_EQ(position_at(text, 0), (Position{1, 1}));
  EXPECT_EQ(position_at(text, 1), (Position{1, 2}));
  EXPECT_EQ(position_at(text, 2), (Position{2, 1}));
  EXPECT_EQ(position_at(text, text.find('x')), (Position{2, 5}));
  EXPECT_EQ(position_at(text, text.size()), (Position{3, 1}));
}

}  // namespace
}  // namespace cdmf::ipc::config
