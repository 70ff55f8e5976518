#pragma once
// peer_table.h: the connected peers, and the one that a send without a peer means.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "ipc/message.h"

namespace cdmf::ipc {

class PeerTable {
 public:
  /// A client knows its server from attach(), before the driver reports it.
  void add(PeerId peer) {
    const std::lock_guard lock(mutex_);
    if (find(peer) == peers_.end()) peers_.push_back({peer, false});
    update();
  }
  /// The program is about to be told of it.
  void announce(PeerId peer) {
    const std::lock_guard lock(mutex_);
    auto found = find(peer);
    if (found == peers_.end()) found = peers_.insert(found, {peer, false});
    found->announced = true;
    update();
  }
  void remove(PeerId peer) {
    const std::lock_guard lock(mutex_);
    std::erase_if(peers_, [&](const Peer& each) { return each.id == peer; });
    update();
  }
  /// Empties the table; returns those that the program was told of.
  std::vector<PeerId> clear() {
    const std::lock_guard lock(mutex_);
    std::vector<PeerId> told;
    for (const Peer& peer : peers_) {
      if (peer.announced) told.push_back(peer.id);
    }
    peers_.clear();
    update();
    return told;
  }
  [[nodiscard]] std::vector<PeerId> all() const {
    const std::lock_guard lock(mutex_);
    std::vector<PeerId> ids;
    for (const Peer& peer : peers_) ids.push_back(peer.id);
    return ids;
  }
  [[nodiscard]] std::size_t count() const noexcept { return count_.load(std::memory_order_relaxed); }
  /// The only peer; kNoPeer when there are none or several. Relaxed: a sender that learns of a peer a moment later is
  /// told NOT_CONNECTED a moment longer; the driver checks the id anyway.
  [[nodiscard]] PeerId sole() const noexcept { return sole_.load(std::memory_order_relaxed); }

 private:
  struct Peer {
    PeerId id;
    bool announced;
  };
  [[nodiscard]] std::vector<Peer>::iterator find(PeerId peer) {
    return std::find_if(peers_.begin(), peers_.end(), [&](const Peer& each) { return each.id == peer; });
  }
  void update() noexcept {
    count_.store(peers_.size(), std::memory_order_relaxed);
    sole_.store(peers_.size() == 1 ? peers_.front().id : kNoPeer, std::memory_order_relaxed);
  }

  mutable std::mutex mutex_;
  std::vector<Peer> peers_;
  std::atomic<std::size_t> count_{0};
  std::atomic<PeerId> sole_{kNoPeer};
};

}  // namespace cdmf::ipc
