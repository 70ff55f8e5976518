#include "rpc/stub_core.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "coarse_clock.h"
#include "config/suggest.h"
#include "config/text_check.h"
#include "ipc/driver.h"
#include "rpc/introspection.h"
#include "rpc/reply_path.h"

namespace cdmf::ipc::rpc {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr unsigned kPoolThreadsMax = 1024;
constexpr int kLooks = 64;  // At the transport, before a wait is set up.

/// Callbacks of the program that answer nothing: what they throw has nowhere to go.
template <class Body>
void guarded(Body&& body) noexcept {
  try {
    body();
  } catch (...) {
  }
}

/// kNumberSubject and a number.
class NumberText {
 public:
  std::string_view text(std::uint8_t number) noexcept {
    std::copy(kNumberSubject.begin(), kNumberSubject.end(), bytes_);
    bytes_[kNumberSubject.size()] = static_cast<char>(number);
    return {bytes_, sizeof bytes_};
  }

 private:
  char bytes_[kNumberSubject.size() + 1];
};

StubCore::Caller caller_of(const MessageView& request) noexcept {
  return {request.peer, request.id, (request.flags & kOneWay) != 0};
}

}  // namespace

StubCore::StubCore(std::unique_ptr<Transport> owned, Transport& transport, StubOptions options)
    : owned_(std::move(owned)), transport_(transport), options_(std::move(options)), pid_(getpid()) {}

bool StubCore::forked() const noexcept { return getpid() != pid_; }

// ---- Set-up -------------------------------------------------------------------------------------------------------

TransportResult<> StubCore::on(std::string method, ServiceStub::Handler handler, RunOn run_on) {
  const auto bad = [&](const std::string& why) {
    return TransportResult<>(TransportError::INVALID_ARGUMENT, "method '" + method + "': " + why);
  };
  if (started_) return bad("methods are named before start()");
  if (method.empty() || method.size() > kSubjectBytesMax) {
    return bad("a name has 1 to " + std::to_string(kSubjectBytesMax) + " bytes");
  }
  if (method.starts_with(kReservedPrefix)) return bad("names that begin with 'cdmf.' are reserved");
  if (handler == nullptr) return bad("the handler is empty");
  const auto [place, fresh] = methods_.try_emplace(method);
  if (!fresh) return bad("there is a handler already");
  place->second.name = std::move(method);
  place->second.handler = std::move(handler);
  place->second.run_on = run_on;
  return {};
}

TransportResult<> StubCore::start() {
  if (stopping_) return {TransportError::CONNECTION_CLOSED, "this stub was stopped; make a new one"};
  const TransportState state = transport_.getState();
  if (state == TransportState::UNINITIALIZED) {
    return {TransportError::NOT_INITIALIZED, "a stub is made from a Transport after its init()"};
  }
  const TransportInfo info = transport_.getInfo();
  polled_ = info.receive == Receive::POLL;
  exclusive_ = polled_ && info.senders == Senders::ONE;
  const bool pooled = std::any_of(methods_.begin(), methods_.end(),
                                  [](const auto& entry) { return entry.second.run_on == RunOn::POOL; });
  if (pooled && info.senders == Senders::ONE) {
    return {TransportError::INVALID_CONFIG,
            "a method runs on the pool, whose threads answer by themselves: that needs Senders::MANY"};
  }
  if (pooled && (options_.pool_threads == 0 || options_.pool_threads > kPoolThreadsMax || options_.pool_queue == 0)) {
    return {TransportError::INVALID_CONFIG, "StubOptions: a pool has 1 to " + std::to_string(kPoolThreadsMax) +
                                                " threads (pool_threads) and room for a call (pool_queue)"};
  }
  if (pooled && pool_ == nullptr) {
    pool_ = std::make_unique<WorkerPool>(
        options_.pool_threads, options_.pool_queue, [this](WorkerPool::Job& job) { run_job(job); }, shared_from_this());
  }
  if (!std::exchange(started_, true)) attach();
  if (state == TransportState::INITIALIZED) {
    if (auto started = transport_.start(); !started) return started;
  }
  if (transport_.getState() == TransportState::STARTED) {
    if (auto connected = transport_.connect(); !connected) return connected;
  }
  return require_reply_path(transport_);
}

/// The callbacks keep the core; stop() takes them off again.
void StubCore::attach() {
  const auto self = shared_from_this();
  transport_.setPeerCallback([self](const PeerEvent& event) {
    const Visit visit(*self);
    self->on_peer(event);
  });
  if (polled_) return;
  transport_.setViewCallback([self](const MessageView& message) {
    const Visit visit(*self);
    self->on_message(message);
  });
}

// ---- Calls ----------------------------------------------------------------------------------------------------------

inline Method* StubCore::find(std::string_view name) {
  if (last_method_ != nullptr && last_method_->name == name) [[likely]]
    return last_method_;
  const auto place = methods_.find(name);
  if (place == methods_.end()) return nullptr;
  return last_method_ = &place->second;
}

/// The method that a request names or numbers. null: there is none.
inline Method* StubCore::method_of(const MessageView& request) {
  const auto number = static_cast<std::uint8_t>(request.flags >> kMethodNumberShift);
  if (!request.subject.empty() || number == 0) return find(request.subject);
  if (request.hops != 0) return nullptr;  // Its number is not one of this link.
  Method* const method = by_number_[number];
  return method != nullptr ? method : find_by_number(number);
}

/// One that another stub of this process has given.
[[gnu::noinline]] Method* StubCore::find_by_number(std::uint8_t number) {
  const std::string_view name = method_of_number(number);
  return name.empty() ? nullptr : by_number_[number] = find(name);
}

/// 0: it is called by name.
[[gnu::noinline]] std::uint8_t StubCore::number_to_tell(Method& method, const MessageView& request) {
  if (request.subject.empty() || request.hops != 0) return 0;
  if (method.number == 0) {
    method.number = number_of_method(method.name);
    by_number_[method.number] = &method;  // Number 0 is looked for nowhere.
  }
  return method.number;
}

[[gnu::cold]] void StubCore::refuse_unknown_method(const MessageView& request) {
  if (request.subject == kIntrospect) return introspect(caller_of(request));
  const int number = request.flags >> kMethodNumberShift;
  if (request.subject.empty() && number != 0) {
    (void)refuse(caller_of(request), Refusal::NO_SUCH_METHOD,
                 "no method has number " + std::to_string(number) +
                     (request.hops != 0 ? " behind a route; call it by its name" : " here"));
    return;
  }
  std::vector<std::string_view> names{kIntrospect};
  for (const auto& [name, known] : methods_) names.push_back(name);
  (void)refuse(caller_of(request), Refusal::NO_SUCH_METHOD,
               "no method '" + config::printable(request.subject) + "'; " + config::suggestion(request.subject, names));
}

void StubCore::on_message(const MessageView& message) {
  if (message.type != MessageType::REQUEST) {
    if (options_.on_message != nullptr) guarded([&] { options_.on_message(message); });
    return;
  }
  Method* const method = method_of(message);
  if (method == nullptr) [[unlikely]]
    return refuse_unknown_method(message);
  if (stopping_.load(kRelaxed)) [[unlikely]] {
    (void)refuse(caller_of(message), Refusal::STOPPING, "the service is stopping");
    return;
  }
  const std::uint64_t deadline_ns = deadline_of(message);
  method->calls.add(true);
  if (method->run_on == RunOn::POOL) return run_on_pool(*method, message, deadline_ns);
  IncomingCall call(*this, *method, message, deadline_ns, false);
  if ((message.flags & kTellNumber) != 0) [[unlikely]]
    call.number_ = number_to_tell(*method, message);
  run(*method, call);
}

/// 0: not said. What lies in one burst has come together, however long the handlers before it take.
std::uint64_t StubCore::deadline_of(const MessageView& request) noexcept {
  if (!request.time_left.said()) return 0;
  // The cheap clock is exact enough for what is rounded up by an eighth anyway.
  if (burst_ns_ == 0 || !polled_) burst_ns_ = coarse_now_ns();
  return burst_ns_ + static_cast<std::uint64_t>(nanoseconds(request.time_left.duration()).count());
}

void StubCore::run(Method& method, IncomingCall& call) {
  const auto failed = [&](std::uint32_t code, std::string_view text) {
    method.errors.add();
    (void)call.fail(code, text);
  };
  try {
    method.handler(call);
    if (!call.answered_ && call.one_way()) (void)call.reply();
    if (!call.answered_) failed(0, "the handler returned without an answer");
  } catch (const ApplicationError& error) {
    failed(error.code(), error.what());
  } catch (const std::exception& error) {
    failed(0, error.what());
  } catch (...) {
    failed(0, "the handler threw an exception that is no std::exception");
  }
}

void StubCore::run_on_pool(Method& method, const MessageView& request, std::uint64_t deadline_ns) {
  open_.fetch_add(1, kRelaxed);
  if (pool_->try_push({Message(request), &method, deadline_ns})) return;
  deferred_ended();
  overloaded_.add(exclusive_);
  (void)refuse(caller_of(request), Refusal::OVERLOADED,
               "all threads of the pool are busy and its queue (pool_queue) is full");
}

void StubCore::run_job(WorkerPool::Job& job) {
  const Visit visit(*this);
  const MessageView request = job.request.view();
  if (job.deadline_ns != 0 && monotonic_now_ns() >= job.deadline_ns) {
    too_late_.add(exclusive_);
    (void)answer_elsewhere(
        [&] { return refuse(caller_of(request), Refusal::DEADLINE_PASSED, "its time was up before it began"); });
  } else {
    IncomingCall call(*this, *job.method, request, job.deadline_ns, true);
    run(*job.method, call);
  }
  deferred_ended();
}

void StubCore::deferred_ended() noexcept {
  if (open_.fetch_sub(1, std::memory_order_acq_rel) != 1 || !stopping_) return;
  const std::lock_guard lock(open_mutex_);
  open_changed_.notify_all();
}

void StubCore::introspect(const Caller& caller) {
  const std::string text = introspection_json(methods_, stats(), stopping_);
  (void)reply(caller, std::as_bytes(std::span(text)));
}

std::string StubCore::identity_of(PeerId peer) const {
  const std::lock_guard lock(identities_mutex_);
  const auto found = identities_.find(peer);
  return found == identities_.end() ? std::string() : found->second;
}

void StubCore::on_peer(const PeerEvent& event) {
  {
    const std::lock_guard lock(identities_mutex_);
    if (event.kind == PeerEvent::Kind::DISCONNECTED) identities_.erase(event.peer);
    if (!event.identity.empty()) identities_.emplace(event.peer, event.identity);
  }
  if (event.kind == PeerEvent::Kind::DISCONNECTED && pool_ != nullptr) {
    for (std::size_t dropped = pool_->drop(event.peer); dropped > 0; --dropped) {
      refused_.add(exclusive_);
      answers_lost_.add(exclusive_);
      deferred_ended();
    }
  }
  if (options_.on_peer != nullptr) guarded([&] { options_.on_peer(event); });
}

// ---- Answers --------------------------------------------------------------------------------------------------------

TransportResult<> StubCore::reply(const Caller& caller, std::span<const std::byte> payload) {
  if (caller.one_way) {
    one_way_.add(exclusive_);
    return {};
  }
  MessageView answer;
  answer.type = MessageType::RESPONSE;
  answer.payload = payload;
  NumberText number;
  if (caller.number != 0) [[unlikely]]
    answer.subject = number.text(caller.number);
  const TransportResult<> sent = send(caller, answer);
  if (sent.error == TransportError::BUFFER_OVERFLOW) [[unlikely]] {
    (void)fail(caller, 0, "the reply has " + std::to_string(payload.size()) + " bytes, more than max_message_size");
    return sent;
  }
  replies_.add(exclusive_);
  return sent;
}

TransportResult<> StubCore::fail(const Caller& caller, std::uint32_t code, std::string_view text) {
  if (caller.one_way) {
    one_way_.add(exclusive_);
    return {};
  }
  application_errors_.add(exclusive_);
  std::string content(sizeof code, '\0');
  std::memcpy(content.data(), &code, sizeof code);
  // Always small enough to be sent: no transport has a smaller max_message_size.
  content.append(text.substr(0, std::min<std::size_t>(text.size(), transport_.getInfo().max_message_size - 4)));
  MessageView answer;
  answer.type = MessageType::ERROR;
  answer.flags = static_cast<std::uint8_t>(Refusal::APPLICATION);
  answer.payload = std::as_bytes(std::span(content));
  return send(caller, answer);
}

TransportResult<> StubCore::refuse(const Caller& caller, Refusal refusal, std::string_view text) {
  refused_.add(exclusive_);
  if (caller.one_way) return {};
  MessageView answer;
  answer.type = MessageType::ERROR;
  answer.flags = static_cast<std::uint8_t>(refusal);
  answer.payload = std::as_bytes(
      std::span(text.substr(0, std::min<std::size_t>(text.size(), transport_.getInfo().max_message_size))));
  return send(caller, answer);
}

TransportResult<> StubCore::send(const Caller& caller, MessageView& answer) {
  answer.id = caller.id;
  TransportResult<> sent = transport_.send(
      answer, {.peer = caller.peer, .timeout = options_.reply_timeout, .flush = !batching_.load(kRelaxed)});
  if (!sent && sent.error != TransportError::BUFFER_OVERFLOW) [[unlikely]]
    answer_lost(caller, sent);
  return sent;
}

void StubCore::answer_lost(const Caller& caller, const TransportResult<>& sent) {
  answers_lost_.add(exclusive_);
  std::string text = "an answer to peer " + std::to_string(caller.peer) + " is lost: " + sent.text();
  if (sent.error == TransportError::TIMEOUT || sent.error == TransportError::BUFFER_FULL) {
    text += "; it does not take its answers and is disconnected, others wait behind it";
    (void)transport_.disconnectPeer(caller.peer);  // It may have left by itself.
  }
  if (options_.on_error != nullptr) guarded([&] { options_.on_error(sent.error, text); });
}

// ---- Receive::POLL -----------------------------------------------------------------------------------------------

bool StubCore::take_turn() { return exclusive_ || !receiving_.exchange(true, std::memory_order_acquire); }

void StubCore::give_turn_back() {
  if (!exclusive_) receiving_.store(false, std::memory_order_release);
}

/// With the turn, and inside a Visit.
std::size_t StubCore::receive(std::size_t limit) {
  const bool batch = options_.batch_replies && limit > 1;
  if (batch) batching_.store(true, kRelaxed);
  burst_ns_ = 0;
  const std::size_t handled = transport_.poll([this](const MessageView& message) { on_message(message); }, limit);
  if (batch) {
    batching_.store(false, kRelaxed);
    if (handled > 0) (void)transport_.flush(kNoPeer);  // What cannot leave now leaves with the next one.
  }
  return handled;
}

std::size_t StubCore::poll(std::size_t limit) {
  const Visit visit(*this);
  if (!polled_ || visit.nested() || ended_.load(kRelaxed) || !take_turn()) return 0;
  const std::size_t handled = receive(limit);
  give_turn_back();
  return handled;
}

TransportResult<> StubCore::await(nanoseconds timeout) {
  const Visit visit(*this);
  if (visit.nested()) return {TransportError::UNSUPPORTED, "await() in a handler of the same stub"};
  if (ended_) return {TransportError::CONNECTION_CLOSED, "the stub has ended"};
  if (!take_turn()) return {TransportError::UNSUPPORTED, "another thread is in poll(), await() or serve()"};
  TransportResult<> waited = transport_.await(timeout);
  give_turn_back();
  return waited;
}

TransportResult<> StubCore::serve() {
  const Visit visit(*this);
  if (visit.nested()) return {TransportError::UNSUPPORTED, "serve() in a handler of the same stub"};
  if (!polled_) {
    return {TransportError::UNSUPPORTED, "the Transport's own thread receives; serve() is for Receive::POLL"};
  }
  if (!take_turn()) return {TransportError::UNSUPPORTED, "another thread is in poll(), await() or serve()"};
  TransportResult<> result;
  // A look for a second request costs a cache miss over shared memory: only as many as came of late are asked for.
  std::size_t limit = 1;
  int looks = 0;
  while (!ended_.load(kRelaxed) && !stop_later_.load(kRelaxed)) {
    const std::size_t handled = receive(limit);
    limit = handled == limit ? std::min(limit * 2, Transport::kBurstMax) : std::max<std::size_t>(handled, 1);
    if (handled > 0) looks = 0;
    if (looks++ < kLooks) continue;
    looks = 0;
    TransportResult<> waited = transport_.await(1s);
    if (waited || waited.error == TransportError::TIMEOUT || waited.error == TransportError::INTERRUPTED) continue;
    if (!ended_) result = std::move(waited);
    break;
  }
  give_turn_back();
  return result;
}

// ---- End ----------------------------------------------------------------------------------------------------------

/// Calls that come meanwhile are refused, by this thread where no other receives.
void StubCore::wait_for_open_calls(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(open_mutex_);
  while (open_.load(std::memory_order_acquire) > 0 && std::chrono::steady_clock::now() < deadline) {
    if (polled_ && take_turn()) {
      lock.unlock();
      receive(Transport::kBurstMax);
      give_turn_back();
      lock.lock();
    }
    open_changed_.wait_until(lock, polled_ ? std::min(deadline, std::chrono::steady_clock::now() + 1ms) : deadline,
                             [this] { return open_.load(std::memory_order_acquire) == 0; });
  }
}

TransportResult<> StubCore::stop(nanoseconds drain) {
  if (stopping_.exchange(true)) return {};
  if (Inside::is_inside(this)) {
    stop_later_.store(true, kRelaxed);  // When the handler has answered and returned.
    return {};
  }
  const Visit visit(*this);
  const auto now = std::chrono::steady_clock::now();
  const auto deadline = drain > std::chrono::steady_clock::time_point::max() - now
                            ? std::chrono::steady_clock::time_point::max()
                            : now + std::max(drain, 0ns);
  wait_for_open_calls(deadline);
  const std::size_t unfinished = finish_stop(deadline);
  if (unfinished == 0) return {};
  return {TransportError::TIMEOUT, std::to_string(unfinished) + " calls were not answered in time and are given up"};
}

/// returns  How many calls stay unanswered.
std::size_t StubCore::finish_stop(std::chrono::steady_clock::time_point deadline) {
  stop_later_.store(false, kRelaxed);
  {
    std::unique_lock<std::shared_mutex> lock;
    if (!exclusive_) lock = std::unique_lock(end_mutex_);
    ended_ = true;
  }
  const std::size_t unfinished = open_;
  if (pool_ != nullptr) (void)pool_->stop(deadline);
  while (polled_ && !take_turn()) {  // For ever: nobody receives any more.
    transport_.interrupt();
    std::this_thread::sleep_for(100us);
  }
  transport_.setViewCallback({});
  transport_.setPeerCallback({});
  if (owned_ != nullptr) owned_->stop();
  return unfinished;
}

StubStats StubCore::stats() const {
  StubStats stats;
  stats.replies = replies_.get();
  stats.application_errors = application_errors_.get();
  stats.refused = refused_.get();
  stats.overloaded = overloaded_.get();
  stats.too_late = too_late_.get();
  stats.one_way = one_way_.get();
  stats.answers_lost = answers_lost_.get();
  stats.open = open_.load(kRelaxed);
  stats.requests = stats.replies + stats.application_errors + stats.refused + stats.one_way + stats.open;
  return stats;
}

}  // namespace cdmf::ipc::rpc
