#pragma once
// frame_parser.h: finds the record at the front of received bytes. Pure: no state, no memory of its own.
#include <cstddef>
#include <cstdint>
#include <span>

#include "wire.h"

namespace cdmf::ipc::unix_socket {

struct Parsed {
  enum class Kind {
    kIncomplete,  ///< read until there are `bytes` of them, then ask again
    kFrame,       ///< `frame` and `timestamp_us`; the record takes `bytes`
    kGoodbye,     ///< the peer's last word: `reason`
    kViolation,   ///< no correct peer sends this: `problem`
  };
  Kind kind = Kind::kIncomplete;
  std::size_t bytes = sizeof(RecordHeader);
  std::span<const std::byte> frame{};
  std::uint64_t timestamp_us = 0;
  cdmf_status reason = CDMF_OK;
  const char* problem = "";
};

/// bytes  what was received and not consumed, from the start of a record, aligned to kRecordAlignment.
/// The size a header announces is checked against frame_size_max before `Parsed::bytes` repeats it, so that a caller
/// never allocates what a hostile peer merely claims.
[[nodiscard]] Parsed parse_record(std::span<const std::byte> bytes, std::size_t frame_size_max) noexcept;

/// The reason of the goodbye that a stream ends with, or CDMF_OK when these last bytes of it are none. For a sender
/// whose socket broke and who cannot parse what the receiver has not read yet. A frame's content can look like a
/// goodbye; what the receiver reports comes from parse_record() and is exact.
[[nodiscard]] cdmf_status goodbye_at_end(std::span<const std::byte> bytes) noexcept;

}  // namespace cdmf::ipc::unix_socket
