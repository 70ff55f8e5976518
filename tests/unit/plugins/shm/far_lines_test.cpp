// memcpy() and crc32_ieee() with requests ahead: every byte, and no other.
#include "far_lines.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace cdmf::ipc::shm {
namespace {

constexpr std::size_t kSizes[] = {0,    1,    63,   64,   65,   255,  256,  257,  512,  2047,
                                  2048, 2049, 4095, 4096, 4097, 6144, 8199, 8200, 40000};

// Of exactly so many bytes, for the address sanitizer.
std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 131 + i / 64);
  return bytes;
}

TEST(CopyToFar, CopiesEveryByteAndNoOtherWhateverTheSizeAndTheRoomBehindIt) {
  constexpr std::byte kUntouched{0xee};
  for (const std::size_t size : kSizes) {
    const std::vector<std::byte> from = pattern(size);
    for (const std::size_t more : {0, 1, 64, 5000}) {
      std::vector<std::byte> to(size + more, kUntouched);
      copy_to_far(to.data(), from.data(), size, size + more, nullptr);
      std::vector<std::byte> expected = from;
      expected.resize(size + more, kUntouched);
      EXPECT_EQ(to, expected) << size << " bytes, " << more << " behind them";
    }
  }
}

TEST(CopyToFar, ContinuesTheChecksumOfWhatWasBeforeByWhatItCopies) {
  for (const std::size_t size : kSizes) {
    const std::vector<std::byte> whole = pattern(16 + size);
    std::vector<std::byte> to(size);
    std::uint32_t sum = crc32_ieee(whole.data(), 16);
    copy_to_far(to.data(), whole.data() + 16, size, size, &sum);
    EXPECT_EQ(sum, crc32_ieee(whole.data(), whole.size())) << size;
    EXPECT_TRUE(std::equal(to.begin(), to.end(), whole.begin() + 16)) << size;
  }
}

TEST(Crc32OfFar, IsThatOfTheSameBytesAnywhere) {
  for (const std::size_t size : kSizes) {
    for (const std::size_t offset : {0, 1, 16, 48}) {
      const std::vector<std::byte> bytes = pattern(offset + size);
      EXPECT_EQ(crc32_of_far(bytes.data() + offset, size), crc32_ieee(bytes.data() + offset, size)) << size;
    }
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm
