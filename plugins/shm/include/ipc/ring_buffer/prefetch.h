#pragma once
// ipc/ring_buffer/prefetch.h: asks for a line early. Part of ipc/ring_buffer.h; include that one.
// Hints: they read and write nothing, order nothing, and may be given any address.
#include <cstddef>

namespace cdmf::ipc::ring_buffer_detail {

// Not the builtin on x86. For writing it is one for reading, unless compiled for newer processors only; and gcc 12
// takes a function that does nothing but prefetch for one that does nothing, and leaves its calls out (measured).

/// Asks for a line before it is read.
inline void prefetch_for_reading(const std::byte* at) noexcept {
#if defined(__x86_64__)
  asm volatile("prefetcht0 %0" : : "m"(*at));
#else
  __builtin_prefetch(at, 0);
#endif
}

/// Asks for a line before it is written to, so that the store need not wait for the core that has it.
inline void prefetch_for_writing(const std::byte* at) noexcept {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*at));
#else
  __builtin_prefetch(at, 1);
#endif
}

}  // namespace cdmf::ipc::ring_buffer_detail
