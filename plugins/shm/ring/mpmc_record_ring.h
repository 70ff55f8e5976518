#pragma once
// ring/mpmc_record_ring.h: one member of a record ring with many producers and many consumers, in different processes.
// How the ring works, and why it is right: mpmc_record_protocol.h. Bytes: mpmc_record_layout.h.

#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "ring/mpmc_record_protocol.h"
#include "ring/mpmc_record_recovery.h"

namespace cdmf::ipc::shm {

/// One received message. The envelope is a private copy, checked; the payload lies in the ring.
struct MpmcRecordView {
  const std::byte* payload = nullptr;
  std::uint32_t payload_bytes = 0;
  std::uint32_t checksum = 0;
  std::uint64_t timestamp_us = 0;
  std::uint64_t position = 0;  // What release() and hold() know it by. Positions order all messages of the ring.
};

struct MpmcReceived {
  MpmcOutcome outcome = MpmcOutcome::unavailable;
  std::size_t count = 0;  // Not 0 exactly when the outcome is `done`.
};

/// Counts over the whole ring since it was made. Each loss and each recovery is counted exactly once, whoever dies
/// counting; a tombstone may be missed by a survivor that dies. Approximate while members are at work.
struct MpmcRecordCounters {
  std::uint64_t lost = 0;        // Messages that were sent, and whose receiver died before giving them back.
  std::uint64_t tombstones = 0;  // Positions claimed by producers that died before publishing: nothing was sent.
  std::uint64_t recoveries = 0;  // Members found dead and settled.
};

/// A member sends, receives, or both. It has one line of the ring's participants, from attach() to detach().
///
///     claim -> write the payload -> commit or abort            receive -> read the payload -> release or hold
///
/// One thread at a time; moving a member to another thread needs the usual synchronisation. Makes no system call, and
/// allocates nothing. A process may die at any instruction of any call: what it had committed is received, what it had
/// claimed is skipped, what it had received and not released is lost and counted, as soon as a survivor calls
/// recover(). Nothing else is affected, and other members go on meanwhile where the dead one does not stand in the way.
///
/// A process that is stopped, and not dead, keeps what it has claimed: the ring then waits for it.
template <typename Memory>
class BasicMpmcRecordMember {
 public:
  static constexpr std::size_t kHeldMax = 64;  // Messages held at one time.

  /// memory  stays mapped until the member is gone.
  /// index   the line to attach to, below participant_count(). Whatever is_dead() of others goes by, this process's
  ///         lock for instance, must say from now on that this line's user lives.
  BasicMpmcRecordMember(const Memory& memory, std::uint32_t index) noexcept : protocol_(memory, index) {
    assert(index < memory.participant_count());
  }
  ~BasicMpmcRecordMember() { detach(); }
  BasicMpmcRecordMember(BasicMpmcRecordMember&& other) noexcept
      : protocol_(other.protocol_),
        attached_(std::exchange(other.attached_, false)),
        claimed_(other.claimed_),
        claims_open_(std::exchange(other.claims_open_, 0)),
        received_(other.received_),
        views_open_(std::exchange(other.views_open_, 0)),
        held_(other.held_),
        held_count_(std::exchange(other.held_count_, 0)) {}
  BasicMpmcRecordMember& operator=(BasicMpmcRecordMember&&) = delete;

  /// Takes the line. False: it has a user, or one that died and is not settled: recover(), then try again.
  /// Nothing else may be called before it succeeded, but recover() and counters().
  [[nodiscard]] bool attach() noexcept {
    if (!attached_) attached_ = protocol_.attach();
    return attached_;
  }
  /// Aborts what is claimed, releases what is received or held, and gives the line back.
  void detach() noexcept {
    if (!attached_) return;
    abort_all();
    release_all();
    while (held_count_ != 0) protocol_.free(held_[--held_count_]);
    protocol_.detach();
    attached_ = false;
  }
  bool attached() const noexcept { return attached_; }

  // --- sending ---

  /// Lends slots for up to `count` messages: claimed_count() says how many, as many as were free in a row. They are
  /// received in the order of the claim, whatever the order of the commits; and no later message of anybody is received
  /// before each of them is committed or aborted. So claim late and commit soon.
  /// count  1 or more; more than kMpmcBatchMax is kMpmcBatchMax. One swap of the ring's tail for all of them.
  /// An open claim must be closed before the next: otherwise `blocked`.
  [[nodiscard]] MpmcOutcome claim(std::uint32_t count = 1) noexcept {
    assert(attached_ && count >= 1);
    if (fault() != MpmcFault::none) [[unlikely]]
      return MpmcOutcome::fault;
    if (claims_open_ != 0) [[unlikely]]
      return MpmcOutcome::blocked;
    const MpmcGrant grant = protocol_.claim(count < kMpmcBatchMax ? count : kMpmcBatchMax);
    if (grant.outcome != MpmcOutcome::done) return grant.outcome;
    claimed_ = grant.first;
    claims_open_ = first_bits(grant.count);
    return MpmcOutcome::done;
  }
  /// Claims not yet committed or aborted.
  std::uint32_t claimed_count() const noexcept { return static_cast<std::uint32_t>(std::popcount(claims_open_)); }
  /// The memory of one claimed message, payload_bytes_max() bytes, aligned to 32. which: 0 to claimed_count() - 1 at
  /// the time of the claim.
  std::span<std::byte> payload(std::uint32_t which = 0) const noexcept {
    assert(is_open(claims_open_, which));
    return {memory().payload(claimed_ + which), memory().payload_bytes_max()};
  }
  /// Publishes a claimed message: it survives this process's death from then on.
  /// payload_bytes  at most payload_bytes_max(). timestamp_us, checksum: go into the envelope as they are; 0 when off.
  void commit(std::uint32_t payload_bytes, std::uint64_t timestamp_us, std::uint32_t checksum,
              std::uint32_t which = 0) noexcept {
    assert(is_open(claims_open_, which) && payload_bytes <= memory().payload_bytes_max());
    std::byte* const envelope = memory().slot(claimed_ + which).envelope;
    const auto size = static_cast<std::uint32_t>(payload_bytes + kEnvelopeBytes);
    std::memcpy(envelope, &size, sizeof size);
    std::memcpy(envelope + kTimestampOffset, &timestamp_us, sizeof timestamp_us);
    std::memcpy(envelope + kChecksumOffset, &checksum, sizeof checksum);
    protocol_.publish(claimed_ + which, true);
    claims_open_ &= ~(std::uint64_t{1} << which);
  }
  /// Gives a claimed message back: consumers skip it.
  void abort(std::uint32_t which = 0) noexcept {
    assert(is_open(claims_open_, which));
    protocol_.publish(claimed_ + which, false);
    claims_open_ &= ~(std::uint64_t{1} << which);
  }
  void abort_all() noexcept {
    for (; claims_open_ != 0; claims_open_ &= claims_open_ - 1)
      protocol_.publish(claimed_ + static_cast<std::uint32_t>(std::countr_zero(claims_open_)), false);
  }

  // --- receiving ---

  /// Takes up to views.size() messages (at most kMpmcBatchMax), in the order of their positions. They are this
  /// member's: nobody else receives them. One swap of the ring's head for all of them. All views of the last call must
  /// be released or held before: otherwise `blocked`.
  [[nodiscard]] MpmcReceived receive_burst(std::span<MpmcRecordView> views) noexcept {
    assert(attached_ && !views.empty());
    if (fault() != MpmcFault::none) [[unlikely]]
      return {MpmcOutcome::fault};
    if (views_open_ != 0) [[unlikely]]
      return {MpmcOutcome::blocked};
    const auto wanted = static_cast<std::uint32_t>(views.size() < kMpmcBatchMax ? views.size() : kMpmcBatchMax);
    for (std::uint32_t skipped = 0; skipped <= memory().slot_count(); ++skipped) {
      const MpmcGrant grant = protocol_.receive(wanted);
      if (grant.outcome != MpmcOutcome::done) return {grant.outcome};
      received_ = grant.first;
      views_open_ = first_bits(grant.count);
      std::size_t count = 0;
      for (std::uint32_t which = 0; which < grant.count; ++which) {
        if ((grant.tombs >> which & 1) != 0) [[unlikely]] {
          release_which(which);
        } else if (!look(grant.first + which, views[count++])) [[unlikely]] {
          return {MpmcOutcome::fault};
        }
      }
      if (count != 0) [[likely]]
        return {MpmcOutcome::done, count};
    }
    return {MpmcOutcome::blocked};  // Tombstones only, a whole ring of them; there may be more behind.
  }
  [[nodiscard]] MpmcOutcome receive(MpmcRecordView& view) noexcept { return receive_burst({&view, 1}).outcome; }

  /// Gives a received message back, in any order. Its payload must not be touched any more.
  void release(const MpmcRecordView& view) noexcept {
    assert(is_open(views_open_, view.position - received_));
    release_which(static_cast<std::uint32_t>(view.position - received_));
  }
  void release_all() noexcept {
    while (views_open_ != 0) release_which(static_cast<std::uint32_t>(std::countr_zero(views_open_)));
  }
  /// Keeps a received message beyond this burst, until release_held(). Producers stop at its slot when they come round
  /// to it. False: kHeldMax are held already.
  [[nodiscard]] bool hold(const MpmcRecordView& view) noexcept {
    assert(is_open(views_open_, view.position - received_));
    if (held_count_ == kHeldMax) return false;
    held_[held_count_++] = view.position;
    protocol_.keep(view.position);
    views_open_ &= ~(std::uint64_t{1} << (view.position - received_));
    return true;
  }
  /// position  the view's. False: no such message is held.
  bool release_held(std::uint64_t position) noexcept {
    for (std::size_t i = 0; i < held_count_; ++i) {
      if (held_[i] != position) continue;
      held_[i] = held_[--held_count_];
      protocol_.free(position);
      return true;
    }
    return false;
  }

  // --- all ---

  /// Settles what dead members left: call it when `blocked`, or full or empty, lasts, and whenever a death is noticed.
  /// is_dead  see MpmcRecoverer. It is asked about all lines in use but this member's own.
  template <typename IsDead>
  MpmcRecovery recover(IsDead&& is_dead) noexcept {
    const MpmcRecovery result = mpmc_recover(
        memory(), attached_ ? protocol_.index() : MpmcRecoverer<Memory, std::remove_reference_t<IsDead>>::kNobody,
        is_dead);
    if (result.fault != MpmcFault::none) protocol_.set_fault(result.fault);
    return result;
  }

  /// Reads every slot's count: not for the data path.
  MpmcRecordCounters counters() const noexcept {
    MpmcRecordCounters counters;
    for (std::uint32_t i = 0; i < memory().slot_count(); ++i)
      counters.lost += memory().slot(i).losses.load(std::memory_order_relaxed);
    for (std::uint32_t i = 0; i < memory().participant_count(); ++i)
      counters.recoveries += mpmc_deaths(memory().participant(i).state.load(std::memory_order_relaxed));
    counters.tombstones = memory().tombstones().load(std::memory_order_relaxed);
    return counters;
  }

  const Memory& memory() const noexcept { return protocol_.memory(); }
  std::uint32_t index() const noexcept { return protocol_.index(); }
  std::uint32_t payload_bytes_max() const noexcept { return memory().payload_bytes_max(); }
  std::size_t held_count() const noexcept { return held_count_; }
  MpmcFault fault() const noexcept { return protocol_.fault(); }

 private:
  static std::uint64_t first_bits(std::uint32_t count) noexcept { return ~std::uint64_t{0} >> (64 - count); }
  static bool is_open(std::uint64_t bits, std::uint64_t which) noexcept {
    return which < 64 && (bits >> which & 1) != 0;
  }

  void release_which(std::uint32_t which) noexcept {
    protocol_.free(received_ + which);
    views_open_ &= ~(std::uint64_t{1} << which);
  }
  /// False: the envelope is not one.
  bool look(std::uint64_t position, MpmcRecordView& view) noexcept {
    const std::byte* const envelope = memory().slot(position).envelope;
    std::uint32_t size;
    std::memcpy(&size, envelope, sizeof size);
    if (size < kEnvelopeBytes || size - kEnvelopeBytes > memory().payload_bytes_max()) {
      protocol_.set_fault(MpmcFault::bad_size);
      return false;
    }
    view.payload = memory().payload(position);
    view.payload_bytes = size - static_cast<std::uint32_t>(kEnvelopeBytes);
    std::memcpy(&view.timestamp_us, envelope + kTimestampOffset, sizeof view.timestamp_us);
    std::memcpy(&view.checksum, envelope + kChecksumOffset, sizeof view.checksum);
    view.position = position;
    return true;
  }

  MpmcProtocol<Memory> protocol_;
  bool attached_ = false;
  // The open claim: bit i of claims_open_ stands for position claimed_ + i. Likewise the last burst.
  std::uint64_t claimed_ = 0;
  std::uint64_t claims_open_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t views_open_ = 0;
  std::array<std::uint64_t, kHeldMax> held_{};
  std::size_t held_count_ = 0;
};
using MpmcRecordMember = BasicMpmcRecordMember<MpmcRecordMemory>;

}  // namespace cdmf::ipc::shm
