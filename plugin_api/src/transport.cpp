// The public face: each call goes to the core, which may outlive the Transport.
#include "ipc/transport.h"

#include "deadline.h"
#include "transport_core.h"

namespace cdmf::ipc {

Transport::Transport(const cdmf_plugin& plugin, std::shared_ptr<const void> library, const cdmf_host* host)
    : core_(std::make_shared<TransportCore>(plugin, std::move(library), host)) {}

Transport::Transport(Transport&&) noexcept = default;

Transport& Transport::operator=(Transport&& other) noexcept {
  Transport old(std::move(*this));
  core_ = std::move(other.core_);
  return *this;
}

Transport::~Transport() {
  if (core_ == nullptr) return;
  if (core_->forked()) {
    new std::shared_ptr<TransportCore>(std::move(core_));  // Left alone on purpose: see TransportCore::forked().
    return;
  }
  core_->orphan();
}

// A callback of one of these calls may destroy the Transport: the copy keeps the core until the call has returned.
TransportResult<> Transport::init(const TransportConfig& config) { return std::shared_ptr(core_)->init(config); }
TransportResult<> Transport::start() { return std::shared_ptr(core_)->start(); }
TransportResult<> Transport::connect() { return std::shared_ptr(core_)->connect({}); }
TransportResult<> Transport::connect(std::chrono::nanoseconds timeout) {
  return std::shared_ptr(core_)->connect(timeout);
}
TransportResult<> Transport::disconnect() { return std::shared_ptr(core_)->disconnect(); }
void Transport::stop() { std::shared_ptr(core_)->stop(); }
void Transport::cleanup() { std::shared_ptr(core_)->cleanup(); }

TransportResult<std::size_t> Transport::sendBatch(std::span<const MessageView> messages, const SendOptions& options) {
  return core_->send_batch(messages, options);
}
TransportResult<Loan> Transport::loan(std::size_t payload_size, const LoanOptions& options) {
  return core_->loan(payload_size, options);
}
TransportResult<> Transport::flush(PeerId peer) { return core_->flush(peer, {}); }
TransportResult<> Transport::flush(PeerId peer, std::chrono::nanoseconds timeout) {
  return core_->flush(peer, timeout);
}

void Transport::setMessageCallback(MessageCallback callback) { core_->set_message_callback(std::move(callback)); }
void Transport::setViewCallback(ViewCallback callback) { core_->set_view_callback(std::move(callback)); }
void Transport::setErrorCallback(ErrorCallback callback) { core_->set_error_callback(std::move(callback)); }
void Transport::setStateChangeCallback(StateChangeCallback callback) { core_->set_state_callback(std::move(callback)); }
void Transport::setPeerCallback(PeerCallback callback) { core_->set_peer_callback(std::move(callback)); }

bool Transport::handle_exception_view(std::shared_ptr<TransportCore> core, const cdmf_view& view) {
  core->handle_exception_view(view);
  return !core->ending();
}

TransportResult<MessagePtr> Transport::receive() { return receive(core_->receive_timeout()); }
TransportResult<MessagePtr> Transport::receive(std::chrono::nanoseconds timeout) {
  const auto core = core_;  // A peer or state callback may destroy this Transport.
  const std::uint64_t deadline = deadline_after(timeout);
  MessagePtr message;
  for (int late_looks = 0;;) {
    poll([&](const MessageView& view) { message = std::make_unique<Message>(view); }, 1);
    if (message != nullptr) return message;
    if (core->ending()) return {TransportError::INTERRUPTED, "a callback stopped this Transport"};
    // Even a time-out of 0 looks twice: the first poll() may have met only the arrival of a peer.
    const std::uint64_t now = monotonic_now_ns();
    const bool late = deadline == kNoWait || now >= deadline;
    if (late && ++late_looks == 3) return TransportError::TIMEOUT;
    const TransportResult<> waited = core_->await(std::chrono::nanoseconds(late ? 0 : deadline - now));
    if (!waited && (late || waited.error != TransportError::TIMEOUT)) return {waited.error, waited.error_message};
  }
}
TransportResult<> Transport::await(std::chrono::nanoseconds timeout) { return core_->await(timeout); }
void Transport::interrupt() { core_->interrupt(); }
TransportResult<HeldMessage> Transport::hold(const MessageView& view) { return core_->hold(view); }
int Transport::pollFd() const { return core_->poll_fd(); }
cdmf_arm_result Transport::arm() { return core_->arm(); }

TransportState Transport::getState() const noexcept { return core_->state(); }
TransportStats Transport::getStats() const { return core_->stats(); }
void Transport::resetStats() { core_->reset_stats(); }
TransportInfo Transport::getInfo() const { return core_->info(); }
std::vector<PeerId> Transport::getPeers() const { return core_->peers(); }
TransportResult<> Transport::disconnectPeer(PeerId peer) { return core_->disconnect_peer(peer); }

// ---- Loan and HeldMessage -------------------------------------------------------------------------------------------

Loan::Loan(Loan&& other) noexcept = default;

Loan& Loan::operator=(Loan&& other) noexcept {
  Loan old(std::move(*this));
  core_ = std::move(other.core_);
  driver_ = std::move(other.driver_);
  loan_ = other.loan_;
  payload_ = other.payload_;
  subject_size_ = other.subject_size_;
  flush_ = other.flush_;
  return *this;
}

Loan::~Loan() { abort(); }

TransportResult<> Loan::commit() { return commit(payload_.size()); }

TransportResult<> Loan::commit(std::size_t payload_size) {
  if (driver_ == nullptr) return {TransportError::INVALID_ARGUMENT, "this Loan is empty: committed, aborted or moved"};
  return core_->commit(*this, payload_size);
}

void Loan::abort() noexcept {
  if (driver_ != nullptr) core_->abort(*this);
}

HeldMessage::HeldMessage(HeldMessage&& other) noexcept = default;

HeldMessage& HeldMessage::operator=(HeldMessage&& other) noexcept {
  HeldMessage old(std::move(*this));
  driver_ = std::move(other.driver_);
  view_ = other.view_;
  held_ = other.held_;
  return *this;
}

HeldMessage::~HeldMessage() {
  if (driver_ != nullptr) driver_->ops().unhold(driver_->self(), held_);
}

}  // namespace cdmf::ipc
