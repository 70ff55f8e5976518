#include "checksum.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace cdmf::ipc::shm {
namespace {

// As the standard defines it, a bit at a time.
std::uint32_t by_definition(const unsigned char* bytes, std::size_t size) {
  std::uint32_t rest = 0xFFFF'FFFF;
  for (std::size_t i = 0; i < size; ++i) {
    rest ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) rest = rest >> 1 ^ ((rest & 1) != 0 ? 0xEDB8'8320 : 0);
  }
  return ~rest;
}

TEST(Checksum, OfTheUsualTextIsTheUsualNumber) { EXPECT_EQ(crc32_ieee("123456789", 9), 0xCBF4'3926u); }

TEST(Checksum, IsThatOfTheDefinitionForEverySizeAndAlignment) {
  std::vector<unsigned char> bytes(700);
  std::uint32_t state = 1;
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>((state = state * 1103515245 + 12345) >> 16);
  for (std::size_t size = 0; size < 300; ++size) {
    for (std::size_t offset = 0; offset < 9; ++offset) {
      ASSERT_EQ(crc32_ieee(bytes.data() + offset, size), by_definition(bytes.data() + offset, size))
          << size << " bytes at " << offset;
    }
  }
}

TEST(Checksum, ReadsNothingBeyondItsBytes) {
  // Exact allocations: the address sanitizer sees a byte too many.
  for (std::size_t size = 0; size < 130; ++size) {
    const std::vector<unsigned char> bytes(size, 0xA5);
    EXPECT_EQ(crc32_ieee(bytes.data(), size), by_definition(bytes.data(), size)) << size;
  }
}

TEST(Checksum, TellsEverySingleBitThatFlips) {
  for (const std::size_t size : {8, 9, 15, 16, 23, 48, 95, 96, 200}) {
    std::vector<unsigned char> bytes(size, 0x3C);
    const std::uint32_t whole = crc32_ieee(bytes.data(), size);
    for (std::size_t bit = 0; bit < 8 * size; ++bit) {
      bytes[bit / 8] ^= static_cast<unsigned char>(1u << bit % 8);
      EXPECT_NE(crc32_ieee(bytes.data(), size), whole) << size << " bytes, bit " << bit;
      bytes[bit / 8] ^= static_cast<unsigned char>(1u << bit % 8);
    }
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm
