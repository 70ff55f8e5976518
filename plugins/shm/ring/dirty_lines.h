#pragma once
// ring/dirty_lines.h: the producer's private note of which lines of its ring may start with a misleading word.
// Why it exists and what it must contain at each moment: record_ring.h, invariant (I).

#include <cstddef>
#include <cstdint>
#include <memory>

namespace cdmf::ipc::shm {

/// One bit per line. Allocates when made, never after. Not shared, hence not atomic: one thread at a time.
class DirtyLines {
 public:
  explicit DirtyLines(std::uint64_t line_count)
      : words_(std::make_unique<std::uint64_t[]>(static_cast<std::size_t>((line_count + 63) / 64))) {}

  bool test(std::uint64_t line) const noexcept { return (words_[line / 64] >> (line % 64) & 1) != 0; }
  void clear(std::uint64_t line) noexcept { words_[line / 64] &= ~(std::uint64_t{1} << (line % 64)); }

  /// A record of count lines (1 or more) was written there: clears its first line, marks the others.
  void note_record(std::uint64_t first, std::uint64_t count) noexcept {
    const std::uint64_t shift = first % 64;
    std::uint64_t* const word = &words_[first / 64];
    const std::uint64_t lines = count < 64 ? (std::uint64_t{1} << count) - 1 : ~std::uint64_t{0};
    *word = (*word | lines << shift) & ~(std::uint64_t{1} << shift);
    if (shift + count <= 64) [[likely]]
      return;
    if (count <= 64) {
      word[1] |= ~std::uint64_t{0} >> (128 - shift - count);
    } else {
      mark_slowly(first - shift + 64, first + count);
    }
  }

  /// Marks the lines first to last - 1; none when first >= last.
  void mark(std::uint64_t first, std::uint64_t last) noexcept {
    if (first >= last) return;
    const std::uint64_t head_word = first / 64;
    const std::uint64_t tail_word = (last - 1) / 64;
    const std::uint64_t head_bits = ~std::uint64_t{0} << (first % 64);
    const std::uint64_t tail_bits = ~std::uint64_t{0} >> (63 - (last - 1) % 64);
    if (head_word == tail_word) {
      words_[head_word] |= head_bits & tail_bits;
      return;
    }
    words_[head_word] |= head_bits;
    for (std::uint64_t word = head_word + 1; word < tail_word; ++word) words_[word] = ~std::uint64_t{0};
    words_[tail_word] |= tail_bits;
  }

 private:
  [[gnu::noinline]] void mark_slowly(std::uint64_t first, std::uint64_t last) noexcept { mark(first, last); }

  std::unique_ptr<std::uint64_t[]> words_;
};

}  // namespace cdmf::ipc::shm
