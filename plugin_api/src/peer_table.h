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
  /// False when it was there already (a client knows its server from attach() before the driver reports it).
  bool add(PeerId peer) {
    const std::lock_guard lock(mutex_);
    if (std::find(peers_.begin(), peers_.end(), peer) != peers_.end()) return false;
    peers_.push_back(peer);
    update();
    return true;
  }
  bool remove(PeerId peer) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find(peers_.begin(), peers_.end(), peer);
    if (found == peers_.end()) return false;
    peers_.erase(found);
    update();
    return true;
  }
  /// Empties the table; returns who was in it.
  std::vector<PeerId> clear() {
    const std::lock_guard lock(mutex_);
    std::vector<PeerId> gone;
    gone.swap(peers_);
    update();
    return gone;
  }
  [[nodiscard]] std::vector<PeerId> all() const {
    const std::lock_guard lock(mutex_);
    return peers_;
  }
  [[nodiscard]] std::size_t count() const noexcept { return count_.load(std::memory_order_relaxed); }
  /// The only peer; kNoPeer when there are none or several. Relaxed: a sender that learns of a peer a moment later is
  /// told NOT_CONNECTED a moment longer; the driver checks the id anyway.
  [[nodiscard]] PeerId sole() const noexcept { return sole_.load(std::memory_order_relaxed); }

 private:
  void update() noexcept {
    count_.store(peers_.size(), std::memory_order_relaxed);
    sole_.store(peers_.size() == 1 ? peers_.front() : kNoPeer, std::memory_order_relaxed);
  }

  mutable std::mutex mutex_;
  std::vector<PeerId> peers_;
  std::atomic<std::size_t> count_{0};
  std::atomic<PeerId> sole_{kNoPeer};
};

}  // namespace cdmf::ipc
