#include "rpc/proxy_core.h"

#include <unistd.h>

#include <algorithm>
#include <bit>

#include "ipc/driver.h"
#include "rpc/refused.h"
#include "rpc/reply_path.h"
#include "rpc/wire.h"

namespace cdmf::ipc::rpc {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr int kLooks = 64;  // At the transport, before a clock is read and a wait is set up.

std::uint64_t count_of(nanoseconds duration) noexcept { return static_cast<std::uint64_t>(duration.count()); }

std::uint64_t later(std::uint64_t now_ns, nanoseconds timeout) noexcept {
  const std::uint64_t wait = count_of(timeout);
  return wait > PendingCalls::kNoDeadline - now_ns ? PendingCalls::kNoDeadline : now_ns + wait;
}

nanoseconds until(std::uint64_t deadline_ns, std::uint64_t now_ns) noexcept {
  if (deadline_ns <= now_ns) return 0ns;
  return nanoseconds(static_cast<std::int64_t>(std::min<std::uint64_t>(deadline_ns - now_ns, 1ull << 62)));
}

}  // namespace

ProxyCore::ProxyCore(std::unique_ptr<Transport> owned, Transport& transport, ProxyOptions options)
    : owned_(std::move(owned)),
      transport_(transport),
      options_(std::move(options)),
      polled_(transport.getInfo().receive == Receive::POLL),
      exclusive_(polled_ && transport.getInfo().senders == Senders::ONE),
      default_time_left_(TimeLeft::of(options_.timeout)),
      pid_(getpid()),
      pending_(std::bit_ceil(std::clamp<std::size_t>(options_.max_in_flight, 1, PendingCalls::kCapacityMax)),
               exclusive_),
      methods_(exclusive_) {}

bool ProxyCore::forked() const noexcept { return getpid() != pid_; }

/// The callbacks keep the core; stop() takes them off again.
void ProxyCore::attach() {
  const auto self = shared_from_this();
  transport_.setPeerCallback([self](const PeerEvent& event) { self->on_peer(event); });
  if (polled_) return;  // receive() hands over the messages.
  transport_.setViewCallback([self](const MessageView& message) {
    const Visit visit(*self);
    self->on_message(message);
  });
}

TransportResult<> ProxyCore::start() {
  if (stopped_) return {TransportError::CONNECTION_CLOSED, "this proxy was stopped; make a new one"};
  if (options_.timeout <= 0ns) {
    return {TransportError::INVALID_CONFIG, "ProxyOptions::timeout must be more than 0: every call has a deadline"};
  }
  if (options_.max_in_flight == 0 || options_.max_in_flight > PendingCalls::kCapacityMax) {
    return {TransportError::INVALID_CONFIG, "ProxyOptions::max_in_flight is " + std::to_string(options_.max_in_flight) +
                                                ", and may be 1 to " + std::to_string(PendingCalls::kCapacityMax)};
  }
  methods_.forget_numbers();  // After a cleanup() the ids of peers begin anew.
  const TransportState state = transport_.getState();
  if (state == TransportState::UNINITIALIZED) {
    return {TransportError::NOT_INITIALIZED, "a proxy is made from a Transport after its init()"};
  }
  if (transport_.getInfo().role == Role::SERVER) {
    return {TransportError::INVALID_ARGUMENT, "a proxy calls over a client, and this Transport is a server"};
  }
  if (state == TransportState::INITIALIZED) {
    if (auto started = transport_.start(); !started) return started;
  }
  if (state != TransportState::CONNECTED && state != TransportState::RECONNECTING) {
    if (auto connected = transport_.connect(); !connected) return connected;
  }
  return require_reply_path(transport_);
}

nanoseconds ProxyCore::timeout_of(const CallOptions& options) const noexcept {
  return options.timeout.value_or(options_.timeout);
}

/// Whether it makes sense, whatever the transport does.
inline bool ProxyCore::allowed(const CallOptions& options, bool waits_inside) noexcept {
  return !waits_inside && (!options.timeout || *options.timeout > 0ns);
}

[[gnu::cold]] CallReply ProxyCore::not_allowed(bool waits_inside) noexcept {
  if (waits_inside) {
    return {CallStatus::NOT_SENT,
            TransportError::UNSUPPORTED,
            0,
            "a call that waits, in a callback of the same proxy, would wait for itself; use callAsync",
            {}};
  }
  return {CallStatus::NOT_SENT, TransportError::INVALID_ARGUMENT, 0, "the time-out of a call must be more than 0", {}};
}

/// 0: not measured. The clock costs as much as a tenth of a call over shared memory.
std::uint64_t ProxyCore::start_time() noexcept {
  const std::uint64_t answered = replies_.get();
  return answered < 1000 || answered % 64 == 0 ? monotonic_now_ns() : 0;
}

CallReply ProxyCore::refusal() const noexcept {
  if (stopped_) return {CallStatus::NOT_SENT, TransportError::CONNECTION_CLOSED, 0, "the proxy was stopped", {}};
  return {CallStatus::NOT_SENT,
          TransportError::RESOURCE_EXHAUSTED,
          0,
          "ProxyOptions::max_in_flight calls have not ended yet; wait for some, or raise it",
          {}};
}

// ---- Sending ----------------------------------------------------------------------------------------------------

/// method       Of message.subject, if it is known.
/// deadline_ns  0: not computed yet, as a send that finds room needs none.
TransportResult<> ProxyCore::send(MessageView& message, Method* method, const CallOptions& options, bool flush,
                                  std::uint64_t& deadline_ns, bool inside) {
  const nanoseconds timeout = timeout_of(options);
  message.type = MessageType::REQUEST;
  message.time_left = options.timeout ? TimeLeft::of(timeout) : default_time_left_;
  // Where only this thread can make room, by handling replies, it does not wait in the transport.
  SendOptions how{.timeout = inside || polled_ ? 0ns : timeout, .flush = flush};
  const std::string_view name = message.subject;
  const std::uint8_t flags = message.flags;
  const Method::Number known = method != nullptr ? method->number() : Method::Number{};
  if (known.number != 0) [[likely]] {
    message.subject = {};
    message.flags = static_cast<std::uint8_t>(flags | known.number << kMethodNumberShift);
    how.peer = known.peer;
  } else if (method != nullptr) {
    message.flags = flags | kTellNumber;
  }
  TransportResult<> sent = transport_.send(message, how);
  if (sent) [[likely]]
    return sent;
  for (;;) {
    if (sent.error == TransportError::BUFFER_FULL && !inside && polled_) {
      if (deadline_ns == 0) deadline_ns = later(monotonic_now_ns(), timeout);
      sent = send_between_replies(message, how, deadline_ns);
    }
    if (sent.error != TransportError::NOT_CONNECTED || how.peer == kNoPeer) return sent;
    // The link that the number was for is over. There may be another.
    message.subject = name;
    message.flags = flags | kTellNumber;
    how.peer = kNoPeer;
    sent = transport_.send(message, how);
  }
}

TransportResult<> ProxyCore::send_between_replies(const MessageView& message, SendOptions options,
                                                  std::uint64_t deadline_ns) {
  for (;;) {
    receive_if_nobody_does();
    const std::uint64_t now = monotonic_now_ns();
    options.timeout = std::min<nanoseconds>(until(deadline_ns, now), 1ms);
    TransportResult<> sent = transport_.send(message, options);
    if (sent.error != TransportError::BUFFER_FULL && sent.error != TransportError::TIMEOUT) return sent;
    if (now >= deadline_ns) return TransportError::TIMEOUT;
  }
}

// ---- Calls --------------------------------------------------------------------------------------------------------

CallResult<void> ProxyCore::call(std::string_view method, std::span<const std::byte> request,
                                 ServiceProxy::Reader reader, const CallOptions& options) {
  const Visit visit(*this);
  if (!allowed(options, visit.nested())) [[unlikely]] {
    const CallReply refused = not_allowed(visit.nested());
    count(refused);
    return CallResult<void>(refused);
  }
  Waiter waiter(exclusive_);
  waiter.context = reader.context;
  waiter.read = reader.read;
  Method* const known = methods_.find(method);
  CallCallback none;
  const CallId id = pending_.add(&waiter, none, start_time(), known);
  if (id == 0) {
    const CallReply refused = refusal();
    count(refused);
    return CallResult<void>(refused);
  }
  MessageView message;
  message.id = id;
  message.subject = method;
  message.payload = request;
  const nanoseconds timeout = timeout_of(options);
  std::uint64_t deadline_ns = polled_ ? 0 : later(monotonic_now_ns(), timeout);
  const TransportResult<> sent = send(message, known, options, true, deadline_ns, false);
  Call failed;
  if (!sent && pending_.take(id, failed)) {
    finish(failed, {CallStatus::NOT_SENT, sent.error, 0, sent.error_message, {}});
    receive_if_nobody_does();  // A link is made again by those who receive: perhaps for the next call.
  } else if (polled_) {
    wait_polling(waiter, id, timeout, deadline_ns);
  } else {
    wait_parked(waiter, id, deadline_ns);
  }
  if (waiter.thrown != nullptr) std::rethrow_exception(waiter.thrown);
  return std::move(waiter.result);
}

/// Ends the own call, or waits for whoever is doing so.
void ProxyCore::give_up(Waiter& waiter, CallId id, TransportError error, std::string_view text) {
  Call own;
  if (pending_.take(id, own)) return finish(own, {CallStatus::UNKNOWN, error, 0, text, {}});
  waiter.park();
}

void ProxyCore::wait_parked(Waiter& waiter, CallId id, std::uint64_t deadline_ns) {
  waiter.park(deadline_ns);
  if (!waiter.ended()) give_up(waiter, id, TransportError::TIMEOUT, "no answer in time");
}

void ProxyCore::wait_polling(Waiter& waiter, CallId id, nanoseconds timeout, std::uint64_t deadline_ns) {
  if (exclusive_) return receive_until(waiter, id, timeout, deadline_ns);
  if (waiter.ended()) return waiter.let_go();
  if (turn_.try_take()) {
    receive_until(waiter, id, timeout, deadline_ns);
    turn_.pass();
  } else {
    if (deadline_ns == 0) deadline_ns = later(monotonic_now_ns(), timeout);
    if (turn_.take(waiter, deadline_ns)) {
      receive_until(waiter, id, timeout, deadline_ns);
      turn_.pass();
    } else if (!waiter.ended()) {
      give_up(waiter, id, TransportError::TIMEOUT, "no answer in time");
    }
  }
  waiter.let_go();
}

/// With the turn.
void ProxyCore::receive_until(Waiter& waiter, CallId id, nanoseconds timeout, std::uint64_t deadline_ns) {
  for (int look = 0; look < kLooks; ++look) {
    if (waiter.ended()) return;
    receive(1);
  }
  if (deadline_ns == 0) deadline_ns = later(monotonic_now_ns(), timeout);
  while (!waiter.ended()) {
    const std::uint64_t now = monotonic_now_ns();
    if (now >= deadline_ns) return give_up(waiter, id, TransportError::TIMEOUT, "no answer in time");
    nanoseconds wait = until(deadline_ns, now);
    if (async_used_.load(kRelaxed)) wait = std::min(wait, kDeadlineTick);
    const TransportResult<> waited = transport_.await(wait);
    receive(1);
    expire_if_due();
    if (waited || waited.error == TransportError::TIMEOUT || waited.error == TransportError::INTERRUPTED) continue;
    if (waiter.ended()) return;
    return give_up(waiter, id, waited.error, waited.error_message);
  }
}

CallId ProxyCore::call_async(std::string_view method, std::span<const std::byte> request, CallCallback&& callback,
                             const CallOptions& options) {
  const Visit visit(*this);
  if (!allowed(options, false)) [[unlikely]] {
    finish(callback, not_allowed(false));
    return 0;
  }
  Method* const known = methods_.find(method);
  const CallId id = pending_.add(nullptr, callback, start_time(), known, count_of(timeout_of(options)));
  if (id == 0) [[unlikely]] {
    finish(callback, refusal());
    return 0;
  }
  if (!async_used_.load(kRelaxed)) async_used_.store(true, kRelaxed);
  if (!polled_ && timer_dozes_.load(kRelaxed)) wake_timer();
  MessageView message;
  message.id = id;
  message.subject = method;
  message.payload = request;
  std::uint64_t deadline_ns = 0;
  const TransportResult<> sent = send(message, known, options, options.flush, deadline_ns, visit.nested());
  if (sent) [[likely]]
    return id;
  Call failed;
  if (!pending_.take(id, failed)) return id;
  finish(failed, {CallStatus::NOT_SENT, sent.error, 0, sent.error_message, {}});
  if (!visit.nested()) receive_if_nobody_does();
  return 0;
}

bool ProxyCore::cancel(CallId id) {
  const Visit visit(*this);
  Call call;
  if (!pending_.take(id, call)) return false;
  cancelled_.add(exclusive_);
  finish(call, {CallStatus::UNKNOWN, TransportError::INTERRUPTED, 0, "cancelled; the handler may have run", {}});
  return true;
}

TransportResult<> ProxyCore::call_one_way(std::string_view method, std::span<const std::byte> request,
                                          const CallOptions& options) {
  const Visit visit(*this);
  if (!allowed(options, false)) [[unlikely]] {
    one_way_not_sent_.add(exclusive_);
    const CallReply refused = not_allowed(false);
    return {refused.error, std::string(refused.text)};
  }
  MessageView message;
  message.flags = kOneWay;
  message.subject = method;
  message.payload = request;
  std::uint64_t deadline_ns = 0;
  TransportResult<> sent =
      stopped_ ? TransportResult<>(TransportError::CONNECTION_CLOSED, "the proxy was stopped")
               : send(message, methods_.find(method), options, options.flush, deadline_ns, visit.nested());
  (sent ? one_way_sent_ : one_way_not_sent_).add(exclusive_);
  if (!sent && !visit.nested()) receive_if_nobody_does();
  return sent;
}

// ---- Receiving ------------------------------------------------------------------------------------------------------

/// With the turn, and inside a Visit. Nothing that the program does in its callbacks is thrown here.
std::size_t ProxyCore::receive(std::size_t limit) {
  return transport_.poll([this](const MessageView& message) { on_message(message); }, limit);
}

void ProxyCore::receive_if_nobody_does() {
  if (!polled_ || stopped_) return;
  if (exclusive_) {
    receive(Transport::kBurstMax);
  } else if (turn_.try_take()) {
    receive(Transport::kBurstMax);
    turn_.pass();
  }
}

std::size_t ProxyCore::poll(std::size_t limit) {
  const Visit visit(*this);
  if (!polled_ || visit.nested() || stopped_) return 0;
  if (!exclusive_ && !turn_.try_take()) return 0;
  const std::size_t handled = receive(limit);
  expire_if_due();
  if (!exclusive_) turn_.pass();
  return handled;
}

TransportResult<> ProxyCore::await(nanoseconds timeout) {
  const Visit visit(*this);
  if (visit.nested()) return {TransportError::UNSUPPORTED, "await() in a callback of the same proxy"};
  if (stopped_) return {TransportError::CONNECTION_CLOSED, "the proxy was stopped"};
  if (polled_ && !exclusive_ && !turn_.try_take()) {
    // Another thread receives for all; this one looks again soon.
    std::this_thread::sleep_for(std::min<nanoseconds>(timeout, 1ms));
    return TransportError::TIMEOUT;
  }
  const TransportResult<> waited =
      transport_.await(async_used_.load(kRelaxed) ? std::min(timeout, kDeadlineTick) : timeout);
  if (polled_ && !exclusive_) turn_.pass();
  return waited;
}

void ProxyCore::learn_number(const Call& call, const MessageView& reply) noexcept {
  const std::string_view told = reply.subject;
  if (call.method == nullptr || told.size() != kNumberSubject.size() + 1 || !told.starts_with(kNumberSubject)) return;
  call.method->learn(reply.peer, static_cast<std::uint8_t>(told.back()));
}

// Calls end in these two, by the one who took the call.

inline void ProxyCore::finish_with_reply(Call& call, std::span<const std::byte> payload) {
  Waiter* const waiter = call.waiter;
  if (waiter != nullptr) {
    try {
      if (!waiter->read(waiter->context, payload)) return finish(call, ServiceProxy::malformed(payload));
    } catch (...) {
      waiter->thrown = std::current_exception();
    }
  }
  if (call.started_ns != 0) [[unlikely]]
    latencies_.record(monotonic_now_ns() - call.started_ns);
  replies_.add(exclusive_);
  if (waiter == nullptr) return run(call.callback, {CallStatus::REPLY, TransportError::SUCCESS, 0, {}, payload});
  waiter->result.status = CallStatus::REPLY;
  waiter->end();
}

inline void ProxyCore::run(CallCallback& callback, const CallReply& reply) noexcept try {
  if (callback != nullptr) callback(reply);
} catch (...) {
  callback_errors_.add(exclusive_);
}

void ProxyCore::finish(CallCallback& callback, const CallReply& reply) {
  count(reply);
  run(callback, reply);
}

void ProxyCore::finish(Call& call, const CallReply& reply) {
  if (call.waiter == nullptr) return finish(call.callback, reply);
  count(reply);
  CallResult<void>& result = call.waiter->result;
  result.status = reply.status;
  result.error = reply.error;
  result.code = reply.code;
  result.error_message = reply.text;
  call.waiter->end();
}

void ProxyCore::on_message(const MessageView& message) {
  if (message.type == MessageType::RESPONSE || message.type == MessageType::ERROR) {
    Call call;
    if (pending_.take(message.id, call)) [[likely]] {
      if (!message.subject.empty()) [[unlikely]]
        learn_number(call, message);
      if (message.type == MessageType::RESPONSE) [[likely]]
        return finish_with_reply(call, message.payload);
      return finish(call, refused(message));
    }
    (pending_.was_given(message.id) ? late_replies_ : forged_replies_).add(exclusive_);
    return;
  }
  if (options_.on_message == nullptr) return;
  try {
    options_.on_message(message);
  } catch (...) {
    callback_errors_.add(exclusive_);
  }
}

void ProxyCore::on_peer(const PeerEvent& event) {
  const Visit visit(*this);
  if (event.kind != PeerEvent::Kind::DISCONNECTED) return;
  methods_.forget_numbers();
  const CallReply lost{CallStatus::UNKNOWN, event.reason, 0, "the link ended before the answer came", {}};
  pending_.take_all([&](Call& call) { finish(call, lost); });
  pending_.renew_key();
}

void ProxyCore::count(const CallReply& reply) noexcept {
  switch (reply.status) {
    case CallStatus::REPLY:
      replies_.add(exclusive_);
      return;
    case CallStatus::APPLICATION_ERROR:
      application_errors_.add(exclusive_);
      return;
    case CallStatus::NOT_SENT:
      not_sent_.add(exclusive_);
      break;
    case CallStatus::UNKNOWN:
      unknown_.add(exclusive_);
      break;
  }
  if (reply.error == TransportError::TIMEOUT || reply.error == TransportError::BUFFER_FULL) {
    timeouts_.add(exclusive_);
  }
}

// ---- End ----------------------------------------------------------------------------------------------------------

void ProxyCore::stop() {
  if (stopped_.exchange(true)) return;
  const bool inside = Inside::is_inside(this);
  const Visit visit(*this);
  pending_.close([this](Call& call) {
    finish(call, {CallStatus::UNKNOWN, TransportError::CONNECTION_CLOSED, 0, "the proxy was stopped", {}});
  });
  end_timer();
  if (polled_ && inside) {
    stop_later_.store(true, kRelaxed);  // The Transport is in poll(), below this callback.
    return;
  }
  finish_stop();
}

void ProxyCore::finish_stop() {
  stop_later_.store(false, kRelaxed);
  while (polled_ && !exclusive_ && !turn_.try_take()) {  // For ever: nobody receives any more.
    transport_.interrupt();
    std::this_thread::sleep_for(100us);
  }
  transport_.setViewCallback({});
  transport_.setPeerCallback({});
  if (owned_ != nullptr) owned_->stop();
}

ProxyStats ProxyCore::stats() const {
  ProxyStats stats;
  stats.replies = replies_.get();
  stats.application_errors = application_errors_.get();
  stats.not_sent = not_sent_.get();
  stats.unknown = unknown_.get();
  stats.in_flight = pending_.in_flight();
  stats.calls = stats.replies + stats.application_errors + stats.not_sent + stats.unknown + stats.in_flight;
  stats.timeouts = timeouts_.get();
  stats.cancelled = cancelled_.get();
  stats.one_way_sent = one_way_sent_.get();
  stats.one_way_not_sent = one_way_not_sent_.get();
  stats.late_replies = late_replies_.get();
  stats.forged_replies = forged_replies_.get();
  stats.callback_errors = callback_errors_.get();
  stats.latency_count = latencies_.count();
  stats.latency_p50_ns = latencies_.quantile_ns(0.5);
  stats.latency_p99_ns = latencies_.quantile_ns(0.99);
  stats.latency_p999_ns = latencies_.quantile_ns(0.999);
  return stats;
}

}  // namespace cdmf::ipc::rpc
