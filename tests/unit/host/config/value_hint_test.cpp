#include "config/value_hint.h"

#include <gtest/gtest.h>

#include <string>

#include "ipc/plugin.h"
#include "ipc/property.h"

namespace cdmf::ipc::config {
namespace {

constexpr const char* kModes[] = {"adaptive", "spin", "yield", nullptr};
constexpr cdmf_property kBool = bool_property("b", "true", "Whether. It is a long story.");
constexpr cdmf_property kInt = int_property("i", "8", "1", "1024", "How many.", CDMF_PROPERTY_POWER_OF_TWO);
constexpr cdmf_property kSize = size_property("s", "4KiB", "1KiB", "1GiB", "How large");
constexpr cdmf_property kDuration = duration_property("d", "1s", "0", "1h", "How long.");
constexpr cdmf_property kChoice = choice_property("c", "spin", kModes, "How.");
constexpr cdmf_property kText = text_property("t", "x", "What.");

std::string mean(const std::string& value) { return "did you mean '" + value + "'?"; }

TEST(ValueHint, KnowsTheOtherWordsForTrueAndFalse) {
  for (const char* text : {"yes", "on", "True", "TRUE", "1", "Yes"}) EXPECT_EQ(value_hint(kBool, text), mean("true"));
  for (const char* text : {"no", "off", "False", "0", "NO"}) EXPECT_EQ(value_hint(kBool, text), mean("false"));
}

TEST(ValueHint, ReadsUnitsAsPeopleWriteThem) {
  for (const char* text : {"64kib", "64 KiB", "64k", "64K", "064KiB", "6_4KiB", "+64KiB"}) {
    EXPECT_EQ(value_hint(kSize, text), mean("64KiB")) << text;
  }
  EXPECT_EQ(value_hint(kSize, "2mb"), mean("2MB"));
  EXPECT_EQ(value_hint(kSize, "1g"), mean("1GiB"));
  EXPECT_EQ(value_hint(kSize, "4096 bytes"), mean("4096"));
  EXPECT_EQ(value_hint(kDuration, "50 us"), mean("50us"));
  EXPECT_EQ(value_hint(kDuration, "50\xC2\xB5s"), mean("50us"));
  EXPECT_EQ(value_hint(kDuration, "3 Seconds"), mean("3s"));
  EXPECT_EQ(value_hint(kDuration, "5m"), mean("5min"));
  EXPECT_EQ(value_hint(kInt, "016"), mean("16"));
  EXPECT_EQ(value_hint(kInt, "1_024"), mean("1024"));
}

TEST(ValueHint, FindsTheNearestChoice) {
  EXPECT_EQ(value_hint(kChoice, "Spin"), mean("spin"));
  EXPECT_EQ(value_hint(kChoice, "adaptve"), mean("adaptive"));
}

TEST(ValueHint, ProposesOnlyWhatTheOptionTakesAndElseSaysItsFirstSentence) {
  EXPECT_EQ(value_hint(kBool, "perhaps"), "Whether.");
  EXPECT_EQ(value_hint(kInt, "010"), "How many.") << "10 is no power of two";
  EXPECT_EQ(value_hint(kInt, "2048"), "How many.");
  EXPECT_EQ(value_hint(kInt, "4k"), "How many.");
  EXPECT_EQ(value_hint(kInt, "-4"), "How many.");
  EXPECT_EQ(value_hint(kSize, "9g"), "How large") << "more than the maximum";
  EXPECT_EQ(value_hint(kSize, "64 apples"), "How large");
  EXPECT_EQ(value_hint(kSize, "0x10"), "How large");
  EXPECT_EQ(value_hint(kDuration, "10"), "How long.") << "nobody knows which unit";
  EXPECT_EQ(value_hint(kDuration, "99999999999999999999h"), "How long.");
  EXPECT_EQ(value_hint(kChoice, "sleep"), "How.");
  EXPECT_EQ(value_hint(kText, "anything"), "What.");
  for (const cdmf_property* row : {&kBool, &kInt, &kSize, &kDuration, &kChoice, &kText}) {
    for (const char* text : {"", " ", "_", "+", "0", "\xC2", "k", "++1", "+ 1"}) {
      const std::string hint = value_hint(*row, text);
      if (hint.rfind("did you mean '", 0) != 0) continue;
      EXPECT_TRUE(check_value(*row, hint.substr(14, hint.size() - 16)).problem.empty()) << row->name << text << hint;
    }
  }
}

}  // namespace
}  // namespace cdmf::ipc::config
