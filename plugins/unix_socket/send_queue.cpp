#include "send_queue.h"

#include <algorithm>
#include <cstring>

namespace cdmf::ipc::unix_socket {

SendQueue::SendQueue(std::size_t capacity)
    : capacity_((capacity + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment),
      memory_(std::make_unique_for_overwrite<std::byte[]>(capacity_)) {}

std::size_t SendQueue::place(std::size_t record) const noexcept {
  if (first_.size() == 0) return record <= capacity_ ? 0 : kNoClaim;
  // The header of a record that is on its way is needed until its last byte has left: see count_sent().
  const std::size_t free_until = first_.begin - partly_sent_bytes_;
  if (second_.size() != 0) return record <= free_until - second_.end ? second_.end : kNoClaim;
  if (record <= capacity_ - first_.end) return first_.end;
  return record <= free_until ? 0 : kNoClaim;
}

std::byte* SendQueue::claim(std::size_t size) noexcept {
  claim_ = place(record_bytes(size));
  return claim_ == kNoClaim ? nullptr : memory_.get() + claim_ + sizeof(RecordHeader);
}

void SendQueue::commit(std::size_t size, std::uint64_t timestamp_us) noexcept {
  std::byte* const record = memory_.get() + claim_;
  const RecordHeader header{static_cast<std::uint32_t>(size), RecordKind::kFrame, 0, timestamp_us};
  std::memcpy(record, &header, sizeof header);
  const std::size_t used = sizeof header + size;
  const std::size_t bytes = record_bytes(size);
  std::memset(record + used, 0, bytes - used);        // What lay there before is not the peer's business.
  if (first_.size() == 0) first_ = {claim_, claim_};  // Also when everything left between claim and commit.
  Region& grown = claim_ == first_.end ? first_ : second_;
  if (grown.size() == 0) grown = {claim_, claim_};
  grown.end += bytes;
  ++frames_;
  claim_ = kNoClaim;
}

SendQueue::Pieces SendQueue::pending() const noexcept {
  Pieces pieces;
  std::size_t left = published_bytes_;
  for (const Region& region : {first_, second_}) {
    const std::size_t bytes = std::min(left, region.size());
    if (bytes == 0) break;
    pieces.parts[pieces.count++] = {memory_.get() + region.begin, bytes};
    pieces.bytes += bytes;
    left -= bytes;
  }
  return pieces;
}

SendQueue::Pieces SendQueue::pending_packet(std::size_t bytes_max) const noexcept {
  Pieces pieces;
  std::size_t left = published_bytes_;
  for (const Region& region : {first_, second_}) {
    std::size_t end = region.begin;
    bool full = false;
    while (end < region.end && left != 0) {
      RecordHeader header;
      std::memcpy(&header, memory_.get() + end, sizeof header);
      const std::size_t record = record_bytes(header.size);
      full = pieces.bytes != 0 && pieces.bytes + record > bytes_max;
      if (full) break;
      pieces.bytes += record;
      end += record;
      left -= record;
    }
    if (end != region.begin) pieces.parts[pieces.count++] = {memory_.get() + region.begin, end - region.begin};
    if (full) break;
  }
  return pieces;
}

void SendQueue::sent(std::size_t bytes) noexcept {
  published_bytes_ -= bytes;
  const std::size_t of_first = std::min(bytes, first_.size());
  count_sent(of_first);
  if (first_.size() != 0) return;
  first_ = second_;
  second_ = {};
  count_sent(bytes - of_first);
}

void SendQueue::count_sent(std::size_t bytes) noexcept {
  std::size_t record = first_.begin - partly_sent_bytes_;
  first_.begin += bytes;
  while (record < first_.begin) {
    RecordHeader header;
    std::memcpy(&header, memory_.get() + record, sizeof header);
    const std::size_t size = record_bytes(header.size);
    if (record + size > first_.begin) break;
    record += size;
    --frames_;
  }
  partly_sent_bytes_ = first_.begin - record;
}

}  // namespace cdmf::ipc::unix_socket
