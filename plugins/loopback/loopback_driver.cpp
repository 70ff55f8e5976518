#include "loopback_driver.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace cdmf::ipc::loopback {
namespace {

LinkLimits limits_from(const DriverConfig& config) {
  LinkLimits limits;
  limits.frame_size_max = config.frame_size_max();
  limits.queue_bytes = static_cast<std::size_t>(config.number("queue_size"));
  if (!config.given("queue_size")) limits.queue_bytes = std::max(limits.queue_bytes, 2 * limits.frame_size_max);
  if (limits.queue_bytes < limits.frame_size_max) {
    throw ConfigError("queue_size ", limits.queue_bytes, " holds no message of max_message_size ",
                      config.max_message_size(), "; it must be at least ", limits.frame_size_max);
  }
  return limits;
}

}  // namespace

LoopbackDriver::LoopbackDriver(const DriverConfig& config, PluginHost host)
    : side_(config.is_server() ? Side::kServer : Side::kClient),
      endpoint_(config.endpoint()),
      address_("loopback:" + endpoint_),
      limits_(limits_from(config)),
      detail_("queues of " + std::to_string(limits_.queue_bytes) + " bytes"),
      host_(host) {}

LoopbackDriver::~LoopbackDriver() { LoopbackDriver::close(); }

// ---- Life -----------------------------------------------------------------------------------------------------------

cdmf_status LoopbackDriver::open(ErrorText& error) {
  const std::lock_guard lock(mutex_);
  if (alarm_ != nullptr) return error.fail(CDMF_ALREADY_INITIALIZED, 0, address_, " is open already");
  auto alarm = Alarm::make();
  if (alarm == nullptr) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, address_, ": no eventfd; raise `ulimit -n`");
  if (side_ == Side::kServer) {
    auto listener = std::make_shared<Listener>(limits_, alarm);
    if (!register_endpoint(endpoint_, listener)) {
      return error.fail(CDMF_ENDPOINT_IN_USE, 0, address_,
                        ": another server of this process has it open; close that one or change 'endpoint'");
    }
    listener_ = std::move(listener);
  }
  alarm_ = std::move(alarm);
  agreed_ = limits_;
  return CDMF_OK;
}

cdmf_status LoopbackDriver::attach(std::uint64_t /*deadline*/, cdmf_peer& peer, ErrorText& error) {
  const std::lock_guard lock(mutex_);
  if (alarm_ == nullptr) return error.fail(CDMF_NOT_INITIALIZED, 0, address_, " is not open");
  if (side_ == Side::kServer) return error.fail(CDMF_UNSUPPORTED, 0, address_, " is a server: clients attach to it");
  if (!peers_.empty()) return error.fail(CDMF_ALREADY_INITIALIZED, 0, address_, " has its server already");
  const auto listener = find_endpoint(endpoint_);
  const auto not_found = [&] {
    return error.fail(CDMF_ENDPOINT_NOT_FOUND, 0, address_,
                      ": no server of this process listens; start one or check 'endpoint'");
  };
  if (listener == nullptr) return not_found();
  if (listener->limits().frame_size_max < limits_.frame_size_max) {
    return error.fail(CDMF_INVALID_CONFIG, 0, address_, ": this client wants max_message_size ",
                      limits_.frame_size_max - CDMF_FRAME_OVERHEAD_MAX, ", the server allows ",
                      listener->limits().frame_size_max - CDMF_FRAME_OVERHEAD_MAX,
                      "; lower the one or raise the other");
  }
  auto link = listener->connect(alarm_);
  if (link == nullptr) return not_found();
  peer = ++last_peer_;
  peers_[peer].link = std::move(link);
  agreed_ = listener->limits();
  alarm_->ring();
  return CDMF_OK;
}

cdmf_status LoopbackDriver::disconnect(cdmf_peer peer, cdmf_status reason) {
  const auto link = find_link(peer);
  if (link == nullptr) return CDMF_NOT_CONNECTED;
  link->end(side_, reason);
  host_.log(CDMF_LOG_DEBUG, address_, ": ended the link of peer ", peer);
  return CDMF_OK;
}

void LoopbackDriver::close() {
  const std::lock_guard lock(mutex_);
  if (alarm_ == nullptr) return;
  if (listener_ != nullptr) {
    unregister_endpoint(endpoint_);
    listener_->close();
  }
  for (const auto& [id, peer] : peers_) peer.link->end(side_, CDMF_CONNECTION_CLOSED);
  // burst_, claims_ and held_ stay: their memory is promised to be valid.
  peers_.clear();
  listener_.reset();
  alarm_.reset();
}

void LoopbackDriver::describe(cdmf_info& info) {
  const std::lock_guard lock(mutex_);
  const LinkLimits& limits = alarm_ != nullptr ? agreed_ : limits_;
  info.capabilities = kDescription.capabilities;
  info.frame_size_max = limits.frame_size_max;
  info.buffer_bytes = limits.queue_bytes;
  info.address = address_.c_str();
  info.detail = detail_.c_str();
}

// ---- Sending --------------------------------------------------------------------------------------------------------

cdmf_status LoopbackDriver::claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) {
  const auto link = find_link(peer);
  if (link == nullptr) return CDMF_NOT_CONNECTED;
  Frame frame;
  if (const cdmf_status status = link->claim(side_, size, frame); status != CDMF_OK) return status;
  loan = {frame.bytes.get(), size, peer, 0};
  const std::lock_guard lock(mutex_);
  claims_.insert_or_assign(peer, Owned{link, std::move(frame)});
  return CDMF_OK;
}

cdmf_status LoopbackDriver::commit(const cdmf_loan& loan, std::size_t size, bool flush) {
  Owned claim = take_claim(loan.peer);
  if (claim.link == nullptr) return CDMF_INVALID_ARGUMENT;
  return claim.link->commit(side_, std::move(claim.frame), size, flush);
}

void LoopbackDriver::abort(const cdmf_loan& loan) {
  const Owned claim = take_claim(loan.peer);
  if (claim.link != nullptr) claim.link->abort(side_, claim.frame);
}

cdmf_status LoopbackDriver::flush(cdmf_peer peer, std::uint64_t /*deadline*/) {
  if (peer != CDMF_NO_PEER) {
    const auto link = find_link(peer);
    return link == nullptr ? CDMF_NOT_CONNECTED : link->flush(side_);
  }
  const std::lock_guard lock(mutex_);
  for (auto& [id, each] : peers_) {
    // A link that ended reports what it lost with its PEER_DISCONNECTED.
    [[maybe_unused]] const cdmf_status status = each.link->flush(side_);
  }
  return CDMF_OK;
}

cdmf_status LoopbackDriver::await_space(cdmf_peer peer, std::size_t size, std::uint64_t deadline) {
  const auto link = find_link(peer);
  if (link == nullptr) return CDMF_NOT_CONNECTED;
  const std::uint64_t before = interrupts_seen_sending_.load();
  const cdmf_status status = link->await_space(side_, size, deadline, interrupts_, before);
  if (status == CDMF_INTERRUPTED) interrupts_seen_sending_.store(interrupts_.load());
  return status;
}

// ---- Receiving ------------------------------------------------------------------------------------------------------

std::size_t LoopbackDriver::receive_burst(cdmf_view* views, std::size_t capacity) {
  const std::lock_guard lock(mutex_);
  adopt_new_links();
  std::size_t count = 0;
  // One view per peer and turn: nobody can crowd out the others, and an order per peer is all that is promised.
  for (std::size_t idle = 0; count < capacity && idle < peers_.size();) {
    auto turn = peers_.upper_bound(last_served_);
    if (turn == peers_.end()) turn = peers_.begin();
    last_served_ = turn->first;
    if (!next_view(turn->first, turn->second, views[count])) {
      ++idle;
      continue;
    }
    idle = 0;
    if (views[count++].kind == CDMF_VIEW_PEER_DISCONNECTED) peers_.erase(turn);
  }
  return count;
}

bool LoopbackDriver::next_view(cdmf_peer id, Peer& peer, cdmf_view& view) {
  view = {};
  view.peer = id;
  if (!std::exchange(peer.announced, true)) {
    view.kind = CDMF_VIEW_PEER_CONNECTED;
    return true;
  }
  Frame frame;
  switch (peer.link->take(side_, frame)) {
    case Link::Taken::kNothing:
      return false;
    case Link::Taken::kEnded:
      view.kind = CDMF_VIEW_PEER_DISCONNECTED;
      view.reason = peer.link->end_reason();
      view.lost = peer.link->lost(side_);
      return true;
    case Link::Taken::kFrame:
      break;
  }
  view.kind = CDMF_VIEW_MESSAGE;
  view.frame = frame.bytes.get();
  view.size = frame.size;
  view.timestamp_us = frame.timestamp_us;
  view.token = burst_.size();
  burst_.push_back(Owned{peer.link, std::move(frame)});
  return true;
}

void LoopbackDriver::release_burst() {
  const std::lock_guard lock(mutex_);
  for (const Owned& owned : burst_) {
    if (owned.frame.bytes != nullptr) owned.link->give_back(other(side_), owned.frame.size, false);
  }
  burst_.clear();
}

cdmf_status LoopbackDriver::hold(cdmf_peer /*peer*/, std::uint64_t token, std::uint64_t& held) {
  const std::lock_guard lock(mutex_);
  if (token >= burst_.size() || burst_[token].frame.bytes == nullptr) return CDMF_INVALID_ARGUMENT;
  if (!burst_[token].link->hold(other(side_), burst_[token].frame.size)) return CDMF_RESOURCE_EXHAUSTED;
  held = ++last_held_;
  held_.emplace(held, std::move(burst_[token]));
  return CDMF_OK;
}

void LoopbackDriver::unhold(std::uint64_t held) {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(held);
  if (found == held_.end()) return;
  found->second.link->give_back(other(side_), found->second.frame.size, true);
  held_.erase(found);
}

cdmf_status LoopbackDriver::await_messages(std::uint64_t deadline) {
  const auto sleeping_on = alarm();
  if (sleeping_on == nullptr) return CDMF_NOT_INITIALIZED;
  for (;;) {
    const bool ready = arm() == CDMF_READY;
    // After arm(), which empties the descriptor: an interrupt() before that is seen here, a later one ends poll().
    const std::uint64_t interrupts = interrupts_.load();
    if (interrupts != std::exchange(interrupts_seen_receiving_, interrupts)) return CDMF_INTERRUPTED;
    if (ready) return CDMF_OK;
    pollfd wait{sleeping_on->fd(), POLLIN, 0};
    if (poll(&wait, 1, poll_timeout_ms(deadline)) == 0 && (deadline == kNoWait || monotonic_now_ns() >= deadline)) {
      return CDMF_TIMEOUT;
    }
  }
}

int LoopbackDriver::poll_fd() {
  const auto mine = alarm();
  return mine == nullptr ? -1 : mine->fd();
}

cdmf_arm_result LoopbackDriver::arm() {
  const std::lock_guard lock(mutex_);
  if (alarm_ == nullptr) return CDMF_READY;
  alarm_->arm();  // Before looking: see Alarm, edge ASLEEP.
  if (listener_ != nullptr && listener_->has_waiting()) return CDMF_READY;
  const bool ready = std::any_of(peers_.begin(), peers_.end(), [this](const auto& entry) {
    return !entry.second.announced || entry.second.link->receivable(side_);
  });
  return ready ? CDMF_READY : CDMF_ARMED;
}

void LoopbackDriver::interrupt() {
  const std::lock_guard lock(mutex_);
  ++interrupts_;
  if (alarm_ != nullptr) alarm_->ring_always();
  for (auto& [id, peer] : peers_) peer.link->wake_waiters(side_);
}

// ---- Helpers --------------------------------------------------------------------------------------------------------

void LoopbackDriver::adopt_new_links() {
  if (listener_ == nullptr) return;
  for (auto& link : listener_->accept()) peers_[++last_peer_].link = std::move(link);
}

std::shared_ptr<Link> LoopbackDriver::find_link(cdmf_peer peer) {
  const std::lock_guard lock(mutex_);
  const auto found = peers_.find(peer);
  return found == peers_.end() ? nullptr : found->second.link;
}

LoopbackDriver::Owned LoopbackDriver::take_claim(cdmf_peer peer) {
  const std::lock_guard lock(mutex_);
  auto node = claims_.extract(peer);
  return node.empty() ? Owned{} : std::move(node.mapped());
}

std::shared_ptr<Alarm> LoopbackDriver::alarm() {
  const std::lock_guard lock(mutex_);
  return alarm_;
}

}  // namespace cdmf::ipc::loopback
