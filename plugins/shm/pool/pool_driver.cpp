// Life of the driver, and sending. Receiving and waiting: pool_driver_receive.cpp.
#include "pool/pool_driver.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "checksum.h"
#include "wait/bell.h"
#include "wait/futex.h"

namespace cdmf::ipc::shm {

PoolDriver::PoolDriver(const DriverConfig& config, PluginHost host)
    : options_(config),
      host_(host),
      budget_(options_.spin_budget_ns),
      spinning_helps_(sysconf(_SC_NPROCESSORS_ONLN) > 1) {}

PoolDriver::~PoolDriver() { PoolDriver::close(); }

std::shared_ptr<PoolMembership> PoolDriver::pool() {
  const std::lock_guard lock(pools_mutex_);
  return pool_;
}

void PoolDriver::enter(std::shared_ptr<PoolMembership> pool) {
  lost_told_ = pool->lost();
  const std::lock_guard lock(pools_mutex_);
  if (pool_) replaced_.push_back(std::move(pool_));
  pool_ = std::move(pool);
  current_.store(pool_.get(), std::memory_order_release);
}

/// Turns to the pool that attach() has joined, and leaves those before it: a sender may be at work in a pool whenever
/// attach() replaces it, so that this is the sender's part.
[[gnu::noinline]] void PoolDriver::move_on() noexcept {
  if (unrung_ != 0) sending_->messages().ring(std::exchange(unrung_, 0));
  std::vector<std::shared_ptr<PoolMembership>> left;
  {
    const std::lock_guard lock(pools_mutex_);
    left.swap(replaced_);
    sending_ = pool_.get();
  }
  retire(left);
}

/// The pool to claim in, while there is a link.
inline PoolMembership& PoolDriver::sending_pool() noexcept {
  if (sending_ != current_.load(std::memory_order_relaxed)) [[unlikely]]
    move_on();
  return *sending_;
}

/// Leaves pools, or lets each be left with the last that is claimed or held of it. Nobody sends or receives there.
void PoolDriver::retire(const std::vector<std::shared_ptr<PoolMembership>>& left) noexcept {
  for (const std::shared_ptr<PoolMembership>& each : left) {
    if (each->claim_open) {
      const std::lock_guard lock(pools_mutex_);
      leftover_.push_back(each);
    }
    each->retire();
  }
}

/// Nobody sends or receives.
void PoolDriver::retire_all() noexcept {
  std::vector<std::shared_ptr<PoolMembership>> left;
  {
    const std::lock_guard lock(pools_mutex_);
    left.swap(replaced_);
    if (pool_) left.push_back(std::move(pool_));
    pool_ = nullptr;
    current_.store(nullptr, std::memory_order_release);
  }
  sending_ = nullptr;
  retire(left);
}

void PoolDriver::forget(const PoolMembership& pool) noexcept {
  const std::lock_guard lock(pools_mutex_);
  std::erase_if(leftover_, [&](const std::shared_ptr<PoolMembership>& each) { return each.get() == &pool; });
}

// ---- Life
// ------------------------------------------------------------------------------------------------------------------

cdmf_status PoolDriver::open(ErrorText& error) {
  if (is_open_) return CDMF_ALREADY_INITIALIZED;
  if (options_.is_server) {
    std::shared_ptr<PoolMembership> joined;
    if (const cdmf_status status = PoolMembership::join(options_, host_, joined, error); status != CDMF_OK)
      return status;
    enter(std::move(joined));
  }
  is_open_ = true;
  return CDMF_OK;
}

cdmf_status PoolDriver::attach(std::uint64_t /*deadline: nothing to wait for*/, cdmf_peer& peer, ErrorText& error) {
  if (!is_open_) return error.fail(CDMF_NOT_INITIALIZED, 0, "shm: not open");
  if (options_.is_server) {
    return error.fail(CDMF_UNSUPPORTED, 0, "shm: a consumer waits for producers, it does not attach");
  }
  if (peer_.load(std::memory_order_relaxed) != CDMF_NO_PEER) {
    return error.fail(CDMF_ALREADY_INITIALIZED, 0, "shm: already attached");
  }
  PoolMembership* current = current_.load(std::memory_order_relaxed);
  if (current != nullptr && !current->is_the_pool()) {
    // The sender may be at work in it: the memory stays until it moves on.
    if (current->broken() != MpmcFault::none) current->give_up_place();
    current = nullptr;
  }
  if (current == nullptr) {
    std::shared_ptr<PoolMembership> joined;
    if (const cdmf_status status = PoolMembership::join(options_, host_, joined, error); status != CDMF_OK)
      return status;
    current = joined.get();
    enter(std::move(joined));
  } else {
    current->look();
    if (current->others() == 0) {
      return error.fail(CDMF_ENDPOINT_NOT_FOUND, 0, "shm: no consumer is in the pool ", current->address(),
                        "; start one (role: server). What was sent before waits for it there");
    }
    current->show(true);
  }
  peer = begin_link();
  // The last consumer may have gone before there was a link to end, and somebody may have looked since. Whoever looks
  // after this look, finds the link.
  look_at_members(*current);
  return CDMF_OK;
}

cdmf_peer PoolDriver::begin_link() noexcept {
  announced_ = false;
  discarded_ = 0;
  ended_.store(CDMF_OK, std::memory_order_relaxed);
  peer_.store(++last_peer_, std::memory_order_release);
  return last_peer_;
}

void PoolDriver::end_link(cdmf_status reason) noexcept {
  cdmf_status none = CDMF_OK;
  ended_.compare_exchange_strong(none, reason, std::memory_order_acq_rel);
}

/// CDMF_OK: messages can be sent to that peer.
inline cdmf_status PoolDriver::link_state(cdmf_peer peer) const noexcept {
  if (peer == CDMF_NO_PEER || peer != peer_.load(std::memory_order_acquire)) return CDMF_NOT_CONNECTED;
  return ended_.load(std::memory_order_acquire);
}

/// Notices what a change of the members means for the link. [any]
void PoolDriver::look_at_members(PoolMembership& pool) noexcept {
  pool.look();
  if (&pool != current_.load(std::memory_order_acquire)) return;  // A sender that still waits for one that was left.
  if (pool.broken() != MpmcFault::none) {
    end_link(CDMF_PROTOCOL_ERROR);
  } else if (!options_.is_server && pool.others() == 0 && peer_.load(std::memory_order_acquire) != CDMF_NO_PEER) {
    end_link(pool.last_end());
  }
}

cdmf_status PoolDriver::disconnect(cdmf_peer peer, cdmf_status reason) {
  if (const cdmf_status state = link_state(peer); state != CDMF_OK) return CDMF_NOT_CONNECTED;
  if (options_.is_server) return CDMF_UNSUPPORTED;  // The producers are not a consumer's to send away.
  end_link(reason);
  if (const auto here = pool()) here->kick();
  return CDMF_OK;
}

void PoolDriver::close() {
  if (!is_open_) return;
  is_open_ = false;
  if (unrung_ != 0) sending_->messages().ring(std::exchange(unrung_, 0));
  release_burst();
  retire_all();
  peer_.store(CDMF_NO_PEER, std::memory_order_release);
  ended_.store(CDMF_OK, std::memory_order_relaxed);
}

void PoolDriver::describe(cdmf_info& info) {
  const std::shared_ptr<PoolMembership> joined = pool();
  const PoolPlan plan = joined ? joined->plan() : options_.plan;
  info.capabilities = CDMF_CAP_INTER_PROCESS | CDMF_CAP_ZERO_COPY_SEND | CDMF_CAP_ZERO_COPY_RECEIVE | CDMF_CAP_HOLD |
                      CDMF_CAP_SURVIVES_SENDER | CDMF_CAP_ONE_WAY | CDMF_CAP_POOL;
  if (options_.timestamp) info.capabilities |= CDMF_CAP_TIMESTAMP;
  info.frame_size_max = plan.frame_size_max;
  info.buffer_bytes = std::uint64_t{plan.ring_capacity} * plan.slot_size;
  const std::lock_guard lock(describe_mutex_);
  address_ = joined ? joined->address() : "posix " + options_.endpoint + " (not in a pool now)";
  detail_ = std::string("pool, wait ") + kWaitChoices[static_cast<std::size_t>(options_.wait)] + ", checksum " +
            (plan.checksum ? "crc32" : "none") + ", timestamp " + (options_.timestamp ? "on" : "off") + ", " +
            std::to_string(plan.ring_capacity) + " slots of " + std::to_string(plan.slot_size) + " bytes";
  if (joined) {
    const std::uint32_t own = joined->colleagues();
    const std::uint32_t others = joined->others();
    detail_ += ", " + std::to_string(options_.is_server ? others : own) + " producers, " +
               std::to_string(options_.is_server ? own : others) + " consumers";
  }
  info.address = address_.c_str();
  info.detail = detail_.c_str();
}

// ---- Sending
// ---------------------------------------------------------------------------------------------------------------

cdmf_status PoolDriver::claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) {
  if (const cdmf_status state = link_state(peer); state != CDMF_OK) [[unlikely]]
    return state;
  if (options_.is_server) return CDMF_UNSUPPORTED;
  PoolMembership& pool = sending_pool();
  if (pool.claim_open) return CDMF_RESOURCE_EXHAUSTED;
  if (size > pool.plan().frame_size_max) return CDMF_BUFFER_OVERFLOW;
  if (size == 0) return CDMF_INVALID_ARGUMENT;
  switch (pool.ring().claim()) {
    case MpmcOutcome::done:
      break;
    case MpmcOutcome::unavailable:
    case MpmcOutcome::blocked:
      // Those that could make room must know of what they have not been told yet.
      if (unrung_ != 0) pool.messages().ring(std::exchange(unrung_, 0));
      return CDMF_BUFFER_FULL;
    case MpmcOutcome::fault:
      pool.give_up(pool.ring().fault());
      end_link(CDMF_PROTOCOL_ERROR);
      return CDMF_PROTOCOL_ERROR;
  }
  pool.claim_open = true;
  loan.memory = pool.ring().payload().data();
  loan.size = size;
  loan.peer = peer;
  loan.token = reinterpret_cast<std::uintptr_t>(&pool);
  return CDMF_OK;
}

cdmf_status PoolDriver::commit(const cdmf_loan& loan, std::size_t size, bool flush) {
  PoolMembership& pool = *reinterpret_cast<PoolMembership*>(static_cast<std::uintptr_t>(loan.token));
  const cdmf_status state = pool.retired() ? CDMF_CONNECTION_CLOSED : link_state(loan.peer);
  if (state != CDMF_OK || size == 0 || size > loan.size) [[unlikely]] {
    PoolDriver::abort(loan);
    return state == CDMF_NOT_CONNECTED ? CDMF_CONNECTION_CLOSED : state != CDMF_OK ? state : CDMF_INVALID_ARGUMENT;
  }
  const std::uint32_t checksum = pool.plan().checksum ? crc32_ieee(loan.memory, size) : 0;
  pool.ring().commit(static_cast<std::uint32_t>(size), options_.timestamp ? clock_.now_us() : 0, checksum);
  pool.claim_open = false;
  ++unrung_;
  if (flush) pool.messages().ring(std::exchange(unrung_, 0));
  return CDMF_OK;
}

void PoolDriver::abort(const cdmf_loan& loan) {
  PoolMembership& pool = *reinterpret_cast<PoolMembership*>(static_cast<std::uintptr_t>(loan.token));
  if (pool.retired()) {
    pool.end_late_claim();
    forget(pool);
    return;
  }
  pool.ring().abort();
  pool.claim_open = false;
  pool.messages().ring(1);  // For what others have sent behind it.
}

cdmf_status PoolDriver::flush(cdmf_peer peer, std::uint64_t /*deadline: nothing to wait for*/) {
  if (peer != CDMF_NO_PEER) {
    if (const cdmf_status state = link_state(peer); state != CDMF_OK) return state;
  }
  if (unrung_ != 0) sending_->messages().ring(std::exchange(unrung_, 0));
  return CDMF_OK;
}

cdmf_status PoolDriver::await_space(cdmf_peer peer, std::size_t size, std::uint64_t deadline) {
  const std::uint64_t began = space_interrupt_.count();
  if (space_interrupt_.take(began)) return CDMF_INTERRUPTED;
  const std::shared_ptr<PoolMembership> joined = pool();
  if (joined == nullptr) return CDMF_NOT_CONNECTED;
  if (const cdmf_status state = link_state(peer); state != CDMF_OK) return state;
  if (options_.is_server) return CDMF_UNSUPPORTED;
  PoolMembership& pool = *joined;
  if (size > pool.plan().frame_size_max) return CDMF_BUFFER_OVERFLOW;
  const auto done = [&] {
    if (!pool.is_current()) look_at_members(pool);
    return space_interrupt_.raised(began) || link_state(peer) != CDMF_OK || pool.has_room();
  };
  const auto outcome = [&] { return space_interrupt_.take(began) ? CDMF_INTERRUPTED : link_state(peer); };
  if (done()) return outcome();
  if (deadline == kNoWait) return CDMF_TIMEOUT;
  const std::uint64_t spin_ns = !options_.may_sleep()                                    ? kForever
                                : options_.wait == WaitMode::adaptive && spinning_helps_ ? options_.spin_budget_ns
                                                                                         : 0;
  if (spin_ns != 0 && spin_until(spin_ns, deadline, options_.wait == WaitMode::yield, done)) return outcome();

  // Several threads may be here. The member's word is theirs together: the last to leave takes it back.
  struct Waiting {
    explicit Waiting(PoolDriver& owner, PoolMembership& where) : driver(owner), pool(where) {
      const std::lock_guard lock(driver.waiters_mutex_);
      ++driver.waiters_;
    }
    ~Waiting() {
      const std::lock_guard lock(driver.waiters_mutex_);
      if (--driver.waiters_ == 0) pool.room().stand_up();
    }
    PoolDriver& driver;
    PoolMembership& pool;
  } const waiting(*this, pool);
  for (;;) {
    if (deadline != kForever && monotonic_now_ns() >= deadline) return CDMF_TIMEOUT;
    pool.room().announce();
    if (done()) return outcome();
    pool.count_space_wait();
    pool.room().sleep(deadline);
    if (done()) return outcome();
  }
}

void PoolDriver::interrupt() {
  message_interrupt_.raise();
  space_interrupt_.raise();
  if (const auto here = pool()) here->kick();
  full_fence();  // ANNOUNCE: between the interrupt and `idle_`.
  wake_own(idle_);
}

}  // namespace cdmf::ipc::shm
