#pragma once
// link_table.h: the links of a driver, shared between its threads without a lock on the data path.
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "link.h"

namespace cdmf::ipc::shm {

/// The truth, under a mutex. A peer's id is a number never used before, with its slot in the low bits: finding a link
/// is one array access.
class LinkTable {
 public:
  static constexpr std::size_t kSlotsMax = 1u << 16;
  static std::size_t slot_of(cdmf_peer id) noexcept { return static_cast<std::size_t>(id % kSlotsMax); }

  /// An id for a new link; its slot stays taken until the link is added and removed, or the id is dropped.
  /// CDMF_NO_PEER: there are too many.
  cdmf_peer reserve() {
    const std::lock_guard lock(mutex_);
    std::size_t slot = 0;
    while (slot < taken_.size() && taken_[slot]) ++slot;
    if (slot == kSlotsMax) return CDMF_NO_PEER;
    if (slot == taken_.size()) {
      taken_.push_back(false);
      links_.emplace_back();
    }
    taken_[slot] = true;
    return ++sequence_ * kSlotsMax + slot;
  }
  void drop(cdmf_peer id) {
    const std::lock_guard lock(mutex_);
    taken_[slot_of(id)] = false;
  }
  void add(std::shared_ptr<Link> link) {
    const std::lock_guard lock(mutex_);
    links_[slot_of(link->id())] = std::move(link);
    version_.fetch_add(1, std::memory_order_release);
  }
  void remove(cdmf_peer id) {
    const std::lock_guard lock(mutex_);
    links_[slot_of(id)].reset();
    taken_[slot_of(id)] = false;
    version_.fetch_add(1, std::memory_order_release);
  }
  std::shared_ptr<Link> find(cdmf_peer id) const {
    const std::lock_guard lock(mutex_);
    const std::size_t slot = slot_of(id);
    return slot < links_.size() && links_[slot] && links_[slot]->id() == id ? links_[slot] : nullptr;
  }
  std::vector<std::shared_ptr<Link>> all() const {
    const std::lock_guard lock(mutex_);
    return links_;
  }
  /// The same, and the version that this is.
  std::vector<std::shared_ptr<Link>> all(std::uint64_t& version) const {
    const std::lock_guard lock(mutex_);
    version = version_.load(std::memory_order_relaxed);  // Changed under the mutex only.
    return links_;
  }
  std::uint64_t version() const noexcept { return version_.load(std::memory_order_acquire); }

 private:
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Link>> links_;  // By slot; null where none is.
  std::vector<bool> taken_;
  std::uint64_t sequence_ = 0;
  std::atomic<std::uint64_t> version_{0};
};

/// One role's own copy of the table, renewed when the table changed: one load per call otherwise. Keeps its links
/// alive.
class LinkSnapshot {
 public:
  bool is_current(const LinkTable& table) const noexcept { return version_ == table.version(); }
  /// Returns the links that the copy had before.
  std::vector<std::shared_ptr<Link>> renew(const LinkTable& table) {
    auto before = std::move(links_);
    links_ = table.all(version_);
    return before;
  }
  Link* find(cdmf_peer id) const noexcept {
    const std::size_t slot = LinkTable::slot_of(id);
    return slot < links_.size() && links_[slot] && links_[slot]->id() == id ? links_[slot].get() : nullptr;
  }
  const std::vector<std::shared_ptr<Link>>& links() const noexcept { return links_; }  // Some are null.

 private:
  std::uint64_t version_ = UINT64_MAX;
  std::vector<std::shared_ptr<Link>> links_;
};

}  // namespace cdmf::ipc::shm
