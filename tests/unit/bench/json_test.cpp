#include "report/json.h"

#include <gtest/gtest.h>

namespace cdmf::bench {
namespace {

TEST(Json, ReadsEveryKindOfValue) {
  const Json json = Json::parse(R"( {"a": [1, -2.5e3, true, false, null], "b": {"c": "x\n\"\u00b5\\"}} )");
  const auto& list = json.at("a").array();
  ASSERT_EQ(list.size(), 5u);
  EXPECT_EQ(list[0].number(), 1);
  EXPECT_EQ(list[1].number(), -2500);
  EXPECT_TRUE(list[2].boolean());
  EXPECT_FALSE(list[3].boolean());
  EXPECT_EQ(list[4].kind(), Json::Kind::null);
  EXPECT_EQ(json.at("b").at("c").string(), "x\n\"µ\\");
}

TEST(Json, EmptyListsAndObjectsAreThere) {
  EXPECT_TRUE(Json::parse("[ ]").array().empty());
  EXPECT_TRUE(Json::parse("{ }").object().empty());
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text : {"", "{", "[1,", "[1 2]", "{\"a\" 1}", "{a: 1}", "nul", "inf", "nan", "+1", "\"open",
                           "\"\\x\"", "\"\\u12g4\"", "1 2", "\"line\nbreak\""}) {
    EXPECT_THROW((void)Json::parse(text), JsonError) << text;
  }
}

TEST(Json, RefusesEndlessNesting) { EXPECT_THROW((void)Json::parse(std::string(100'000, '[')), JsonError); }

TEST(Json, NamesTheLineOfAMistake) {
  try {
    (void)Json::parse("{\n\"a\": 1,\n\"b\": ?\n}");
    FAIL() << "it was read";
  } catch (const JsonError& error) {
    EXPECT_EQ(std::string(error.what()).substr(0, 7), "line 3:") << error.what();
  }
}

TEST(Json, AskingForWhatIsNotThereNamesIt) {
  const Json json = Json::parse("{\"a\": 1}");
  EXPECT_THROW((void)json.at("a").string(), JsonError);
  try {
    (void)json.at("missing");
    FAIL() << "it was found";
  } catch (const JsonError& error) {
    EXPECT_NE(std::string(error.what()).find("missing"), std::string::npos);
  }
  EXPECT_EQ(json.number_or("missing", 7), 7);
}

}  // namespace
}  // namespace cdmf::bench
