#pragma once
// ring/mpmc_record_protocol.h: how positions of the N-producer, M-consumer ring are claimed, published and given back,
// and why a death at any instruction harms nobody. Repair after a death: mpmc_record_recovery.h.
// Words and memory: mpmc_record_layout.h. Applications use mpmc_record_ring.h.

#include <algorithm>
#include <cassert>
#include <cstdint>

#include "ipc/ring_buffer/pace.h"
#include "ring/mpmc_record_layout.h"

namespace cdmf::ipc::shm {

/// The ring in one page
///
/// Vyukov's bounded queue, with announcements. `tail` and `head` are claimed by compare-and-swap; each slot's word says
/// for which lap it is empty or full. A producer of position p takes the slot when its word is empty(p), writes, and
/// stores full(p). A consumer takes full(p), reads, and stores empty(p + slot_count). Between claiming and storing, a
/// slot belongs to one process, and if that dies Vyukov's queue stands still for ever, as nobody can tell whose it is.
///
/// Here each participant has a line of its own, where it writes which positions it is about to claim, BEFORE the swap
/// that claims them. That costs one store to a line nobody else touches, and no locked operation more than Vyukov's.
/// Once somebody is known to be dead, survivors read what it had announced, and settle these slots in its place:
/// what was claimed and not published becomes a tombstone, which consumers skip; what was received and not given back
/// is counted as lost, once, and becomes empty.
///
/// Rules
///   (A) A participant announces a range, then tries to claim it by one swap. If the swap fails, it withdraws the
///       announcement before anything else: a live loser that never did would keep others from settling.
///   (B) It changes its announcement after a success only when every position in it is settled: published as full or
///       tomb (producing); empty for the next lap, or kept (consuming). One batch is open at a time, therefore. A
///       message kept for longer is no longer covered by the announcement, but by `owner` in its slot, written before
///       the word that says `kept`.
///   (C) A slot is settled in another's place only by compare-and-swap from exactly the word seen, and only if every
///       participant whose announcement covers the position is dead, by a proof and not by a time-out, at a moment
///       after its announcement was read.
///   (D) A line is given to a new user only when its last user left, which settles all, or is dead and all that it
///       announced or kept is settled.
///
/// Edges
///   FILLED   word full/tomb: store(release) -> load(acquire). The message may be read.
///   FREED    word empty: store(release) -> load(acquire). The slot may be written again.
///   CLAIMED  tail, head: swap(release) -> load(acquire). Who sees that position p is claimed, sees the announcement of
///            its owner, or a later one. (Later swaps by others continue the release sequence of the owner's.)
///   SETTLED  announcement: store(release) -> load(acquire). Who sees an announcement, sees all that its writer had
///            settled before.
///   KEPT     word kept, and owner: store(release) -> load(acquire). The owner's name belongs to the word, or else the
///            word is seen to have changed.
///   LINE     state: swap or store(release) -> load(acquire). The line's past is settled; and who sees an announcement
///            sees the generation of its writer, or a later one.
///   COUNTED  losses: swap(acq_rel) -> load(acquire). See `lost` below.
///   There is no pair "store mine, then load yours" anywhere, hence no full fence: an announcement must be visible
///   not before some load, but before the swap, which release provides. On x86 a release store is an ordinary store
///   and the swap is locked anyway; on aarch64 the swap becomes a releasing one. Cost: one store that hits L1.
///
/// Why nobody alive loses a slot. Let H be the owner of p: tail passes p once, so there is one. Let a survivor S have
/// seen tail > p and then read all announcements. By CLAIMED it read H's announcement of p, or a later one of H's line.
///   - If a later one: by (B) and SETTLED, or by (D) and LINE when the line has changed hands, H's publication is
///     visible to S, and the swap from empty(p) fails, since a swap reads the newest word.
///   - If that of p: H is a candidate, and (C) demands proof of its death. What is dead writes no more.
/// So if S's swap succeeds, H is dead and did not publish. The same holds for consumers with head, full(p), tomb(p).
/// Losers that announced p are candidates as well. Dead ones do no harm; live ones withdraw within a few instructions
/// of their own (A), and the repair is tried again. One that is stopped just there delays the repair: the price of not
/// trusting a clock.
///
/// Why repair may be interrupted or done twice. Each step is one swap from a word that never comes back. A survivor
/// that dies between two steps leaves a state that the next survivor handles from the start: the dead line is freed
/// only by the last step. A line freed and taken by a newcomer meanwhile is recognised by its generation.
///
/// Why `lost` counts once. The death of a survivor between swapping the word and counting must neither forget nor
/// double. Losses are counted per slot, and the word passes through `lost` with the parity of the count: even means the
/// count was even and is still to be raised. Whoever finds the word lost reads the count c, sees that the word is still
/// the same, raises c to c + 1 by swap when c has the word's parity, and then swaps the word to empty. c never
/// comes back, so a late helper's swap fails.
///
/// Linearisation. A message is sent by the store of full(p) (a dead producer's is sent if that store was executed, and
/// not otherwise; nobody completes it), and received by the swap of head. full: the slot of tail's position holds
/// position tail - slot_count, which no consumer has claimed. empty: head == tail, read in this order.
/// Messages of one producer are received in the order of its claims. At most once: who dies after the swap of head
/// takes the message along.
///
/// Hostile words. The members of a ring trust each other's programs, not each other's luck: each word is checked
/// against what can be, loops are bounded, and no index comes from memory without a mask. See MpmcFault.

/// What no correct member can have written. The member that noticed refuses to work from then on.
enum class MpmcFault : std::uint8_t {
  none,
  bad_position,      // head or tail went back, passed one another, or are beyond any position
  bad_word,          // a slot's word does not fit its position
  bad_size,          // a message larger than a slot
  bad_announcement,  // an announcement of more positions than a batch has, or of positions that cannot be yet
};
inline const char* to_string(MpmcFault fault) noexcept {
  switch (fault) {
    case MpmcFault::none:
      return "no fault";
    case MpmcFault::bad_position:
      return "head or tail are where they cannot be";
    case MpmcFault::bad_word:
      return "a slot's word does not fit its position";
    case MpmcFault::bad_size:
      return "a message is larger than its slot";
    case MpmcFault::bad_announcement:
      return "a participant announced positions that cannot be";
  }
  return "unknown fault";
}

enum class MpmcOutcome : std::uint8_t {
  done,
  unavailable,  // Producers: full. Consumers: empty. Exactly so.
  blocked,      // Neither: another member has claimed what comes next and is not ready, or others were always faster.
                // Try again; if it lasts, that member may be dead: recover().
  fault,
};

/// Positions first to first + count - 1, and which of them are tombstones (bit i: first + i).
struct MpmcGrant {
  MpmcOutcome outcome = MpmcOutcome::unavailable;
  std::uint64_t first = 0;
  std::uint32_t count = 0;
  std::uint64_t tombs = 0;
};

/// The moves of one participant. Memory: BasicMpmcRecordMemory, or a checker's stand-in with the same members.
template <typename Memory>
class MpmcProtocol {
 public:
  using Orders = typename Memory::Orders;
  using State = MpmcSlotState;
  static constexpr std::uint32_t kAttemptsMax = 4096;  // Then `blocked`: no loop depends on others' good will.
  static constexpr std::uint32_t kRelaxTurnsMax = 64;
  static constexpr std::uint32_t kLooks = 8;  // In a rest, two pauses apart: as long as an answer takes to come.
  static constexpr std::uint32_t kAskedAhead = 4;

  MpmcProtocol(const Memory& memory, std::uint32_t index) noexcept : memory_(memory), index_(index) {}

  const Memory& memory() const noexcept { return memory_; }
  std::uint32_t index() const noexcept { return index_; }
  MpmcFault fault() const noexcept { return fault_; }
  void set_fault(MpmcFault fault) noexcept { fault_ = fault; }

  /// Takes the line. False: somebody has it, or died having it and is not settled yet.
  bool attach() noexcept {
    auto& line = memory_.participant(index_);
    std::uint64_t state = line.state.load(Orders::kLineLoad);  // LINE
    if (mpmc_attached(state)) return false;
    if (!line.state.compare_exchange_strong(state, mpmc_state_attached(state), Orders::kLineCas, Orders::kRelaxed))
      return false;  // LINE
    // What the last user announced is settled (D). It is withdrawn all the same: it would make us a candidate.
    line.producing.store(0, Orders::kSettledStore);  // SETTLED
    line.consuming.store(0, Orders::kSettledStore);  // SETTLED
    return true;
  }
  /// Gives the line back. Everything claimed, received or kept has been settled.
  void detach() noexcept {
    auto& line = memory_.participant(index_);
    // Only its user changes the state of a live line, so a store will do.
    line.state.store(mpmc_state_detached(line.state.load(Orders::kRelaxed)), Orders::kLineStore);  // LINE
  }

  /// Claims up to `wanted` positions to write to, all that are free in a row. wanted: 1 to kMpmcBatchMax.
  MpmcGrant claim(std::uint32_t wanted) noexcept {
    std::uint32_t turns = 1;
    for (std::uint32_t attempt = 0; attempt < kAttemptsMax; ++attempt) {
      const std::uint64_t tail = memory_.tail().load(Orders::kClaimedLoad);  // CLAIMED
      if (!advances(tail, tail_seen_)) return fail(MpmcFault::bad_position);
      std::uint64_t word = 0;
      std::uint32_t count = 0;
      while (count < wanted) {
        word = memory_.slot(tail + count).word.load(Orders::kWordLoad);  // FREED
        if (word != mpmc_word(memory_.lap_of(tail + count), State::empty)) break;
        ++count;
      }
      if (count == 0) {
        if (mpmc_lap(word) + 1 == memory_.lap_of(tail) && send_pace_.moved(tail)) {
          rest(send_pace_, tail, word);
          continue;
        }
        const Look look = why_not_free(tail, word);
        if (look == Look::again) continue;
        if (look == Look::none) memory_.count_refused(index_);
        return look == Look::fault ? fail(MpmcFault::bad_word)
                                   : MpmcGrant{look == Look::none ? MpmcOutcome::unavailable : MpmcOutcome::blocked};
      }
      if (try_claim(memory_.tail(), memory_.participant(index_).producing, tail, count)) [[likely]]
        return {MpmcOutcome::done, tail, count, 0};
      memory_.count_retry(index_);
      Memory::relax(turns);
      turns = std::min(turns * 2, kRelaxTurnsMax);
    }
    return {MpmcOutcome::blocked};
  }

  /// Publishes a claimed position, as a message or (abort) as nothing.
  void publish(std::uint64_t position, bool as_message) noexcept {
    memory_.slot(position).word.store(mpmc_word(memory_.lap_of(position), as_message ? State::full : State::tomb),
                                      Orders::kFilledStore);  // FILLED
  }

  /// Claims up to `wanted` positions to read, all that are published in a row. Tombstones among them are to be freed
  /// like messages. wanted: 1 to kMpmcBatchMax.
  MpmcGrant receive(std::uint32_t wanted) noexcept {
    std::uint32_t turns = 1;
    for (std::uint32_t attempt = 0; attempt < kAttemptsMax; ++attempt) {
      const std::uint64_t head = memory_.head().load(Orders::kClaimedLoad);  // CLAIMED
      if (!advances(head, head_seen_)) return fail(MpmcFault::bad_position);
      std::uint64_t word = 0;
      std::uint64_t tombs = 0;
      std::uint32_t count = 0;
      while (count < wanted) {
        word = memory_.slot(head + count).word.load(Orders::kWordLoad);  // FILLED
        const std::uint64_t lap = memory_.lap_of(head + count);
        if (word == mpmc_word(lap, State::tomb)) {
          tombs |= std::uint64_t{1} << count;
        } else if (word != mpmc_word(lap, State::full)) {
          break;
        }
        ++count;
      }
      if (count == 0) {
        if (word == mpmc_word(memory_.lap_of(head), State::empty) && receive_pace_.moved(head)) {
          rest(receive_pace_, head, word);
          continue;
        }
        const Look look = why_not_filled(head, word);
        if (look == Look::again) continue;
        return look == Look::fault ? fail(MpmcFault::bad_word)
                                   : MpmcGrant{look == Look::none ? MpmcOutcome::unavailable : MpmcOutcome::blocked};
      }
      if (try_claim(memory_.head(), memory_.participant(index_).consuming, head, count)) [[likely]]
        return {MpmcOutcome::done, head, count, tombs};
      memory_.count_retry(index_);
      Memory::relax(turns);
      turns = std::min(turns * 2, kRelaxTurnsMax);
    }
    return {MpmcOutcome::blocked};
  }

  /// Gives a received or kept position back.
  void free(std::uint64_t position) noexcept {
    memory_.slot(position).word.store(mpmc_word(memory_.lap_of(position) + 1, State::empty),
                                      Orders::kFreedStore);  // FREED
  }

  /// Keeps a received position beyond this batch: from here on its slot names the owner.
  void keep(std::uint64_t position) noexcept {
    auto& slot = memory_.slot(position);
    slot.owner.store(index_ + 1, Orders::kKeptStore);  // KEPT: who reads it too late sees that the word has changed.
    slot.word.store(mpmc_word(memory_.lap_of(position), State::kept), Orders::kKeptStore);  // KEPT
  }

  /// Counts the loss that a word says, once, and frees the slot. Anybody may, as often as they like.
  template <typename Slot>
  static void finish_loss(Slot& slot, std::uint64_t word) noexcept {
    std::uint32_t losses = slot.losses.load(Orders::kCountedLoad);  // COUNTED
    // Looked at again after the count: the count then belongs to this word, or is what this word makes of it.
    if (slot.word.load(Orders::kWordLoad) != word) return;
    if ((losses & 1) == (mpmc_state(word) == State::lost_odd ? 1u : 0u))
      slot.losses.compare_exchange_strong(losses, losses + 1, Orders::kCountedCas, Orders::kRelaxed);  // COUNTED
    slot.word.compare_exchange_strong(word, mpmc_word(mpmc_lap(word) + 1, State::empty), Orders::kRepairCas,
                                      Orders::kRelaxed);  // FREED
  }

 private:
  enum class Look : std::uint8_t { none, blocked, again, fault };

  MpmcGrant fail(MpmcFault fault) noexcept {
    fault_ = fault;
    return {MpmcOutcome::fault};
  }
  static bool advances(std::uint64_t now, std::uint64_t& seen) noexcept {
    if (now < seen || now > kMpmcPositionMax) [[unlikely]]
      return false;
    seen = now;
    return true;
  }

  template <typename Counter, typename Announcement>
  bool try_claim(Counter& counter, Announcement& announcement, std::uint64_t first, std::uint32_t count) noexcept {
    // Release, for what was settled before (SETTLED); and before the swap, which CLAIMED sees to.
    if constexpr (Memory::kAnnounces) announcement.store(mpmc_announcement(first, count), Orders::kSettledStore);
    if (counter.compare_exchange_strong(first, first + count, Orders::kClaimedCas, Orders::kRelaxed)) [[likely]] {
      ask_ahead(first, count);
      return true;  // CLAIMED
    }
    if constexpr (Memory::kAnnounces) announcement.store(0, Orders::kSettledStore);  // Rule (A)
    return false;
  }

  /// The other side still has the lines of the lap before, and either side writes to each. Fetched one by one when they
  /// are written to, each would hold up the next swap.
  void ask_ahead(std::uint64_t first, std::uint32_t count) const noexcept {
    if (memory_.slot_count() <= kAskedAhead) return;
    for (std::uint32_t i = 0; i < count; ++i) memory_.ask_for(first + i + kAskedAhead);
  }

  /// Leaves the other side alone for a moment, once at each position, and then looks at its word alone. To tell why
  /// there is nothing, the other side's count must be read, and taken from whoever is about to swap it: too early, that
  /// is a third of a trip there and back (measured). What is seen here decides nothing: all is read anew afterwards.
  void rest(ring_buffer_detail::ProbingPace& pace, std::uint64_t position, std::uint64_t word) noexcept {
    pace.rest(position);
    for (std::uint32_t look = 0; look < kLooks && memory_.slot(position).word.load(Orders::kRelaxed) == word; ++look)
      Memory::relax(2);
  }

  /// The slot at the tail is not empty for this lap. none: full.
  Look why_not_free(std::uint64_t tail, std::uint64_t word) noexcept {
    const std::uint64_t lap = memory_.lap_of(tail);
    const State state = mpmc_state(word);
    if (state > State::lost_odd) return Look::fault;
    if (mpmc_lap(word) + 1 == lap) {
      if (mpmc_is_lost(state)) {
        finish_loss(memory_.slot(tail), word);
        return Look::again;
      }
      const std::uint64_t head = memory_.head().load(Orders::kClaimedLoad);  // CLAIMED
      return head + memory_.slot_count() <= tail ? Look::none : Look::blocked;
    }
    // Older: tail passed the lap before only when this slot was empty for it, and CLAIMED shows that. Newer: somebody
    // claimed this position, and FILLED shows that tail has moved.
    if (mpmc_lap(word) < lap || memory_.tail().load(Orders::kClaimedLoad) == tail) return Look::fault;
    return Look::again;
  }

  /// The slot at the head is not published for this lap. none: empty.
  Look why_not_filled(std::uint64_t head, std::uint64_t word) noexcept {
    const std::uint64_t lap = memory_.lap_of(head);
    const State state = mpmc_state(word);
    if (state > State::lost_odd) return Look::fault;
    const bool not_received = word == mpmc_word(lap, State::empty);
    if (not_received || mpmc_lap(word) + 1 == lap) {
      if (!not_received && state == State::empty) return Look::fault;        // head passed what nobody had published.
      const std::uint64_t tail = memory_.tail().load(Orders::kClaimedLoad);  // CLAIMED
      if (tail < head) return Look::fault;
      if (tail == head) return Look::none;
      return not_received ? Look::blocked : Look::again;  // The latter: an old look at the word.
    }
    // Somebody has received it: head has moved. Nothing can be older than the lap before.
    if (mpmc_lap(word) < lap || memory_.head().load(Orders::kClaimedLoad) == head) return Look::fault;
    return Look::again;
  }

  Memory memory_;
  std::uint32_t index_;
  MpmcFault fault_ = MpmcFault::none;
  std::uint64_t tail_seen_ = 0;
  std::uint64_t head_seen_ = 0;
  ring_buffer_detail::ProbingPace send_pace_;
  ring_buffer_detail::ProbingPace receive_pace_;
};

}  // namespace cdmf::ipc::shm
