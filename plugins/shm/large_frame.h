#pragma once
// large_frame.h: how a frame is written that takes longer to copy than a line takes from one core to the other.
//
// In pieces: a receiver that waits is told how far the writer is, so that it fetches what is written while the rest is:
// RecordConsumer::fetch_early().
#include <cstddef>
#include <cstdint>

#include "ipc/put_abi.h"
#include "ring/record_producer.h"

namespace cdmf::ipc::shm {

// Set by measurement of 64 KiB and 1 MiB there and back. Smaller pieces cost more in the telling.
inline constexpr std::size_t kLargeFrameBytes = 32 * 1024;
inline constexpr std::size_t kPieceBytes = 16 * 1024;

/// payload  of a claim of `producer` that holds the frame. Returns the frame's checksum, 0 when none is wanted.
std::uint32_t write_large_frame(RecordProducer& producer, std::byte* payload, const cdmf_pieces& frame,
                                bool checksum) noexcept;

}  // namespace cdmf::ipc::shm
