#pragma once
// ipc/service_stub.h: answers calls from other processes, over whatever transport the YAML names.
//
//   auto host = Host::load("orders.yaml");
//   ServiceStub stub(std::move(host.value->create("main", Role::SERVER).value));
//   stub.on<AddRequest, AddReply>("add", [](const AddRequest& request) { return AddReply{request.a + request.b}; });
//   stub.on("echo", [](IncomingCall& call) { call.reply(call.payload()); });
//   stub.start();
//
// Threads    RunOn::RECEIVER: handlers run where messages are received, one at a time: on the Transport's I/O thread,
//            or in poll() and serve() with Receive::POLL. RunOn::POOL: on one of a few threads, the request copied;
//            needs Senders::MANY. Either may defer() its answer to any thread (with Senders::ONE only to the
//            receiver's).
// Handlers   answer once. What they throw is the answer: APPLICATION_ERROR with the text, and the code of an
//            ApplicationError. They may call other services, and stop or destroy their stub: then their own answer is
//            still sent. A call that nobody answers is answered with an error when it is dropped.
// Overload   A full pool answers RESOURCE_EXHAUSTED at once. A client that does not take its answers for reply_timeout
// is
//            disconnected, as others wait behind it.
// fork       As with a Transport: not in the child.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "ipc/call.h"
#include "ipc/serializer.h"
#include "ipc/transport.h"

namespace cdmf::ipc {

namespace rpc {
class StubCore;
struct Method;
}  // namespace rpc

/// A call to be answered later, from any thread; then destroyed. Outlives the stub: it then cannot be answered any
/// more.
class DeferredCall {
 public:
  DeferredCall() = default;
  DeferredCall(DeferredCall&& other) noexcept = default;
  DeferredCall& operator=(DeferredCall&& other) noexcept;
  ~DeferredCall();  ///< answers with an APPLICATION_ERROR, unless answered

  explicit operator bool() const noexcept { return core_ != nullptr; }
  [[nodiscard]] PeerId peer() const noexcept { return peer_; }
  /// As IncomingCall::remaining().
  [[nodiscard]] std::chrono::nanoseconds remaining() const noexcept;
  /// As of IncomingCall; CONNECTION_CLOSED also when the stub has ended.
  TransportResult<> reply(PayloadView payload);
  template <Writable T>
  requires(!std::is_convertible_v<const T&, PayloadView>) TransportResult<> reply(const T& value) {
    return with_bytes(value, [this](std::span<const std::byte> bytes) { return reply(bytes); });
  }
  TransportResult<> fail(std::uint32_t code, std::string_view text);

 private:
  friend class IncomingCall;
  std::shared_ptr<rpc::StubCore> core_;  // Null: empty, answered or moved from.
  PeerId peer_ = kNoPeer;
  std::uint64_t id_ = 0;
  std::uint64_t deadline_ns_ = 0;
  bool one_way_ = false;
};

/// One call, while its handler runs. What its views show is gone afterwards.
class IncomingCall {
 public:
  [[nodiscard]] std::string_view method() const noexcept;
  [[nodiscard]] std::span<const std::byte> payload() const noexcept { return request_.payload; }
  [[nodiscard]] std::string_view text() const noexcept { return request_.text(); }
  [[nodiscard]] PeerId peer() const noexcept { return request_.peer; }
  /// Who that is, as far as the transport has verified it: with TLS the subject of its certificate. Empty: not known,
  /// or the peer has left.
  [[nodiscard]] std::string identity() const;
  [[nodiscard]] bool one_way() const noexcept;  ///< nobody waits for an answer
  /// How long the caller still waits, counted from the arrival of the request: its way here is not seen. 0: no longer.
  /// nanoseconds::max(): it did not say.
  [[nodiscard]] std::chrono::nanoseconds remaining() const noexcept;

  /// Answers. SUCCESS also for a one-way call. NOT_CONNECTED, TIMEOUT …: as Transport::send(); the caller learns of it
  /// by the end of the link or by its deadline. BUFFER_OVERFLOW: too large; the caller got an error that says so.
  /// INVALID_ARGUMENT: this call was answered or deferred before.
  TransportResult<> reply(PayloadView payload = {});
  template <Writable T>
  requires(!std::is_convertible_v<const T&, PayloadView>) TransportResult<> reply(const T& value) {
    return with_bytes(value, [this](std::span<const std::byte> bytes) { return reply(bytes); });
  }
  /// Answers with an APPLICATION_ERROR.
  TransportResult<> fail(std::uint32_t code, std::string_view text);
  /// Answers that the request makes no sense and nothing was done: NOT_SENT, INVALID_MESSAGE at the caller.
  TransportResult<> reject(std::string_view text);
  /// Takes the answer out of the handler. Empty when it was answered or deferred before.
  [[nodiscard]] DeferredCall defer();

 private:
  friend class rpc::StubCore;
  IncomingCall(rpc::StubCore& core, const rpc::Method& method, const MessageView& request, std::uint64_t deadline_ns,
               bool pooled) noexcept;
  template <class Answer>
  TransportResult<> answer(Answer&& send);

  rpc::StubCore& core_;
  const rpc::Method& method_;
  const MessageView& request_;
  std::uint64_t deadline_ns_;  // 0: not said.
  bool pooled_;                // The stub may have ended meanwhile.
  bool answered_ = false;      // Or deferred.
  std::uint8_t number_ = 0;    // Of the method, to be told with the reply.
};

enum class RunOn { RECEIVER, POOL };

struct StubOptions {
  unsigned pool_threads = 4;     ///< 1 … 1024, started when a method runs on the pool
  std::size_t pool_queue = 256;  ///< calls that wait for a thread of it
  std::chrono::nanoseconds reply_timeout = std::chrono::milliseconds(100);  ///< for room in the transport
  /// Receive::POLL: answers to the requests of one poll() are published together after the last. More calls per second,
  /// but the first answer waits for the last handler: for handlers that take less than a microsecond.
  bool batch_replies = false;
  ViewCallback on_message{};  ///< gets what is no request
  PeerCallback on_peer{};     ///< [receiver]
  ErrorCallback on_error{};   ///< answers that could not be sent. [any]
};

/// A snapshot. requests = replies + application_errors + refused + one_way, once nothing is running.
struct StubStats {
  std::uint64_t requests = 0;
  std::uint64_t replies = 0;
  std::uint64_t application_errors = 0;
  std::uint64_t refused = 0;     ///< no such method, malformed, overloaded, too late, stopping
  std::uint64_t overloaded = 0;  ///< among refused
  std::uint64_t too_late = 0;    ///< among refused: the caller's time was up before a thread was free
  std::uint64_t one_way = 0;
  std::uint64_t answers_lost = 0;  ///< among all of them: could not be sent
  std::uint64_t open = 0;          ///< in the pool, or deferred
};

class ServiceStub {
 public:
  using Handler = std::function<void(IncomingCall&)>;

  /// Answers over a server that was initialised. The stub takes its message and peer callbacks.
  explicit ServiceStub(std::unique_ptr<Transport> transport, StubOptions options = {});
  /// The same over a Transport that outlives the stub and is not received from by anybody else.
  explicit ServiceStub(Transport& transport, StubOptions options = {});
  ServiceStub(ServiceStub&&) noexcept = default;
  ServiceStub& operator=(ServiceStub&& other) noexcept;
  ~ServiceStub();  ///< stop()

  /// Names a handler; before start(). INVALID_ARGUMENT: the name is empty, longer than kSubjectBytesMax, taken, or
  /// begins with "cdmf."; or start() was called. "cdmf.introspect" is always there: it tells methods, counts and health
  /// as JSON.
  TransportResult<> on(std::string method, Handler handler, RunOn run_on = RunOn::RECEIVER);
  /// With types (ipc/serializer.h): function(const Request&) -> Reply, or void. A request that cannot be read is the
  /// caller's INVALID_MESSAGE.
  template <class Request, class Reply, class Function>
  TransportResult<> on(std::string method, Function function, RunOn run_on = RunOn::RECEIVER);

  /// From here on calls are answered: starts and connects the transport, as far as that has not been done. Outcomes as
  /// Transport::connect(); INVALID_CONFIG: a method wants the pool and the transport has Senders::ONE,
  /// or StubOptions are out of range.
  TransportResult<> start();

  /// Receive::POLL: handles what has come, at most limit messages, and never waits. One thread at a time.
  std::size_t poll(std::size_t limit = Transport::kBurstMax);
  /// Receive::POLL: handles calls until stop() (SUCCESS) or a fault of the transport.
  TransportResult<> serve();
  /// Waits until poll() may have something to do. Outcomes as Transport::await().
  TransportResult<> await(std::chrono::nanoseconds timeout);

  /// Refuses new calls, waits for those in the pool and for deferred ones, at most for `drain`, then stops an owned
  /// transport. TIMEOUT: some were still open; they are told CONNECTION_CLOSED when they answer, and threads of the
  /// pool that do not come back are left alone. In a handler it does not wait. A handler on the receiver that never
  /// returns holds it up. Idempotent. [any]
  TransportResult<> stop(std::chrono::nanoseconds drain = std::chrono::seconds(5));
  [[nodiscard]] StubStats getStats() const;
  [[nodiscard]] Transport& transport() const noexcept;

 private:
  std::shared_ptr<rpc::StubCore> core_;
};

template <class Request, class Reply, class Function>
TransportResult<> ServiceStub::on(std::string method, Function function, RunOn run_on) {
  static_assert(Readable<Request>, "no Serializer reads this request");
  return on(
      std::move(method),
      [function = std::move(function)](IncomingCall& call) mutable {
        Request request{};
        if (!Serializer<Request>::read(call.payload(), request)) {
          static_cast<void>(call.reject("the " + std::to_string(call.payload().size()) +
                                        " bytes of the request are not what this method takes"));
        } else if constexpr (std::is_void_v<Reply>) {
          function(static_cast<const Request&>(request));
          static_cast<void>(call.reply());
        } else {
          static_cast<void>(with_bytes(Reply(function(static_cast<const Request&>(request))),
                                       [&](std::span<const std::byte> bytes) { return call.reply(bytes); }));
        }
      },
      run_on);
}

}  // namespace cdmf::ipc
