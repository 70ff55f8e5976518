#include "config/suggest.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace cdmf::ipc::config {
namespace {

using Words = std::vector<std::string_view>;

TEST(NearestWord, FindsOneSlipOfEachKind) {
  const Words known = {"ring_buffer_capacity", "wait", "checksum"};
  EXPECT_EQ(nearest_word("ring_bufer_capacity", known), "ring_buffer_capacity");
  EXPECT_EQ(nearest_word("waits", known), "wait");
  EXPECT_EQ(nearest_word("checksam", known), "checksum");
  EXPECT_EQ(nearest_word("chekcsum", known), "checksum");
}

TEST(NearestWord, CountsASwapOfNeighboursAsOneSlip) {
  // Three letters allow one slip; a swap counted as two replacements would be too far.
  EXPECT_EQ(nearest_word("hsm", Words{"shm"}), "shm");
}

TEST(NearestWord, PrefersWhatDiffersOnlyInCaseAndSeparators) {
  const Words known = {"unix_sockets", "unix_socket"};
  EXPECT_EQ(nearest_word("Unix-Socket", known), "unix_socket");
  EXPECT_EQ(nearest_word("UNIXSOCKET", known), "unix_socket");
}

TEST(NearestWord, AllowsSlipsUpToAThirdOfTheWord) {
  const Words known = {"abcdefghi"};
  EXPECT_EQ(nearest_word("abcdefxyz", known), "abcdefghi");
  EXPECT_EQ(nearest_word("abcdewxyz", known), std::nullopt);
}

TEST(NearestWord, PrefersFewerSlipsAndThenTheFirst) {
  EXPECT_EQ(nearest_word("send_timeoot", Words{"send_timestat", "send_timeout"}), "send_timeout");
  EXPECT_EQ(nearest_word("bat", Words{"cat", "hat"}), "cat");
}

TEST(NearestWord, HasNothingForWordsThatShareNothing) {
  EXPECT_EQ(nearest_word("x", Words{"y", "z"}), std::nullopt);
  EXPECT_EQ(nearest_word("", Words{"a"}), std::nullopt);
  EXPECT_EQ(nearest_word("__", Words{"a"}), std::nullopt);
  EXPECT_EQ(nearest_word("wait", {}), std::nullopt);
}

TEST(NearestWord, IgnoresWordsTooLongToBeTyped) {
  const std::string huge(100000, 'a');
  const std::string shorter(70, 'a');
  EXPECT_EQ(nearest_word(huge, Words{shorter}), std::nullopt);
  EXPECT_EQ(nearest_word("aaaa", Words{huge, "aaab"}), "aaab");
  const std::string longest(64, 'a');
  EXPECT_EQ(nearest_word(std::string(63, 'a') + "b", Words{longest}), longest);
}

TEST(Suggestion, AsksForTheNearOneAndElseListsAll) {
  const Words known = {"loopback", "shm"};
  EXPECT_EQ(suggestion("smh", known), "did you mean 'shm'?");
  EXPECT_EQ(suggestion("tcp", known), "known here: loopback, shm");
  EXPECT_EQ(suggestion("tcp", {}), "");
}

}  // namespace
}  // namespace cdmf::ipc::config
