#pragma once
// checksum.h: the CRC-32 of the envelope (IEEE 802.3, as in zlib and gzip).
#include <isa-l/crc.h>

#include <cstddef>
#include <cstdint>

namespace cdmf::ipc::shm {

inline std::uint32_t crc32_ieee(const void* data, std::size_t size_bytes) noexcept {
  // ISA-L takes no const, and writes nothing.
  return crc32_gzip_refl(0, static_cast<const unsigned char*>(data), size_bytes);
}

}  // namespace cdmf::ipc::shm
