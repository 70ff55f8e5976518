#pragma once
// far_lines.h: copying to, and summing up, lines that another core has or has had. Both ask for the lines of the next
// block while they work on one. Gains: README.md, "Large messages".
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "checksum.h"
#include "ipc/ring_buffer/prefetch.h"
#include "ring/record_ring.h"

namespace cdmf::ipc::shm {

inline constexpr std::size_t kFarBlockBytes = 2048;  // By measurement: 512 loses a tenth, 1024 a little.

/// memcpy() alone waits for the lines with no more requests under way than the core's stores make.
/// The checksum is taken of the source, while those lines come: to read what was just stored would be to wait for them.
///
/// room  how many bytes from `to` on are the caller's, `size` or more: no line behind them is asked for
/// sum   the checksum so far, to be continued; null: none is wanted
inline void copy_to_far(std::byte* to, const std::byte* from, std::size_t size, std::size_t room,
                        std::uint32_t* sum) noexcept {
  const auto ask_for_block_at = [&](std::size_t begin) {
    const std::size_t end = std::min(begin + kFarBlockBytes, room);
    for (std::size_t at = begin; at < end; at += kLineBytes) ring_buffer_detail::prefetch_for_writing(to + at);
  };
  ask_for_block_at(0);
  while (size != 0) {
    ask_for_block_at(kFarBlockBytes);
    std::size_t block = std::min(size, kFarBlockBytes);
    asm("" : "+r"(block));  // Of unknown size: or gcc calls no memcpy(), and copies word by word.
    if (sum != nullptr) *sum = crc32_ieee_after(*sum, from, block);
    std::memcpy(to, from, block);
    to += block;
    from += block;
    size -= block;
    room -= block;
  }
}

/// crc32_ieee() of what another core has written, in blocks. Not inline: where messages are short, so is the
/// code.
[[gnu::noinline]] inline std::uint32_t crc32_of_far_blocks(const std::byte* data, std::size_t size) noexcept {
  const auto ask_for_block_at = [&](std::size_t begin) {
    const std::size_t end = std::min(begin + kFarBlockBytes, size);
    for (std::size_t at = begin; at < end; at += kLineBytes) ring_buffer_detail::prefetch_for_reading(data + at);
  };
  ask_for_block_at(0);
  std::uint32_t sum = 0;
  for (std::size_t at = 0; at < size; at += kFarBlockBytes) {
    ask_for_block_at(at + kFarBlockBytes);
    sum = crc32_ieee_after(sum, data + at, std::min(kFarBlockBytes, size - at));
  }
  return sum;
}

/// crc32_ieee() of what another core has written.
inline std::uint32_t crc32_of_far(const std::byte* data, std::size_t size) noexcept {
  constexpr std::size_t kFewBytes = 256;  // Up to here the processor has asked for all of it by itself.
  return size <= kFewBytes ? crc32_ieee(data, size) : crc32_of_far_blocks(data, size);
}

}  // namespace cdmf::ipc::shm
