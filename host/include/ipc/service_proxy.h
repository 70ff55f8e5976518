#pragma once
// ipc/service_proxy.h: calls a service in another process, over whatever transport the YAML names.
//
//   auto host = Host::load("orders.yaml");
//   ServiceProxy orders(std::move(host.value->create("main", Role::CLIENT).value));
//   orders.start();
//   const auto sum = orders.call<AddReply>("add", AddRequest{2, 3}, 50ms);
//   if (sum) use(sum.value); else std::puts(sum.text().c_str());
//
// Outcomes   Every call ends exactly once: CallStatus. A reply that comes late, twice or for a call that nobody made is
//            dropped and counted. A deadline is always there; the server is told how much time is left.
// Threads    Receive::THREAD: any number of threads call at once; replies come on the Transport's I/O thread, and so do
//            callbacks, except where said. Receive::POLL: a calling thread receives for itself and, while it waits, for
//            the others; with none waiting, call poll() for the callbacks to run. With Senders::ONE as well, all of it
//            is one thread's business and nothing is locked: the fast path.
// Callbacks  may make asynchronous calls, which then do not wait for room, and may stop or destroy the proxy. A call()
//            in a callback would wait for itself: NOT_SENT, UNSUPPORTED. What they throw is counted.
// fork       As with a Transport: not in the child.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "ipc/call.h"
#include "ipc/serializer.h"
#include "ipc/transport.h"

namespace cdmf::ipc {

struct ProxyOptions {
  std::chrono::nanoseconds timeout = std::chrono::seconds(5);  ///< of a call that does not say; more than 0
  std::size_t max_in_flight = 1024;  ///< calls that have not ended, 1 … 2^20, rounded up to a power of two
  ViewCallback on_message{};         ///< gets what is no answer to a call: events, requests of the server
};

/// A snapshot. calls = replies + application_errors + not_sent + unknown + in_flight, once nobody calls any more.
struct ProxyStats {
  std::uint64_t calls = 0;  ///< that began; one-way ones are not among them
  std::uint64_t replies = 0;
  std::uint64_t application_errors = 0;
  std::uint64_t not_sent = 0;
  std::uint64_t unknown = 0;
  std::uint64_t in_flight = 0;
  std::uint64_t timeouts = 0;   ///< among not_sent and unknown
  std::uint64_t cancelled = 0;  ///< among unknown
  std::uint64_t one_way_sent = 0;
  std::uint64_t one_way_not_sent = 0;
  std::uint64_t late_replies = 0;     ///< to calls that had ended: late or duplicate
  std::uint64_t forged_replies = 0;   ///< to calls that were never made on this link
  std::uint64_t callback_errors = 0;  ///< callbacks that threw
  /// From before sending until the reply, of calls that were answered: the first thousand, then every 64th. Upper
  /// ends of buckets, an eighth wide. 0 without any.
  std::uint64_t latency_count = 0;
  std::uint64_t latency_p50_ns = 0;
  std::uint64_t latency_p99_ns = 0;
  std::uint64_t latency_p999_ns = 0;
};

using CallId = std::uint64_t;
using CallCallback = std::function<void(const CallReply&)>;

namespace rpc {
class ProxyCore;
}

class ServiceProxy {
 public:
  /// Calls over a client that was initialised, connected already or not. The proxy takes its message and peer
  /// callbacks.
  explicit ServiceProxy(std::unique_ptr<Transport> transport, ProxyOptions options = {});
  /// The same over a Transport that outlives the proxy and is not received from by anybody else.
  explicit ServiceProxy(Transport& transport, ProxyOptions options = {});
  ServiceProxy(ServiceProxy&&) noexcept = default;
  ServiceProxy& operator=(ServiceProxy&& other) noexcept;
  ~ServiceProxy();  ///< stop()

  /// Starts and connects the transport, as far as that has not been done. Outcomes as Transport::connect();
  /// INVALID_ARGUMENT for a server; INVALID_CONFIG when ProxyOptions are out of range. Again after a cleanup() of a
  /// Transport that is not the proxy's own: what was learnt of the peers before is then no longer true.
  TransportResult<> start();

  // ---- Calls that wait ----------------------------------------------------------------------------------------------

  /// Sends the request and waits for the end of the call. [any]
  CallResult<> call(std::string_view method, PayloadView request, const CallOptions& options = {});
  /// The same with types (ipc/serializer.h). A reply that cannot be read as Reply is an APPLICATION_ERROR with
  /// INVALID_MESSAGE. Reply void: an empty reply. Nothing is allocated when the types allocate nothing.
  template <class Reply, Writable Request>
  CallResult<Reply> call(std::string_view method, const Request& request, const CallOptions& options = {});
  /// The reply where it lies: read(std::span<const std::byte>) runs before call() returns, perhaps on the I/O thread.
  /// What it throws, callView() throws.
  template <class Read>
  CallResult<void> callView(std::string_view method, PayloadView request, Read&& read, const CallOptions& options = {});

  // ---- Calls that do not --------------------------------------------------------------------------------------------

  /// callback  runs exactly once, unless the call has ended before this returns, then on this thread.
  /// returns   for cancel(); 0 when the call has ended already.
  /// Waits for room in the transport as call() does, and not in a callback. [any]
  CallId callAsync(std::string_view method, PayloadView request, CallCallback callback,
                   const CallOptions& options = {});
  /// With Receive::POLL somebody must call poll() or call() for the future to become ready.
  std::future<CallResult<>> callAsync(std::string_view method, PayloadView request, const CallOptions& options = {});
  template <class Reply, Writable Request>
  std::future<CallResult<Reply>> callAsync(std::string_view method, const Request& request,
                                           const CallOptions& options = {});
  /// Ends an asynchronous call as UNKNOWN, INTERRUPTED, its callback on this thread. False: it had ended. [any]
  bool cancel(CallId id);

  /// A request that nobody answers. SUCCESS: sent. Outcomes as Transport::send().
  TransportResult<> callOneWay(std::string_view method, PayloadView request, const CallOptions& options = {});
  template <Writable Request>
  requires(!std::is_convertible_v<const Request&, PayloadView>)
      TransportResult<> callOneWay(std::string_view method, const Request& request, const CallOptions& options = {}) {
    return with_bytes(request, [&](std::span<const std::byte> bytes) { return callOneWay(method, bytes, options); });
  }
  /// Sends what was asked for with flush = false.
  TransportResult<> flush();

  // ---- Receive::POLL ------------------------------------------------------------------------------------------------

  /// Handles what has come, at most limit messages, and calls whose time is up. Never waits. Does nothing while another
  /// thread receives.
  std::size_t poll(std::size_t limit = Transport::kBurstMax);
  /// Waits until poll() may have something to do. Outcomes as Transport::await(); TIMEOUT also when the deadline of a
  /// call has to be looked at.
  TransportResult<> await(std::chrono::nanoseconds timeout);

  // ---- End ----------------------------------------------------------------------------------------------------------

  /// Ends every call as UNKNOWN, CONNECTION_CLOSED, and stops an owned transport. Later calls are NOT_SENT. After it no
  /// callback runs, except that of a caller which is itself in one. Idempotent. [any]
  void stop();
  [[nodiscard]] ProxyStats getStats() const;
  [[nodiscard]] Transport& transport() const noexcept;

 private:
  struct Reader {
    void* context;
    bool (*read)(void* context, std::span<const std::byte> payload);  ///< false: malformed
  };
  friend class rpc::ProxyCore;
  CallResult<void> call_and_read(std::string_view method, std::span<const std::byte> request, Reader reader,
                                 const CallOptions& options);
  static CallReply malformed(std::span<const std::byte> payload) noexcept;

  std::shared_ptr<rpc::ProxyCore> core_;
};

template <class Reply, Writable Request>
CallResult<Reply> ServiceProxy::call(std::string_view method, const Request& request, const CallOptions& options) {
  if constexpr (std::is_void_v<Reply>) {
    const Reader reader{nullptr, [](void*, std::span<const std::byte> payload) { return payload.empty(); }};
    return with_bytes(request, [&](auto bytes) { return call_and_read(method, bytes, reader, options); });
  } else {
    static_assert(Readable<Reply> && !kIsView<Reply>,
                  "no Serializer reads this reply, or it is a view of what is gone");
    CallResult<Reply> result;
    const Reader reader{&result.value, [](void* value, std::span<const std::byte> payload) {
                          return Serializer<Reply>::read(payload, *static_cast<Reply*>(value));
                        }};
    CallResult<void> end =
        with_bytes(request, [&](auto bytes) { return call_and_read(method, bytes, reader, options); });
    result.status = end.status;
    result.error = end.error;
    result.code = end.code;
    result.error_message = std::move(end.error_message);
    return result;
  }
}

template <class Read>
CallResult<void> ServiceProxy::callView(std::string_view method, PayloadView request, Read&& read,
                                        const CallOptions& options) {
  const Reader reader{&read, [](void* context, std::span<const std::byte> payload) {
                        (*static_cast<std::remove_reference_t<Read>*>(context))(payload);
                        return true;
                      }};
  return call_and_read(method, request.bytes(), reader, options);
}

template <class Reply, Writable Request>
std::future<CallResult<Reply>> ServiceProxy::callAsync(std::string_view method, const Request& request,
                                                       const CallOptions& options) {
  static_assert(Readable<Reply> && !kIsView<Reply>, "no Serializer reads this reply, or it is a view of what is gone");
  auto promise = std::make_shared<std::promise<CallResult<Reply>>>();
  auto future = promise->get_future();
  CallCallback callback = [promise](const CallReply& reply) {
    CallResult<Reply> result = CallResult<void>(reply).template with<Reply>({});
    if (reply && !Serializer<Reply>::read(reply.payload, result.value)) {
      result = CallResult<void>(malformed(reply.payload)).template with<Reply>({});
    }
    promise->set_value(std::move(result));
  };
  with_bytes(request,
             [&](std::span<const std::byte> bytes) { callAsync(method, bytes, std::move(callback), options); });
  return future;
}

}  // namespace cdmf::ipc
