// The receiving side: the I/O thread, polling, and callbacks.
#include <algorithm>
#include <utility>

#include "deadline.h"
#include "transport_core.h"

namespace cdmf::ipc {

using namespace std::chrono_literals;

// ---- Callbacks --------------------------------------------------------------------------------------------------

/// Runs a callback; what it throws is counted and reported, and goes no further. Inside the gate.
template <typename Body>
void TransportCore::guarded(const char* what, Body&& body) {
  std::string problem;
  try {
    body();
    return;
  } catch (const std::exception& thrown) {
    problem = thrown.what();
  } catch (...) {
    problem = "an exception that is no std::exception";
  }
  counters_.recv_errors.fetch_add(1, std::memory_order_relaxed);
  report(TransportError::INTERNAL_ERROR, label() + ": " + what + " threw: " + problem);
}

/// To the error callback, and into the statistics. Inside the gate.
void TransportCore::report(TransportError error, const std::string& text) {
  counters_.record_error(error, text);
  const auto callback = error_callback_;  // It may replace itself.
  if (callback == nullptr) return;
  try {
    (*callback)(error, text);
  } catch (...) {  // There is nobody left to tell; the count says that something was wrong.
    counters_.recv_errors.fetch_add(1, std::memory_order_relaxed);
  }
}

void TransportCore::report_state(TransportState from, TransportState to) {
  const CallbackGate::Pass pass(gate_);
  const auto callback = state_callback_;
  if (callback != nullptr) guarded("the state callback", [&] { (*callback)(from, to); });
}

void TransportCore::report_peer(const PeerEvent& event) {
  const CallbackGate::Pass pass(gate_);
  const auto callback = peer_callback_;
  if (callback != nullptr) guarded("the peer callback", [&] { (*callback)(event); });
}

template <typename Callback>
void TransportCore::replace(std::shared_ptr<const Callback>& slot, Callback next) {
  auto fresh = next ? std::make_shared<const Callback>(std::move(next)) : nullptr;
  const CallbackGate::Pass pass(gate_);  // Waits for a running callback of another thread.
  slot.swap(fresh);
  ++callback_version_;
}

void TransportCore::note_message_callbacks() {
  const CallbackGate::Pass pass(gate_);
  const std::lock_guard lock(life_mutex_);
  callback_set_ = message_callback_ != nullptr || view_callback_ != nullptr;
  life_changed_.notify_all();
}

void TransportCore::set_message_callback(MessageCallback callback) {
  const CallbackGate::Pass pass(gate_);
  view_callback_ = nullptr;
  replace(message_callback_, std::move(callback));
  note_message_callbacks();
}

void TransportCore::set_view_callback(ViewCallback callback) {
  const CallbackGate::Pass pass(gate_);
  message_callback_ = nullptr;
  replace(view_callback_, std::move(callback));
  note_message_callbacks();
}

void TransportCore::set_error_callback(ErrorCallback callback) { replace(error_callback_, std::move(callback)); }
void TransportCore::set_state_callback(StateChangeCallback callback) { replace(state_callback_, std::move(callback)); }
void TransportCore::set_peer_callback(PeerCallback callback) { replace(peer_callback_, std::move(callback)); }

// ---- The I/O thread -----------------------------------------------------------------------------------------------

/// The message callbacks in force, kept alive while one of them runs; renewed when one was replaced.
struct TransportCore::Handlers {
  explicit Handlers(TransportCore& owner) : core(owner) { renew(); }
  void renew() {
    version = core.callback_version_;
    message = core.message_callback_;
    view = core.view_callback_;
  }
  [[nodiscard]] bool any() {
    if (version != core.callback_version_) renew();
    return message != nullptr || view != nullptr;
  }

  TransportCore& core;
  unsigned version = 0;
  std::shared_ptr<const MessageCallback> message;
  std::shared_ptr<const ViewCallback> view;
  // Summed up per burst.
  std::size_t messages = 0;
  std::uint64_t bytes = 0;
};

void TransportCore::io_loop() {
  for (;;) {
    {
      std::unique_lock lock(life_mutex_);
      receiver_busy_ = false;
      life_changed_.notify_all();
      life_changed_.wait(lock, [&] { return stop_requested_ || (receiving_ && !pausing_); });
      if (stop_requested_) break;
      receiver_busy_ = true;
    }
    while (!stop_requested_.load(std::memory_order_relaxed) && !pausing_.load(std::memory_order_relaxed) &&
           receiving_.load(std::memory_order_relaxed)) {
      receive_step();
    }
  }
  finish_own_end();
}

/// One burst to the callbacks, or one wait.
void TransportCore::receive_step() {
  if (state() == TransportState::RECONNECTING) return reconnect_step();
  const cdmf_driver_ops& ops = driver_->ops();
  void* const self = driver_->self();
  cdmf_view views[Transport::kBurstMax];
  const std::size_t count = ops.receive_burst(self, views, Transport::kBurstMax);
  if (count == 0) {
    const cdmf_status waited = ops.await_messages(self, kForever);
    if (waited != CDMF_OK && waited != CDMF_TIMEOUT && waited != CDMF_INTERRUPTED) {
      if (!std::exchange(wait_fault_reported_, true)) {
        const CallbackGate::Pass pass(gate_);
        report(to_error(waited), label() + ": the driver cannot wait for messages; looking every 10ms instead");
      }
      // A driver that cannot wait must not make this thread spin.
      std::unique_lock lock(life_mutex_);
      life_changed_.wait_for(lock, 10ms, [&] { return stop_requested_ || pausing_; });
    }
    return;
  }
  std::size_t next = 0;
  while (next < count && !stop_requested_) {
    if (views[next].kind == CDMF_VIEW_MESSAGE && !callback_set_ && !wait_for_callback()) break;
    const CallbackGate::Pass pass(gate_);
    Handlers handlers(*this);
    while (next < count && !stop_requested_.load(std::memory_order_relaxed)) {
      if (views[next].kind == CDMF_VIEW_MESSAGE && !handlers.any()) break;
      dispatch(handlers, views[next++]);
    }
    count_received(handlers.messages, handlers.bytes);
  }
  ops.release_burst(self);
}

/// Outside the gate, so that a callback can be set. False: stopping or disconnecting, the messages are dropped.
bool TransportCore::wait_for_callback() {
  std::unique_lock lock(life_mutex_);
  life_changed_.wait(lock, [&] { return callback_set_ || stop_requested_ || pausing_; });
  return !stop_requested_ && !pausing_;
}

void TransportCore::dispatch(Handlers& handlers, const cdmf_view& view) {
  MessageView message;
  if (view.kind != CDMF_VIEW_MESSAGE || !read_frame(view.frame, view.size, message)) return handle_exception_view(view);
  message.peer = view.peer;
  message.timestamp_us = view.timestamp_us;
  message.token = view.token;
  ++handlers.messages;
  handlers.bytes += message.payload.size();
  guarded("the message callback", [&] {
    if (handlers.view != nullptr) {
      (*handlers.view)(message);
    } else {
      (*handlers.message)(std::make_unique<Message>(message));
    }
  });
}

// ---- Peers ----------------------------------------------------------------------------------------------------------

void TransportCore::handle_exception_view(const cdmf_view& view) {
  switch (view.kind) {
    case CDMF_VIEW_PEER_CONNECTED:
      return peer_connected(view);
    case CDMF_VIEW_PEER_DISCONNECTED:
      return peer_disconnected(view);
    case CDMF_VIEW_MESSAGE:
      break;  // A malformed one.
    default:
      return;  // Kinds of a newer plugin; they announce nothing that this host asked for.
  }
  counters_.recv_errors.fetch_add(1, std::memory_order_relaxed);
  driver_->ops().disconnect(driver_->self(), view.peer, CDMF_PROTOCOL_ERROR);
  const CallbackGate::Pass pass(gate_);
  report(TransportError::PROTOCOL_ERROR, label() + ": peer " + std::to_string(view.peer) +
                                             " sent a malformed message (" + std::to_string(view.size) +
                                             " bytes); its link is closed");
}

void TransportCore::peer_connected(const cdmf_view& view) {
  peers_.announce(view.peer);
  PeerEvent event{PeerEvent::Kind::CONNECTED, view.peer};
  if (view.frame != nullptr) event.identity.assign(static_cast<const char*>(view.frame), view.size);
  report_peer(event);
}

/// The sending half of a driver keeps what it knows of a peer until its next call, which may never come: a segment,
/// descriptors. With Senders::ONE that call is the sender's own.
void TransportCore::let_senders_forget(PeerId peer) {
  if (!many_senders_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(sender_mutex_);
  (void)driver_->ops().flush(driver_->self(), peer, 0);  // NOT_CONNECTED, and it has looked.
}

void TransportCore::peer_disconnected(const cdmf_view& view) {
  peers_.remove(view.peer);
  let_senders_forget(view.peer);
  counters_.recv_errors.fetch_add(view.lost, std::memory_order_relaxed);
  const auto reason = to_error(view.reason);
  const CallbackGate::Pass pass(gate_);
  if (reason != TransportError::CONNECTION_CLOSED) {
    report(reason, label() + ": peer " + std::to_string(view.peer) + ": " + describe(reason));
  }
  report_peer({PeerEvent::Kind::DISCONNECTED, view.peer, reason, view.lost});
  if (role_ == Role::SERVER) return;
  refuse_senders();
  end_reason_ = reason;
  if (config_.auto_reconnect) {
    next_attempt_ns_ = monotonic_now_ns();
    backoff_ = 0ns;
    set_state(TransportState::RECONNECTING);
  } else {
    receiving_ = false;
    set_state(TransportState::STARTED);
  }
}

// ---- Polling ------------------------------------------------------------------------------------------------------

inline bool TransportCore::may_poll() {
  if (!receiving_.load(std::memory_order_acquire) || !polled_.load(std::memory_order_relaxed) || forked()) return false;
  return state() != TransportState::RECONNECTING || poll_reconnects();
}

/// Whether a due attempt has connected.
[[gnu::noinline]] bool TransportCore::poll_reconnects() {
  const auto self = shared_from_this();  // The state callback may destroy the Transport.
  reconnect_step();
  if (ending()) stop();
  return state() == TransportState::CONNECTED;
}

Transport::Receiver Transport::begin_poll(TransportCore& core) {
  if (!core.may_poll()) return {};
  return {&core.driver_->ops(), core.driver_->self()};
}

inline void TransportCore::count_received(std::size_t messages, std::uint64_t bytes) noexcept {
  counters_.messages_received.add(messages);
  counters_.bytes_received.add(bytes);
}

/// With the burst released. A peer or state callback in it may have asked for the end.
void Transport::end_poll(TransportCore& core, std::size_t messages, std::uint64_t bytes) {
  core.count_received(messages, bytes);
  if (core.ending()) [[unlikely]]
    core.stop();
}

std::chrono::nanoseconds TransportCore::receive_timeout() const noexcept { return config_.receive_timeout; }

TransportResult<> TransportCore::await(std::chrono::nanoseconds timeout) {
  if (!polled_) {
    return {TransportError::UNSUPPORTED, label() + ": its own thread receives; use Receive::POLL"};
  }
  if (forked()) return {TransportError::UNSUPPORTED, "await() after fork(): make a new Transport in the child"};
  const std::uint64_t deadline = deadline_after(timeout);
  for (;;) {
    if (stop_requested_ || !receiving_) {
      const bool ended = end_reason_ != TransportError::SUCCESS;
      return {ended ? end_reason_ : TransportError::NOT_CONNECTED, label() + (ended ? ": the link is over" : "")};
    }
    if (interrupted_.exchange(false)) return TransportError::INTERRUPTED;
    if (state() == TransportState::RECONNECTING) return await_attempt(deadline);
    const cdmf_status status = driver_->ops().await_messages(driver_->self(), deadline);
    // Without interrupted_ it is the leftover of one that was told already, or was meant for another wait.
    if (status != CDMF_INTERRUPTED) return to_error(status);
  }
}

/// Waits for the next attempt of a reconnection, which poll() makes.
TransportResult<> TransportCore::await_attempt(std::uint64_t deadline) {
  const std::uint64_t now = monotonic_now_ns();
  const std::uint64_t until = std::min(deadline, next_attempt_ns_);
  std::unique_lock lock(life_mutex_);
  if (until > now) {
    life_changed_.wait_for(lock, std::chrono::nanoseconds(until - now),
                           [&] { return stop_requested_ || interrupted_; });
  }
  if (interrupted_.exchange(false) || stop_requested_) return TransportError::INTERRUPTED;
  return passed(deadline) ? TransportError::TIMEOUT : TransportError::SUCCESS;
}

void TransportCore::interrupt() {
  if (forked() || !polled_) return;
  {
    const std::lock_guard lock(life_mutex_);
    interrupted_ = true;
    life_changed_.notify_all();
  }
  wake_driver();
}

void TransportCore::wake_driver() {
  const auto driver = this->driver();
  if (driver != nullptr) driver->ops().interrupt(driver->self());
}

TransportResult<HeldMessage> TransportCore::hold(const MessageView& view) {
  HeldMessage message;
  if (forked() || driver_ == nullptr) return {TransportError::UNSUPPORTED, "hold() is for handlers of messages"};
  const cdmf_status status = driver_->ops().hold(driver_->self(), view.peer, view.token, &message.held_);
  if (status != CDMF_OK) {
    return {to_error(status),
            label() + (status == CDMF_UNSUPPORTED ? ": this transport cannot hold messages; copy it"
                                                  : ": too many messages are held; release some, or copy this one")};
  }
  message.view_ = view;
  message.driver_ = driver_;
  return message;
}

int TransportCore::poll_fd() {
  if (forked()) return -1;
  const auto driver = this->driver();
  return driver != nullptr && receiving_ ? driver->ops().poll_fd(driver->self()) : -1;
}

cdmf_arm_result TransportCore::arm() {
  if (forked() || !receiving_ || state() == TransportState::RECONNECTING) return CDMF_READY;
  return driver_->ops().arm(driver_->self());
}

}  // namespace cdmf::ipc
