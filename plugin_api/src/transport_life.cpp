// The life of a Transport: init, start, connect, disconnect, stop, cleanup.
#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <system_error>

#include "deadline.h"
#include "transport_core.h"

namespace cdmf::ipc {
namespace {

using namespace std::chrono_literals;

/// Counts the forks on the way to this process, so that a Transport can tell that it belongs to a parent.
std::atomic<unsigned>& fork_count() noexcept {
  static std::atomic<unsigned> count{0};
  static const int registered = pthread_atfork(nullptr, nullptr, [] { fork_count().fetch_add(1); });
  (void)registered;
  return count;
}

constexpr std::chrono::nanoseconds kFirstBackoff = 1ms;
constexpr std::chrono::nanoseconds kLastBackoff = 250ms;
/// A server that is there gets at least this long to shake hands, even when the caller would not wait for one.
constexpr std::chrono::nanoseconds kHandshakeMin = 250ms;

/// Whether another attempt can end differently without anybody changing anything here.
bool worth_retrying(TransportError error) noexcept {
  switch (error) {
    case TransportError::ENDPOINT_NOT_FOUND:
    case TransportError::CONNECTION_FAILED:
    case TransportError::CONNECTION_CLOSED:
    case TransportError::PEER_DIED:
    case TransportError::TIMEOUT:
    case TransportError::INTERRUPTED:
    case TransportError::RESOURCE_EXHAUSTED:
      return true;
    default:
      return false;
  }
}

/// error.message as text: a driver in C may have forgotten the NUL.
TransportResult<> from(cdmf_status status, const cdmf_error& error) {
  return {to_error(status), std::string(error.message, strnlen(error.message, sizeof error.message))};
}

}  // namespace

TransportCore::TransportCore(const cdmf_plugin& plugin, std::shared_ptr<const void> library, const cdmf_host* host)
    : plugin_(plugin),
      library_(std::move(library)),
      host_(host),
      fork_count_(fork_count()),
      fork_stamp_(fork_count_.load()) {}

TransportCore::~TransportCore() = default;

std::string TransportCore::label() const {
  const std::lock_guard lock(info_mutex_);
  return label_.empty() ? plugin_.type : label_;
}

/// Hands what the driver says of itself to look; its texts live until the next describe().
template <typename Look>
void TransportCore::describe_driver(const DriverHandle& driver, Look&& look) const {
  cdmf_info raw{};
  raw.struct_size = sizeof raw;
  raw.address = "";
  raw.detail = "";
  const std::lock_guard one_at_a_time(info_mutex_);
  driver.ops().describe(driver.self(), &raw);
  look(raw);
}

std::shared_ptr<DriverHandle> TransportCore::driver() const {
  const std::lock_guard lock(life_mutex_);
  return driver_;
}

TransportResult<> TransportCore::control_refusal(const char* call) const {
  if (forked()) {
    return {TransportError::UNSUPPORTED, std::string(call) + "() after fork(): make a new Transport in the child"};
  }
  if (gate_.inside()) {
    return {TransportError::UNSUPPORTED,
            std::string(call) + "() inside a callback of the same Transport: call it from another thread"};
  }
  return {};
}

TransportResult<> TransportCore::init(const TransportConfig& given) {
  if (auto refused = control_refusal("init"); !refused) return refused;
  const ControlCall control(*this);
  if (state() != TransportState::UNINITIALIZED) {
    return {TransportError::ALREADY_INITIALIZED, label() + ": cleanup() first"};
  }
  TransportConfig config = given;
  std::vector<std::string> problems;
  for (const cdmf_property& common : common_properties()) {
    const auto found = config.properties.find(common.name);
    if (found == config.properties.end()) continue;
    if (auto problem = set_common_property(config, common, found->second); !problem.empty()) {
      problems.push_back(std::string(common.name) + ": " + problem);
    }
    config.properties.erase(found);
  }
  Settings settings = make_settings(plugin_, config.properties);
  problems.insert(problems.end(), settings.problems.begin(), settings.problems.end());
  if (config.endpoint.empty()) problems.emplace_back("endpoint: required, a name such as \"/orders\"");
  if (config.endpoint.find('\0') != std::string::npos) problems.emplace_back("endpoint: contains a NUL byte");
  if (config.max_message_size == 0 || config.max_message_size > plugin_.max_message_size_limit) {
    problems.push_back("max_message_size: " + format_size(config.max_message_size) + " is not between 1 and " +
                       format_size(plugin_.max_message_size_limit) + ", the limit of " + plugin_.type);
  }
  if (settings.server) {
    const Role said = *settings.server ? Role::SERVER : Role::CLIENT;
    if (given.properties.contains("role") && config.role != said) {
      problems.emplace_back("role: contradicts another property that says which side this is; give one of them");
    }
    config.role = said;
  }
  if (!problems.empty()) {
    std::string text = std::string(plugin_.type) + " \"" + config.endpoint + '"';
    for (std::size_t i = 0; i < problems.size(); ++i) text += (i == 0 ? ": " : "; ") + problems[i];
    return {TransportError::INVALID_CONFIG, text};
  }
  const Role role = config.role.value_or(Role::CLIENT);
  cdmf_config raw{};
  raw.struct_size = sizeof raw;
  raw.role = role == Role::SERVER ? CDMF_ROLE_SERVER : CDMF_ROLE_CLIENT;
  raw.endpoint = config.endpoint.c_str();
  raw.max_message_size = config.max_message_size;
  raw.frame_size_max = config.max_message_size + CDMF_FRAME_OVERHEAD_MAX;
  auto made = make_driver(plugin_, library_, host_, raw, std::move(settings));
  if (!made) {
    return {made.error, std::string(plugin_.type) + " \"" + config.endpoint + "\": " + made.error_message};
  }
  {
    const std::lock_guard lock(life_mutex_);
    driver_ = std::move(made.value);
  }
  {
    const std::scoped_lock lock(sender_mutex_, info_mutex_);
    config_ = std::move(config);
    role_ = role;
    label_ = std::string(plugin_.type) + " \"" + config_.endpoint + '"' +
             (config_.name.empty() ? "" : " (transport " + config_.name + ')');
  }
  polled_ = config_.receive == Receive::POLL;
  many_senders_ = config_.senders == Senders::MANY;
  payload_bytes_max_ = config_.max_message_size;
  set_state(TransportState::INITIALIZED);
  return {};
}

TransportResult<> TransportCore::start() {
  if (auto refused = control_refusal("start"); !refused) return refused;
  const ControlCall control(*this);
  if (state() == TransportState::UNINITIALIZED) return {TransportError::NOT_INITIALIZED, "init() comes before start()"};
  if (state() != TransportState::INITIALIZED) {
    return {TransportError::ALREADY_INITIALIZED, label() + " is started already"};
  }
  join_io_thread();  // One that ended itself from inside a callback.
  {
    const std::lock_guard lock(life_mutex_);
    stop_requested_ = false;
    own_end_ = false;
    pausing_ = false;
    receiving_ = false;
  }
  if (config_.receive == Receive::THREAD) {
    try {
      io_thread_ = std::thread([self = shared_from_this()] { self->io_loop(); });
    } catch (const std::system_error& problem) {
      return {TransportError::RESOURCE_EXHAUSTED, label() + ": no I/O thread: " + problem.what()};
    }
  }
  set_state(TransportState::STARTED);
  stop_if_asked();
  return {};
}

TransportResult<> TransportCore::open_driver() {
  if (opened_) return {};
  // A Loan that outlived the links may be committed or aborted meanwhile.
  const std::lock_guard lock(sender_mutex_);
  cdmf_error error{};
  error.struct_size = sizeof error;
  const cdmf_status status = driver_->ops().open(driver_->self(), &error);
  if (status != CDMF_OK) return from(status, error);
  opened_ = true;
  return {};
}

TransportResult<> TransportCore::connect(std::optional<std::chrono::nanoseconds> timeout) {
  if (auto refused = control_refusal("connect"); !refused) return refused;
  const ControlCall control(*this);
  switch (state()) {
    case TransportState::UNINITIALIZED:
    case TransportState::INITIALIZED:
      return {TransportError::NOT_INITIALIZED, "init() and start() come before connect()"};
    case TransportState::CONNECTED:
      return {};
    case TransportState::STARTED:
    case TransportState::RECONNECTING:
      break;
  }
  pause_receiving();
  Status result = open_driver();
  if (result) {
    result = role_ == Role::SERVER ? Status{} : attach_until(deadline_after(timeout.value_or(config_.connect_timeout)));
  }
  if (result) {
    sendable_ = true;
    // Before the I/O thread may look: it could meet the end of this link at once, and its RECONNECTING must come last.
    set_state(TransportState::CONNECTED);
    begin_receiving();
  } else {
    close_links();
    set_state(TransportState::STARTED);
  }
  stop_if_asked();
  return result;
}

TransportResult<> TransportCore::attach_once(std::uint64_t deadline) {
  cdmf_error error{};
  error.struct_size = sizeof error;
  cdmf_peer peer = kNoPeer;
  const cdmf_status status = driver_->ops().attach(driver_->self(), deadline, &peer, &error);
  if (status != CDMF_OK) return from(status, error);
  peers_.add(peer);
  describe_driver(*driver_, [&](const cdmf_info& agreed) {
    if (agreed.frame_size_max > CDMF_FRAME_OVERHEAD_MAX) {
      payload_bytes_max_ = agreed.frame_size_max - CDMF_FRAME_OVERHEAD_MAX;
    }
  });
  end_reason_ = TransportError::SUCCESS;
  last_attempt_error_ = TransportError::SUCCESS;
  return {};
}

TransportResult<> TransportCore::attach_until(std::uint64_t deadline) {
  const std::uint64_t started = monotonic_now_ns();
  std::chrono::nanoseconds backoff = kFirstBackoff;
  for (;;) {
    const std::uint64_t handshake = deadline_after(kHandshakeMin);
    Status result = attach_once(std::max(deadline, handshake));
    if (result || !worth_retrying(result.error)) return result;
    if (deadline == kNoWait || passed(deadline)) {
      if (deadline != kNoWait) {
        const auto waited = (monotonic_now_ns() - started) / 1'000'000;
        result.error_message += "; tried for " + std::to_string(waited) + "ms (connect_timeout)";
      }
      return result;
    }
    std::unique_lock lock(life_mutex_);
    const std::uint64_t now = monotonic_now_ns();
    const std::chrono::nanoseconds left(deadline > now ? std::min<std::uint64_t>(deadline - now, UINT32_MAX) : 0);
    life_changed_.wait_for(lock, std::min(left, backoff), [&] { return stop_requested_.load(); });
    if (stop_requested_) return {TransportError::INTERRUPTED, label() + ": stopped while connecting"};
    backoff = std::min(backoff * 2, kLastBackoff / 5);  // A waiting program wants its server soon.
  }
}

/// One attempt of a client whose server went away, when it is due. The pause between attempts doubles, and half of it
/// is chance, so that many clients of a restarted server do not all come at once.
void TransportCore::reconnect_step() {
  const std::uint64_t now = monotonic_now_ns();
  if (now < next_attempt_ns_) {
    if (polled_) return;
    std::unique_lock lock(life_mutex_);
    life_changed_.wait_for(lock, std::chrono::nanoseconds(next_attempt_ns_ - now),
                           [&] { return stop_requested_ || pausing_; });
    return;
  }
  const Status result = attach_once(deadline_after(kHandshakeMin));
  if (result) {
    sendable_ = true;
    backoff_ = 0ns;
    const CallbackGate::Pass pass(gate_);
    set_state(TransportState::CONNECTED);
    return;
  }
  if (!worth_retrying(result.error) && result.error != last_attempt_error_) {
    const CallbackGate::Pass pass(gate_);
    report(result.error, label() + ": reconnecting: " + result.error_message);
  }
  last_attempt_error_ = result.error;
  backoff_ = std::clamp(backoff_ * 2, kFirstBackoff, kLastBackoff);
  std::uniform_int_distribution<std::int64_t> wait(backoff_.count() / 2, backoff_.count());
  next_attempt_ns_ = monotonic_now_ns() + static_cast<std::uint64_t>(wait(jitter_));
}

void TransportCore::begin_receiving() {
  const std::lock_guard lock(life_mutex_);
  receiving_ = true;
  pausing_ = false;
  life_changed_.notify_all();
}

void TransportCore::pause_receiving() {
  std::unique_lock lock(life_mutex_);
  pausing_ = true;
  life_changed_.notify_all();
  while (receiver_busy_) {
    lock.unlock();
    driver_->ops().interrupt(driver_->self());  // Again and again: a waiting sender may have taken the last one.
    lock.lock();
    life_changed_.wait_for(lock, 1ms, [&] { return !receiver_busy_; });
  }
}

/// From here on every send() ends with NOT_CONNECTED, one that waits for a Loan too.
void TransportCore::refuse_senders() {
  sendable_ = false;
  const std::lock_guard lock(sender_mutex_);  // Else one between its look and its sleep would miss this.
  loan_ended_.notify_all();
}

void TransportCore::close_links(Reporting reporting) {
  if (driver_ == nullptr) return;
  refuse_senders();
  while (waiting_senders_.load() != 0) {
    driver_->ops().interrupt(driver_->self());
    std::this_thread::sleep_for(100us);
  }
  pause_receiving();
  {
    // Nobody is between claim and commit any more, and nobody gets in again.
    const std::lock_guard lock(sender_mutex_);
    if (opened_) driver_->ops().close(driver_->self());
    opened_ = false;
  }
  {
    const std::lock_guard lock(life_mutex_);
    receiving_ = false;
    pausing_ = false;
  }
  for (const PeerId peer : peers_.clear()) {
    if (reporting == Reporting::SILENT) continue;
    report_peer({PeerEvent::Kind::DISCONNECTED, peer, TransportError::CONNECTION_CLOSED, 0});
  }
}

TransportResult<> TransportCore::disconnect() {
  if (auto refused = control_refusal("disconnect"); !refused) return refused;
  const ControlCall control(*this);
  if (state() != TransportState::CONNECTED && state() != TransportState::RECONNECTING) return {};
  Status flushed = flush(kNoPeer, {});
  close_links();
  set_state(TransportState::STARTED);
  stop_if_asked();
  if (flushed || flushed.error == TransportError::NOT_CONNECTED) return {};
  flushed.error_message = label() + ": closed, but not everything left before: " + flushed.error_message;
  return flushed;
}

void TransportCore::stop_now() {
  if (state() == TransportState::CONNECTED) (void)flush(kNoPeer, {});
  close_links();
  join_io_thread();
  if (state() != TransportState::UNINITIALIZED) set_state(TransportState::INITIALIZED);
}

void TransportCore::stop_if_asked() {
  if (stop_requested_) stop_now();  // A callback of the call that is ending asked for it.
}

void TransportCore::stop() {
  if (forked() || state() == TransportState::UNINITIALIZED) return;
  const bool inside = gate_.inside();
  {
    const std::lock_guard lock(life_mutex_);
    stop_requested_ = true;
    if (inside) own_end_ = true;
    life_changed_.notify_all();
  }
  wake_driver();
  if (inside) return;  // The thread that runs the callback does the rest when that has returned.
  const ControlCall control(*this);
  stop_now();
}

void TransportCore::join_io_thread() {
  if (!io_thread_.joinable()) return;
  {
    const std::lock_guard lock(life_mutex_);
    stop_requested_ = true;
    joining_ = true;
    life_changed_.notify_all();
  }
  io_thread_.join();
  const std::lock_guard lock(life_mutex_);
  joining_ = false;
}

/// Last act of an I/O thread: after a stop() inside a callback it ends the links itself, unless another thread is about
/// to join it. A stop() elsewhere is left to its caller, who flushes and reports.
void TransportCore::finish_own_end() {
  {
    std::unique_lock lock(life_mutex_);
    receiver_busy_ = false;
    life_changed_.notify_all();
    life_changed_.wait(lock, [&] { return joining_ || (own_end_ && !control_busy_); });
    if (joining_) return;
    control_busy_ = true;
  }
  if (state() == TransportState::CONNECTED) (void)flush(kNoPeer, {});
  close_links(Reporting::SILENT);  // No further callback starts.
  state_.store(TransportState::INITIALIZED, std::memory_order_release);
  const std::lock_guard lock(life_mutex_);
  control_busy_ = false;
  if (orphaned_) io_thread_.detach();
  life_changed_.notify_all();
}

void TransportCore::cleanup() {
  if (forked()) return;
  stop();
  if (gate_.inside()) return;
  const ControlCall control(*this);
  if (state() == TransportState::UNINITIALIZED) return;
  stop_now();  // Again: another thread may have started it in between.
  std::shared_ptr<DriverHandle> last;
  {
    const std::lock_guard lock(life_mutex_);
    last.swap(driver_);
  }
  last.reset();  // Outside the lock: it joins the driver's control thread.
  set_state(TransportState::UNINITIALIZED);
}

void TransportCore::orphan() {
  if (!gate_.inside()) return cleanup();
  {
    const std::lock_guard lock(life_mutex_);
    orphaned_ = true;
  }
  stop();
}

void TransportCore::set_state(TransportState next) {
  const TransportState before = state_.exchange(next, std::memory_order_acq_rel);
  if (before != next) report_state(before, next);
}

TransportResult<> TransportCore::disconnect_peer(PeerId peer) {
  if (forked())
    return {TransportError::UNSUPPORTED, "disconnectPeer() after fork(): make a new Transport in the child"};
  const auto driver = this->driver();
  if (driver == nullptr || !receiving_) return {TransportError::NOT_CONNECTED, label() + ": not connected"};
  const cdmf_status status = driver->ops().disconnect(driver->self(), peer, CDMF_CONNECTION_CLOSED);
  if (status == CDMF_OK) return {};
  return {to_error(status), label() + ": no peer " + std::to_string(peer)};
}

TransportStats TransportCore::stats() const {
  if (forked()) return {};
  return counters_.snapshot(static_cast<std::uint32_t>(peers_.count()));
}

TransportInfo TransportCore::info() const {
  TransportInfo info;
  info.type = plugin_.type;
  info.capabilities = plugin_.capabilities;
  if (forked()) return info;
  {
    const std::lock_guard lock(info_mutex_);
    info.endpoint = config_.endpoint;
    info.role = role_;
  }
  info.senders = many_senders_ ? Senders::MANY : Senders::ONE;
  info.receive = polled_ ? Receive::POLL : Receive::THREAD;
  info.max_message_size = payload_bytes_max_;
  const auto driver = this->driver();
  if (driver == nullptr || !receiving_) return info;
  describe_driver(*driver, [&](const cdmf_info& raw) {
    info.address = raw.address;
    info.detail = raw.detail;
    info.capabilities = raw.capabilities;
    info.buffer_bytes = raw.buffer_bytes;
  });
  return info;
}

}  // namespace cdmf::ipc
