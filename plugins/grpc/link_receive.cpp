// The receiving half of a link: one read at a time, and its messages handed out record by record.
#include <grpcpp/support/slice.h>

#include <cstring>
#include <utility>
#include <vector>

#include "link.h"

namespace cdmf::ipc::grpc_transport {

/// Nothing is read while the program has receive_bytes to read already: HTTP/2's windows then hold up the peer.
void Link::post_read() {
  if (!open_ || read_failed_ || stream_over_ || under_way(Op::kRead)) return;
  if (ended_ == CDMF_OK && inbox_bytes_ >= limits_.receive_bytes) return;
  void* const tag = post(Op::kRead);
  client_ != nullptr ? client_->Read(&incoming_, tag) : server_->Read(&incoming_, tag);
}

/// incoming_ is a message: a goodbye, or records for the receiver, who checks them.
void Link::take_message() {
  const std::size_t bytes = incoming_.Length();
  std::vector<grpc::Slice> slices;
  grpc::Slice single;
  if (incoming_.TrySingleSlice(&single).ok()) {
    slices.push_back(std::move(single));
  } else if (!incoming_.Dump(&slices).ok()) {
    slices.clear();
  }
  incoming_.Clear();
  RecordHeader header;
  if (ended_ != CDMF_OK && bytes != sizeof header) return;
  auto block = std::make_shared<Block>(bytes);  // The peer cannot make it larger than the channel's limit.
  std::size_t filled = 0;
  for (const grpc::Slice& slice : slices) {
    std::memcpy(block->memory.get() + filled, slice.begin(), slice.size());
    filled += slice.size();
  }
  if (bytes == sizeof header) {
    std::memcpy(&header, block->memory.get(), sizeof header);
    if (header.kind == RecordKind::kGoodbye) return remote_end(known_reason(header.reason));
  }
  if (ended_ != CDMF_OK) return;
  inbox_bytes_ += bytes;
  inbox_.push_back(std::move(block));
  events_.receivable();
}

bool Link::next(cdmf_view& view, std::shared_ptr<Block>& block, std::uint64_t burst) {
  const std::lock_guard lock(mutex_);
  view = {};
  view.peer = id_;
  if (end_told_ || (!open_ && !announced_)) return false;
  if (!std::exchange(announced_, true)) {
    view.kind = CDMF_VIEW_PEER_CONNECTED;
    if (identity_ != nullptr) {
      view.frame = identity_->memory.get();
      view.size = identity_->size;
      block = identity_;
    }
    return true;
  }
  if (!inbox_.empty()) {
    if (take_record(view, block)) {
      last_burst_ = burst;
      return true;
    }
    problem_ = "a message that is no run of whole records";
    inbox_.clear();
    inbox_bytes_ = 0;
    ended_ = CDMF_PROTOCOL_ERROR;
    try_cancel();
    changed_.notify_all();
  }
  if (ended_ == CDMF_OK) {
    if (last_burst_ != burst) post_read();
    return false;
  }
  view.kind = CDMF_VIEW_PEER_DISCONNECTED;
  view.reason = ended_;
  view.lost = lost_;
  end_told_ = true;
  return true;
}

/// The next record of the oldest message. False: it is none.
bool Link::take_record(cdmf_view& view, std::shared_ptr<Block>& block) {
  Block& first = *inbox_.front();
  const std::byte* const at = first.memory.get() + first.begin;
  const std::size_t left = first.size - first.begin;
  RecordHeader header;
  if (left < sizeof header) return false;
  std::memcpy(&header, at, sizeof header);
  if (header.kind != RecordKind::kFrame || header.size == 0 || header.size > limits_.frame_size_max ||
      record_bytes(header.size) > left) {
    return false;
  }
  view.kind = CDMF_VIEW_MESSAGE;
  view.frame = at + sizeof header;
  view.size = header.size;
  view.timestamp_us = header.timestamp_us;
  block = inbox_.front();
  first.begin += record_bytes(header.size);
  if (first.begin == first.size) {
    inbox_bytes_ -= first.size;
    inbox_.pop_front();
    if (!inbox_.empty()) post_read();
  }
  return true;
}

bool Link::receivable() {
  const std::lock_guard lock(mutex_);
  if (end_told_ || (!open_ && !announced_)) return false;
  if (inbox_.empty()) post_read();
  return !announced_ || ended_ != CDMF_OK || !inbox_.empty();
}

}  // namespace cdmf::ipc::grpc_transport
