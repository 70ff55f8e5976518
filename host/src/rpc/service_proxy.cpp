// The public face: each call goes to the core, which outlives a proxy that is destroyed in its own callback.
#include "ipc/service_proxy.h"

#include "rpc/proxy_core.h"

namespace cdmf::ipc {
namespace {

std::shared_ptr<rpc::ProxyCore> make_core(std::unique_ptr<Transport> owned, Transport& transport,
                                          ProxyOptions options) {
  auto core = std::make_shared<rpc::ProxyCore>(std::move(owned), transport, std::move(options));
  core->attach();
  return core;
}

/// The core for one call of it: another thread may run a callback, which may destroy the proxy, before that is over.
class Kept {
 public:
  explicit Kept(const std::shared_ptr<rpc::ProxyCore>& core) noexcept
      : core_(core.get()), kept_(core->exclusive() ? nullptr : core) {}
  rpc::ProxyCore* operator->() const noexcept { return core_; }

 private:
  rpc::ProxyCore* core_;
  std::shared_ptr<rpc::ProxyCore> kept_;
};

}  // namespace

ServiceProxy::ServiceProxy(std::unique_ptr<Transport> transport, ProxyOptions options) {
  Transport& there = *transport;
  core_ = make_core(std::move(transport), there, std::move(options));
}

ServiceProxy::ServiceProxy(Transport& transport, ProxyOptions options)
    : core_(make_core(nullptr, transport, std::move(options))) {}

ServiceProxy& ServiceProxy::operator=(ServiceProxy&& other) noexcept {
  ServiceProxy old(std::move(*this));
  core_ = std::move(other.core_);
  return *this;
}

ServiceProxy::~ServiceProxy() {
  if (core_ == nullptr) return;
  if (core_->forked()) {
    new std::shared_ptr<rpc::ProxyCore>(std::move(core_));  // Its locks and threads are the parent's.
    return;
  }
  core_->stop();
  rpc::Inside::keep(core_);
}

TransportResult<> ServiceProxy::start() { return Kept(core_)->start(); }

CallResult<> ServiceProxy::call(std::string_view method, PayloadView request, const CallOptions& options) {
  std::vector<std::byte> reply;
  CallResult<void> end = callView(
      method, request, [&](std::span<const std::byte> payload) { reply.assign(payload.begin(), payload.end()); },
      options);
  return std::move(end).with(std::move(reply));
}

CallResult<void> ServiceProxy::call_and_read(std::string_view method, std::span<const std::byte> request, Reader reader,
                                             const CallOptions& options) {
  return Kept(core_)->call(method, request, reader, options);
}

CallReply ServiceProxy::malformed(std::span<const std::byte>) noexcept {
  return {CallStatus::APPLICATION_ERROR,
          TransportError::INVALID_MESSAGE,
          0,
          "the reply cannot be read as the type that was asked for",
          {}};
}

CallId ServiceProxy::callAsync(std::string_view method, PayloadView request, CallCallback callback,
                               const CallOptions& options) {
  return Kept(core_)->call_async(method, request.bytes(), std::move(callback), options);
}

std::future<CallResult<>> ServiceProxy::callAsync(std::string_view method, PayloadView request,
                                                  const CallOptions& options) {
  return callAsync<std::vector<std::byte>>(method, request.bytes(), options);
}

bool ServiceProxy::cancel(CallId id) { return Kept(core_)->cancel(id); }

TransportResult<> ServiceProxy::callOneWay(std::string_view method, PayloadView request, const CallOptions& options) {
  return Kept(core_)->call_one_way(method, request.bytes(), options);
}

TransportResult<> ServiceProxy::flush() { return Kept(core_)->transport().flush(); }
std::size_t ServiceProxy::poll(std::size_t limit) { return Kept(core_)->poll(limit); }
TransportResult<> ServiceProxy::await(std::chrono::nanoseconds timeout) { return Kept(core_)->await(timeout); }
void ServiceProxy::stop() { Kept(core_)->stop(); }
ProxyStats ServiceProxy::getStats() const { return core_->stats(); }
Transport& ServiceProxy::transport() const noexcept { return core_->transport(); }

}  // namespace cdmf::ipc
