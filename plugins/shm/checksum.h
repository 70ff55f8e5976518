#pragma once
// checksum.h: the CRC-32 of the envelope (IEEE 802.3, as in zlib and gzip), fast for short and for long records.
#include <cstddef>
#include <cstdint>

namespace cdmf::ipc::shm {

/// Any size, any alignment.
std::uint32_t crc32_ieee(const void* data, std::size_t size_bytes) noexcept;

}  // namespace cdmf::ipc::shm
