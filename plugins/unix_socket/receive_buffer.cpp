#include "receive_buffer.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace cdmf::ipc::unix_socket {

std::span<std::byte> ReceiveBuffer::room(std::size_t needed) {
  const std::size_t unread_bytes = end_ - begin_;
  const bool free = block_ != nullptr && !block_->pinned();
  if (free && unread_bytes == 0) begin_ = end_ = 0;  // Warm memory again, and fewer pages touched by idle links.

  // A block's last bytes are not worth a system call of their own.
  const bool roomy = block_ != nullptr && block_->capacity - begin_ >= needed &&
                     (begin_ == 0 || block_->capacity - end_ >= block_->capacity / 8);
  if (!roomy) {
    const std::size_t capacity = std::max(needed, block_bytes_);
    if (free && block_->capacity >= capacity) {
      std::memmove(block_->bytes.get(), block_->bytes.get() + begin_, unread_bytes);
    } else {
      std::swap(block_, previous_);
      if (block_ == nullptr || block_->pinned() || block_->capacity < capacity) {
        block_ = std::make_shared<Block>(capacity);
      }
      if (unread_bytes != 0) std::memcpy(block_->bytes.get(), previous_->bytes.get() + begin_, unread_bytes);
    }
    begin_ = 0;
    end_ = unread_bytes;
  }
  return {block_->bytes.get() + end_, block_->capacity - end_};
}

}  // namespace cdmf::ipc::unix_socket
