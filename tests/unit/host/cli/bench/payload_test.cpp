#include "cli/bench/payload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace cdmf::ipc::cli {
namespace {

std::vector<std::byte> copy(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

TEST(TestPayload, AcceptsItsOwnBytesWithTheRightNumberOnly) {
  for (const std::size_t size : {1u, 7u, 8u, 9u, 63u, 64u, 65u, 72u, 200u, 1024u, 65536u}) {
    TestPayload sender(size);
    const TestPayload receiver(size);
    const auto bytes = copy(sender.numbered(41));
    ASSERT_EQ(bytes.size(), size);
    EXPECT_TRUE(receiver.check(bytes, 41)) << size;
    EXPECT_FALSE(receiver.check(bytes, 42)) << size;
  }
}

TEST(TestPayload, WritesEveryLineAnewWhenAskedToAndIsAcceptedAllTheSame) {
  for (const std::size_t size : {1u, 8u, 64u, 72u, 80u, 81u, 200u, 1024u, 65536u}) {
    TestPayload sender(size, Writes::EVERY_LINE);
    const TestPayload receiver(size);
    const auto before = copy(sender.numbered(1));
    const auto bytes = copy(sender.numbered(0x0202020202020202));
    EXPECT_TRUE(receiver.check(bytes, 0x0202020202020202)) << size;
    for (std::size_t line = 0; line + 16 < size; line += 64) {
      const auto begin = static_cast<std::ptrdiff_t>(line);
      EXPECT_FALSE(std::equal(bytes.begin() + begin, bytes.begin() + begin + 16, before.begin() + begin)) << line;
    }
  }
}

TEST(TestPayload, RefusesAnotherSize) {
  TestPayload sender(100);
  EXPECT_FALSE(TestPayload(99).check(sender.numbered(0), 0));
  EXPECT_FALSE(TestPayload(101).check(sender.numbered(0), 0));
}

TEST(TestPayload, NoticesADamagedWordInAnyLineAndADamagedLastByte) {
  TestPayload sender(1000);
  const TestPayload receiver(1000);
  for (std::size_t at = 64; at + 8 <= 1000; at += 64) {
    auto bytes = copy(sender.numbered(3));
    bytes[at + 5] ^= std::byte{0x10};
    EXPECT_FALSE(receiver.check(bytes, 3)) << "line at " << at;
  }
  auto bytes = copy(sender.numbered(3));
  bytes.back() ^= std::byte{1};
  EXPECT_FALSE(receiver.check(bytes, 3));
}

}  // namespace
}  // namespace cdmf::ipc::cli
