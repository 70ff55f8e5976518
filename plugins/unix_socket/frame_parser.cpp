#include "frame_parser.h"

#include <cstring>

namespace cdmf::ipc::unix_socket {
namespace {

Parsed violation(const char* problem) noexcept {
  Parsed parsed;
  parsed.kind = Parsed::Kind::kViolation;
  parsed.problem = problem;
  return parsed;
}

}  // namespace

Parsed parse_record(std::span<const std::byte> bytes, std::size_t frame_size_max) noexcept {
  Parsed parsed;
  if (bytes.size() < sizeof(RecordHeader)) return parsed;
  RecordHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  switch (header.kind) {
    case RecordKind::kGoodbye:
      if (header.size != 0) return violation("a goodbye with content");
      parsed.kind = Parsed::Kind::kGoodbye;
      // Another version may know other reasons; what is out of range still was a goodbye.
      parsed.reason = header.reason >= CDMF_NOT_INITIALIZED && header.reason <= CDMF_INTERNAL_ERROR
                          ? static_cast<cdmf_status>(header.reason)
                          : CDMF_CONNECTION_CLOSED;
      return parsed;
    case RecordKind::kFrame:
      if (header.size == 0) return violation("an empty frame");
      if (header.size > frame_size_max) return violation("a frame larger than agreed");
      parsed.bytes = record_bytes(header.size);
      if (bytes.size() < parsed.bytes) return parsed;
      parsed.kind = Parsed::Kind::kFrame;
      parsed.frame = bytes.subspan(sizeof header, header.size);
      parsed.timestamp_us = header.timestamp_us;
      return parsed;
  }
  return violation("an unknown kind of record");
}

cdmf_status goodbye_at_end(std::span<const std::byte> bytes) noexcept {
  if (bytes.size() < sizeof(RecordHeader) || bytes.size() % kRecordAlignment != 0) return CDMF_OK;
  const Parsed last = parse_record(bytes.last(sizeof(RecordHeader)), 0);
  return last.kind == Parsed::Kind::kGoodbye ? last.reason : CDMF_OK;
}

}  // namespace cdmf::ipc::unix_socket
