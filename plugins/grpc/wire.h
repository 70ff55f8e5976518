#pragma once
// wire.h: the bytes in one gRPC message. All little-endian; a change here is a new kWireVersion.
//
// A message on the stream is a run of whole records; or it is one goodbye and nothing else. A record is a RecordHeader,
// a frame, and zeros up to the next multiple of 16. Small frames share a message, for a message costs gRPC some
// microseconds whatever it carries. Versions and sizes are agreed on in the metadata of the call: README.md.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ipc/plugin_abi.h"

namespace cdmf::ipc::grpc_transport {

static_assert(std::endian::native == std::endian::little, "headers are read and written in place");

inline constexpr std::uint32_t kWireVersion = 1;
inline constexpr const char* kMethod = "/cdmf.Link/Frames";
/// Answered as well, for those who watch over servers. (gRPC's own service for it would keep threads that drive every
/// connection of the process, each message then being handed from one thread to another.)
inline constexpr const char* kHealthMethod = "/grpc.health.v1.Health/Check";
inline constexpr const char* kVersionKey = "cdmf-version";
inline constexpr const char* kFrameSizeKey = "cdmf-frame-size-max";
inline constexpr const char* kStatusKey = "cdmf-status";  // Trailing: why a server refuses, a cdmf_status.
inline constexpr const char* kEndpointKey = "cdmf-endpoint-bin";

enum class RecordKind : std::uint16_t {
  kFrame = 1,    // size bytes of frame
  kGoodbye = 2,  // size 0: nothing follows, and this end was meant; reason says why
};

struct RecordHeader {
  std::uint32_t size = 0;  // Of the content, without header and padding.
  RecordKind kind = RecordKind::kFrame;
  std::uint16_t reason = 0;        // kGoodbye: a cdmf_status.
  std::uint64_t timestamp_us = 0;  // kFrame: when it was committed, since the Unix epoch.
};
static_assert(std::is_trivially_copyable_v<RecordHeader> && sizeof(RecordHeader) == CDMF_FRAME_ALIGNMENT);

/// A status that the peer has sent.
[[nodiscard]] constexpr cdmf_status known_reason(std::uint64_t reason) noexcept {
  return reason >= CDMF_NOT_INITIALIZED && reason <= CDMF_INTERNAL_ERROR ? static_cast<cdmf_status>(reason)
                                                                         : CDMF_CONNECTION_CLOSED;
}

/// Bytes that a record with that content takes.
[[nodiscard]] constexpr std::size_t record_bytes(std::size_t content) noexcept {
  return (sizeof(RecordHeader) + content + CDMF_FRAME_ALIGNMENT - 1) / CDMF_FRAME_ALIGNMENT * CDMF_FRAME_ALIGNMENT;
}

/// Bytes of the largest message between peers that agreed on that frame size.
[[nodiscard]] constexpr std::size_t message_bytes_max(std::size_t frame_size_max) noexcept {
  constexpr std::size_t kSharedMessageBytes = std::size_t{64} * 1024;
  const std::size_t largest = record_bytes(frame_size_max);
  return largest > kSharedMessageBytes ? largest : kSharedMessageBytes;
}

}  // namespace cdmf::ipc::grpc_transport
