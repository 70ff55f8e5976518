#include "link.h"

#include <grpc/grpc_security_constants.h>
#include <grpcpp/support/slice.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>
#include <vector>

namespace cdmf::ipc::grpc_transport {
namespace {

/// The value of a key of the peer's metadata as a number; 0 when it is not there or no number.
template <typename Metadata>
std::uint64_t number_in(const Metadata& metadata, const char* key) {
  const auto found = metadata.find(key);
  if (found == metadata.end() || found->second.size() > 18) return 0;
  return std::strtoull(std::string(found->second.data(), found->second.size()).c_str(), nullptr, 10);
}

}  // namespace

Link::Link(cdmf_peer id, const Limits& limits, LinkEvents& events, grpc::CompletionQueue& queue)
    : id_(id), limits_(limits), events_(events), queue_(queue) {
  for (std::size_t i = 0; i < kOpCount; ++i) tags_[i] = {this, static_cast<Op>(i)};
}

/// The subject of the peer's certificate, once a handshake has checked it.
void Link::note_identity(const grpc::AuthContext& authentication) {
  const auto subjects = authentication.FindPropertyValues(GRPC_X509_SUBJECT_PROPERTY_NAME);
  if (subjects.empty()) return;
  identity_ = std::make_shared<Block>(subjects.front().size());
  std::memcpy(identity_->memory.get(), subjects.front().data(), subjects.front().size());
}

void* Link::post(Op op) {
  under_way_[static_cast<unsigned>(op)] = shared_from_this();
  return &tags_[static_cast<unsigned>(op)];
}

// ---- Making one -----------------------------------------------------------------------------------------------------

void Link::call(std::shared_ptr<grpc::Channel> channel, const std::string& endpoint) {
  const std::lock_guard lock(mutex_);
  channel_ = std::move(channel);
  client_context_ = std::make_unique<grpc::ClientContext>();
  client_context_->AddMetadata(kVersionKey, std::to_string(kWireVersion));
  client_context_->AddMetadata(kFrameSizeKey, std::to_string(limits_.frame_size_max));
  client_context_->AddMetadata(kEndpointKey, endpoint);
  grpc::GenericStub stub(channel_);
  client_ = stub.PrepareCall(client_context_.get(), kMethod, &queue_);
  client_->StartCall(post(Op::kStart));
}

cdmf_status Link::await_answer(std::uint64_t deadline, std::string& problem) {
  std::unique_lock lock(mutex_);
  const auto decided = [&] { return open_ || is_over(); };
  if (deadline == kForever) {
    changed_.wait(lock, decided);
  } else if (!changed_.wait_until(lock, std::chrono::steady_clock::time_point(std::chrono::nanoseconds(deadline)),
                                  decided)) {
    try_cancel();
    problem = "the server did not answer in time";
    return CDMF_TIMEOUT;
  }
  if (open_) return CDMF_OK;  // Though it may be over again.
  problem = status_.error_message();
  return failure_;
}

/// Why a client's call came to nothing. gRPC tells the system's reasons in words only.
cdmf_status Link::status_of_failure() const {
  const auto refused = number_in(client_context_->GetServerTrailingMetadata(), kStatusKey);
  if (refused != 0) return known_reason(refused);
  const std::string& text = status_.error_message();
  const auto says = [&](const char* words) { return text.find(words) != text.npos; };
  if (says("No such file") || says("onnection refused")) return CDMF_ENDPOINT_NOT_FOUND;
  if (status_.error_code() == grpc::StatusCode::UNIMPLEMENTED) return CDMF_PROTOCOL_ERROR;
  return CDMF_CONNECTION_FAILED;
}

void Link::request(grpc::AsyncGenericService& service, grpc::ServerCompletionQueue& queue) {
  const std::lock_guard lock(mutex_);
  server_context_ = std::make_unique<grpc::GenericServerContext>();
  server_ = std::make_unique<grpc::GenericServerAsyncReaderWriter>(server_context_.get());
  server_context_->AsyncNotifyWhenDone(&tags_[static_cast<unsigned>(Op::kDone)]);
  service.RequestCall(server_context_.get(), server_.get(), &queue, &queue, post(Op::kStart));
}

void Link::accept() {
  const std::lock_guard lock(mutex_);
  open_ = true;
  note_identity(*server_context_->auth_context());
  server_context_->AddInitialMetadata(kFrameSizeKey, std::to_string(limits_.frame_size_max));
  server_->SendInitialMetadata(post(Op::kStart));
  post_read();
  events_.receivable();
}

void Link::refuse(cdmf_status status, const std::string& text) {
  const std::lock_guard lock(mutex_);
  end_told_ = finish_begun_ = true;  // The program never hears of it.
  server_context_->AddTrailingMetadata(kStatusKey, std::to_string(status));
  const auto code =
      status == CDMF_UNSUPPORTED ? grpc::StatusCode::UNIMPLEMENTED : grpc::StatusCode::FAILED_PRECONDITION;
  server_->Finish(grpc::Status(code, text), post(Op::kFinish));
}

void Link::answer_health() {
  const std::lock_guard lock(mutex_);
  end_told_ = finish_begun_ = true;
  const grpc::Slice serving("\x08\x01", 2);  // HealthCheckResponse { status: SERVING }
  server_->WriteAndFinish({&serving, 1}, {}, grpc::Status::OK, post(Op::kFinish));
}

// ---- The end --------------------------------------------------------------------------------------------------------

void Link::end(cdmf_status reason, std::chrono::nanoseconds linger) {
  const std::lock_guard lock(mutex_);
  if (ended_ != CDMF_OK || is_over()) return;
  ended_ = reason == CDMF_OK ? CDMF_CONNECTION_CLOSED : reason;
  lost_ += frames_committed_ - frames_published_;
  for (const auto& block : inbox_) {  // Had arrived and will not be read.
    for (std::size_t at = block->begin; at + sizeof(RecordHeader) <= block->size; ++lost_) {
      RecordHeader header;
      std::memcpy(&header, block->memory.get() + at, sizeof header);
      at += record_bytes(header.size);
    }
  }
  inbox_.clear();
  inbox_bytes_ = 0;
  changed_.notify_all();
  events_.receivable();
  if (!open_) return try_cancel();
  goodbye_wanted_ = true;
  linger_.Set(&queue_, std::chrono::system_clock::now() + std::chrono::duration_cast<std::chrono::microseconds>(linger),
              post(Op::kLinger));
  write_more();
  post_read();  // A client hears of the stream's end behind what it does not read any more.
}

void Link::cancel() {
  const std::lock_guard lock(mutex_);
  try_cancel();
}

void Link::try_cancel() {
  if (client_context_ != nullptr) client_context_->TryCancel();
  if (server_context_ != nullptr && called_) server_context_->TryCancel();
}

/// The peer's goodbye, or the end of the stream without one.
void Link::remote_end(cdmf_status reason) {
  if (ended_ == CDMF_OK) {
    ended_ = reason;
    lost_ += frames_committed_ - frames_sent_;
    events_.receivable();
    changed_.notify_all();
  }
  finish_wanted_ = true;
  finish_more();
}

/// Ends what this side can end of the call, once nothing is being written. A server ends all of it, and only when its
/// client has said goodbye or closed its half: gRPC throws away what a client has not read when that one's next write
/// finds the connection closed.
void Link::finish_more() {
  if (!finish_wanted_ || stream_over_ || under_way(Op::kWrite) || under_way(Op::kStart)) return;
  if (std::exchange(finish_begun_, true)) return;
  if (server_ != nullptr) server_->Finish(grpc::Status::OK, post(Op::kFinish));
  if (client_ != nullptr) client_->WritesDone(post(Op::kHalfClose));
}

/// Client: from now on gRPC tells when the stream ends, and how.
void Link::ask_for_status() { client_->Finish(&status_, post(Op::kFinish)); }

bool Link::is_over() const noexcept { return stream_over_ && !under_way(Op::kRead); }

void Link::on_start(bool ok) {
  if (client_ != nullptr) {
    if (ok && !std::exchange(answered_, true)) return client_->ReadInitialMetadata(post(Op::kStart));
    const auto agreed = ok ? number_in(client_context_->GetServerInitialMetadata(), kFrameSizeKey) : 0;
    if (agreed >= limits_.frame_size_max && ended_ == CDMF_OK) {
      limits_.frame_size_max = static_cast<std::size_t>(agreed);
      limits_.send_bytes = std::max(limits_.send_bytes, record_bytes(limits_.frame_size_max));
      open_ = true;
      note_identity(*client_context_->auth_context());
    }
    ask_for_status();
    post_read();
    changed_.notify_all();
    return;
  }
  write_more();
  finish_more();
}

void Link::complete(Op op, bool ok) {
  const std::shared_ptr<Link> self = shared_from_this();
  bool is_call = false;
  bool is_finished = false;
  {
    const std::lock_guard lock(mutex_);
    under_way_[static_cast<unsigned>(op)].reset();
    switch (op) {
      case Op::kStart:
        if (server_ != nullptr && !called_) {
          is_call = called_ = ok;
          if (!ok) stream_over_ = true;
          if (ok && !stream_over_) (void)post(Op::kDone);  // Is under way since request().
        } else {
          on_start(ok);
        }
        break;
      case Op::kRead:
        if (ok) take_message();
        if (!ok) read_failed_ = true;
        // A client's end of the stream comes with its status; a server hears nothing else when a client just ends.
        if (!ok && server_ != nullptr) remote_end(CDMF_PEER_DIED);
        // A read tells the peer at once how much it may send. A receiver that is here may answer first, and read when
        // it has handled what it got; then both leave in one piece.
        if (!ok || inbox_.empty() || !events_.receiver_is_here()) post_read();
        break;
      case Op::kWrite:
        used_ -= std::exchange(write_bytes_, 0);
        if (!ok) broken_ = true;
        if (ok) frames_sent_ += write_frames_;
        write_frames_ = 0;
        if (goodbye_begun_ && broken_) finish_wanted_ = true;
        changed_.notify_all();
        write_more();
        finish_more();
        break;
      case Op::kHalfClose:
        break;
      case Op::kFinish:
        if (client_ != nullptr) stream_over_ = true;
        break;
      case Op::kDone:
        stream_over_ = true;
        break;
      case Op::kLinger:
        if (ok && !stream_over_) try_cancel();
        break;
    }
    if (is_over() && !finish_told_ && !is_call) {
      if (ended_ == CDMF_OK) {
        ended_ = CDMF_PEER_DIED;
        lost_ += frames_committed_ - frames_sent_;
        events_.receivable();
      }
      if (under_way(Op::kLinger)) linger_.Cancel();
      const bool idle =
          std::all_of(under_way_.begin(), under_way_.end(), [](const auto& one) { return one == nullptr; });
      is_finished = finish_told_ = idle;
      if (client_ != nullptr && !open_) failure_ = status_of_failure();
      if (idle) {  // An open claim may keep this object for long; the stream it need not keep.
        client_.reset();
        server_.reset();
        client_context_.reset();
        server_context_.reset();
        channel_.reset();
      }
      changed_.notify_all();
    }
  }
  if (is_call) events_.called(*this);
  if (is_finished) events_.finished(id_);
}

}  // namespace cdmf::ipc::grpc_transport
