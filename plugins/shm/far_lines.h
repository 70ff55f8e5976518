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

/// Calls ask() with the place of every line that holds one of so many bytes, some of them or none.
template <typename Ask>
inline void for_lines_of(const std::byte* bytes, std::size_t count, Ask&& ask) noexcept {
  if (count == 0) return;
  const std::byte* const end = bytes + count;
  for (bytes -= reinterpret_cast<std::uintptr_t>(bytes) % kLineBytes; bytes < end; bytes += kLineBytes) ask(bytes);
}

/// memcpy() alone waits for the lines with no more requests under way than the core's stores make.
/// The checksum is taken of the source, while those lines come: to read what was just stored would be to wait for them.
/// A source that changes meanwhile, against the contract of send(), arrives as a message that does not match its sum.
///
/// room  how many bytes from `to` on are the caller's, `size` or more: no line behind them is asked for
/// sum   the checksum so far, to be continued; null: none is wanted
inline void copy_to_far(std::byte* to, const std::byte* from, std::size_t size, std::size_t room,
                        std::uint32_t* sum) noexcept {
  std::size_t asked = std::min(room, kFarBlockBytes);
  for_lines_of(to, asked, ring_buffer_detail::prefetch_for_writing);
  for (std::size_t at = 0; at < size; at += kFarBlockBytes) {
    const std::size_t more = std::min(room - asked, kFarBlockBytes);
    for_lines_of(to + asked, more, ring_buffer_detail::prefetch_for_writing);
    asked += more;
    std::size_t block = std::min(size - at, kFarBlockBytes);
    asm("" : "+r"(block));  // Of unknown size: or gcc calls no memcpy(), and copies word by word.
    if (sum != nullptr) *sum = crc32_ieee_after(*sum, from + at, block);
    std::memcpy(to + at, from + at, block);
  }
}

/// crc32_ieee() of what another core has written, in blocks. Not inline: a receiver of short messages has no use for
/// it.
[[gnu::noinline]] inline std::uint32_t crc32_of_far_blocks(const std::byte* data, std::size_t size) noexcept {
  std::uint32_t sum = 0;
  std::size_t asked = std::min(size, kFarBlockBytes);
  for_lines_of(data, asked, ring_buffer_detail::prefetch_for_reading);
  for (std::size_t at = 0; at < size; at += kFarBlockBytes) {
    const std::size_t more = std::min(size - asked, kFarBlockBytes);
    for_lines_of(data + asked, more, ring_buffer_detail::prefetch_for_reading);
    asked += more;
    sum = crc32_ieee_after(sum, data + at, std::min(size - at, kFarBlockBytes));
  }
  return sum;
}

/// crc32_ieee() of what another core has written.
inline std::uint32_t crc32_of_far(const std::byte* data, std::size_t size) noexcept {
  constexpr std::size_t kFewBytes = 256;  // Up to here the processor has asked for all of it by itself.
  return size <= kFewBytes ? crc32_ieee(data, size) : crc32_of_far_blocks(data, size);
}

}  // namespace cdmf::ipc::shm
