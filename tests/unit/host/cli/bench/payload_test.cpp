#include "cli/bench/payload.h"

#include <gtest/gtest.h>

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
