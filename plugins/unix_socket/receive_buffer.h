#pragma once
// receive_buffer.h: what was read from one socket and not handed out yet, in blocks that views may keep.
#include <atomic>
#include <cstddef>
#include <memory>
#include <span>

namespace cdmf::ipc::unix_socket {

/// Memory that many records were read into with one call. While it is pinned, bytes that were handed out do not move
/// and are not overwritten.
/// Edge  READ  pins: fetch_sub(release) after the last look at a view -> load(acquire) before the block is reused.
struct Block {
  explicit Block(std::size_t size)
      : bytes(std::make_unique_for_overwrite<std::byte[]>(size)), capacity(size) {}  // new[] aligns to 16.

  void pin() noexcept { pins.fetch_add(1, std::memory_order_relaxed); }    // Only who may read it pins it.
  void unpin() noexcept { pins.fetch_sub(1, std::memory_order_release); }  // READ
  [[nodiscard]] bool pinned() const noexcept { return pins.load(std::memory_order_acquire) != 0; }  // READ

  const std::unique_ptr<std::byte[]> bytes;
  const std::size_t capacity;
  std::atomic<unsigned> pins{0};
  unsigned holds = 0;  // The driver's, under its mutex.
};

/// Used by the receiver alone; blocks may be unpinned by any thread.
class ReceiveBuffer {
 public:
  /// block_bytes  read at once; larger records get larger blocks.
  explicit ReceiveBuffer(std::size_t block_bytes) : block_bytes_(block_bytes) {}

  /// Received and not consumed. Aligned as long as what is consumed is a multiple of the alignment.
  [[nodiscard]] std::span<const std::byte> unread() const noexcept {
    if (block_ == nullptr) return {};
    return {block_->bytes.get() + begin_, end_ - begin_};
  }
  void consume(std::size_t bytes) noexcept { begin_ += bytes; }
  /// The block that unread() lies in.
  [[nodiscard]] const std::shared_ptr<Block>& block() const noexcept { return block_; }

  /// Where to read more, never empty. Afterwards, needed bytes from the start of unread() are contiguous; needed is
  /// larger than unread().size(). May move unread(), but nothing that was consumed from a pinned block.
  [[nodiscard]] std::span<std::byte> room(std::size_t needed);
  void filled(std::size_t bytes) noexcept { end_ += bytes; }

 private:
  const std::size_t block_bytes_;
  std::shared_ptr<Block> block_;
  std::shared_ptr<Block> previous_;  // Reused when it is not pinned any more: two blocks alternate, none is allocated.
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace cdmf::ipc::unix_socket
