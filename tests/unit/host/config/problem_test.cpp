#include "config/problem.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace cdmf::ipc::config {
namespace {

using Lines = std::vector<std::string>;

TEST(Problems, PrintFilePlaceKeyReasonAndHint) {
  Problems problems("orders.yaml");
  problems.add({7, 15}, "transports.main.type", "no such type", "did you mean 'shm'?");
  EXPECT_EQ(problems.text(), "orders.yaml:7:15: transports.main.type: no such type; did you mean 'shm'?");
}

TEST(Problems, LeaveOutWhatIsNotKnown) {
  Problems problems("a.yaml");
  problems.add({}, {}, "is a folder");
  problems.add({2, 1}, {}, "syntax error");
  EXPECT_EQ(problems.lines(), (Lines{"a.yaml: is a folder", "a.yaml:2:1: syntax error"}));
}

TEST(Problems, AreSortedByPlaceAndKeepTheirOrderAtOnePlace) {
  Problems problems("a.yaml");
  problems.add({10, 1}, {}, "late");
  problems.add({2, 5}, {}, "second");
  problems.add({2, 3}, {}, "first");
  problems.add({2, 5}, {}, "third");
  problems.add({}, {}, "whole file");
  EXPECT_EQ(problems.text(),
            "a.yaml: whole file\na.yaml:2:3: first\na.yaml:2:5: second\na.yaml:2:5: third\na.yaml:10:1: late");
}

TEST(Problems, StopAtTheirBoundAndSaySo) {
  Problems problems("a.yaml");
  for (std::uint32_t i = 0; i < Problems::kProblemCountMax + 7; ++i) problems.add({i + 1, 1}, {}, "bad");
  EXPECT_EQ(problems.size(), Problems::kProblemCountMax);
  EXPECT_EQ(problems.lines().size(), Problems::kProblemCountMax + 1);
  EXPECT_EQ(problems.lines().back(), "a.yaml: 7 more problems are not shown");
}

TEST(Problems, ShowControlCharactersWhereverTheyComeFrom) {
  Problems problems("a\x1b.yaml");
  problems.add({1, 1}, "k\x07", "got \"\x1b[2J\"", "no\n");
  EXPECT_EQ(problems.text(), "a\\x1b.yaml:1:1: k\\x07: got \"\\x1b[2J\"; no\\n");
}

TEST(Printable, ShowsControlCharactersInsteadOfSendingThem) {
  EXPECT_EQ(printable("a\x1b[31m\n\x7f"), "a\\x1b[31m\\n\\x7f");
  EXPECT_EQ(in_quotes("häß"), "'häß'");
}

TEST(Printable, CutsBetweenCharacters) {
  std::string umlauts;
  for (int i = 0; i < 50; ++i) umlauts += "ä";
  EXPECT_EQ(printable("x" + umlauts), "x" + umlauts.substr(0, 58) + "...");
  EXPECT_EQ(printable(umlauts), umlauts.substr(0, 60) + "...");
}

}  // namespace
}  // namespace cdmf::ipc::config
