#pragma once
// ipc/ring_buffer/layout.h: distances in memory that both typed rings keep.
// Part of ipc/ring_buffer.h; include that one.
#include <cstddef>

namespace cdmf::ipc::ring_buffer_detail {

/// Fixed rather than asked of the compiler: two programs that share a ring must lay it out alike.
inline constexpr std::size_t kCacheLineBytes = 64;

/// Distance between words that different threads write: two lines, because x86 prefetches lines in pairs.
inline constexpr std::size_t kRoleBytes = 2 * kCacheLineBytes;

}  // namespace cdmf::ipc::ring_buffer_detail
