#include "route/port.h"

#include <algorithm>
#include <chrono>

#include "coarse_clock.h"
#include "config/text_check.h"
#include "ipc/driver.h"
#include "ipc/router.h"
#include "route/pattern.h"

namespace cdmf::ipc::route {
namespace {

using namespace std::chrono_literals;
using rpc::Refusal;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kLook = 100ms;  // How long a waiting thread goes without a look at Shared::stopping.
constexpr std::uint64_t kRequestLifeNs = 60'000'000'000;  // Of a request that does not say how long it waits.
constexpr std::string_view kRoutes = "cdmf.routes";

bool wants_answer(const MessageView& message) noexcept {
  return message.type == MessageType::REQUEST && (message.flags & rpc::kOneWay) == 0;
}

std::uint64_t time_left_ns(const MessageView& request) noexcept {
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(request.time_left.duration()).count());
}

}  // namespace

Port::Port(std::string name, std::unique_ptr<Transport> transport, Shared& shared)
    : name_(std::move(name)), transport_(std::move(transport)), shared_(shared) {
  transport_->setPeerCallback([this](const PeerEvent& event) { on_peer(event); });
  transport_->setErrorCallback([this](TransportError error, const std::string& text) {
    shared_.log(LogLevel::warning, name_ + ": " + to_string(error) + ": " + text);
  });
}

// ---- Life -----------------------------------------------------------------------------------------------------------

TransportResult<> Port::start() {
  if (auto started = transport_->start(); !started) return started;
  if (transport_->getInfo().role == Role::SERVER) {
    if (auto listening = transport_->connect(); !listening) return listening;
  }
  thread_ = std::thread([this] { run(); });
  return {};
}

void Port::wake() {
  transport_->interrupt();
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

void Port::join() {
  if (thread_.joinable()) thread_.join();
  transport_->stop();
}

void Port::run() {
  while (!shared_.stopping) {
    if (transport_->getState() == TransportState::STARTED) {
      connect();
      continue;
    }
    const std::size_t count = transport_->poll([this](const MessageView& message) { receive(message); });
    flush_what_was_sent();
    if (unreceipted_ >= kTakenMax) give_receipts();
    if (count != 0) continue;
    // What ends it without a message, the next turn sees.
    const auto waited = transport_->await(unreceipted_ == 0 ? 1s : std::chrono::nanoseconds(kTakenEvery));
    if (waited.error == TransportError::TIMEOUT && unreceipted_ != 0) give_receipts();
  }
  give_receipts();
}

/// A client's first connection, and any after one that did not come back by itself.
void Port::connect() {
  const auto connected = transport_->connect(500ms);
  if (connected) return last_problem_.clear();
  if (last_problem_ != connected.text()) {
    last_problem_ = connected.text();
    shared_.log(LogLevel::warning, name_ + ": " + last_problem_ + "; trying on");
  }
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kLook, [this] { return shared_.stopping.load(); });
}

// ---- Peers ----------------------------------------------------------------------------------------------------------

Port::Peers Port::peers() const {
  const std::lock_guard lock(mutex_);
  return peers_;
}

void Port::on_peer(const PeerEvent& event) {
  std::string line = name_ + ": peer " + std::to_string(event.peer);
  if (event.kind == PeerEvent::Kind::CONNECTED) {
    {
      const std::lock_guard lock(mutex_);
      auto peers = std::make_shared<std::vector<PeerId>>(*peers_);
      peers->push_back(event.peer);
      peers_ = std::move(peers);
      changed_.notify_all();
    }
    return shared_.log(LogLevel::info, line + " connected" + (event.identity.empty() ? "" : ": " + event.identity));
  }
  forget(event.peer);
  taken_.erase(event.peer);
  const std::uint64_t now_lost = receipts_.lost(event.peer, event.messages_lost);
  lost.fetch_add(now_lost, kRelaxed);
  line += std::string(" left: ") + to_string(event.reason);
  if (now_lost > 0) line += ", " + std::to_string(now_lost) + " messages lost";
  shared_.log(LogLevel::info, line);
  for (const ReturnPath& path : return_paths_.take_all(event.peer)) {
    path.route->unanswered.fetch_add(1, kRelaxed);
    path.origin->fail_request(path,
                              "passed on over '" + name_ + "', whose link then ended: " + to_string(event.reason));
  }
}

void Port::forget(PeerId peer) {
  const std::lock_guard lock(mutex_);
  if (std::find(peers_->begin(), peers_->end(), peer) == peers_->end()) return;
  auto peers = std::make_shared<std::vector<PeerId>>(*peers_);
  std::erase(*peers, peer);
  peers_ = std::move(peers);
}

/// False: the router stops.
bool Port::wait_for_peer() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kLook, [this] { return shared_.stopping || !peers_->empty(); });
  return !shared_.stopping;
}

// ---- A message ------------------------------------------------------------------------------------------------------

void Port::receive(const MessageView& message) {
  if (message.type == MessageType::RESPONSE || message.type == MessageType::ERROR) return answer(message);
  if (message.type == MessageType::REQUEST && message.subject == kRoutes) {
    const std::string json = shared_.stats_json();
    MessageView stats{.type = MessageType::RESPONSE, .id = message.id, .payload = std::as_bytes(std::span(json))};
    send_answer(message.peer, stats);
    return sent_to(*this, message.peer);
  }
  if (message.type == MessageType::CONTROL && message.subject == kTaken) {
    return receipts_.taken(message.peer, message.id);
  }
  const auto way = std::find_if(ways_.begin(), ways_.end(),
                                [&](const Way& each) { return matches(each.entry->match, message.subject); });
  way == ways_.end() ? no_way_for(message) : forward(*way, message);
  if (message.hops != 0 && !wants_answer(message)) note_taken(message.peer);
}

void Port::forward(const Way& way, const MessageView& message) {
  if (message.hops >= kHopsMax) {
    if (way.counters->looped.fetch_add(1, kRelaxed) == 0) {
      shared_.log(LogLevel::error, way.entry->place + ": a message came round more than " + std::to_string(kHopsMax) +
                                       " times: these routes lead back to where they come from");
    }
    return refuse(message, Refusal::UNREACHABLE, "the routes lead back to where they come from");
  }
  MessageView copy = message;
  ++copy.hops;
  deadline_ns_ = message.time_left.said() ? coarse_now_ns() + time_left_ns(message) : 0;
  const Passed passed = pass(way, copy);
  if (passed != Passed::yes) return not_passed(way, message, passed);
  (way.back ? way.counters->forwarded_back : way.counters->forwarded).fetch_add(1, kRelaxed);
  way.counters->bytes.fetch_add(message.payload.size(), kRelaxed);
}

/// Waits where the entry says so, and then passes on a request with the time that is left of it.
Port::Passed Port::pass(const Way& way, MessageView& message) {
  bool waited = false;
  Passed result = Passed::stopping;
  while (!shared_.stopping) {
    const Peers peers = way.to->peers();
    result = Passed::down;
    if (!peers->empty()) {
      if (message.type == MessageType::REQUEST) {
        result = pass_request(way, message, *peers);
      } else {
        result = pass_to_all(way, message, *peers);
      }
    }
    if (result != Passed::down || way.entry->when_down != WhenDown::BLOCK) break;
    if (!std::exchange(waited, true)) {
      ++way.counters->waiting;
      shared_.log(LogLevel::warning, way.entry->place + ": '" + way.to->name_ + "' is down; messages wait");
    }
    result = Passed::stopping;
    flush_what_was_sent();  // Nothing waits with this message that need not.
    if (!way.to->wait_for_peer()) break;
    if (deadline_ns_ != 0) {
      const std::uint64_t now = coarse_now_ns();
      if (now >= deadline_ns_) {
        result = Passed::too_late;
        break;
      }
      message.time_left = TimeLeft::of(std::chrono::nanoseconds(deadline_ns_ - now));
    }
  }
  if (waited) {
    --way.counters->waiting;
    if (result == Passed::yes) shared_.log(LogLevel::info, way.entry->place + ": goes on");
  }
  return result;
}

/// To one at least is to all but those that cannot take it, of which the count tells.
Port::Passed Port::pass_to_all(const Way& way, const MessageView& message, const std::vector<PeerId>& peers) {
  Passed result = Passed::down;
  std::uint64_t missed = 0;
  for (const PeerId peer : peers) {
    const Passed one = pass_to(way, peer, message);
    if (one != Passed::yes && one != Passed::down) ++missed;  // Who is gone misses nothing.
    if (one == Passed::yes || result == Passed::down) result = one;
  }
  if (result == Passed::yes) way.counters->dropped.fetch_add(missed, kRelaxed);
  return result;
}

Port::Passed Port::pass_request(const Way& way, MessageView& message, const std::vector<PeerId>& peers) {
  const PeerId peer = peers[turn_++ % peers.size()];
  if (!wants_answer(message)) return pass_to(way, peer, message);
  const std::uint64_t now = coarse_now_ns();
  // A little longer than the caller waits: its own clock is what ends the call.
  const std::uint64_t life = message.time_left.said() ? time_left_ns(message) + 1'000'000'000 : kRequestLifeNs;
  const auto number = way.to->return_paths_.add({this, message.peer, message.id, peer, way.counters, now + life}, now);
  if (!number) return Passed::crowded;
  MessageView asked = message;
  asked.id = *number;
  const Passed passed = pass_to(way, peer, asked);
  // When the path is gone, the end of that link has been told already, and to the one who asked, too.
  if (passed != Passed::yes && !way.to->return_paths_.take(*number, peer)) return Passed::yes;
  return passed;
}

Port::Passed Port::pass_to(const Way& way, PeerId peer, const MessageView& message) {
  SendOptions options{.peer = peer, .timeout = 0ns, .flush = false};
  const WhenDown when = way.entry->when_down;
  bool waited = false;
  Passed result = Passed::stopping;
  const bool counts = !wants_answer(message);
  if (counts) way.to->receipts_.giving(peer);
  for (;;) {
    const auto sent = way.to->transport_->send(message, options);
    if (sent) {
      sent_to(*way.to, peer);
      result = Passed::yes;
    } else if (sent.error == TransportError::BUFFER_FULL || sent.error == TransportError::TIMEOUT ||
               sent.error == TransportError::RESOURCE_EXHAUSTED) {
      result = Passed::full;
      if (when == WhenDown::DROP_NEWEST_COUNTED || (when == WhenDown::FAIL && waited)) break;
      if (!std::exchange(waited, true)) {
        ++way.counters->waiting;
        flush_what_was_sent();    // Who is not full need not wait for who is.
        options.timeout.reset();  // The transport's send_timeout.
        if (when == WhenDown::BLOCK) options.timeout = kLook;
        continue;
      }
      if (sent.error == TransportError::RESOURCE_EXHAUSTED) std::this_thread::sleep_for(1ms);
      result = deadline_ns_ != 0 && coarse_now_ns() >= deadline_ns_ ? Passed::too_late : Passed::stopping;
      if (result == Passed::stopping && !shared_.stopping) continue;
    } else if (sent.error == TransportError::BUFFER_OVERFLOW) {
      result = Passed::too_large;
    } else if (sent.error == TransportError::UNSUPPORTED) {
      result = Passed::one_way;
    } else {
      way.to->forget(peer);  // Its end is being reported to its own thread, or was.
      result = Passed::down;
    }
    break;
  }
  if (waited) --way.counters->waiting;
  if (counts && result != Passed::yes) way.to->receipts_.not_given(peer);
  return result;
}

void Port::not_passed(const Way& way, const MessageView& message, Passed why) {
  const std::string to = "'" + way.to->name_ + "'";
  const bool asks = wants_answer(message);
  const bool told = asks || way.entry->when_down == WhenDown::FAIL;
  (told && why != Passed::stopping ? way.counters->refused : way.counters->dropped).fetch_add(1, kRelaxed);
  switch (why) {
    case Passed::yes:
      return;
    case Passed::down:
    case Passed::full:
      if (asks) return refuse(message, Refusal::UNREACHABLE, to + (why == Passed::down ? " is down" : " is full"));
      if (told) (void)transport_->disconnectPeer(message.peer);
      return;
    case Passed::too_large:
      if (!way.counters->told.exchange(true))
        shared_.log(LogLevel::warning, way.entry->place + ": a message of " + std::to_string(message.payload.size()) +
                                           " bytes is too large for " + to + "; raise its max_message_size");
      return refuse(message, Refusal::TOO_LARGE, "too large for " + to);
    case Passed::one_way:
      if (!way.counters->told.exchange(true))
        shared_.log(LogLevel::warning,
                    way.entry->place + ": " + to + " cannot be sent to from here; set bidirectional");
      return refuse(message, Refusal::UNREACHABLE, to + " cannot be sent to from here");
    case Passed::too_late:
      return refuse(message, Refusal::DEADLINE_PASSED, "its time was up while " + to + " was down or full");
    case Passed::crowded:
      return refuse(message, Refusal::OVERLOADED, "too many requests over " + to + " wait for an answer");
    case Passed::stopping:
      return refuse(message, Refusal::STOPPING, "the routes are stopping");
  }
}

void Port::no_way_for(const MessageView& message) {
  unmatched.fetch_add(1, kRelaxed);
  const std::string subject = "'" + config::printable(message.subject) + "'";
  if (!std::exchange(unmatched_told_, true)) {
    shared_.log(LogLevel::warning, name_ + ": no route matches subject " + subject + "; such messages are counted");
  }
  refuse(message, Refusal::NO_SUCH_METHOD, "no route from here matches " + subject);
}

// ---- Answers --------------------------------------------------------------------------------------------------------

void Port::answer(const MessageView& message) {
  const auto path = return_paths_.take(message.id, message.peer);
  if (!path) {
    late_answers.fetch_add(1, kRelaxed);
    return;
  }
  MessageView answer = message;
  answer.id = path->id;
  answer.hops = 0;
  path->route->answered.fetch_add(1, kRelaxed);
  path->origin->send_answer(path->peer, answer);
  sent_to(*path->origin, path->peer);
}

void Port::send_answer(PeerId peer, const MessageView& answer) {
  const auto sent = transport_->send(answer, {.peer = peer, .flush = false});
  if (sent) return;
  answers_lost.fetch_add(1, kRelaxed);
  if (sent.error == TransportError::TIMEOUT || sent.error == TransportError::BUFFER_FULL) {
    shared_.log(LogLevel::warning, name_ + ": peer " + std::to_string(peer) +
                                       " does not take its answers and is disconnected; others wait behind it");
    (void)transport_->disconnectPeer(peer);
  } else if (sent.error == TransportError::BUFFER_OVERFLOW) {
    fail_request({.peer = peer, .id = answer.id}, "the answer is too large for '" + name_ + "'");
  }
}

/// The one who asked hears that nobody will know.
void Port::fail_request(const ReturnPath& path, const std::string& text) {
  MessageView error{.type = MessageType::ERROR, .flags = static_cast<std::uint8_t>(Refusal::LOST), .id = path.id};
  error.payload = std::as_bytes(std::span(text));
  if (!transport_->send(error, {.peer = path.peer})) answers_lost.fetch_add(1, kRelaxed);
}

void Port::refuse(const MessageView& request, Refusal refusal, const std::string& text) {
  if (!wants_answer(request)) return;
  MessageView error{.type = MessageType::ERROR, .flags = static_cast<std::uint8_t>(refusal), .id = request.id};
  error.payload = std::as_bytes(std::span(text));
  send_answer(request.peer, error);
  sent_to(*this, request.peer);
}

// ---- Flushing -------------------------------------------------------------------------------------------------------

void Port::sent_to(Port& port, PeerId peer) {
  const std::pair<Port*, PeerId> both(&port, peer);
  if (std::find(unflushed_.begin(), unflushed_.end(), both) == unflushed_.end()) unflushed_.push_back(both);
}

/// What came in one burst leaves in one: publishing is what costs.
void Port::flush_what_was_sent() {
  for (const auto& [port, peer] : unflushed_) (void)port->transport_->flush(peer, 0ns);  // The rest leaves by itself.
  if (unreceipted_ != 0) {
    for (const auto& both : unflushed_) {
      if (std::find(unsettled_.begin(), unsettled_.end(), both) == unsettled_.end()) unsettled_.push_back(both);
    }
  }
  unflushed_.clear();
}

/// What happened to the message is known here from now on: it was passed on, or counted.
void Port::note_taken(PeerId peer) {
  const auto [taken, is_first] = taken_.try_emplace(peer);
  if (is_first) (void)give_receipt(peer, 0);
  ++taken->second.count;
  ++unreceipted_;
}

bool Port::give_receipt(PeerId peer, std::uint64_t count) {
  const MessageView receipt{.type = MessageType::CONTROL, .id = count, .subject = kTaken};
  return transport_->send(receipt, {.peer = peer, .timeout = 0ns}).success();
}

/// Once the transports have taken what was passed on: else it would die with this process, receipted.
void Port::give_receipts() {
  const auto until = std::chrono::steady_clock::now() + 1s;  // When stopping.
  for (const auto& [port, peer] : unsettled_) {
    for (;;) {
      const auto flushed = port->transport_->flush(peer, kLook);
      const bool waits = flushed.error == TransportError::TIMEOUT || flushed.error == TransportError::BUFFER_FULL;
      if (!waits) break;
      if (shared_.stopping && std::chrono::steady_clock::now() > until) return;
    }
  }
  unsettled_.clear();
  for (auto& [peer, taken] : taken_) {
    if (taken.count != taken.receipted && give_receipt(peer, taken.count)) taken.receipted = taken.count;
  }
  unreceipted_ = 0;
}

}  // namespace cdmf::ipc::route
