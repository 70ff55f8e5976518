// The public face of stub_core.h: calls that came in, and the stub.
#include "ipc/service_stub.h"

#include "ipc/driver.h"
#include "rpc/stub_core.h"

namespace cdmf::ipc {
namespace {

std::chrono::nanoseconds time_until(std::uint64_t deadline_ns) noexcept {
  if (deadline_ns == 0) return std::chrono::nanoseconds::max();
  const std::uint64_t now = monotonic_now_ns();
  return std::chrono::nanoseconds(deadline_ns > now ? static_cast<std::int64_t>(deadline_ns - now) : 0);
}

TransportResult<> answered_before() {
  return {TransportError::INVALID_ARGUMENT, "this call was answered or deferred before"};
}

}  // namespace

// ---- IncomingCall ---------------------------------------------------------------------------------------------------

IncomingCall::IncomingCall(rpc::StubCore& core, const rpc::Method& method, const MessageView& request,
                           std::uint64_t deadline_ns, bool pooled) noexcept
    : core_(core), method_(method), request_(request), deadline_ns_(deadline_ns), pooled_(pooled) {}

std::string_view IncomingCall::method() const noexcept { return method_.name; }

std::string IncomingCall::identity() const { return core_.identity_of(request_.peer); }

bool IncomingCall::one_way() const noexcept { return (request_.flags & rpc::kOneWay) != 0; }

std::chrono::nanoseconds IncomingCall::remaining() const noexcept { return time_until(deadline_ns_); }

template <class Answer>
TransportResult<> IncomingCall::answer(Answer&& send) {
  if (answered_) return answered_before();
  answered_ = true;
  const rpc::StubCore::Caller caller{request_.peer, request_.id, one_way(), number_};
  if (!pooled_) return send(caller);
  return core_.answer_elsewhere([&] { return send(caller); });
}

TransportResult<> IncomingCall::reply(PayloadView payload) {
  return answer([&](const auto& caller) { return core_.reply(caller, payload.bytes()); });
}

TransportResult<> IncomingCall::fail(std::uint32_t code, std::string_view text) {
  return answer([&](const auto& caller) { return core_.fail(caller, code, text); });
}

TransportResult<> IncomingCall::reject(std::string_view text) {
  return answer([&](const auto& caller) { return core_.refuse(caller, rpc::Refusal::MALFORMED_REQUEST, text); });
}

DeferredCall IncomingCall::defer() {
  DeferredCall later;
  if (answered_) return later;
  answered_ = true;
  later.core_ = core_.shared_from_this();
  later.peer_ = request_.peer;
  later.id_ = request_.id;
  later.deadline_ns_ = deadline_ns_;
  later.one_way_ = one_way();
  core_.call_deferred();
  return later;
}

// ---- DeferredCall
// -----------------------------------------------------------------------------------------------------

DeferredCall& DeferredCall::operator=(DeferredCall&& other) noexcept {
  DeferredCall old(std::move(*this));
  core_ = std::move(other.core_);
  peer_ = other.peer_;
  id_ = other.id_;
  deadline_ns_ = other.deadline_ns_;
  one_way_ = other.one_way_;
  return *this;
}

DeferredCall::~DeferredCall() {
  if (core_ != nullptr) static_cast<void>(fail(0, "the service dropped this call without an answer"));
}

std::chrono::nanoseconds DeferredCall::remaining() const noexcept { return time_until(deadline_ns_); }

TransportResult<> DeferredCall::reply(PayloadView payload) {
  if (core_ == nullptr) return answered_before();
  const auto core = std::move(core_);
  auto sent = core->answer_elsewhere([&] { return core->reply({peer_, id_, one_way_}, payload.bytes()); });
  core->deferred_ended();
  return sent;
}

TransportResult<> DeferredCall::fail(std::uint32_t code, std::string_view text) {
  if (core_ == nullptr) return answered_before();
  const auto core = std::move(core_);
  auto sent = core->answer_elsewhere([&] { return core->fail({peer_, id_, one_way_}, code, text); });
  core->deferred_ended();
  return sent;
}

// ---- ServiceStub
// ------------------------------------------------------------------------------------------------------

ServiceStub::ServiceStub(std::unique_ptr<Transport> transport, StubOptions options) {
  Transport& there = *transport;
  core_ = std::make_shared<rpc::StubCore>(std::move(transport), there, std::move(options));
}

ServiceStub::ServiceStub(Transport& transport, StubOptions options)
    : core_(std::make_shared<rpc::StubCore>(nullptr, transport, std::move(options))) {}

ServiceStub& ServiceStub::operator=(ServiceStub&& other) noexcept {
  ServiceStub old(std::move(*this));
  core_ = std::move(other.core_);
  return *this;
}

ServiceStub::~ServiceStub() {
  if (core_ == nullptr) return;
  if (core_->forked()) {
    new std::shared_ptr<rpc::StubCore>(std::move(core_));  // Its locks and threads are the parent's.
    return;
  }
  static_cast<void>(core_->stop(std::chrono::seconds(5)));
  rpc::Inside::keep(core_);
}

TransportResult<> ServiceStub::on(std::string method, Handler handler, RunOn run_on) {
  return core_->on(std::move(method), std::move(handler), run_on);
}
TransportResult<> ServiceStub::start() { return core_->start(); }
// A handler on the pool may destroy the stub: the copies keep the core until the call has returned.
std::size_t ServiceStub::poll(std::size_t limit) { return std::shared_ptr(core_)->poll(limit); }
TransportResult<> ServiceStub::serve() { return std::shared_ptr(core_)->serve(); }
TransportResult<> ServiceStub::await(std::chrono::nanoseconds timeout) {
  return std::shared_ptr(core_)->await(timeout);
}
TransportResult<> ServiceStub::stop(std::chrono::nanoseconds drain) { return std::shared_ptr(core_)->stop(drain); }
StubStats ServiceStub::getStats() const { return core_->stats(); }
Transport& ServiceStub::transport() const noexcept { return core_->transport(); }

}  // namespace cdmf::ipc
