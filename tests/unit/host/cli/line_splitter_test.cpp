#include "cli/line_splitter.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace cdmf::ipc::cli {
namespace {

std::vector<std::string> split(const std::vector<std::string>& pieces, std::size_t line_bytes_max = 100) {
  LineSplitter splitter(line_bytes_max);
  std::vector<std::string> lines;
  const auto keep = [&](std::string_view line) { lines.emplace_back(line); };
  for (const auto& piece : pieces) splitter.feed(piece, keep);
  splitter.finish(keep);
  EXPECT_EQ(splitter.count(), lines.size());
  return lines;
}

using Lines = std::vector<std::string>;

TEST(LineSplitter, GivesTheSameLinesWhereverTheBytesAreCut) {
  const std::string text = "one\n\nthree with blanks\r\nfour";
  const Lines expected{"one", "", "three with blanks\r", "four"};
  EXPECT_EQ(split({text}), expected);
  for (std::size_t first = 0; first <= text.size(); ++first) {
    for (std::size_t second = first; second <= text.size(); ++second) {
      EXPECT_EQ(split({text.substr(0, first), text.substr(first, second - first), text.substr(second)}), expected);
    }
  }
}

TEST(LineSplitter, AFinalLineNeedsNoLineEndAndAnEmptyInputHasNoLine) {
  EXPECT_EQ(split({"a\nb"}), (Lines{"a", "b"}));
  EXPECT_EQ(split({"a\nb\n"}), (Lines{"a", "b"}));
  EXPECT_EQ(split({"\n"}), (Lines{""}));
  EXPECT_EQ(split({}), Lines{});
}

TEST(LineSplitter, ALineOfTheMaximumPassesAndOneByteMoreIsAnErrorWithItsNumber) {
  EXPECT_EQ(split({"1234", "5\n"}, 5), (Lines{"12345"}));
  EXPECT_EQ(split({"12345"}, 5), (Lines{"12345"}));
  for (const auto& pieces : {Lines{"ok\n123456\n"}, Lines{"ok\n123", "456"}, Lines{"ok\n", "12345", "6\n"}}) {
    LineSplitter splitter(5);
    Lines lines;
    try {
      for (const auto& piece : pieces) splitter.feed(piece, [&](std::string_view line) { lines.emplace_back(line); });
      FAIL() << "a line of 6 bytes passed a limit of 5";
    } catch (const CommandError& error) {
      EXPECT_NE(std::string(error.what()).find("line 2"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("5 bytes"), std::string::npos) << error.what();
    }
    EXPECT_EQ(lines, (Lines{"ok"}));
  }
}

}  // namespace
}  // namespace cdmf::ipc::cli
