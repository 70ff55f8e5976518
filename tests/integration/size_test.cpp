// `cdmf size`: what is printed to paste is a configuration, and every wrong word is refused.
#include <gtest/gtest.h>

#include "program.h"

namespace cdmf::ipc::test {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

class Size : public testing::Test {
 protected:
  TestFolder folder_;
};

TEST_F(Size, OfAFileIsExactAndBesideTheSpecificationsFormula) {
  const auto size =
      run(folder_, {"size", std::string(std::getenv("CDMF_CONFIG_DIR")) + "/shm.yaml", "--clients", "10"});
  EXPECT_EQ(size.code, 0) << size.errors;
  EXPECT_TRUE(contains(size.output, "TX ring")) << size.output;
  EXPECT_TRUE(contains(size.output, "one client:     4198400 bytes")) << size.output;
  EXPECT_TRUE(contains(size.output, "10 clients:     41984000 bytes")) << size.output;
  EXPECT_TRUE(contains(size.output, "(64 + 2 x 4096 x 65536 + 192) x 1.2")) << size.output;
}

TEST_F(Size, PrintsOptionsThatCheckAcceptsAndSizesThemAlike) {
  const std::vector<std::vector<std::string>> wishes{
      {"--capacity", "4096", "--message-size", "1KiB"},
      {"--rate", "5000", "--latency", "1ms"},
      {"--rate", "200K", "--latency", "10us", "--message-size", "200"},
      {"--rate", "2.5M", "--latency", "50us", "--producers", "4", "--consumers", "2"}};
  for (const auto& wish : wishes) {
    std::vector<std::string> words{"size"};
    words.insert(words.end(), wish.begin(), wish.end());
    const auto size = run(folder_, words);
    ASSERT_EQ(size.code, 0) << size.errors;
    const std::size_t begin = size.output.find("version: 1");
    const std::size_t end = size.output.find("\n\nPART");
    ASSERT_NE(end, std::string::npos) << size.output;
    const std::string file = folder_.write("pasted.yaml", size.output.substr(0, end + 1));
    const auto checked = run(folder_, {"check", file});
    EXPECT_EQ(checked.code, 0) << checked.errors << size.output;
    EXPECT_NE(begin, std::string::npos);
    const auto again = run(folder_, {"size", file});
    EXPECT_EQ(again.code, 0) << again.errors;
    EXPECT_TRUE(contains(again.output, size.output.substr(end + 2))) << again.output << size.output;
  }
}

TEST_F(Size, RecommendsWhatTheFlowchartDoes) {
  const auto capacity_for = [&](const char* rate, const char* latency) {
    const auto size = run(folder_, {"size", "--rate", rate, "--latency", latency, "--message-size", "64"});
    const std::string key = "ring_buffer_capacity: ";
    const std::size_t at = size.output.find(key);
    return at == std::string::npos ? size.errors
                                   : size.output.substr(at + key.size(), size.output.find('\n', at) - at - key.size());
  };
  EXPECT_EQ(capacity_for("500K", "10us"), "256");
  EXPECT_EQ(capacity_for("500K", "50us"), "1024");
  EXPECT_EQ(capacity_for("50K", "1ms"), "4096");
  EXPECT_EQ(capacity_for("5K", "1ms"), "128");
}

TEST_F(Size, WrongWordsAreExitCodeTwo) {
  const std::string file = shipped_config(folder_, "shm");
  const std::vector<std::vector<std::string>> wrong{{},
                                                    {file, "--rate", "5", "--latency", "1us"},
                                                    {file, "--capacity", "4", "--message-size", "4"},
                                                    {file, "--producers", "2"},
                                                    {file, "--type", "shm"},
                                                    {file, "--clients", "0"},
                                                    {file, "--transport", "other"},
                                                    {"--transport", "main"},
                                                    {"--capacity", "16"},
                                                    {"--capacity", "0", "--message-size", "4"},
                                                    {"--capacity", "-1", "--message-size", "4"},
                                                    {"--capacity", "many", "--message-size", "4"},
                                                    {"--capacity", "16", "--message-size", "4apples"},
                                                    {"--capacity", "16", "--message-size", "4", "--consumers", "0"},
                                                    {"--capacity", "16", "--message-size", "4", "--latency", "1us"},
                                                    {"--message-size", "4"},
                                                    {"--rate", "5"},
                                                    {"--rate", "0", "--latency", "1us"},
                                                    {"--rate", "5apples", "--latency", "1us"},
                                                    {"--rate", "5", "--latency", "1"},
                                                    {"--rate", "5", "--latency", "0"},
                                                    {"--rate", "5", "--latency", "1us", "--producers", "none"}};
  for (auto words : wrong) {
    words.insert(words.begin(), "size");
    const auto refused = run(folder_, words);
    EXPECT_EQ(refused.code, 2) << testing::PrintToString(words) << refused.errors;
    EXPECT_NE(refused.errors, "") << testing::PrintToString(words);
    EXPECT_EQ(refused.output, "") << testing::PrintToString(words);
  }
}

TEST_F(Size, WhatCannotBeIsExitCodeOneWithAReason) {
  const std::vector<std::vector<std::string>> impossible{
      {shipped_config(folder_, "unix_socket")},
      {folder_.path("missing.yaml")},
      {"--capacity", "1000", "--message-size", "4"},
      {"--capacity", "16", "--message-size", "0"},
      {"--capacity", "16", "--message-size", "4GiB"},
      {"--capacity", "16", "--message-size", "4", "--type", "none"},
      {"--capacity", "16", "--message-size", "4", "--type", "loopback"}};
  for (auto words : impossible) {
    words.insert(words.begin(), "size");
    const auto refused = run(folder_, words);
    EXPECT_EQ(refused.code, 1) << testing::PrintToString(words) << refused.errors;
    EXPECT_NE(refused.errors, "") << testing::PrintToString(words);
  }
}

}  // namespace
}  // namespace cdmf::ipc::test
