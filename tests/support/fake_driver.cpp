#include "support/fake_driver.h"

#include <algorithm>
#include <cstring>

namespace cdmf::ipc::testing {
namespace {

struct Wires {
  std::mutex mutex;
  std::map<std::string, std::weak_ptr<FakeWire>> by_endpoint;
};
Wires& wires() {
  static Wires all;
  return all;
}

template <typename Condition>
bool wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, std::uint64_t deadline,
                Condition condition) {
  if (deadline == kForever) {
    changed.wait(lock, condition);
    return true;
  }
  // system_clock-free: wait_for() is what ThreadSanitizer of this compiler understands.
  while (!condition()) {
    const std::uint64_t now = monotonic_now_ns();
    if (now >= deadline) return false;
    changed.wait_for(lock, std::chrono::nanoseconds(std::min<std::uint64_t>(deadline - now, 1'000'000'000)));
  }
  return true;
}

}  // namespace

/// One running call of the sending, the receiving or the control side.
class FakeWire::Side {
 public:
  Side(FakeWire& wire, std::atomic<int>& mine, const char* what) : mine_(mine) {
    if (mine_.fetch_add(1) != 0) wire.breach(std::string(what) + " at the same time as another call of its side");
    const bool control = &mine == &wire.controlling_;
    if (control ? wire.sending_ != 0 || wire.receiving_ != 0 : wire.controlling_ != 0) {
      wire.breach(std::string(what) + " at the same time as " + (control ? "sending or receiving" : "open or close"));
    }
  }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;
  ~Side() { mine_.fetch_sub(1); }

 private:
  std::atomic<int>& mine_;
};

// ---- FakeWire -------------------------------------------------------------------------------------------------------

std::shared_ptr<FakeWire> FakeWire::make(const std::string& endpoint) {
  auto wire = std::make_shared<FakeWire>(endpoint);
  const std::lock_guard lock(wires().mutex);
  wires().by_endpoint[endpoint] = wire;
  return wire;
}

std::shared_ptr<FakeWire> FakeWire::find(const std::string& endpoint) {
  const std::lock_guard lock(wires().mutex);
  const auto found = wires().by_endpoint.find(endpoint);
  return found == wires().by_endpoint.end() ? nullptr : found->second.lock();
}

FakeWire::~FakeWire() = default;

cdmf_peer FakeWire::connect_peer() {
  std::unique_lock lock(mutex_);
  const cdmf_peer peer = ++last_peer_;
  links_[peer] = {};
  lock.unlock();
  deliver_kind(peer, CDMF_VIEW_PEER_CONNECTED);
  return peer;
}

void FakeWire::deliver(cdmf_peer peer, MessageView message) {
  std::vector<std::byte> frame(frame_size(message.payload.size(), message.subject.size(), 0));
  alignas(16) std::byte header[kFrameHeaderBytes];
  write_frame_header(header, message, message.subject.size(), 0);
  std::memcpy(frame.data(), header, sizeof header);
  std::copy(message.payload.begin(), message.payload.end(), frame.begin() + kFrameHeaderBytes);
  if (!message.subject.empty()) {
    std::memcpy(frame.data() + frame.size() - message.subject.size(), message.subject.data(), message.subject.size());
  }
  deliver_raw(peer, std::move(frame));
}

void FakeWire::deliver(cdmf_peer peer, std::string_view payload) {
  MessageView message;
  message.payload = std::as_bytes(std::span(payload));
  deliver(peer, message);
}

void FakeWire::deliver_raw(cdmf_peer peer, std::vector<std::byte> bytes) {
  Arrival arrival;
  arrival.frame = std::make_shared<Frame>(bytes.size());
  if (!bytes.empty()) std::memcpy(arrival.frame->data(), bytes.data(), bytes.size());
  arrival.view.frame = bytes.empty() ? nullptr : arrival.frame->data();
  arrival.view.size = bytes.size();
  arrival.view.peer = peer;
  arrival.view.kind = CDMF_VIEW_MESSAGE;
  arrival.view.timestamp_us = 42;
  push(std::move(arrival));
}

void FakeWire::deliver_kind(cdmf_peer peer, std::uint32_t kind) {
  Arrival arrival;
  arrival.view.peer = peer;
  arrival.view.kind = kind;
  push(std::move(arrival));
}

void FakeWire::end_link(cdmf_peer peer, cdmf_status reason, std::uint64_t lost) {
  Arrival arrival;
  {
    const std::lock_guard lock(mutex_);
    links_[peer].end = reason;
    has_server_ = false;
  }
  arrival.view.peer = peer;
  arrival.view.kind = CDMF_VIEW_PEER_DISCONNECTED;
  arrival.view.reason = reason;
  arrival.view.lost = lost;
  push(std::move(arrival));
}

void FakeWire::push(Arrival arrival) {
  const std::lock_guard lock(mutex_);
  const auto link = links_.find(arrival.view.peer);
  if (open_ == nullptr && link != links_.end() && link->second.end != CDMF_OK) return;  // close() took it along.
  arrival.view.token = ++last_token_;
  arrivals_.push_back(std::move(arrival));
  changed_.notify_all();
}

void FakeWire::set_room(std::size_t frames) {
  const std::lock_guard lock(mutex_);
  room_ = frames;
  changed_.notify_all();
}

cdmf_peer FakeWire::server() const {
  const std::lock_guard lock(mutex_);
  return last_peer_;
}

void FakeWire::answer(Call call, cdmf_status status, std::size_t times) {
  const std::lock_guard lock(mutex_);
  answers_[call].insert(answers_[call].end(), times, status);
}

bool FakeWire::scripted(Call call, cdmf_status& status) {
  const std::lock_guard lock(mutex_);
  auto& left = answers_[call];
  if (left.empty()) return false;
  status = left.front();
  left.pop_front();
  return true;
}

void FakeWire::on(Call call, std::function<void()> hook) {
  const std::lock_guard lock(mutex_);
  hooks_[call] = std::move(hook);
}

void FakeWire::enter(Call call) {
  std::function<void()> hook;
  {
    const std::lock_guard lock(mutex_);
    ++calls_[static_cast<std::size_t>(call)];
    const auto found = hooks_.find(call);
    if (found != hooks_.end()) hook = found->second;
  }
  if (hook) hook();
}

void FakeWire::breach(const std::string& what) {
  const std::lock_guard lock(mutex_);
  violations_.push_back(what);
}

void FakeWire::decode_and_keep(cdmf_peer peer, Frame& frame, std::size_t size, bool flushed) {
  Sent sent;
  MessageView view;
  if (read_frame(frame.data(), size, view)) {
    sent.peer = peer;
    sent.message = Message(view);
    sent.frame_bytes = size;
    const std::byte* payload = view.payload.data();
    for (const std::byte* at = frame.data() + kFrameHeaderBytes + 4; at < payload; ++at) {
      if (*at != std::byte{0}) sent.padding_is_clean = false;
    }
    (flushed ? sent_ : queued_).push_back(std::move(sent));
  } else {
    violations_.push_back("a committed frame is malformed");
  }
  std::memset(static_cast<void*>(frame.data()), 0xdd, frame.size);
}

std::vector<FakeWire::Sent> FakeWire::sent() const {
  const std::lock_guard lock(mutex_);
  return sent_;
}
std::size_t FakeWire::queued() const {
  const std::lock_guard lock(mutex_);
  return queued_.size();
}
std::size_t FakeWire::calls(Call call) const {
  const std::lock_guard lock(mutex_);
  return calls_[static_cast<std::size_t>(call)];
}
std::size_t FakeWire::open_claims() const {
  const std::lock_guard lock(mutex_);
  return claims_.size();
}
std::size_t FakeWire::held() const {
  const std::lock_guard lock(mutex_);
  return held_.size();
}
std::size_t FakeWire::drivers_alive() const {
  const std::lock_guard lock(mutex_);
  return drivers_;
}
std::size_t FakeWire::undelivered() const {
  const std::lock_guard lock(mutex_);
  return arrivals_.size();
}
std::vector<std::pair<cdmf_peer, cdmf_status>> FakeWire::disconnects() const {
  const std::lock_guard lock(mutex_);
  return disconnects_;
}
std::vector<std::string> FakeWire::violations() const {
  const std::lock_guard lock(mutex_);
  return violations_;
}

// ---- FakeDriver -----------------------------------------------------------------------------------------------------

FakeDriver::FakeDriver(const DriverConfig& config, PluginHost /*host*/)
    : wire_(FakeWire::find(config.endpoint())),
      is_server_(config.is_server()),
      frame_size_max_(config.frame_size_max()) {
  if (wire_ == nullptr) throw ConfigError("no wire for ", config.endpoint());
  wire_->enter(Call::CREATE);
  cdmf_status status;
  if (wire_->scripted(Call::CREATE, status)) throw ConfigError("scripted refusal ", status);
  const std::lock_guard lock(wire_->mutex_);
  ++wire_->drivers_;
}

FakeDriver::~FakeDriver() {
  wire_->enter(Call::DESTROY);
  const std::lock_guard lock(wire_->mutex_);
  --wire_->drivers_;
  const auto mine = [this](const auto& entry) { return entry.second.owner == this; };
  if (wire_->open_ == this) wire_->violations_.emplace_back("destroy() of an open driver");
  if (std::any_of(wire_->claims_.begin(), wire_->claims_.end(), mine)) {
    wire_->violations_.emplace_back("destroy() with an open claim");
  }
  if (std::any_of(wire_->held_.begin(), wire_->held_.end(), mine)) {
    wire_->violations_.emplace_back("destroy() with a held view");
  }
}

cdmf_status FakeDriver::open(ErrorText& error) {
  const FakeWire::Side side(*wire_, wire_->controlling_, "open()");
  wire_->enter(Call::OPEN);
  cdmf_status status;
  if (wire_->scripted(Call::OPEN, status)) return error.fail(status, 0, "scripted answer of open()");
  const std::lock_guard lock(wire_->mutex_);
  if (wire_->open_ != nullptr) wire_->violations_.emplace_back("open() of an open driver");
  wire_->open_ = this;
  return CDMF_OK;
}

cdmf_status FakeDriver::attach(std::uint64_t /*deadline*/, cdmf_peer& peer, ErrorText& error) {
  const FakeWire::Side side(*wire_, wire_->receiving_, "attach()");
  wire_->enter(Call::ATTACH);
  cdmf_status status;
  if (wire_->scripted(Call::ATTACH, status)) return error.fail(status, 0, "scripted answer of attach()");
  {
    const std::lock_guard lock(wire_->mutex_);
    if (wire_->open_ != this) wire_->violations_.emplace_back("attach() of a closed driver");
    if (is_server_) wire_->violations_.emplace_back("attach() of a server");
    if (wire_->has_server_) wire_->violations_.emplace_back("attach() of a client that has its server");
    wire_->has_server_ = true;
  }
  peer = wire_->connect_peer();
  return CDMF_OK;
}

cdmf_status FakeDriver::claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) {
  const FakeWire::Side side(*wire_, wire_->sending_, "claim()");
  wire_->enter(Call::CLAIM);
  cdmf_status status;
  if (wire_->scripted(Call::CLAIM, status)) return status;
  const std::lock_guard lock(wire_->mutex_);
  if (wire_->open_ != this) wire_->violations_.emplace_back("claim() of a closed driver");
  const auto link = wire_->links_.find(peer);
  if (link == wire_->links_.end()) return CDMF_NOT_CONNECTED;
  if (link->second.end != CDMF_OK) return link->second.end;
  if (size > std::max<std::uint64_t>(frame_size_max_, wire_->frame_size_agreed_)) return CDMF_BUFFER_OVERFLOW;
  if (link->second.claimed) return CDMF_RESOURCE_EXHAUSTED;
  if (wire_->room_ == 0) return CDMF_BUFFER_FULL;
  if (wire_->room_ != SIZE_MAX) --wire_->room_;
  link->second.claimed = true;
  auto frame = std::make_shared<FakeWire::Frame>(size);
  std::memset(static_cast<void*>(frame->data()), 0xcc, size);
  loan.memory = frame->data();
  loan.size = size;
  loan.peer = peer;
  loan.token = ++wire_->last_token_;
  wire_->claims_[loan.token] = {this, std::move(frame)};
  return CDMF_OK;
}

cdmf_status FakeDriver::commit(const cdmf_loan& loan, std::size_t size, bool flush) {
  const FakeWire::Side side(*wire_, wire_->sending_, "commit()");
  wire_->enter(Call::COMMIT);
  const std::unique_lock lock(wire_->mutex_);
  const auto claim = wire_->claims_.find(loan.token);
  if (claim == wire_->claims_.end() || size == 0 || size > claim->second.frame->size) {
    wire_->violations_.emplace_back("commit() of no claim, or of a wrong size");
    return CDMF_INVALID_ARGUMENT;
  }
  const auto frame = claim->second.frame;
  wire_->claims_.erase(claim);
  FakeWire::Link& link = wire_->links_[loan.peer];
  link.claimed = false;
  if (link.end != CDMF_OK) return link.end;
  auto& answers = wire_->answers_[Call::COMMIT];
  if (!answers.empty()) {
    const cdmf_status status = answers.front();
    answers.pop_front();
    return status;
  }
  if (flush) {
    std::move(wire_->queued_.begin(), wire_->queued_.end(), std::back_inserter(wire_->sent_));
    wire_->queued_.clear();
  }
  wire_->decode_and_keep(loan.peer, *frame, size, flush);
  return CDMF_OK;
}

void FakeDriver::abort(const cdmf_loan& loan) {
  const FakeWire::Side side(*wire_, wire_->sending_, "abort()");
  wire_->enter(Call::ABORT);
  const std::lock_guard lock(wire_->mutex_);
  if (wire_->claims_.erase(loan.token) == 0) wire_->violations_.emplace_back("abort() of no claim");
  wire_->links_[loan.peer].claimed = false;
  if (wire_->room_ != SIZE_MAX) ++wire_->room_;
  wire_->changed_.notify_all();
}

cdmf_status FakeDriver::flush(cdmf_peer peer, std::uint64_t deadline) {
  const FakeWire::Side side(*wire_, wire_->sending_, "flush()");
  wire_->enter(Call::FLUSH);
  cdmf_status status;
  if (wire_->scripted(Call::FLUSH, status)) {
    if (status != CDMF_TIMEOUT) return status;
    std::unique_lock lock(wire_->mutex_);  // As one that waits in vain.
    wait_until(wire_->changed_, lock, deadline, [] { return false; });
    return deadline == kNoWait ? CDMF_BUFFER_FULL : CDMF_TIMEOUT;
  }
  const std::lock_guard lock(wire_->mutex_);
  if (wire_->open_ != this) wire_->violations_.emplace_back("flush() of a closed driver");
  if (peer != CDMF_NO_PEER && !wire_->links_.contains(peer)) return CDMF_NOT_CONNECTED;
  std::move(wire_->queued_.begin(), wire_->queued_.end(), std::back_inserter(wire_->sent_));
  wire_->queued_.clear();
  return CDMF_OK;
}

cdmf_status FakeDriver::await_space(cdmf_peer peer, std::size_t /*size*/, std::uint64_t deadline) {
  wire_->enter(Call::AWAIT_SPACE);
  cdmf_status status;
  if (wire_->scripted(Call::AWAIT_SPACE, status)) return status;
  std::unique_lock lock(wire_->mutex_);
  if (wire_->open_ != this) wire_->violations_.emplace_back("await_space() of a closed driver");
  ++wire_->senders_waiting_;
  const bool in_time = wait_until(wire_->changed_, lock, deadline, [&] {
    return wire_->room_ != 0 || wire_->links_[peer].end != CDMF_OK ||
           wire_->interrupts_ != wire_->interrupts_seen_sending_;
  });
  --wire_->senders_waiting_;
  if (wire_->links_[peer].end != CDMF_OK) return wire_->links_[peer].end;
  if (wire_->interrupts_ != wire_->interrupts_seen_sending_) {
    wire_->interrupts_seen_sending_ = wire_->interrupts_;
    return CDMF_INTERRUPTED;
  }
  return in_time ? CDMF_OK : CDMF_TIMEOUT;
}

std::size_t FakeDriver::receive_burst(cdmf_view* views, std::size_t capacity) {
  const FakeWire::Side side(*wire_, wire_->receiving_, "receive_burst()");
  wire_->enter(Call::RECEIVE_BURST);
  const std::lock_guard lock(wire_->mutex_);
  if (wire_->open_ != this) wire_->violations_.emplace_back("receive_burst() of a closed driver");
  if (wire_->burst_out_) wire_->violations_.emplace_back("receive_burst() before release_burst()");
  std::size_t count = 0;
  for (; count < capacity && !wire_->arrivals_.empty(); ++count) {
    views[count] = wire_->arrivals_.front().view;
    wire_->burst_.push_back(std::move(wire_->arrivals_.front()));
    wire_->arrivals_.pop_front();
  }
  wire_->burst_out_ = count != 0;
  return count;
}

void FakeDriver::release_burst() {
  const FakeWire::Side side(*wire_, wire_->receiving_, "release_burst()");
  wire_->enter(Call::RELEASE_BURST);
  const std::lock_guard lock(wire_->mutex_);
  if (!wire_->burst_out_) wire_->violations_.emplace_back("release_burst() without a burst");
  for (auto& arrival : wire_->burst_) {
    if (arrival.frame == nullptr || arrival.frame->size == 0) continue;
    // What is still looked at now is wrong from here on, unless it is held.
    if (arrival.frame.use_count() == 1)
      std::memset(static_cast<void*>(arrival.frame->data()), 0xdd, arrival.frame->size);
  }
  wire_->burst_.clear();
  wire_->burst_out_ = false;
}

cdmf_status FakeDriver::await_messages(std::uint64_t deadline) {
  const FakeWire::Side side(*wire_, wire_->receiving_, "await_messages()");
  wire_->enter(Call::AWAIT_MESSAGES);
  cdmf_status status;
  if (wire_->scripted(Call::AWAIT_MESSAGES, status)) return status;
  std::unique_lock lock(wire_->mutex_);
  if (wire_->open_ != this) wire_->violations_.emplace_back("await_messages() of a closed driver");
  ++wire_->receivers_waiting_;
  const bool in_time = wait_until(wire_->changed_, lock, deadline, [&] {
    return !wire_->arrivals_.empty() || wire_->interrupts_ != wire_->interrupts_seen_receiving_;
  });
  --wire_->receivers_waiting_;
  if (wire_->interrupts_ != wire_->interrupts_seen_receiving_) {
    wire_->interrupts_seen_receiving_ = wire_->interrupts_;
    return CDMF_INTERRUPTED;
  }
  return in_time ? CDMF_OK : CDMF_TIMEOUT;
}

cdmf_status FakeDriver::hold(cdmf_peer peer, std::uint64_t token, std::uint64_t& held) {
  const FakeWire::Side side(*wire_, wire_->receiving_, "hold()");
  wire_->enter(Call::HOLD);
  cdmf_status status;
  if (wire_->scripted(Call::HOLD, status)) return status;
  const std::lock_guard lock(wire_->mutex_);
  for (const auto& arrival : wire_->burst_) {
    if (arrival.view.peer != peer || arrival.view.token != token) continue;
    held = ++wire_->last_token_;
    wire_->held_[held] = {this, arrival.frame};
    return CDMF_OK;
  }
  wire_->violations_.emplace_back("hold() of a view that is not in the burst");
  return CDMF_INVALID_ARGUMENT;
}

void FakeDriver::unhold(std::uint64_t held) {
  wire_->enter(Call::UNHOLD);
  const std::lock_guard lock(wire_->mutex_);
  if (wire_->held_.erase(held) == 0) wire_->violations_.emplace_back("unhold() of nothing");
}

cdmf_arm_result FakeDriver::arm() {
  const FakeWire::Side side(*wire_, wire_->receiving_, "arm()");
  wire_->enter(Call::ARM);
  const std::lock_guard lock(wire_->mutex_);
  return wire_->arrivals_.empty() ? CDMF_ARMED : CDMF_READY;
}

void FakeDriver::interrupt() {
  wire_->enter(Call::INTERRUPT);
  const std::lock_guard lock(wire_->mutex_);
  ++wire_->interrupts_;
  wire_->changed_.notify_all();
}

cdmf_status FakeDriver::disconnect(cdmf_peer peer, cdmf_status reason) {
  wire_->enter(Call::DISCONNECT);
  {
    const std::lock_guard lock(wire_->mutex_);
    const auto link = wire_->links_.find(peer);
    if (link == wire_->links_.end() || link->second.end != CDMF_OK) return CDMF_NOT_CONNECTED;
    wire_->disconnects_.emplace_back(peer, reason);
  }
  wire_->end_link(peer, reason);
  return CDMF_OK;
}

void FakeDriver::close() {
  const FakeWire::Side side(*wire_, wire_->controlling_, "close()");
  wire_->enter(Call::CLOSE);
  const std::lock_guard lock(wire_->mutex_);
  if (wire_->burst_out_) wire_->violations_.emplace_back("close() before release_burst()");
  if (wire_->senders_waiting_ != 0) wire_->violations_.emplace_back("close() while a sender waits for space");
  wire_->open_ = nullptr;
  wire_->has_server_ = false;
  for (auto& [id, link] : wire_->links_) {
    if (link.end == CDMF_OK) link.end = CDMF_CONNECTION_CLOSED;
  }
  wire_->arrivals_.clear();
}

void FakeDriver::describe(cdmf_info& info) {
  info.capabilities = fake_plugin().capabilities;
  info.frame_size_max = std::max<std::uint64_t>(frame_size_max_, wire_->frame_size_agreed_);
  info.buffer_bytes = 4096;
  info.address = wire_->endpoint_.c_str();
  info.detail = "scripted";
}

const cdmf_plugin& fake_plugin() {
  static constexpr cdmf_property kProperties[] = {
      int_property("depth", "4", "1", "16", "Means nothing; is there to be checked."),
      bool_property("create_shm", nullptr, "Server or client.", CDMF_PROPERTY_ROLE),
  };
  static constexpr TransportDescription kDescription{
      .type = "fake",
      .version = "1.0.0",
      .vendor = "tests",
      .license = "Apache-2.0",
      .summary = "What the test says",
      .capabilities = CDMF_CAP_MANY_PEERS | CDMF_CAP_HOLD | CDMF_CAP_POLL_FD | CDMF_CAP_TIMESTAMP,
      .max_message_size_limit = std::uint64_t{1} << 30,
      .properties = kProperties,
  };
  static constexpr cdmf_plugin kPlugin = make_plugin<FakeDriver>(kDescription);
  return kPlugin;
}

}  // namespace cdmf::ipc::testing
