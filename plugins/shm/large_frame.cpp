#include "large_frame.h"

#include <algorithm>

#include "far_lines.h"

namespace cdmf::ipc::shm {

std::uint32_t write_large_frame(RecordProducer& producer, std::byte* payload, const cdmf_pieces& frame,
                                bool checksum) noexcept {
  std::byte* at = payload;
  std::uint32_t sum = 0;
  const auto write = [&](const void* part, std::size_t size) {
    const auto* from = static_cast<const std::byte*>(part);
    while (size != 0) {
      const std::size_t piece = std::min(size, kPieceBytes);
      copy_to_far(at, from, piece, size, checksum ? &sum : nullptr);
      at += piece;
      from += piece;
      size -= piece;
      if (size != 0) producer.tell_written(payload, static_cast<std::uint64_t>(at - payload));
    }
  };
  write(frame.head, sizeof frame.head);
  write(frame.body, frame.body_size);
  write(frame.tail, frame.tail_size);
  return sum;
}

}  // namespace cdmf::ipc::shm
