#pragma once
// ring/mpmc_record_recovery.h: what survivors do in place of a dead member. Why it is right: mpmc_record_protocol.h.

#include <cstdint>
#include <type_traits>
#include <utility>

#include "ring/mpmc_record_protocol.h"

namespace cdmf::ipc::shm {

struct MpmcRecovery {
  std::uint32_t recovered = 0;  // Dead members that this call settled; their lines are free.
  std::uint32_t waiting = 0;    // Dead members that cannot be settled now, as a live one is claiming the same position
                                // or owns it. Call again.
  MpmcFault fault = MpmcFault::none;  // The memory is corrupt; nothing was done to what could not be understood.
};

/// Settles what dead members left. Any number of survivors may do so at once, each may die doing it.
/// Memory, self  this process's view of the ring, and its own line: never taken for dead. kNobody: has none.
/// IsDead        bool(std::uint32_t participant, std::uint64_t generation): true only if the process that attached to
///               this line, as the generation-th, is proven dead, or has detached. Once true, it stays true. All that
///               the process did happened before the answer. A lock that the kernel frees at its death answers so,
///               when it is taken before attaching; a time-out never does.
template <typename Memory, typename IsDead>
class MpmcRecoverer {
 public:
  static constexpr std::uint32_t kNobody = ~std::uint32_t{0};

  MpmcRecoverer(const Memory& memory, std::uint32_t self, IsDead& is_dead) noexcept
      : memory_(memory), self_(self), is_dead_(is_dead) {}

  MpmcRecovery recover() noexcept {
    for (std::uint32_t index = 0; index < memory_.participant_count(); ++index) {
      if (index == self_) continue;
      auto& line = memory_.participant(index);
      std::uint64_t state = line.state.load(Orders::kLineLoad);  // LINE
      if (!mpmc_attached(state) || !is_dead_(index, mpmc_generation(state))) continue;
      const bool settled = settle(index);
      if (result_.fault != MpmcFault::none) return result_;
      if (!settled) {
        ++result_.waiting;
      } else if (line.state.compare_exchange_strong(state, mpmc_state_buried(state), Orders::kLineCas,
                                                    Orders::kRelaxed)) {  // LINE
        ++result_.recovered;  // Only one survivor gets here per death; the count in `state` is exact.
      }
    }
    return result_;
  }

 private:
  using Orders = typename Memory::Orders;
  using State = MpmcSlotState;
  using Line = std::remove_reference_t<decltype(std::declval<const Memory&>().participant(0))>;
  using Announcement = decltype(Line::producing) Line::*;

  /// Everything that the line's user announced or kept. The line may have a new user by now: what it announced is
  /// then looked at as well, and found to have a living candidate.
  bool settle(std::uint32_t index) noexcept {
    Line& line = memory_.participant(index);
    const std::uint64_t produced = line.producing.load(Orders::kSettledLoad);  // SETTLED
    const std::uint64_t consumed = line.consuming.load(Orders::kSettledLoad);  // SETTLED
    bool settled = true;
    for (std::uint32_t i = 0; i < checked_count(produced, memory_.tail()); ++i)
      settled &= settle_produced(mpmc_announced_first(produced) + i);
    for (std::uint32_t i = 0; i < checked_count(consumed, memory_.head()); ++i)
      settled &= settle_consumed(mpmc_announced_first(consumed) + i);
    for (std::uint32_t i = 0; i < memory_.slot_count(); ++i) settle_kept(index, memory_.slot(i));
    return settled && result_.fault == MpmcFault::none;
  }

  template <typename Counter>
  std::uint32_t checked_count(std::uint64_t announcement, Counter& counter) noexcept {
    const std::uint32_t count = mpmc_announced_count(announcement);
    // Nobody announces a position that the counter had not reached.
    if (count > kMpmcBatchMax || mpmc_announced_first(announcement) > counter.load(Orders::kClaimedLoad)) {  // CLAIMED
      result_.fault = MpmcFault::bad_announcement;
      return 0;
    }
    return count;
  }

  bool settle_produced(std::uint64_t position) noexcept {
    if (memory_.tail().load(Orders::kClaimedLoad) <= position) return true;  // CLAIMED. Announced, never claimed.
    auto& slot = memory_.slot(position);
    std::uint64_t word = slot.word.load(Orders::kWordLoad);  // FILLED
    if (word != mpmc_word(memory_.lap_of(position), State::empty)) {
      if (mpmc_lap(word) < memory_.lap_of(position)) result_.fault = MpmcFault::bad_word;
      return true;  // Published, or longer ago than that.
    }
    if (!candidates_are_dead(position, &Line::producing)) return false;
    if (slot.word.compare_exchange_strong(word, mpmc_word(memory_.lap_of(position), State::tomb), Orders::kRepairCas,
                                          Orders::kRelaxed))  // FILLED
      memory_.tombstones().fetch_add(1, Orders::kRelaxed);    // A survivor that dies just here leaves it one short.
    return true;
  }

  bool settle_consumed(std::uint64_t position) noexcept {
    if (memory_.head().load(Orders::kClaimedLoad) <= position) return true;  // CLAIMED. Announced, never claimed.
    auto& slot = memory_.slot(position);
    const std::uint64_t lap = memory_.lap_of(position);
    const std::uint64_t word = slot.word.load(Orders::kWordLoad);  // FREED, KEPT
    if (mpmc_lap(word) > lap) return true;
    if (mpmc_lap(word) < lap || mpmc_state(word) == State::empty || mpmc_state(word) > State::lost_odd) {
      result_.fault = MpmcFault::bad_word;  // head passed what nobody had published.
      return false;
    }
    if (mpmc_state(word) == State::kept) return true;  // Whose it is, its slot says.
    if (!mpmc_is_lost(mpmc_state(word)) && !candidates_are_dead(position, &Line::consuming)) return false;
    drop(slot, word);
    return true;
  }

  template <typename Slot>
  void settle_kept(std::uint32_t index, Slot& slot) noexcept {
    const std::uint64_t word = slot.word.load(Orders::kWordLoad);  // KEPT
    if (mpmc_is_lost(mpmc_state(word))) drop(slot, word);          // Another survivor died halfway.
    if (mpmc_state(word) != State::kept || slot.owner.load(Orders::kWordLoad) != index + 1) return;  // KEPT
    // The line may have changed hands since: ask again, about whom it belongs to now.
    const std::uint64_t state = memory_.participant(index).state.load(Orders::kLineLoad);  // LINE
    if (mpmc_attached(state) && is_dead_(index, mpmc_generation(state))) drop(slot, word);
  }

  /// Frees a slot whose reader is dead. Does nothing when the word has changed, as then another survivor did.
  template <typename Slot>
  void drop(Slot& slot, std::uint64_t word) noexcept {
    const std::uint64_t lap = mpmc_lap(word);
    if (mpmc_state(word) == State::tomb) {
      slot.word.compare_exchange_strong(word, mpmc_word(lap + 1, State::empty), Orders::kRepairCas,
                                        Orders::kRelaxed);  // FREED
      return;
    }
    if (!mpmc_is_lost(mpmc_state(word))) {
      // Read while the word is full or kept, and nobody counts then: if the swap succeeds, it is still this number.
      const bool odd = (slot.losses.load(Orders::kCountedLoad) & 1) != 0;  // COUNTED
      const std::uint64_t lost = mpmc_word(lap, odd ? State::lost_odd : State::lost_even);
      // If it fails, another survivor's has succeeded, and that one may be dead: look what there is now.
      word = slot.word.compare_exchange_strong(word, lost, Orders::kRepairCas, Orders::kRelaxed)
                 ? lost
                 : slot.word.load(Orders::kWordLoad);
    }
    if (mpmc_is_lost(mpmc_state(word))) MpmcProtocol<Memory>::finish_loss(slot, word);
  }

  /// Whether all that may own the position are dead (C). tail or head was seen beyond it before.
  bool candidates_are_dead(std::uint64_t position, Announcement announcement) noexcept {
    for (std::uint32_t index = 0; index < memory_.participant_count(); ++index) {
      Line& line = memory_.participant(index);
      if (!mpmc_announces((line.*announcement).load(Orders::kSettledLoad), position)) continue;  // SETTLED
      if (index == self_) return false;
      // The state after the announcement: its writer's generation, or a later one. A free line, or a dead later user,
      // says that the writer is dead or left (D).
      const std::uint64_t state = line.state.load(Orders::kLineLoad);  // LINE
      if (mpmc_attached(state) && !is_dead_(index, mpmc_generation(state))) return false;
    }
    return true;
  }

  Memory memory_;
  std::uint32_t self_;
  IsDead& is_dead_;
  MpmcRecovery result_{};
};

/// See MpmcRecoverer.
template <typename Memory, typename IsDead>
MpmcRecovery mpmc_recover(const Memory& memory, std::uint32_t self, IsDead&& is_dead) noexcept {
  static_assert(Memory::kAnnounces, "without announcements nobody knows what a dead member left");
  return MpmcRecoverer<Memory, std::remove_reference_t<IsDead>>(memory, self, is_dead).recover();
}

}  // namespace cdmf::ipc::shm
