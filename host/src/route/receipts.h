#pragma once
// route/receipts.h: how a host knows what is lost when the host behind a link dies. A transport knows only what it
// still has itself; what the other process had taken and not passed on yet dies with it.
//
// So hosts tell each other: who gets messages with hops, which only a host sends, says now and then how many of them it
// has passed on and the next transport has taken: a CONTROL message, subject kTaken, id: their number on this link.
// Between two of those at most kTakenMax messages or kTakenEvery pass. What was given and not receipted when a link
// ends is counted as lost: at least what is lost, and at most that much more. Requests are not counted, as their answer
// is their receipt. The first receipt, of nothing, answers the first message: until it is here, a host is counted like
// a program.
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string_view>

#include "ipc/message.h"

namespace cdmf::ipc::route {

inline constexpr std::string_view kTaken = "cdmf.taken";
inline constexpr std::uint64_t kTakenMax = 256;
inline constexpr std::chrono::milliseconds kTakenEvery{10};

/// Of the peers of one transport. Any thread may call anything.
class Receipts {
 public:
  /// Before a message is sent, so that no receipt can come earlier than that; and after one that was not sent.
  void giving(PeerId peer) { add(peer, 1); }
  void not_given(PeerId peer) { add(peer, ~std::uint64_t{0}); }
  void taken(PeerId peer, std::uint64_t count) {
    const std::lock_guard lock(mutex_);
    Link& link = links_[peer];
    link.receipts = true;
    link.taken = count < link.given ? count : link.given;
  }
  /// Peers that give receipts.
  [[nodiscard]] std::uint64_t hosts() const {
    const std::lock_guard lock(mutex_);
    std::uint64_t count = 0;
    for (const auto& [peer, link] : links_) count += link.receipts ? 1 : 0;
    return count;
  }
  /// The link has ended. in_transport: what the transport knows to be lost, all there is to know of a peer that gives
  /// no receipts.
  std::uint64_t lost(PeerId peer, std::uint64_t in_transport) {
    const std::lock_guard lock(mutex_);
    const auto found = links_.find(peer);
    if (found == links_.end()) return in_transport;
    const Link link = found->second;
    links_.erase(found);
    return link.receipts ? link.given - link.taken : in_transport;
  }

 private:
  struct Link {
    std::uint64_t given = 0;
    std::uint64_t taken = 0;
    bool receipts = false;
  };
  void add(PeerId peer, std::uint64_t count) {
    const std::lock_guard lock(mutex_);
    const auto link = links_.try_emplace(peer).first;
    link->second.given += count;
    if (link->second.given == 0 && !link->second.receipts) links_.erase(link);  // It may have ended before.
  }

  mutable std::mutex mutex_;
  std::map<PeerId, Link> links_;
};

}  // namespace cdmf::ipc::route
