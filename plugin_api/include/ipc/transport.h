#pragma once
// ipc/transport.h: the one interface a program talks through, whatever carries the bytes.
//
//   Transport transport = …;                       // from a TransportRegistry, a Host, or SharedMemoryTransport
//   transport.init(config);                        // checks everything, opens nothing
//   transport.setMessageCallback([](MessagePtr m) { … });
//   transport.start();                             // the I/O thread (none with Receive::POLL)
//   transport.connect();                           // server: listens, does not wait; client: reaches the server
//   transport.send(message);
//   transport.stop();                              // no callback runs after this; also the destructor's work
//
// States     UNINITIALIZED -init-> INITIALIZED -start-> STARTED -connect-> CONNECTED -disconnect-> STARTED
//            A client whose server went away is RECONNECTING (auto_reconnect) or back in STARTED.
//            stop() leads to INITIALIZED from anywhere, cleanup() to UNINITIALIZED.
// Threads    [any] from any thread, callbacks included. [control] from any thread; one at a time, callers wait for each
//            other. [sender] any thread with Senders::MANY, else one thread at a time. [receiver] with Receive::POLL:
//            one thread at a time; with Receive::THREAD only inside a callback.
// Callbacks  run on the I/O thread, one at a time, in order; state changes that a call causes are reported by that call
//            on its own thread. They may send, throw (counted and reported, the next message comes), stop or destroy
//            the Transport, and replace themselves. connect() and disconnect() of the same Transport are not for
//            callbacks: they answer UNSUPPORTED there. Setting a callback to nullptr returns after a running one ended,
//            except from within it. Messages that arrive before the first message callback is set wait for it.
// Promises   FIFO per link and producer; zero or one delivery; full means BUFFER_FULL or waiting up to a time-out. All
//            of them, with their tests, are in plugin_api/README.md.
// fork       After fork() the child must not use a Transport of its parent: calls answer UNSUPPORTED there.
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/config.h"
#include "ipc/frame.h"
#include "ipc/message.h"
#include "ipc/plugin_abi.h"
#include "ipc/result.h"
#include "ipc/stats.h"

namespace cdmf::ipc {

enum class TransportState { UNINITIALIZED, INITIALIZED, STARTED, CONNECTED, RECONNECTING };
[[nodiscard]] const char* to_string(TransportState state) noexcept;

/// A peer came or went.
struct PeerEvent {
  enum class Kind { CONNECTED, DISCONNECTED };
  Kind kind = Kind::CONNECTED;
  PeerId peer = kNoPeer;
  TransportError reason =
      TransportError::SUCCESS;      ///< DISCONNECTED: CONNECTION_CLOSED after a goodbye, PEER_DIED, PROTOCOL_ERROR …
  std::uint64_t messages_lost = 0;  ///< DISCONNECTED: as far as this side can know
  /// CONNECTED: who it is, where the transport has made sure of it: with grpc and TLS the subject of its certificate,
  /// "CN=till-1,O=shop". Empty: the transport tells nothing.
  std::string identity{};
};

using MessageCallback = std::function<void(MessagePtr)>;
using ViewCallback = std::function<void(const MessageView&)>;
using ErrorCallback = std::function<void(TransportError, const std::string& text)>;
using StateChangeCallback = std::function<void(TransportState from, TransportState to)>;
using PeerCallback = std::function<void(const PeerEvent&)>;

struct SendOptions {
  PeerId peer = kNoPeer;                              ///< kNoPeer: the only peer; with several that is an error
  std::optional<std::chrono::nanoseconds> timeout{};  ///< 0: BUFFER_FULL at once; unset: the config's send_timeout
  bool flush = true;  ///< false: sent with the next flush() or flushing send to that peer
};

struct LoanOptions {
  SendOptions send{};
  std::size_t alignment = 16;  ///< of the payload, a power of two up to 256
  MessageType type = MessageType::EVENT;
  std::uint8_t flags = 0;
  TimeLeft time_left{};
  std::uint64_t id = 0;
  std::string_view subject{};
};

/// What is behind a Transport, for operators.
struct TransportInfo {
  std::string type;
  std::string endpoint;
  std::string address;  ///< the object behind the endpoint; empty before connect()
  std::string detail;
  std::uint64_t capabilities = 0;  ///< CDMF_CAP_…
  std::uint64_t max_message_size = 0;
  std::uint64_t buffer_bytes = 0;
  Role role = Role::CLIENT;
  Senders senders = Senders::MANY;
  Receive receive = Receive::THREAD;
};

class TransportCore;  // Private: the state that outlives a Transport destroyed in its own callback.
class DriverHandle;   // Private: a driver, freed when nothing refers to it any more.

/// Memory of one message being written in place, without a copy where the transport can (CDMF_CAP_ZERO_COPY_SEND).
/// One loan per peer at a time. Not committed = aborted, nothing is sent. Outlives stop() and the peer: the memory
/// stays valid, commit() then says CONNECTION_CLOSED. Use it on the thread that took it. [sender]
class Loan {
 public:
  Loan() = default;
  Loan(Loan&& other) noexcept;
  Loan& operator=(Loan&& other) noexcept;
  ~Loan();

  /// Write only: reading it is slow, and pointless, as its content is undefined.
  [[nodiscard]] std::span<std::byte> payload() const noexcept { return payload_; }
  explicit operator bool() const noexcept { return driver_ != nullptr; }

  /// Sends the first payload_size bytes (default: all), at most what was asked for. Outcomes as send(), without
  /// BUFFER_FULL: the room is already there.
  TransportResult<> commit();
  TransportResult<> commit(std::size_t payload_size);
  void abort() noexcept;

 private:
  friend class TransportCore;
  std::shared_ptr<TransportCore> core_;
  std::shared_ptr<DriverHandle> driver_;  // Null: moved from, committed or aborted.
  cdmf_loan loan_{};
  std::span<std::byte> payload_;
  std::size_t subject_size_ = 0;
  bool flush_ = true;
};

/// A received message kept beyond its handler, without a copy. It keeps the buffer space behind it: a held message
/// stops its link when everything else is used up, so the number is limited (RESOURCE_EXHAUSTED). Outlives stop() and
/// the peer. Destroy it on any thread.
class HeldMessage {
 public:
  HeldMessage() = default;
  HeldMessage(HeldMessage&& other) noexcept;
  HeldMessage& operator=(HeldMessage&& other) noexcept;
  ~HeldMessage();

  [[nodiscard]] const MessageView& view() const noexcept { return view_; }
  explicit operator bool() const noexcept { return driver_ != nullptr; }

 private:
  friend class TransportCore;
  std::shared_ptr<DriverHandle> driver_;
  MessageView view_;
  std::uint64_t held_ = 0;
};

class Transport {
 public:
  /// A transport of this plugin. library keeps the plugin's code loaded (empty when linked statically); host gives
  /// logging to the driver (null: nothing is logged). Both outlive everything made here.
  explicit Transport(const cdmf_plugin& plugin, std::shared_ptr<const void> library = {},
                     const cdmf_host* host = nullptr);
  /// What was moved from may only be assigned to or destroyed.
  Transport(Transport&&) noexcept;
  Transport& operator=(Transport&&) noexcept;
  /// stop() and cleanup(). Inside a callback it returns at once; the rest ends when the callback has returned.
  ~Transport();

  // ---- Life -------------------------------------------------------------------------------------------------------

  /// Checks the config against the plugin's table and creates the driver. INVALID_CONFIG lists every problem.
  /// ALREADY_INITIALIZED unless UNINITIALIZED. [control]
  TransportResult<> init(const TransportConfig& config);
  /// INITIALIZED → STARTED: starts the I/O thread (Receive::THREAD). [control]
  TransportResult<> start();
  /// STARTED → CONNECTED. Server: opens the endpoint and returns. Client: tries until the server is reached or
  /// connect_timeout (or timeout) has passed: ENDPOINT_NOT_FOUND, TIMEOUT, PERMISSION_DENIED … [control]
  TransportResult<> connect();
  TransportResult<> connect(std::chrono::nanoseconds timeout);
  /// CONNECTED → STARTED: flushes (up to send_timeout), says goodbye, ends every link. Messages that were received
  /// and not yet handed out are dropped. SUCCESS when not connected. [control]
  TransportResult<> disconnect();
  /// Ends everything and joins the I/O thread; flushes like disconnect(). After it no callback runs. Inside a callback
  /// it returns at once, no further callback starts, and the thread ends itself. Idempotent. [any]
  void stop();
  /// → UNINITIALIZED: stop(), and the driver is freed (after the last Loan and HeldMessage). Inside a callback it is
  /// stop() alone. [control]
  void cleanup();

  // ---- Sending ----------------------------------------------------------------------------------------------------

  /// Sends one whole message or nothing: copies, publishes, returns. Waits for room up to the time-out.
  /// SUCCESS | BUFFER_FULL (time-out 0) | TIMEOUT | BUFFER_OVERFLOW (larger than max_message_size; never fits) |
  /// NOT_CONNECTED | CONNECTION_CLOSED | PEER_DIED | INVALID_MESSAGE (subject too long) | INVALID_ARGUMENT (no peer
  /// named and several are there) | UNSUPPORTED (one-way link) | RESOURCE_EXHAUSTED (the caller holds a Loan of it).
  /// Anything but SUCCESS: the peer never sees it. [sender]
  TransportResult<> send(const MessageView& message, const SendOptions& options);
  TransportResult<> send(const MessageView& message) { return send(message, SendOptions{}); }
  TransportResult<> send(const Message& message) { return send(message.view(), SendOptions{}); }
  TransportResult<> send(const Message& message, const SendOptions& options) { return send(message.view(), options); }
  /// send() of these messages in turn, in one call: of short ones half as many again a second (plugins/shm/README.md).
  /// Ends at the first that is not sent: `value` is how many were, `error` why messages[value] was not; the outcomes,
  /// and the time-out of each, are those of send(). options.flush: those sent are flushed together at the end, whether
  /// they are all or not. An empty batch is SUCCESS. Messages of other threads may come in between. [sender]
  TransportResult<std::size_t> sendBatch(std::span<const MessageView> messages, const SendOptions& options);
  TransportResult<std::size_t> sendBatch(std::span<const MessageView> messages) {
    return sendBatch(messages, SendOptions{});
  }
  /// Answers a received message: to its peer, with its id.
  TransportResult<> reply(const MessageView& request, MessageView response) {
    response.id = request.id;
    return send(response, SendOptions{.peer = request.peer});
  }
  /// Memory for a payload of size bytes in the transport itself. Outcomes as send(). [sender]
  TransportResult<Loan> loan(std::size_t payload_size, const LoanOptions& options);
  TransportResult<Loan> loan(std::size_t payload_size) { return loan(payload_size, LoanOptions{}); }
  /// Publishes what was sent with flush = false, to one peer or all (kNoPeer), and waits until the transport has
  /// taken it: SUCCESS | TIMEOUT | BUFFER_FULL (time-out 0; the rest leaves later) | CONNECTION_CLOSED … [sender]
  TransportResult<> flush(PeerId peer = kNoPeer);
  TransportResult<> flush(PeerId peer, std::chrono::nanoseconds timeout);

  // ---- Receiving --------------------------------------------------------------------------------------------------

  /// Called for each message, which it owns. One of the two message callbacks is in force: the one set last. [any]
  void setMessageCallback(MessageCallback callback);
  /// The same without a copy: the view is valid until the callback returns. [any]
  void setViewCallback(ViewCallback callback);
  void setErrorCallback(ErrorCallback callback);              ///< faults that no call reports. [any]
  void setStateChangeCallback(StateChangeCallback callback);  ///< [any]
  void setPeerCallback(PeerCallback callback);                ///< [any]

  /// Hands up to limit received messages to handler(const MessageView&) and returns how many; never waits. Peers that
  /// came or went are reported to the peer callback in between, in order. An exception of the handler reaches the
  /// caller; that message counts as handed out. The handler must not destroy or stop the Transport; the peer, state and
  /// error callbacks that run inside poll() and receive() may: it takes effect when the burst has been given back.
  /// Receive::POLL only. [receiver]
  template <typename Handler>
  std::size_t poll(Handler&& handler, std::size_t limit = kBurstMax);
  /// Waits for one message: SUCCESS | TIMEOUT | CONNECTION_CLOSED, PEER_DIED … (client: the link is over and will not
  /// come back) | INTERRUPTED. Receive::POLL only. [receiver]
  TransportResult<MessagePtr> receive();
  TransportResult<MessagePtr> receive(std::chrono::nanoseconds timeout);
  /// Waits, in the way the transport is configured to, until poll() may have something: SUCCESS | TIMEOUT |
  /// INTERRUPTED. Receive::POLL only. [receiver]
  TransportResult<> await(std::chrono::nanoseconds timeout);
  /// Ends a running or the next await() or receive() with INTERRUPTED. [any]
  void interrupt();
  /// Keeps a view beyond its handler. UNSUPPORTED without CDMF_CAP_HOLD; RESOURCE_EXHAUSTED over the quota.
  /// Inside a handler only. [receiver]
  TransportResult<HeldMessage> hold(const MessageView& view);

  /// For an own event loop (Receive::POLL): poll until empty, arm(); when that says ARMED sleep in epoll or poll on
  /// pollFd(), else poll again. -1 when not connected or without CDMF_CAP_POLL_FD. While RECONNECTING arm() says READY,
  /// as there is nothing to sleep on: wait in await() then, which returns when the next attempt is due. [any]
  [[nodiscard]] int pollFd() const;
  [[nodiscard]] cdmf_arm_result arm();

  // ---- Looking --------------------------------------------------------------------------------------------------

  [[nodiscard]] TransportState getState() const noexcept;
  [[nodiscard]] bool isConnected() const noexcept { return getState() == TransportState::CONNECTED; }
  [[nodiscard]] TransportStats getStats() const;
  void resetStats();
  [[nodiscard]] TransportInfo getInfo() const;
  /// Connected peers, oldest first. [any]
  [[nodiscard]] std::vector<PeerId> getPeers() const;
  /// Ends one link. NOT_CONNECTED when there is no such peer. [any]
  TransportResult<> disconnectPeer(PeerId peer);

  static constexpr std::size_t kBurstMax = 32;

 private:
  /// What poll() needs inline: one indirect call for the burst, one for its release, none per message.
  struct Receiver {
    const cdmf_driver_ops* ops = nullptr;  ///< null: nothing to receive from now
    void* self = nullptr;
  };
  /// Checks that polling is allowed now, tries a due reconnection.
  [[nodiscard]] static Receiver begin_poll(TransportCore& core);
  /// A view that is no message, or a malformed frame. Its callbacks may destroy the Transport, hence the reference.
  /// False: a callback stopped the Transport; hand out no more.
  [[nodiscard]] static bool handle_exception_view(std::shared_ptr<TransportCore> core, const cdmf_view& view);
  static void end_poll(TransportCore& core, std::size_t messages, std::uint64_t bytes);

  std::shared_ptr<TransportCore> core_;
};

template <typename Handler>
std::size_t Transport::poll(Handler&& handler, std::size_t limit) {
  const Receiver receiver = begin_poll(*core_);
  if (receiver.ops == nullptr) return 0;
  cdmf_view views[kBurstMax];
  const std::size_t count = receiver.ops->receive_burst(receiver.self, views, limit < kBurstMax ? limit : kBurstMax);
  if (count == 0) return 0;
  // Releases and counts also when the handler throws; the exception goes to the caller of poll().
  struct Finish {
    TransportCore* core;
    Receiver receiver;
    std::shared_ptr<TransportCore> keep{};  // Set when a callback runs that may destroy the Transport.
    std::size_t messages = 0;
    std::uint64_t bytes = 0;
    ~Finish() {
      receiver.ops->release_burst(receiver.self);
      end_poll(*core, messages, bytes);
    }
  } finish{core_.get(), receiver};
  for (std::size_t i = 0; i < count; ++i) {
    MessageView message;
    if (views[i].kind != CDMF_VIEW_MESSAGE || !read_frame(views[i].frame, views[i].size, message)) {
      if (finish.keep == nullptr) finish.keep = core_;
      if (!handle_exception_view(finish.keep, views[i])) break;
      continue;
    }
    message.peer = views[i].peer;
    message.timestamp_us = views[i].timestamp_us;
    message.token = views[i].token;
    ++finish.messages;
    finish.bytes += message.payload.size();
    handler(message);
  }
  return finish.messages;
}

}  // namespace cdmf::ipc
