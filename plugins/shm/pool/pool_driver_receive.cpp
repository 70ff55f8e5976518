// The receiver's half: a consumer's messages, and for both roles the coming and going of the other side.
#include <algorithm>
#include <utility>

#include "checksum.h"
#include "pool/pool_driver.h"
#include "wait/futex.h"

namespace cdmf::ipc::shm {
namespace {

constexpr std::uint64_t kDiscardLogNs = 1'000'000'000;

}  // namespace

/// Whether the link's end is due. A consumer's producers may be gone long before it has read what they sent.
inline bool PoolDriver::is_over(const PoolMembership& pool) const noexcept {
  if (ended_.load(std::memory_order_acquire) != CDMF_OK) return true;
  // In this order: who joins says so before it sends.
  return options_.is_server && pool.others() == 0 && pool.is_empty() && pool.is_current();
}

bool PoolDriver::has_input(const PoolMembership& pool) const noexcept {
  if (!pool.is_current() || pool.has_returned()) return true;
  if (peer_.load(std::memory_order_relaxed) != CDMF_NO_PEER) {
    if (!announced_ || is_over(pool)) return true;
  } else if (!options_.is_server || pool.broken() != MpmcFault::none) {
    return false;
  } else if (pool.others() != 0) {
    return true;
  }
  return options_.is_server && pool.has_message();
}

std::size_t PoolDriver::receive_burst(cdmf_view* views, std::size_t capacity) {
  PoolMembership* const current = current_.load(std::memory_order_relaxed);
  if (current == nullptr || capacity == 0) return 0;
  PoolMembership& pool = *current;
  if (!pool.is_current()) [[unlikely]]
    look_at_members(pool);
  if (pool.has_returned()) [[unlikely]]
    pool.collect_returned();
  if (peer_.load(std::memory_order_relaxed) == CDMF_NO_PEER) [[unlikely]] {
    if (!options_.is_server || pool.broken() != MpmcFault::none || (pool.others() == 0 && !pool.has_message()))
      return 0;
    begin_link();
  }
  std::size_t count = 0;
  if (!announced_) [[unlikely]] {
    announced_ = true;
    views[count] = {};
    views[count].kind = CDMF_VIEW_PEER_CONNECTED;
    views[count++].peer = last_peer_;
  }
  if (options_.is_server && ended_.load(std::memory_order_relaxed) == CDMF_OK && count < capacity) {
    count += receive_messages(pool, views + count, capacity - count);
  }
  if (burst_size_ == 0 && count < capacity && is_over(pool)) [[unlikely]]
    finish_link(pool, views[count++]);
  return count;
}

/// How many messages to take at once: half of a fair share of what waits, so that consumers that come a little later
/// find some as well, and a death takes few along; all, when nobody shares.
inline std::size_t PoolDriver::share_of(const PoolMembership& pool, std::size_t capacity) const noexcept {
  const std::uint32_t consumers = pool.colleagues();
  if (consumers <= 1) return capacity;
  return std::clamp<std::uint64_t>(pool.backlog() / (2 * std::uint64_t{consumers}), 1, capacity);
}

/// 0 also when all of a burst was discarded: has_input() says that there may be more.
std::size_t PoolDriver::receive_messages(PoolMembership& pool, cdmf_view* views, std::size_t capacity) {
  const std::size_t wanted = std::min<std::size_t>(share_of(pool, capacity), burst_.size());
  const MpmcReceived received = pool.ring().receive_burst({burst_.data(), wanted});
  if (received.outcome == MpmcOutcome::fault) [[unlikely]] {
    pool.give_up(pool.ring().fault());
    end_link(CDMF_PROTOCOL_ERROR);
  }
  if (received.outcome != MpmcOutcome::done) return 0;
  // Once a lap: the line of the producers' tail is fetched for it.
  if (const std::uint64_t lap = pool.memory().lap_of(burst_[0].position); lap != lap_looked_at_) [[unlikely]] {
    lap_looked_at_ = lap;
    pool.note_high_water(pool.backlog() + received.count);
  }
  std::size_t count = 0;
  for (std::size_t i = 0; i < received.count; ++i) {
    const MpmcRecordView& record = burst_[i];
    if (!is_sound(pool, record)) [[unlikely]] {
      discard(pool, record);
      continue;
    }
    cdmf_view& view = views[count];
    burst_[count++] = record;
    view.frame = record.payload;
    view.size = record.payload_bytes;
    view.peer = last_peer_;
    view.token = record.position;
    view.timestamp_us = record.timestamp_us;
    view.kind = CDMF_VIEW_MESSAGE;
    view.reason = CDMF_OK;
    view.lost = 0;
  }
  burst_size_ = static_cast<std::uint32_t>(count);
  return count;
}

inline bool PoolDriver::is_sound(const PoolMembership& pool, const MpmcRecordView& record) const noexcept {
  // One comparison for both limits: 0 wraps round.
  return std::uint64_t{record.payload_bytes} - 1 < pool.plan().frame_size_max &&
         (!pool.plan().checksum || crc32_ieee(record.payload, record.payload_bytes) == record.checksum);
}

[[gnu::noinline]] void PoolDriver::discard(PoolMembership& pool, const MpmcRecordView& record) {
  pool.ring().release(record);
  pool.room().ring(1);
  ++discarded_;
  const std::uint64_t now = monotonic_now_ns();
  if (now < next_discard_log_ns_) return;
  next_discard_log_ns_ = now + kDiscardLogNs;
  host_.log(CDMF_LOG_ERROR, "shm: a message of ", record.payload_bytes, " bytes in the pool ", pool.address(),
            " does not match its checksum and is discarded (", discarded_, " so far)");
}

void PoolDriver::finish_link(PoolMembership& pool, cdmf_view& view) noexcept {
  const cdmf_status ended = ended_.load(std::memory_order_acquire);
  view = {};
  view.kind = CDMF_VIEW_PEER_DISCONNECTED;
  view.peer = last_peer_;
  view.reason = ended != CDMF_OK ? ended : pool.last_end();
  const std::uint64_t lost = pool.lost();
  view.lost = lost - std::exchange(lost_told_, lost) + discarded_;
  peer_.store(CDMF_NO_PEER, std::memory_order_release);
  if (!options_.is_server) pool.show(false);
}

void PoolDriver::release_burst() {
  if (burst_size_ == 0) return;
  PoolMembership& pool = *current_.load(std::memory_order_relaxed);
  pool.ring().release_all();
  pool.room().ring(std::exchange(burst_size_, 0));
}

cdmf_status PoolDriver::hold(cdmf_peer /*peer*/, std::uint64_t token, std::uint64_t& held) {
  const auto end = burst_.begin() + burst_size_;
  const auto record =
      std::find_if(burst_.begin(), end, [&](const MpmcRecordView& each) { return each.position == token; });
  if (record == end) return CDMF_INVALID_ARGUMENT;
  const std::shared_ptr<PoolMembership> here = pool();
  const std::lock_guard lock(held_mutex_);
  if (!here->ring().hold(*record)) return CDMF_RESOURCE_EXHAUSTED;
  held = ++last_held_;
  held_[held] = {here, token};
  return CDMF_OK;
}

void PoolDriver::unhold(std::uint64_t held) {
  Held kept;
  {
    const std::lock_guard lock(held_mutex_);
    const auto found = held_.find(held);
    if (found == held_.end()) return;
    kept = std::move(found->second);
    held_.erase(found);
  }
  kept.pool->unhold(kept.position);
}

// ---- Waiting
// ---------------------------------------------------------------------------------------------------------------

template <typename Done>
void PoolDriver::sleep(PoolMembership& pool, std::uint64_t deadline, Done&& done) noexcept {
  // Nobody's message is for a producer: it only hears of members that come and go.
  if (options_.is_server) {
    pool.messages().announce();
  } else {
    pool.messages().announce_unlisted();
  }
  if (!done()) pool.messages().sleep(deadline);
  pool.messages().stand_up();
}

cdmf_status PoolDriver::await_messages(std::uint64_t deadline) {
  const std::uint64_t began = message_interrupt_.count();
  if (message_interrupt_.take(began)) return CDMF_INTERRUPTED;
  PoolMembership* const pool = current_.load(std::memory_order_relaxed);
  const auto done = [&] { return (pool != nullptr && has_input(*pool)) || message_interrupt_.raised(began); };
  const auto outcome = [&] { return message_interrupt_.take(began) ? CDMF_INTERRUPTED : CDMF_OK; };
  if (done()) return outcome();
  if (deadline == kNoWait) return CDMF_TIMEOUT;

  if (!options_.may_sleep()) {
    return spin_until(kForever, deadline, options_.wait == WaitMode::yield, done) ? outcome() : CDMF_TIMEOUT;
  }
  // A producer has nothing to be quick for.
  if (const std::uint64_t spin =
          options_.wait == WaitMode::adaptive && spinning_helps_ && options_.is_server ? budget_.next(false) : 0;
      spin != 0) {
    if (spin_until(spin, deadline, false, done)) {
      budget_.paid();
      return outcome();
    }
    budget_.wasted();
  }
  for (;;) {
    if (pool != nullptr) {
      sleep(*pool, deadline, done);
    } else {
      idle_.store(kPoolAsleep, std::memory_order_relaxed);
      full_fence();  // ANNOUNCE: between `idle_` and the interrupt.
      if (!done()) futex_wait(idle_, kPoolAsleep, deadline);
    }
    if (done()) return outcome();
    if (deadline != kForever && monotonic_now_ns() >= deadline) return CDMF_TIMEOUT;
  }
}

}  // namespace cdmf::ipc::shm
