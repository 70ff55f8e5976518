#include "pool/pool_membership.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include "wait/futex.h"

namespace cdmf::ipc::shm {
namespace {

constexpr int kJoinTurnsMax = 500;  // Of a millisecond: makers and leavers are quick.
constexpr unsigned kLooksMax = 64;

bool is_role(const PoolMemory& memory, std::uint32_t index, PoolRole role) noexcept {
  return memory.member(index).role.load(std::memory_order_relaxed) == static_cast<std::uint32_t>(role);
}

bool has_consumer(const PoolMemory& memory, const NamedObject& object) noexcept {
  for (std::uint32_t index = 0; index < kPoolMembersMax; ++index) {
    if (mpmc_attached(memory.ring().participant(index).state.load(std::memory_order_acquire)) &&
        is_role(memory, index, PoolRole::consumer) && object.is_locked_by_another(index)) {
      return true;
    }
  }
  return false;
}

/// Copies the header, once, and checks that everything in it can be.
cdmf_status read_header(const NamedObject& object, PoolPlan& plan, std::int32_t& creator_pid, ErrorText& error) {
  const PoolHeader header = reinterpret_cast<const PoolControl*>(object.memory())->header;
  const std::string& name = object.name();
  if (header.kind != kPoolKind) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the object ", name,
                      " is no pool; set the same 'ring_type' on all sides, or change 'endpoint'");
  }
  if (header.version != kPoolVersion) {
    return error.fail(CDMF_VERSION_MISMATCH, 0, "shm: the pool ", name, " has layout ", header.version,
                      ", this side has ", kPoolVersion, "; use the same version of cdmf on all sides");
  }
  creator_pid = header.creator_pid;
  if (!read_pool_plan(header, object.size(), plan)) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the header of the pool ", name,
                      " does not make sense; stop its members, then remove it");
  }
  return CDMF_OK;
}

}  // namespace

// ---- Joining
// ------------------------------------------------------------------------------------------------------------

cdmf_status PoolMembership::find(const PoolOptions& options, const std::string& name, NamedObject& object,
                                 PoolPlan& plan, ErrorText& error) {
  const NamedObject::Terms terms{.access = options.access, .mark_offset = 0};
  for (int turn = 0;; ++turn) {
    cdmf_status status = NamedObject::open(name, kPoolRingOffset, terms, NamedObject::Presence::yes, object, error);
    if (status == CDMF_OK) {
      std::int32_t creator_pid = 0;
      if (status = read_header(object, plan, creator_pid, error); status != CDMF_OK) return status;
      const PoolMemory memory(object.memory(), plan);
      if (memory.control().broken.load(std::memory_order_relaxed) != 0) {
        return error.fail(CDMF_CONNECTION_FAILED, 0, "shm: the pool ", name,
                          " is broken; stop its members, the last of which removes it");
      }
      if (!options.is_server && !has_consumer(memory, object)) {
        return error.fail(CDMF_ENDPOINT_NOT_FOUND, 0, "shm: no consumer is in the pool ", name,
                          "; start one (role: server)");
      }
      return options.agree(plan, name.c_str(), creator_pid, error);
    }
    if (status != CDMF_ENDPOINT_NOT_FOUND || !options.is_server) return status;
    plan = options.plan;
    status = NamedObject::create(
        name, plan.total_size(), terms, [&](std::byte* memory) { lay_out_pool(memory, plan); }, object, error);
    // In use: by another consumer that was faster. Then it can be opened; and if not, its text is the one to tell.
    if (status != CDMF_ENDPOINT_IN_USE || turn == kJoinTurnsMax) return status;
    usleep(1000);
  }
}

/// Locks a line that is free, or that only the dead still use.
cdmf_status PoolMembership::take_line(const PoolPlan& plan, NamedObject& object, std::uint32_t& index,
                                      ErrorText& error) {
  const PoolMemory memory(object.memory(), plan);
  const auto is_dead = [&](std::uint32_t each, std::uint64_t) { return !object.is_locked_by_another(each); };
  const auto in_use = [&] {
    return mpmc_attached(memory.ring().participant(index).state.load(std::memory_order_acquire));
  };
  for (const bool among_dead : {false, true}) {
    for (index = 0; index < kPoolMembersMax; ++index) {
      if (in_use() != among_dead || !object.try_lock(index)) continue;
      // Another member may be settling the same; a live one in its way withdraws in a moment, a stopped one does not.
      for (int turn = 0; in_use() && turn < 100; ++turn) {
        const MpmcRecovery recovery =
            mpmc_recover(memory.ring(), MpmcRecoverer<MpmcRecordMemory, decltype(is_dead)>::kNobody, is_dead);
        if (recovery.fault != MpmcFault::none) {
          return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the pool ", object.name(),
                            " is broken: ", to_string(recovery.fault), "; stop its members, then remove it");
        }
        if (recovery.waiting != 0) sched_yield();
      }
      if (!in_use()) return CDMF_OK;
      object.unlock(index);
    }
  }
  return error.fail(CDMF_RESOURCE_EXHAUSTED, 0, "shm: the pool ", object.name(), " has ", kPoolMembersMax,
                    " members, the most it can");
}

cdmf_status PoolMembership::join(const PoolOptions& options, PluginHost host, std::shared_ptr<PoolMembership>& joined,
                                 ErrorText& error) {
  std::string name;
  if (const cdmf_status status =
          object_name(options.endpoint.c_str(), std::char_traits<char>::length(kPoolSuffix), name, error);
      status != CDMF_OK) {
    return status;
  }
  name += kPoolSuffix;
  NamedObject object;
  PoolPlan plan;
  std::uint32_t index = 0;
  if (const cdmf_status status = find(options, name, object, plan, error); status != CDMF_OK) return status;
  if (const cdmf_status status = take_line(plan, object, index, error); status != CDMF_OK) return status;
  const PoolRole role = options.is_server ? PoolRole::consumer : PoolRole::producer;
  std::shared_ptr<PoolMembership> membership(new PoolMembership(host, role, plan, std::move(object), index));
  if (!membership->ring_.attach()) {
    return error.fail(CDMF_CONNECTION_FAILED, 0, "shm: line ", index, " of the pool ", name, " cannot be taken");
  }
  membership->announce_change();
  membership->look();
  if (const cdmf_status status = membership->watch_.start(error); status != CDMF_OK) return status;
  joined = std::move(membership);
  return CDMF_OK;
}

PoolMembership::PoolMembership(PluginHost host, PoolRole role, const PoolPlan& plan, NamedObject object,
                               std::uint32_t index) noexcept
    : host_(host),
      role_(role),
      plan_(plan),
      object_(std::move(object)),
      memory_(object_.memory(), plan),
      ring_(memory_.ring(), index),
      messages_(memory_, &PoolControl::consumers, &PoolMember::receiver, index),
      room_(memory_, &PoolControl::producers, &PoolMember::sender, index),
      watch_(*this, memory_, index),
      lines_(kPoolMembersMax) {
  PoolMember& own = memory_.member(index);
  // Published by attach(): LINE.
  own.role.store(static_cast<std::uint32_t>(role), std::memory_order_relaxed);
  own.pid.store(getpid(), std::memory_order_relaxed);
  messages_.stand_up();
  room_.stand_up();
}

PoolMembership::~PoolMembership() { leave(); }

void PoolMembership::announce_change() noexcept {
  memory_.control().changes.fetch_add(1, std::memory_order_acq_rel);
  messages_.ring_all();
  room_.ring_all();
}

void PoolMembership::leave() noexcept {
  if (std::exchange(left_, true)) return;
  watch_.stop();
  if (ring_.attached()) {
    ring_.detach();
    messages_.stand_up();
    room_.stand_up();
    announce_change();
    const std::uint64_t left_behind = backlog();
    if (left_behind != 0 && object_ && !object_.is_held_by_another()) {
      host_.log(CDMF_LOG_WARNING, "shm: the last member leaves the pool ", object_.name(), ", and ", left_behind,
                " messages in it are lost");
    }
  }
  give_up_place();
}

void PoolMembership::give_up_place() noexcept {
  if (!object_) return;
  watch_.stop();
  left_mapping_ = object_.take_mapping();
  object_.close();
}

// ---- The ring
// -----------------------------------------------------------------------------------------------------------

bool PoolMembership::has_message() const noexcept {
  const MpmcRecordMemory& ring = memory_.ring();
  for (unsigned look = 0; look < kLooksMax; ++look) {
    const std::uint64_t head = ring.head().load(std::memory_order_acquire);           // CLAIMED
    const std::uint64_t word = ring.slot(head).word.load(std::memory_order_acquire);  // FILLED
    const std::uint64_t lap = ring.lap_of(head);
    if (word == mpmc_word(lap, MpmcSlotState::full) || word == mpmc_word(lap, MpmcSlotState::tomb)) return true;
    // Somebody has received it in between: there may be another one behind.
    if (ring.head().load(std::memory_order_acquire) == head) return false;
  }
  return true;
}

bool PoolMembership::has_room() const noexcept {
  const MpmcRecordMemory& ring = memory_.ring();
  for (unsigned look = 0; look < kLooksMax; ++look) {
    const std::uint64_t tail = ring.tail().load(std::memory_order_acquire);           // CLAIMED
    const std::uint64_t word = ring.slot(tail).word.load(std::memory_order_acquire);  // FREED
    const std::uint64_t lap = ring.lap_of(tail);
    if (word == mpmc_word(lap, MpmcSlotState::empty)) return true;
    if (mpmc_lap(word) + 1 == lap && mpmc_is_lost(mpmc_state(word))) return true;  // A claim will finish the loss.
    if (ring.tail().load(std::memory_order_acquire) == tail) return false;
  }
  return true;
}

bool PoolMembership::is_empty() const noexcept {
  const std::uint64_t head = memory_.ring().head().load(std::memory_order_acquire);
  return memory_.ring().tail().load(std::memory_order_acquire) == head;
}

std::uint64_t PoolMembership::backlog() const noexcept {
  const std::uint64_t head = memory_.ring().head().load(std::memory_order_relaxed);
  const std::uint64_t tail = memory_.ring().tail().load(std::memory_order_relaxed);
  return tail > head ? tail - head : 0;
}

void PoolMembership::give_up(MpmcFault fault) noexcept {
  std::uint32_t none = 0;
  if (!memory_.control().broken.compare_exchange_strong(none, 1 + static_cast<std::uint32_t>(fault))) return;
  host_.log(CDMF_LOG_ERROR, "shm: the pool ", object_.name(), " is broken: ", to_string(fault),
            "; its members stop using it. Start all of them again");
  announce_change();
}

MpmcFault PoolMembership::broken() const noexcept {
  const std::uint32_t word = memory_.control().broken.load(std::memory_order_relaxed);
  return word == 0 ? MpmcFault::none : static_cast<MpmcFault>(word - 1);
}

// ---- Who is there
// -------------------------------------------------------------------------------------------------------

void PoolMembership::look() noexcept {
  const std::lock_guard lock(census_mutex_);
  look_again_.store(false, std::memory_order_seq_cst);
  const std::uint32_t now = memory_.control().changes.load(std::memory_order_acquire);
  std::uint32_t counts[2] = {};  // Ours, others.
  bool ended = false;
  bool died = false;
  for (std::uint32_t index = 0; index < kPoolMembersMax; ++index) {
    Line& line = lines_[index];
    const std::uint64_t state = memory_.ring().participant(index).state.load(std::memory_order_acquire);  // LINE
    const auto latest_role = static_cast<PoolRole>(memory_.member(index).role.load(std::memory_order_acquire));
    const PoolRole role = mpmc_attached(state) ? latest_role : PoolRole::none;
    const bool death = mpmc_deaths(state) != mpmc_deaths(line.state);
    // The second: it came and died between two looks.
    if ((line.role == other_role() && (state != line.state || role != line.role)) ||
        (death && latest_role == other_role())) {
      ended = true;
      died |= death;
    }
    line = {state, role};
    counts[0] += role == role_ ? 1 : 0;
    counts[1] += role == other_role() ? 1 : 0;
  }
  if (ended) last_end_.store(died ? CDMF_PEER_DIED : CDMF_CONNECTION_CLOSED, std::memory_order_relaxed);
  colleagues_.store(counts[0], std::memory_order_relaxed);
  others_.store(counts[1], std::memory_order_relaxed);
  if (seen_.exchange(now, std::memory_order_release) != now) watch_.poke();
}

std::uint64_t PoolMembership::lost() noexcept {
  // The watch may be late, on a busy machine: whoever is told of an end is to be told of all that was lost before it.
  for (std::uint32_t index = 0; object_ && index < kPoolMembersMax; ++index) {
    const std::uint64_t state = memory_.ring().participant(index).state.load(std::memory_order_acquire);  // LINE
    if (index == ring_.index() || !mpmc_attached(state) || is_alive(index)) continue;
    (void)bury_the_dead();
    break;
  }
  const std::lock_guard lock(census_mutex_);
  std::uint64_t deaths = 0;
  for (std::uint32_t index = 0; index < kPoolMembersMax; ++index) {
    deaths += mpmc_deaths(memory_.ring().participant(index).state.load(std::memory_order_acquire));
  }
  // Losses come with deaths, and are counted before a death is.
  if (deaths != deaths_counted_) {
    lost_counted_ = ring_.counters().lost;
    deaths_counted_ = deaths;
  }
  return lost_counted_;
}

void PoolMembership::show(bool visible) noexcept {
  // Release: who sees it unseen, sees what it had sent.
  memory_.member(ring_.index())
      .role.store(static_cast<std::uint32_t>(visible ? role_ : PoolRole::none), std::memory_order_release);
  announce_change();
}

void PoolMembership::kick() noexcept {
  full_fence();  // ANNOUNCE: between whatever the sleepers are to see, and their words.
  messages_.kick();
  room_.kick();
}

bool PoolMembership::bury_the_dead() {
  const MpmcRecovery recovery = mpmc_recover(memory_.ring(), ring_.index(),
                                             [this](std::uint32_t index, std::uint64_t) { return !is_alive(index); });
  if (recovery.fault != MpmcFault::none) {
    give_up(recovery.fault);
    return true;
  }
  // Of a broken pool the living go away like that, too: give_up_place().
  if (recovery.recovered != 0 && broken() == MpmcFault::none) {
    host_.log(CDMF_LOG_WARNING, "shm: ", recovery.recovered, " of the members of the pool ", object_.name(),
              " died and were taken out");
  }
  if (recovery.waiting != 0) return false;
  // Whoever found them dead says so, even if another survivor was faster, and died before it could.
  announce_change();
  return true;
}

void PoolMembership::members_changed() noexcept {
  look_again_.store(true, std::memory_order_release);
  kick();
}

// ---- What outlives the driver's use of it
// ----------------------------------------------------------------------------

void PoolMembership::retire() noexcept {
  watch_.stop();
  const std::lock_guard lock(returned_mutex_);
  for (const std::uint64_t position : returned_) ring_.release_held(position);
  returned_.clear();
  retired_.store(true, std::memory_order_release);
  kept_ = ring_.held_count() + (claim_open ? 1 : 0);
  if (kept_ == 0) leave();
}

void PoolMembership::end_late_claim() noexcept {
  const std::lock_guard lock(returned_mutex_);
  ring_.abort_all();
  claim_open = false;
  messages_.ring(1);
  if (--kept_ == 0) leave();
}

void PoolMembership::unhold(std::uint64_t position) {
  {
    const std::lock_guard lock(returned_mutex_);
    if (retired()) {
      ring_.release_held(position);
      room_.ring(1);
      if (--kept_ == 0) leave();
      return;
    }
    returned_.push_back(position);
    has_returned_.store(true, std::memory_order_release);
  }
  kick();  // The space goes back when the receiver comes by; it may be asleep.
}

void PoolMembership::collect_returned() noexcept {
  std::uint32_t count = 0;
  {
    const std::lock_guard lock(returned_mutex_);
    has_returned_.store(false, std::memory_order_relaxed);
    for (const std::uint64_t position : returned_) count += ring_.release_held(position) ? 1 : 0;
    returned_.clear();
  }
  if (count != 0) room_.ring(count);
}

}  // namespace cdmf::ipc::shm
