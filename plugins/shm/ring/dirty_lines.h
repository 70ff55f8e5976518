#pragma once
// ring/dirty_lines.h: the producer's private note of which lines of its ring may start with a misleading word.
// Why it exists and what it must contain at each moment: record_ring.h, invariant (I).

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

namespace cdmf::ipc::shm {

/// A byte per line, as bits of it take a sender twice the instructions. Allocates when made, never after. Not shared,
/// hence not atomic: one thread at a time.
class DirtyLines {
 public:
  explicit DirtyLines(std::uint64_t line_count)
      : lines_(std::make_unique<bool[]>(static_cast<std::size_t>(line_count))) {}

  bool test(std::uint64_t line) const noexcept { return lines_[line]; }
  void clear(std::uint64_t line) noexcept { lines_[line] = false; }

  /// A record of count lines (1 or more) was written there: clears its first line, marks the others.
  void note_record(std::uint64_t first, std::uint64_t count) noexcept {
    lines_[first] = false;
    if (count == 2) lines_[first + 1] = true;
    if (count > 2) mark(first + 1, first + count);
  }

  /// Marks the lines first to last - 1; none when first >= last.
  [[gnu::noinline]] void mark(std::uint64_t first, std::uint64_t last) noexcept {
    if (first < last) std::memset(&lines_[first], true, static_cast<std::size_t>(last - first));
  }

 private:
  std::unique_ptr<bool[]> lines_;
};

}  // namespace cdmf::ipc::shm
