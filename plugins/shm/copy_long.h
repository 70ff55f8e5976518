#pragma once
// copy_long.h: memcpy() into lines that another core has, or has had.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "ipc/ring_buffer/prefetch.h"
#include "ring/record_ring.h"

namespace cdmf::ipc::shm {

/// Copies block after block, and asks for the lines of each while the one before is copied: memcpy() waits for them
/// with no more requests under way than the core's stores make. Gains: README.md, "Large messages".
///
/// room  how many bytes from `to` on are the caller's, `size` or more: no line behind them is asked for
inline void copy_long(std::byte* to, const std::byte* from, std::size_t size, std::size_t room) noexcept {
  constexpr std::size_t kBlockBytes = 2048;  // By measurement: 512 loses a tenth, 1024 a little.
  const auto ask_for_block_at = [&](std::size_t begin) {
    const std::size_t end = std::min(begin + kBlockBytes, room);
    for (std::size_t at = begin; at < end; at += kLineBytes) ring_buffer_detail::prefetch_for_writing(to + at);
  };
  ask_for_block_at(0);
  while (size != 0) {
    ask_for_block_at(kBlockBytes);
    const std::size_t block = std::min(size, kBlockBytes);
    std::memcpy(to, from, block);
    to += block;
    from += block;
    size -= block;
    room -= block;
  }
}

}  // namespace cdmf::ipc::shm
