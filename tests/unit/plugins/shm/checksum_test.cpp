#include "checksum.h"

#include <gtest/gtest.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

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

#if defined(__x86_64__)
/// Whether the upper parts of wide registers are in use, as the processor keeps account of it: XGETBV with ECX = 1.
bool upper_parts_in_use() {
  unsigned low = 0;
  unsigned high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
  return (low & 4) != 0;
}
// Not compiled for AVX: the compiler would clear them at the end.
void use_upper_parts() {
  asm volatile("vpcmpeqd %%xmm0, %%xmm0, %%xmm0\n\tvinsertf128 $1, %%xmm0, %%ymm0, %%ymm0" ::: "xmm0");
}
void clear_upper_parts() { asm volatile("vzeroupper"); }

bool keeps_account() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__builtin_cpu_supports("avx") || __get_cpuid_count(0xd, 1, &a, &b, &c, &d) == 0 || (a & 4) == 0) return false;
  use_upper_parts();
  const bool used = upper_parts_in_use();
  clear_upper_parts();
  return used && !upper_parts_in_use();
}

TEST(Checksum, LeavesNoWideRegisterFullThatWouldSlowDownTheProgram) {
  if (!keeps_account()) GTEST_SKIP() << "this processor does not say";
  const std::vector<unsigned char> bytes(4096, 0x5a);
  (void)crc32_ieee(bytes.data(), bytes.size());
  EXPECT_FALSE(upper_parts_in_use());
}
#endif

}  // namespace
}  // namespace cdmf::ipc::shm
