#pragma once
// checksum.h: the CRC-32 of the envelope (IEEE 802.3, as in zlib and gzip), fast for short and for long records.
#include <cstddef>
#include <cstdint>

namespace cdmf::ipc::shm {

/// Any size, any alignment.
std::uint32_t crc32_ieee(const void* data, std::size_t size_bytes) noexcept;

/// The sum of what was summed up before (0: nothing) and these bytes behind it.
std::uint32_t crc32_ieee_after(std::uint32_t before, const void* data, std::size_t size_bytes) noexcept;

}  // namespace cdmf::ipc::shm
