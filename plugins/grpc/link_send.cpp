// The sending half of a link: records are committed into batches, and one write at a time takes what is published.
#include <grpcpp/support/slice.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <utility>

#include "link.h"

namespace cdmf::ipc::grpc_transport {
namespace {

std::uint64_t wall_clock_us() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000u + static_cast<std::uint64_t>(now.tv_nsec) / 1000u;
}

}  // namespace

/// A stream that failed takes nothing more, though why it ended may lie behind messages that the receiver has not read.
cdmf_status Link::can_send() const noexcept {
  if (ended_ != CDMF_OK) return ended_;
  return broken_ ? CDMF_PEER_DIED : CDMF_OK;
}

cdmf_status Link::claim(std::size_t size, cdmf_loan& loan) {
  const std::lock_guard lock(mutex_);
  if (const auto status = can_send(); status != CDMF_OK) return status;
  if (size == 0) return CDMF_INVALID_ARGUMENT;
  if (size > limits_.frame_size_max) return CDMF_BUFFER_OVERFLOW;
  if (claimed_in_ != nullptr) return CDMF_RESOURCE_EXHAUSTED;
  const std::size_t record = record_bytes(size);
  if (record > limits_.send_bytes - used_) {
    publish();  // Else a sender that never flushes would wait for room that only its own batch takes up.
    return CDMF_BUFFER_FULL;
  }
  if (batches_.empty() || batches_.back()->capacity - batches_.back()->end < record) {
    const std::size_t shared = message_bytes_max(0);
    batches_.push_back(std::make_shared<Batch>(std::max(shared, record)));
  }
  claimed_in_ = batches_.back();
  claimed_self_ = shared_from_this();
  claimed_bytes_ = record;
  used_ += record;
  loan = {claimed_in_->memory.get() + claimed_in_->end + sizeof(RecordHeader), size, id_,
          reinterpret_cast<std::uintptr_t>(this)};
  return CDMF_OK;
}

cdmf_status Link::commit(const cdmf_loan& loan, std::size_t size, bool flush) {
  auto* const link = reinterpret_cast<Link*>(loan.token);
  std::shared_ptr<Link> last;  // Released after the mutex.
  const std::lock_guard lock(link->mutex_);
  last = std::move(link->claimed_self_);
  const auto batch = std::move(link->claimed_in_);
  const bool sound = size != 0 && size <= loan.size;
  const std::size_t record = link->ended_ == CDMF_OK && sound ? record_bytes(size) : 0;
  link->used_ -= link->claimed_bytes_ - record;
  if (link->ended_ != CDMF_OK) return link->ended_;
  if (!sound) return CDMF_INVALID_ARGUMENT;
  std::byte* const memory = batch->memory.get() + batch->end;
  const RecordHeader header{static_cast<std::uint32_t>(size), RecordKind::kFrame, 0, wall_clock_us()};
  std::memcpy(memory, &header, sizeof header);
  const std::size_t written = sizeof header + size;
  std::memset(memory + written, 0, record - written);  // What lay there before is not the peer's business.
  batch->end += record;
  ++batch->frames_committed;
  ++link->frames_committed_;
  if (flush) link->publish();
  return CDMF_OK;
}

void Link::abort(const cdmf_loan& loan) {
  auto* const link = reinterpret_cast<Link*>(loan.token);
  std::shared_ptr<Link> last;
  const std::lock_guard lock(link->mutex_);
  last = std::move(link->claimed_self_);
  link->claimed_in_.reset();
  link->used_ -= link->claimed_bytes_;
  link->changed_.notify_all();
}

void Link::publish() {
  for (const auto& batch : batches_) {
    batch->published = batch->end;
    batch->frames_published = batch->frames_committed;
  }
  frames_published_ = frames_committed_;
  write_more();
}

/// Starts the next write: everything published in one batch, while the one before was under way.
void Link::write_more() {
  if (!open_ || broken_ || stream_over_ || under_way(Op::kWrite) || under_way(Op::kStart)) return;
  if (goodbye_begun_ || finish_begun_) return;
  while (batches_.size() > 1 && batches_.front()->sent == batches_.front()->end) batches_.pop_front();
  const auto write = [&](const grpc::Slice& slice) {
    const grpc::ByteBuffer message(&slice, 1);
    void* const tag = post(Op::kWrite);
    client_ != nullptr ? client_->Write(message, tag) : server_->Write(message, tag);
  };
  const auto batch = batches_.empty() ? nullptr : batches_.front();
  if (batch != nullptr && batch->published != batch->sent) {
    write_bytes_ = batch->published - batch->sent;
    const auto unref = [](void* owner) { delete static_cast<std::shared_ptr<Batch>*>(owner); };
    const grpc::Slice slice(batch->memory.get() + batch->sent, write_bytes_, unref, new std::shared_ptr<Batch>(batch));
    batch->sent = batch->published;
    write_frames_ = batch->frames_published - std::exchange(batch->frames_sent, batch->frames_published);
    write(slice);
  } else if (goodbye_wanted_) {
    goodbye_begun_ = true;
    const RecordHeader goodbye{0, RecordKind::kGoodbye, static_cast<std::uint16_t>(ended_), 0};
    write(grpc::Slice(&goodbye, sizeof goodbye));
  }
}

cdmf_status Link::flush(std::uint64_t deadline) {
  std::unique_lock lock(mutex_);
  if (ended_ != CDMF_OK) return ended_;
  publish();
  const std::uint64_t mine = frames_published_;
  const auto begun = [&] {
    return std::all_of(batches_.begin(), batches_.end(), [](const auto& one) { return one->sent == one->published; });
  };
  if (deadline == kNoWait) return begun() ? CDMF_OK : CDMF_BUFFER_FULL;
  const auto done = [&] {
    return ended_ != CDMF_OK || broken_ || frames_sent_ >= mine || (begun() && write_bytes_ == 0);
  };
  if (deadline == kForever) {
    changed_.wait(lock, done);
  } else if (!changed_.wait_until(lock, std::chrono::steady_clock::time_point(std::chrono::nanoseconds(deadline)),
                                  done)) {
    return CDMF_TIMEOUT;
  }
  return ended_;
}

cdmf_status Link::await_space(std::size_t size, std::uint64_t deadline, const std::atomic<std::uint64_t>& interrupts,
                              std::uint64_t interrupts_before) {
  std::unique_lock lock(mutex_);
  if (size > limits_.frame_size_max) return CDMF_BUFFER_OVERFLOW;
  post_read();  // Else a goodbye would go unnoticed.
  const auto decided = [&] {
    return can_send() != CDMF_OK || record_bytes(size) <= limits_.send_bytes - used_ ||
           interrupts.load() != interrupts_before;
  };
  if (deadline == kForever) {
    changed_.wait(lock, decided);
  } else if (!changed_.wait_until(lock, std::chrono::steady_clock::time_point(std::chrono::nanoseconds(deadline)),
                                  decided)) {
    return CDMF_TIMEOUT;
  }
  if (const auto status = can_send(); status != CDMF_OK) return status;
  return interrupts.load() != interrupts_before ? CDMF_INTERRUPTED : CDMF_OK;
}

void Link::wake_waiters() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

}  // namespace cdmf::ipc::grpc_transport
