#pragma once
// ipc/frame.h: how a message lies in the bytes that a driver carries. The same for every transport.
// Applications and plugin authors need not look here.
//
//   offset  bytes  field              all little-endian
//   0       8      id
//   8       1      type
//   9       1      version            kFrameVersion
//   10      1      flags              the application's
//   11      1      time left          as in ipc/time_left.h; 0: not said
//   12      2      subject size s     0 … kSubjectBytesMax
//   14      2      extensions size e  multiple of 16, 0 … kExtensionBytesMax
//   16      e      extension blocks   each: kind u16, size u16 (whole block, multiple of 8), content
//   16+e    p      payload            p = frame size - 16 - e - s
//   16+e+p  s      subject
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ipc/message.h"
#include "ipc/plugin_abi.h"

namespace cdmf::ipc {

static_assert(std::endian::native == std::endian::little, "frames are written in place as little-endian");

inline constexpr std::size_t kFrameHeaderBytes = 16;
inline constexpr std::size_t kExtensionBytesMax = 512;
inline constexpr std::uint8_t kFrameVersion = 1;
static_assert(kFrameHeaderBytes + kExtensionBytesMax + kSubjectBytesMax == CDMF_FRAME_OVERHEAD_MAX);

/// Extension kinds. A receiver skips kinds it does not know.
inline constexpr std::uint16_t kExtensionPadding = 0;  ///< moves the payload to an aligned address
inline constexpr std::uint16_t kExtensionHops = 1;     ///< content: u8 MessageView::hops, then zeros
inline constexpr std::size_t kHopsBytes = 16;          ///< of its block

/// Size of a frame in bytes.
[[nodiscard]] constexpr std::size_t frame_size(std::size_t payload, std::size_t subject,
                                               std::size_t extensions) noexcept {
  return kFrameHeaderBytes + extensions + payload + subject;
}

/// The 16 header bytes as two words.
inline void make_frame_header(std::uint64_t (&words)[2], const MessageView& message, std::size_t subject_size,
                              std::size_t extension_size) noexcept {
  words[0] = message.id;
  words[1] = static_cast<std::uint64_t>(message.type) | std::uint64_t{kFrameVersion} << 8 |
             std::uint64_t{message.flags} << 16 | std::uint64_t{message.time_left.code()} << 24 |
             static_cast<std::uint64_t>(subject_size) << 32 | static_cast<std::uint64_t>(extension_size) << 48;
}

/// Writes them; frame is aligned to CDMF_FRAME_ALIGNMENT.
inline void write_frame_header(void* frame, const MessageView& message, std::size_t subject_size,
                               std::size_t extension_size) noexcept {
  std::uint64_t words[2];
  make_frame_header(words, message, subject_size, extension_size);
  std::memcpy(frame, words, sizeof words);
}

/// Bytes of the extension blocks that a message needs by itself.
[[nodiscard]] constexpr std::size_t extension_size(const MessageView& message) noexcept {
  return message.hops == 0 ? 0 : kHopsBytes;
}

/// Writes those blocks, behind the header.
inline void write_extensions(std::byte* at, const MessageView& message) noexcept {
  if (message.hops == 0) return;
  const std::uint64_t block[2] = {kExtensionHops | kHopsBytes << 16 | std::uint64_t{message.hops} << 32, 0};
  std::memcpy(at, block, sizeof block);
}

/// Looks for what a receiver knows among size bytes of extension blocks. What makes no sense ends the search.
inline void read_extensions(const std::byte* at, std::size_t size, MessageView& message) noexcept {
  while (size >= 8) {
    std::uint64_t block;
    std::memcpy(&block, at, sizeof block);
    const std::size_t bytes = block >> 16 & 0xffff;
    if (bytes < 8 || bytes > size || bytes % 8 != 0) return;
    if ((block & 0xffff) == kExtensionHops) message.hops = static_cast<std::uint8_t>(block >> 32 & 0xff);
    at += bytes;
    size -= bytes;
  }
}

/// Reads and checks a frame of size bytes. Each header word is loaded once, so a peer that rewrites it later changes
/// nothing. False: malformed; message is then undefined.
[[nodiscard]] inline bool read_frame(const void* frame, std::size_t size, MessageView& message) noexcept {
  if (size < kFrameHeaderBytes) return false;
  auto* words = const_cast<std::uint64_t*>(static_cast<const std::uint64_t*>(frame));
  const std::uint64_t id = std::atomic_ref(words[0]).load(std::memory_order_relaxed);
  const std::uint64_t rest = std::atomic_ref(words[1]).load(std::memory_order_relaxed);
  const auto subject_size = static_cast<std::size_t>(rest >> 32 & 0xffff);
  const auto extension_size = static_cast<std::size_t>(rest >> 48);
  if ((rest >> 8 & 0xff) != kFrameVersion || subject_size > kSubjectBytesMax || extension_size > kExtensionBytesMax ||
      extension_size % 16 != 0 || kFrameHeaderBytes + extension_size + subject_size > size) {
    return false;
  }
  const auto* bytes = static_cast<const std::byte*>(frame) + kFrameHeaderBytes + extension_size;
  const std::size_t payload_size = size - kFrameHeaderBytes - extension_size - subject_size;
  message.type = static_cast<MessageType>(rest & 0xff);
  message.flags = static_cast<std::uint8_t>(rest >> 16 & 0xff);
  message.time_left = TimeLeft::from_code(static_cast<std::uint8_t>(rest >> 24 & 0xff));
  message.hops = 0;
  if (extension_size != 0) [[unlikely]]
    read_extensions(bytes - extension_size, extension_size, message);
  message.id = id;
  message.payload = {bytes, payload_size};
  message.subject = {reinterpret_cast<const char*>(bytes + payload_size), subject_size};
  return true;
}

}  // namespace cdmf::ipc
