#pragma once
// wire.h: the bytes on the socket. All little-endian; a change here is a new kWireVersion.
//
// Each side sends one Hello; then records follow each other. A record is a RecordHeader, its content, and zeros up to
// the next multiple of 16. The hello is a multiple of 16 as well, hence every record begins at one, and a reader that
// keeps that alignment in memory hands out aligned frames without moving them.
//
// STREAM: the records are one stream of bytes. SEQPACKET: the hello is a packet, and so is every run of whole records
// of up to packet_bytes_max() bytes; no record is cut by the end of a packet.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ipc/plugin_abi.h"

namespace cdmf::ipc::unix_socket {

static_assert(std::endian::native == std::endian::little, "headers are read and written in place");

inline constexpr std::uint32_t kHelloMagic = 0x55'4d'44'43;  // "CDMU"
inline constexpr std::uint16_t kWireVersion = 1;
inline constexpr std::size_t kRecordAlignment = CDMF_FRAME_ALIGNMENT;

/// First bytes each way. The client speaks first; a server that refuses says why in status and closes.
struct Hello {
  std::uint32_t magic = kHelloMagic;
  std::uint16_t version = kWireVersion;  // Fixed place for ever, so that other versions can be named.
  std::uint16_t reserved = 0;
  std::uint64_t frame_size_max = 0;  // Client: what it needs. Server: what is in force for both.
  std::int32_t status = CDMF_OK;     // Server: CDMF_OK, or why it refuses. Client: 0.
  std::uint32_t pid = 0;             // For messages only; what is believed comes from SO_PEERCRED.
  std::uint64_t reserved2 = 0;
};
static_assert(std::is_trivially_copyable_v<Hello> && sizeof(Hello) == 32);

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
static_assert(std::is_trivially_copyable_v<RecordHeader> && sizeof(RecordHeader) == kRecordAlignment);

/// Bytes that a record with that content takes on the wire.
[[nodiscard]] constexpr std::size_t record_bytes(std::size_t content) noexcept {
  return (sizeof(RecordHeader) + content + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment;
}

/// SEQPACKET: bytes of the largest packet between peers that agreed on that frame size. Small records share packets,
/// for a system call costs more than copying them.
[[nodiscard]] constexpr std::size_t packet_bytes_max(std::size_t frame_size_max) noexcept {
  constexpr std::size_t kSharedPacketBytes = std::size_t{64} * 1024;
  const std::size_t largest = record_bytes(frame_size_max);
  return largest > kSharedPacketBytes ? largest : kSharedPacketBytes;
}

}  // namespace cdmf::ipc::unix_socket
