#pragma once
// transport_core.h: what a Transport is inside. Life in transport_life.cpp, sending in transport_send.cpp, receiving
// and callbacks in transport_receive.cpp.
//
// Who waits for whom, in the order in which it may be taken:
//   ControlCall     one life-cycle call at a time; waits for the one before it
//   receiver_busy_  the I/O thread uses the driver's receiving side. A control call that changes what there is to
//                   receive from pauses it first: pausing_, interrupt(), wait
//   gate_           callbacks, one at a time. Inside it no ControlCall is made: stop() only asks, the thread ends
//   itself sender_mutex_   Senders::MANY: claim to commit. Never held while waiting for room life_mutex_     short:
//   guards the flags that threads wait for
#include <condition_variable>
#include <functional>
#include <random>
#include <string>
#include <thread>

#include "callback_gate.h"
#include "counters.h"
#include "driver_handle.h"
#include "ipc/transport.h"
#include "peer_table.h"

namespace cdmf::ipc {

class TransportCore : public std::enable_shared_from_this<TransportCore> {
  friend class Transport;  // Its poll() takes the driver from here.

 public:
  TransportCore(const cdmf_plugin& plugin, std::shared_ptr<const void> library, const cdmf_host* host);
  ~TransportCore();

  // Life.
  TransportResult<> init(const TransportConfig& config);
  TransportResult<> start();
  TransportResult<> connect(std::optional<std::chrono::nanoseconds> timeout);
  TransportResult<> disconnect();
  void stop();
  void cleanup();
  /// The Transport is gone: end everything now, or, inside a callback, when that has returned.
  void orphan();
  /// Whether this is a child's copy of a parent's Transport: nothing in it can be used, or even be destroyed (its
  /// locks may be held by threads that are not here).
  [[nodiscard]] bool forked() const noexcept { return fork_count_.load(std::memory_order_relaxed) != fork_stamp_; }

  // Sending.
  TransportResult<> send(const MessageView& message, const SendOptions& options);
  TransportResult<std::size_t> send_batch(std::span<const MessageView> messages, const SendOptions& options);
  TransportResult<Loan> loan(std::size_t payload_size, const LoanOptions& options);
  TransportResult<> commit(Loan& loan, std::size_t payload_size);
  void abort(Loan& loan) noexcept;
  TransportResult<> flush(PeerId peer, std::optional<std::chrono::nanoseconds> timeout);

  // Receiving.
  void set_message_callback(MessageCallback callback);
  void set_view_callback(ViewCallback callback);
  void set_error_callback(ErrorCallback callback);
  void set_state_callback(StateChangeCallback callback);
  void set_peer_callback(PeerCallback callback);
  /// False: polling is not allowed now, or there is nothing to poll.
  bool may_poll();
  bool poll_reconnects();
  void handle_exception_view(const cdmf_view& view);
  void count_received(std::size_t messages, std::uint64_t bytes) noexcept;
  [[nodiscard]] bool ending() const noexcept { return own_end_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::chrono::nanoseconds receive_timeout() const noexcept;
  TransportResult<> await(std::chrono::nanoseconds timeout);
  TransportResult<> await_attempt(std::uint64_t deadline);
  void interrupt();
  void wake_driver();
  TransportResult<HeldMessage> hold(const MessageView& view);
  [[nodiscard]] int poll_fd();
  [[nodiscard]] cdmf_arm_result arm();

  // Looking.
  [[nodiscard]] TransportState state() const noexcept { return state_.load(std::memory_order_acquire); }
  [[nodiscard]] TransportStats stats() const;
  void reset_stats() {
    if (!forked()) counters_.reset();
  }
  [[nodiscard]] TransportInfo info() const;
  [[nodiscard]] std::vector<PeerId> peers() const { return forked() ? std::vector<PeerId>{} : peers_.all(); }
  TransportResult<> disconnect_peer(PeerId peer);

 private:
  class ControlCall;
  class SenderLock;
  using Status = TransportResult<>;

  // Life.
  [[nodiscard]] Status control_refusal(const char* call) const;
  [[nodiscard]] std::string label() const;
  Status open_driver();
  Status attach_until(std::uint64_t deadline);
  Status attach_once(std::uint64_t deadline);
  void set_state(TransportState next);
  void begin_receiving();
  void pause_receiving();
  void refuse_senders();
  /// Ends all links; with a ControlCall held, or on the I/O thread that ended itself.
  enum class Reporting { NORMAL, SILENT };
  void close_links(Reporting reporting = Reporting::NORMAL);
  void join_io_thread();
  void stop_now();
  void stop_if_asked();
  void finish_own_end();
  [[nodiscard]] std::shared_ptr<DriverHandle> driver() const;
  template <typename Look>
  void describe_driver(const DriverHandle& driver, Look&& look) const;

  // Sending.
  cdmf_status try_claim(const SendOptions& options, std::size_t size, cdmf_loan& loan, PeerId& peer) noexcept;
  cdmf_status claim(SenderLock& lock, const SendOptions& options, std::size_t size, cdmf_loan& loan);
  cdmf_status claim_later(cdmf_status status, SenderLock& lock, const SendOptions& options, std::size_t size,
                          cdmf_loan& loan, PeerId peer);
  cdmf_status resolve_peer(const SendOptions& options, PeerId& peer) noexcept;
  cdmf_status try_put(const MessageView& message, bool flush, PeerId peer) noexcept;
  std::size_t try_put_burst(std::span<const MessageView> messages, const SendOptions& options) noexcept;
  Status send_carefully(cdmf_status tried, const MessageView& message, const SendOptions& options);
  cdmf_status send_in_steps(cdmf_status status, SenderLock& lock, const MessageView& message,
                            const SendOptions& options, PeerId peer);
  cdmf_status wait_for_room(SenderLock& lock, PeerId peer, std::size_t size, std::uint64_t deadline);
  bool wait_for_loan(SenderLock& lock, PeerId peer, std::uint64_t deadline);
  void forget_loan(const DriverHandle& driver, PeerId peer);
  Status send_failed(cdmf_status status, const SendOptions& options, std::size_t payload_size);
  [[nodiscard]] bool fits(const MessageView& message) const noexcept;
  [[nodiscard]] Status refuse(const MessageView& message);
  void count_sent(std::size_t messages, std::uint64_t bytes) noexcept;

  // Receiving.
  void io_loop();
  void receive_step();
  struct Handlers;
  void dispatch(Handlers& handlers, const cdmf_view& view);
  bool wait_for_callback();
  void peer_connected(const cdmf_view& view);
  void let_senders_forget(PeerId peer);
  void peer_disconnected(const cdmf_view& view);
  void report(TransportError error, const std::string& text);
  void report_peer(const PeerEvent& event);
  void report_state(TransportState from, TransportState to);
  template <typename Body>
  void guarded(const char* what, Body&& body);
  template <typename Callback>
  void replace(std::shared_ptr<const Callback>& slot, Callback next);
  void note_message_callbacks();
  void reconnect_step();

  // Constant after construction.
  const cdmf_plugin& plugin_;
  const std::shared_ptr<const void> library_;
  const cdmf_host* const host_;

  // Written by control calls only, while nobody sends or receives: a sender reads it with sender_mutex_ and sendable_.
  TransportConfig config_;
  Role role_ = Role::CLIENT;
  std::shared_ptr<DriverHandle> driver_;  // Replaced under life_mutex_.
  bool opened_ = false;
  std::thread io_thread_;
  const std::atomic<unsigned>& fork_count_;  // Of this process, since it was made.
  const unsigned fork_stamp_;

  std::atomic<TransportState> state_{TransportState::UNINITIALIZED};
  PeerTable peers_;
  Counters counters_;
  mutable std::mutex info_mutex_;  // The driver's texts live until the next describe(). And label_.
  std::string label_;              // For messages: type, endpoint, name.

  // What threads wait for; guarded by life_mutex_, and also read without it where a late look does no harm.
  mutable std::mutex life_mutex_;
  std::condition_variable life_changed_;
  bool control_busy_ = false;
  bool joining_ = false;
  std::atomic<bool> own_end_{false};  // stop() was called inside a callback: whoever ran that ends the links.
  bool orphaned_ = false;
  bool receiver_busy_ = false;
  std::atomic<bool> stop_requested_{false};
  std::atomic<bool> pausing_{false};
  std::atomic<bool> receiving_{false};  // There are links, or attempts to make one.
  std::atomic<bool> callback_set_{false};
  std::atomic<bool> interrupted_{false};  // By the program; the driver is also interrupted for other reasons.

  // Receiving side.
  CallbackGate gate_;
  unsigned callback_version_ = 0;  // This and the callbacks are guarded by gate_.
  std::shared_ptr<const MessageCallback> message_callback_;
  std::shared_ptr<const ViewCallback> view_callback_;
  std::shared_ptr<const ErrorCallback> error_callback_;
  std::shared_ptr<const StateChangeCallback> state_callback_;
  std::shared_ptr<const PeerCallback> peer_callback_;
  std::uint64_t next_attempt_ns_ = 0;
  std::chrono::nanoseconds backoff_{0};
  TransportError last_attempt_error_ = TransportError::SUCCESS;
  TransportError end_reason_ = TransportError::SUCCESS;  // Why the last link of a client ended.
  bool wait_fault_reported_ = false;
  std::minstd_rand jitter_{std::random_device{}()};

  // Sending side.
  alignas(64) std::mutex sender_mutex_;
  std::condition_variable loan_ended_;
  struct OpenLoan {
    const DriverHandle* driver;  // Another driver, after cleanup() and init(), counts its peers anew.
    PeerId peer;
    std::thread::id taker;
  };
  std::vector<OpenLoan> open_loans_;  // Guarded by sender_mutex_.
  std::atomic<bool> sendable_{false};
  // Of config_, for calls that come while init() writes it.
  std::atomic<bool> polled_{false};
  std::atomic<bool> many_senders_{true};
  std::atomic<std::uint64_t> payload_bytes_max_{0};  // As agreed with the server: it may allow more than was asked for.
  std::atomic<int> waiting_senders_{0};
};

/// Serialises life-cycle calls.
class TransportCore::ControlCall {
 public:
  explicit ControlCall(TransportCore& core) : core_(core) {
    std::unique_lock lock(core_.life_mutex_);
    core_.life_changed_.wait(lock, [&] { return !core_.control_busy_; });
    core_.control_busy_ = true;
  }
  ControlCall(const ControlCall&) = delete;
  ControlCall& operator=(const ControlCall&) = delete;
  ~ControlCall() {
    const std::lock_guard lock(core_.life_mutex_);
    core_.control_busy_ = false;
    core_.life_changed_.notify_all();
  }

 private:
  TransportCore& core_;
};

}  // namespace cdmf::ipc
