// mpmc_record_relacy [iterations]: the MPMC ring's own protocol code (plugins/shm/ring/mpmc_record_protocol.h and
// mpmc_record_recovery.h) under Relacy, which executes it with the reorderings that C++ memory orders allow: stale
// loads, and data races on the messages. Members race with a member that dies at a random access and with the
// recovery of it by two others. Then the same with one order weakened at a time: Relacy must find each.
//
// Relacy is not able to delay stores, so it cannot tell what SETTLED's release adds, which the argument in
// mpmc_record_protocol.h needs.
#include "ring/mpmc_record_protocol.h"
#include "ring/mpmc_record_recovery.h"

// It redefines words of the language: after everything else.
#include <relacy/relacy.hpp>
#undef free  // A member of the protocol.

namespace {

using cdmf::ipc::shm::mpmc_recover;
using cdmf::ipc::shm::mpmc_state;
using cdmf::ipc::shm::mpmc_word;
using cdmf::ipc::shm::MpmcFault;
using cdmf::ipc::shm::MpmcGrant;
using cdmf::ipc::shm::MpmcOutcome;
using cdmf::ipc::shm::MpmcProtocol;
using cdmf::ipc::shm::MpmcRecovery;
using cdmf::ipc::shm::MpmcSlotState;

constexpr unsigned kThreads = 4;
constexpr unsigned kSlotsMax = 2;
constexpr unsigned kNever = ~0u;

/// How long each thread lives, in accesses to shared memory. A dead thread's stores do nothing, and its swaps claim to
/// have succeeded, so that it soon comes to its end.
struct Life {
  unsigned remaining = kNever;
  bool over = false;
  rl::atomic<unsigned>* dead = nullptr;

  bool ends() {
    if (over) return true;
    if (remaining == kNever || remaining-- != 0) return false;
    over = true;
    dead->store(1, rl::mo_release, $);  // What it did happened before the proof of its death.
    return true;
  }
};
Life lives[kThreads];
bool alone;  // Before and after the threads.
Life& life() {
  static Life immortal;
  return alone ? immortal : lives[rl::thread_index()];
}

template <typename T>
class Atomic {
 public:
  T load(rl::memory_order order) const {
    life().ends();
    return atomic_.load(order, $);
  }
  void store(T value, rl::memory_order order) {
    if (!life().ends()) atomic_.store(value, order, $);
  }
  bool compare_exchange_strong(T& expected, T desired, rl::memory_order order, rl::memory_order failure) {
    return life().ends() || atomic_.compare_exchange_strong(expected, desired, order, $, failure, $);
  }
  T fetch_add(T value, rl::memory_order order) { return life().ends() ? T{} : atomic_.fetch_add(value, order, $); }

 private:
  rl::atomic<T> atomic_;
};

enum class Weak { nothing, word_load, filled_store, freed_store, claimed_cas, claimed_load, repair_cas };

template <Weak kWeak>
struct Orders {
  static constexpr rl::memory_order unless(Weak weak, rl::memory_order order) {
    return kWeak == weak ? rl::mo_relaxed : order;
  }
  static constexpr auto kRelaxed = rl::mo_relaxed;
  static constexpr auto kWordLoad = unless(Weak::word_load, rl::mo_acquire);
  static constexpr auto kFilledStore = unless(Weak::filled_store, rl::mo_release);
  static constexpr auto kFreedStore = unless(Weak::freed_store, rl::mo_release);
  static constexpr auto kKeptStore = rl::mo_release;
  static constexpr auto kRepairCas = unless(Weak::repair_cas, rl::mo_acq_rel);
  static constexpr auto kClaimedCas = unless(Weak::claimed_cas, rl::mo_release);
  static constexpr auto kClaimedLoad = unless(Weak::claimed_load, rl::mo_acquire);
  static constexpr auto kSettledStore = rl::mo_release;
  static constexpr auto kSettledLoad = rl::mo_acquire;
  static constexpr auto kLineCas = rl::mo_acq_rel;
  static constexpr auto kLineStore = rl::mo_release;
  static constexpr auto kLineLoad = rl::mo_acquire;
  static constexpr auto kCountedCas = rl::mo_acq_rel;
  static constexpr auto kCountedLoad = rl::mo_acquire;
};

struct Participant {
  Atomic<std::uint64_t> producing, consuming, state;
};
struct Slot {
  Atomic<std::uint64_t> word;
  Atomic<std::uint32_t> owner, losses;
  rl::var<unsigned> message;
};
struct Shared {
  Atomic<std::uint64_t> tail, head, tombstones;
  Participant participants[kThreads];
  Slot slots[kSlotsMax];
};

/// What BasicMpmcRecordMemory is to the product.
template <Weak kWeak>
class Memory {
 public:
  using Orders = ::Orders<kWeak>;
  static constexpr bool kAnnounces = true;
  Memory(Shared* shared, std::uint32_t slot_count) : shared_(shared), slot_count_(slot_count) {}
  std::uint32_t slot_count() const { return slot_count_; }
  std::uint32_t participant_count() const { return kThreads; }
  std::uint64_t lap_of(std::uint64_t position) const { return position / slot_count_; }
  void count_retry(std::uint32_t) const {}  // For observers alone.
  void count_refused(std::uint32_t) const {}
  Atomic<std::uint64_t>& tail() const { return shared_->tail; }
  Atomic<std::uint64_t>& head() const { return shared_->head; }
  Atomic<std::uint64_t>& tombstones() const { return shared_->tombstones; }
  Participant& participant(std::uint32_t index) const { return shared_->participants[index]; }
  Slot& slot(std::uint64_t position) const { return shared_->slots[position % slot_count_]; }
  void ask_for(std::uint64_t) const {}  // A hint.
  static void relax(std::uint32_t) { rl::yield(1, $); }

 private:
  Shared* shared_;
  std::uint32_t slot_count_;
};

template <Weak kWeak>
struct RingTest : rl::test_suite<RingTest<kWeak>, kThreads> {
  using Protocol = MpmcProtocol<Memory<kWeak>>;

  Shared shared;
  rl::atomic<unsigned> dead[kThreads];
  std::uint32_t slot_count = 1;
  unsigned sent = 0, received = 0;  // Only one thread runs at a time; these are the checker's.

  Memory<kWeak> memory() { return {&shared, slot_count}; }
  MpmcRecovery recover(unsigned self) {
    return mpmc_recover(memory(), self, [this](std::uint32_t index, std::uint64_t) {
      return dead[index].load(rl::mo_acquire, $) != 0;
    });
  }

  void before() {
    alone = true;
    slot_count = 1 + rl::rand(kSlotsMax);
    for (auto* counter : {&shared.tail, &shared.head, &shared.tombstones}) counter->store(0, rl::mo_relaxed);
    for (Slot& slot : shared.slots) {
      slot.word.store(0, rl::mo_relaxed);
      slot.owner.store(0, rl::mo_relaxed);
      slot.losses.store(0, rl::mo_relaxed);
      slot.message($) = 0;
    }
    for (unsigned index = 0; index < kThreads; ++index) {
      Participant& line = shared.participants[index];
      for (auto* word : {&line.producing, &line.consuming, &line.state}) word->store(0, rl::mo_relaxed);
      dead[index].store(0, rl::mo_relaxed, $);
      lives[index] = {kNever, false, &dead[index]};
      Protocol protocol(memory(), index);
      RL_ASSERT(protocol.attach());
    }
    lives[0].remaining = rl::rand(24);
    alone = false;
  }

  void send(Protocol& protocol) {
    const MpmcGrant grant = protocol.claim(1);
    RL_ASSERT(grant.outcome != MpmcOutcome::fault);
    if (life().over || grant.outcome != MpmcOutcome::done) return;
    Slot& slot = memory().slot(grant.first);
    slot.message($) = static_cast<unsigned>(grant.first + 1);
    // Still ours: nobody may have settled it.
    const std::uint64_t word = slot.word.load(rl::mo_relaxed);
    RL_ASSERT(life().over || word == mpmc_word(memory().lap_of(grant.first), MpmcSlotState::empty));
    if (life().over) return;
    protocol.publish(grant.first, true);
    if (!life().over) ++sent;
  }
  /// False: nothing there.
  bool receive(Protocol& protocol) {
    const MpmcGrant grant = protocol.receive(1);
    RL_ASSERT(grant.outcome != MpmcOutcome::fault);
    if (life().over || grant.outcome != MpmcOutcome::done) return false;
    Slot& slot = memory().slot(grant.first);
    const bool message = (grant.tombs & 1) == 0;
    if (message) {
      RL_ASSERT(slot.message($) == grant.first + 1);
    }
    const std::uint64_t word = slot.word.load(rl::mo_relaxed);
    RL_ASSERT(life().over ||
              word == mpmc_word(memory().lap_of(grant.first), message ? MpmcSlotState::full : MpmcSlotState::tomb));
    if (life().over) return false;
    protocol.free(grant.first);
    if (message && !life().over) ++received;
    return true;
  }

  void thread(unsigned index) {
    Protocol protocol(memory(), index);
    switch (index) {
      case 0:  // The one that dies, sooner or later.
        if (rl::rand(2) == 0) send(protocol);
        for (unsigned i = 0; i < 2 && !life().over; ++i) receive(protocol);
        if (!life().over) send(protocol);
        break;
      case 1:
        for (unsigned i = 0; i < 3; ++i) send(protocol);
        break;
      case 2:
        for (unsigned i = 0; i < 4; ++i) {
          if (receive(protocol)) continue;
          RL_ASSERT(recover(index).fault == MpmcFault::none);
        }
        break;
      default:
        for (unsigned i = 0; i < 3; ++i) RL_ASSERT(recover(index).fault == MpmcFault::none);
        break;
    }
  }

  void after() {
    alone = true;
    const MpmcRecovery recovery = recover(kThreads - 1);
    RL_ASSERT(recovery.fault == MpmcFault::none && recovery.waiting == 0);
    Protocol protocol(memory(), kThreads - 1);
    while (receive(protocol)) {
    }
    RL_ASSERT(shared.tail.load(rl::mo_relaxed) == shared.head.load(rl::mo_relaxed));
    unsigned lost = 0;
    for (std::uint32_t i = 0; i < slot_count; ++i) {
      RL_ASSERT(mpmc_state(shared.slots[i].word.load(rl::mo_relaxed)) == MpmcSlotState::empty);
      lost += shared.slots[i].losses.load(rl::mo_relaxed);
    }
    RL_ASSERT(sent == received + lost);
  }
};

/// Whether Relacy found nothing. The history that it prints is shown only when there should be none.
template <Weak kWeak>
bool holds(unsigned long iterations, const char* name) {
  std::ostream nowhere(nullptr);
  std::ostream& said = kWeak == Weak::nothing ? std::cout : nowhere;
  rl::test_params params;
  params.iteration_count = iterations;
  params.output_stream = &said;
  params.progress_stream = &said;
  params.execution_depth_limit = 20'000;
  const bool good = rl::simulate<RingTest<kWeak>>(params);
  std::printf("%-14s %s after %lu executions\n", name, good ? "nothing" : rl::test_result_str(params.test_result),
              static_cast<unsigned long>(good ? iterations : params.stop_iteration));
  std::fflush(stdout);
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned long iterations = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1'000'000;
  bool right = holds<Weak::nothing>(iterations, "as it is");
  right &= !holds<Weak::word_load>(iterations, "word_load");
  right &= !holds<Weak::filled_store>(iterations, "filled_store");
  right &= !holds<Weak::freed_store>(iterations, "freed_store");
  right &= !holds<Weak::claimed_cas>(iterations, "claimed_cas");
  right &= !holds<Weak::claimed_load>(iterations, "claimed_load");
  right &= !holds<Weak::repair_cas>(iterations, "repair_cas");
  std::printf(right ? "the ring is right, and 6 weaker ones are found wrong\n" : "not as it must be\n");
  return right ? 0 : 1;
}
