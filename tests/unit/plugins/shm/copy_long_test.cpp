// copy_long(): memcpy() with requests ahead, so its every byte and no other.
#include "copy_long.h"

#include <gtest/gtest.h>

#include <vector>

namespace cdmf::ipc::shm {
namespace {

TEST(CopyLong, CopiesEveryByteAndNoOtherWhateverTheSizeAndTheRoomBehindIt) {
  constexpr std::size_t kMax = 8200;
  constexpr std::byte kUntouched{0xee};
  std::vector<std::byte> from(kMax);
  for (std::size_t i = 0; i < kMax; ++i) from[i] = static_cast<std::byte>(i * 131 + i / 64);
  for (const std::size_t size : {0, 1, 63, 64, 65, 512, 2047, 2048, 2049, 4095, 4096, 4097, 6144, 8199, 8200}) {
    for (const std::size_t more : {0, 1, 64, 5000}) {
      // Of exactly the memory that may be written to, for the address sanitizer.
      std::vector<std::byte> to(size + more, kUntouched);
      copy_long(to.data(), from.data(), size, size + more);
      std::vector<std::byte> expected(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(size));
      expected.resize(size + more, kUntouched);
      EXPECT_EQ(to, expected) << size << " bytes, " << more << " behind them";
    }
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm
