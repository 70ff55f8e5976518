#pragma once
// ring/mpmc_record_layout.h: the memory of the record ring for many producers and many consumers, and its words.
// How the ring works, and why it is right: mpmc_record_protocol.h. Who uses it: mpmc_record_ring.h.

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ipc/ring_buffer/prefetch.h"
#include "ring/record_ring.h"

namespace cdmf::ipc::shm {

inline constexpr std::uint32_t kMpmcSlotCountMax = 1u << 20;
inline constexpr std::uint32_t kMpmcParticipantsMax = 1024;
inline constexpr std::uint32_t kMpmcBatchMax = 64;  // Positions in one claim; an announcement has room for 255.
/// Positions count claims since the ring was made, 22 years of them at 100 million a second. Never reused, hence every
/// comparison of positions is exact.
inline constexpr std::uint64_t kMpmcPositionMax = (std::uint64_t{1} << 56) - 1 - kMpmcBatchMax;

/// A slot's word: its lap (position / slot_count) and its state. Words of one slot only grow lap by lap, and a lap's
/// states only follow the arrows:
///
///     empty --commit--> full --receive, release--> empty of the next lap
///       |                 |--hold--> kept --release----------^
///       '--abort, or the  |           |                      |
///          owner died--> tomb --skip--+----------------------^
///                         |           |                      |
///       (the owner died)  '-----------'--> lost (even, odd) -'
///
/// 0 is "empty, lap 0": fresh memory is a valid empty ring, so that nobody can die while making one.
enum class MpmcSlotState : std::uint8_t { empty, full, tomb, kept, lost_even, lost_odd };
inline constexpr std::uint64_t kMpmcStateBits = 3;

constexpr std::uint64_t mpmc_word(std::uint64_t lap, MpmcSlotState state) noexcept {
  return lap << kMpmcStateBits | static_cast<std::uint64_t>(state);
}
constexpr std::uint64_t mpmc_lap(std::uint64_t word) noexcept { return word >> kMpmcStateBits; }
/// May be none of the enumerators: memory can hold anything.
constexpr MpmcSlotState mpmc_state(std::uint64_t word) noexcept {
  return static_cast<MpmcSlotState>(word & ((1 << kMpmcStateBits) - 1));
}
constexpr bool mpmc_is_lost(MpmcSlotState state) noexcept {
  return state == MpmcSlotState::lost_even || state == MpmcSlotState::lost_odd;
}

/// "I am about to claim, or have claimed, the positions first to first + count - 1." 0: nothing is announced.
constexpr std::uint64_t mpmc_announcement(std::uint64_t first, std::uint32_t count) noexcept {
  return first << 8 | count;
}
constexpr std::uint64_t mpmc_announced_first(std::uint64_t announcement) noexcept { return announcement >> 8; }
constexpr std::uint32_t mpmc_announced_count(std::uint64_t announcement) noexcept {
  return static_cast<std::uint32_t>(announcement & 255);
}
constexpr bool mpmc_announces(std::uint64_t announcement, std::uint64_t position) noexcept {
  return position - mpmc_announced_first(announcement) < mpmc_announced_count(announcement);
}

/// A participant's state word: bit 0 attached, bits 1-23 deaths (how many of its users were found dead), bits 24-63
/// generation (how many attached so far). In one word, so that a death is counted once, together with its repair.
constexpr bool mpmc_attached(std::uint64_t state) noexcept { return (state & 1) != 0; }
constexpr std::uint64_t mpmc_generation(std::uint64_t state) noexcept { return state >> 24; }
constexpr std::uint64_t mpmc_deaths(std::uint64_t state) noexcept { return state >> 1 & 0x7F'FFFF; }
constexpr std::uint64_t mpmc_state_attached(std::uint64_t free) noexcept {
  return ((mpmc_generation(free) + 1) << 24) | mpmc_deaths(free) << 1 | 1;
}
constexpr std::uint64_t mpmc_state_detached(std::uint64_t attached) noexcept { return attached & ~std::uint64_t{1}; }
constexpr std::uint64_t mpmc_state_buried(std::uint64_t attached) noexcept {
  return mpmc_generation(attached) << 24 | ((mpmc_deaths(attached) + 1) & 0x7F'FFFF) << 1;
}

struct MpmcRecordControl {
  // Written by producers, when they claim.
  alignas(kSharedBlockBytes) std::atomic<std::uint64_t> tail{0};  // The next position to be produced.
  // Written by consumers, when they claim.
  alignas(kSharedBlockBytes) std::atomic<std::uint64_t> head{0};  // The next position to be consumed.
  // Written during recovery alone.
  alignas(kSharedBlockBytes) std::atomic<std::uint64_t> tombstones{0};
};
static_assert(std::is_standard_layout_v<MpmcRecordControl> && sizeof(MpmcRecordControl) == 3 * kSharedBlockBytes);

/// One per participant, written by its user alone, but for `state`: others free a line whose user is dead.
struct alignas(kSharedBlockBytes) MpmcParticipant {
  std::atomic<std::uint64_t> producing{0};  // An announcement.
  std::atomic<std::uint64_t> consuming{0};  // An announcement.
  std::atomic<std::uint64_t> state{0};
  // For observers; of all users that the line has had, so that sums over the lines only grow. Counted where a claim
  // came to nothing, which is slow anyway: the fast path has no count.
  std::atomic<std::uint64_t> retries{0};     // Claims, to send or to receive, that lost to another member's.
  std::atomic<std::uint64_t> refused{0};     // Claims to send that found the ring full.
  std::atomic<std::uint64_t> high_water{0};  // Most positions in use when its user looked, once a lap.
};
static_assert(std::is_standard_layout_v<MpmcParticipant> && sizeof(MpmcParticipant) == kSharedBlockBytes);

/// What precedes the payload in each slot.
struct MpmcSlot {
  std::atomic<std::uint64_t> word{0};
  std::atomic<std::uint32_t> owner{0};   // Who keeps it: participant + 1. Means something while the word says `kept`.
  std::atomic<std::uint32_t> losses{0};  // Messages lost here by the death of a consumer, modulo 2^32.
  std::byte envelope[kEnvelopeBytes];    // As in the other record ring: size (u32), timestamp (u64), CRC (u32), packed.
};
inline constexpr std::size_t kMpmcSlotHeaderBytes = 32;
static_assert(std::is_standard_layout_v<MpmcSlot> && sizeof(MpmcSlot) == kMpmcSlotHeaderBytes);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);  // A hidden lock would belong to one process.
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

/// Which orders the accesses have. Each edge is explained in mpmc_record_protocol.h. Named here so that a checker can
/// run the same code with one of them weakened, and must then find the error.
struct MpmcOrders {
  static constexpr auto kRelaxed = std::memory_order_relaxed;
  static constexpr auto kWordLoad = std::memory_order_acquire;      // FILLED, FREED, KEPT
  static constexpr auto kFilledStore = std::memory_order_release;   // FILLED
  static constexpr auto kFreedStore = std::memory_order_release;    // FREED
  static constexpr auto kKeptStore = std::memory_order_release;     // KEPT
  static constexpr auto kRepairCas = std::memory_order_acq_rel;     // FILLED, FREED
  static constexpr auto kClaimedCas = std::memory_order_release;    // CLAIMED
  static constexpr auto kClaimedLoad = std::memory_order_acquire;   // CLAIMED
  static constexpr auto kSettledStore = std::memory_order_release;  // SETTLED
  static constexpr auto kSettledLoad = std::memory_order_acquire;   // SETTLED
  static constexpr auto kLineCas = std::memory_order_acq_rel;       // LINE
  static constexpr auto kLineStore = std::memory_order_release;     // LINE
  static constexpr auto kLineLoad = std::memory_order_acquire;      // LINE
  static constexpr auto kCountedCas = std::memory_order_acq_rel;    // COUNTED
  static constexpr auto kCountedLoad = std::memory_order_acquire;   // COUNTED
};

/// Where a ring lives. Owns nothing: whoever mapped the memory keeps it mapped longer than its members exist.
/// The memory was all zero when the ring was made. Sizes are from this process's own checks, not read again from the
/// segment, and the same for every process.
///
/// kAnnounces  false leaves announcements, and with them all recovery, out: for measuring what they cost, as then one
///             death can block the ring for ever.
template <bool kAnnouncesClaims>
class BasicMpmcRecordMemory {
 public:
  using Orders = MpmcOrders;
  static constexpr bool kAnnounces = kAnnouncesClaims;

  /// Bytes needed. Mind is_valid().
  static constexpr std::uint64_t size_bytes(std::uint32_t slot_count, std::uint32_t slot_size_bytes,
                                            std::uint32_t participant_count) noexcept {
    return sizeof(MpmcRecordControl) + std::uint64_t{participant_count} * sizeof(MpmcParticipant) +
           std::uint64_t{slot_count} * slot_size_bytes;
  }
  /// slot_count         a power of two, 1 to kMpmcSlotCountMax.
  /// slot_size_bytes    a multiple of 64; a message may have 32 bytes less.
  /// participant_count  1 to kMpmcParticipantsMax.
  static constexpr bool is_valid(std::uint32_t slot_count, std::uint32_t slot_size_bytes,
                                 std::uint32_t participant_count) noexcept {
    return std::has_single_bit(slot_count) && slot_count <= kMpmcSlotCountMax && slot_size_bytes >= kLineBytes &&
           slot_size_bytes % kLineBytes == 0 && slot_size_bytes <= (1u << 30) && participant_count >= 1 &&
           participant_count <= kMpmcParticipantsMax;
  }

  /// bytes  size_bytes() of them, aligned to 128. The three numbers: valid.
  BasicMpmcRecordMemory(std::byte* bytes, std::uint32_t slot_count, std::uint32_t slot_size_bytes,
                        std::uint32_t participant_count) noexcept
      : control_(reinterpret_cast<MpmcRecordControl*>(bytes)),
        participants_(reinterpret_cast<MpmcParticipant*>(bytes + sizeof(MpmcRecordControl))),
        slots_(bytes + sizeof(MpmcRecordControl) + participant_count * sizeof(MpmcParticipant)),
        slot_count_(slot_count),
        slot_size_bytes_(slot_size_bytes),
        participant_count_(participant_count),
        lap_shift_(static_cast<std::uint32_t>(std::countr_zero(slot_count))) {}

  std::uint32_t slot_count() const noexcept { return slot_count_; }
  std::uint32_t participant_count() const noexcept { return participant_count_; }
  std::uint32_t payload_bytes_max() const noexcept {
    return slot_size_bytes_ - static_cast<std::uint32_t>(kMpmcSlotHeaderBytes);
  }
  std::uint64_t lap_of(std::uint64_t position) const noexcept { return position >> lap_shift_; }

  std::atomic<std::uint64_t>& tail() const noexcept { return control_->tail; }
  std::atomic<std::uint64_t>& head() const noexcept { return control_->head; }
  std::atomic<std::uint64_t>& tombstones() const noexcept { return control_->tombstones; }
  /// index  below participant_count().
  MpmcParticipant& participant(std::uint32_t index) const noexcept { return participants_[index]; }
  /// The slot of a position, whichever: stays within the ring.
  MpmcSlot& slot(std::uint64_t position) const noexcept {
    return *reinterpret_cast<MpmcSlot*>(slots_ + (position & (slot_count_ - 1)) * slot_size_bytes_);
  }
  std::byte* payload(std::uint64_t position) const noexcept {
    return reinterpret_cast<std::byte*>(&slot(position)) + kMpmcSlotHeaderBytes;
  }

  /// A hint: that position's slot is about to be written to.
  void ask_for(std::uint64_t position) const noexcept {
    ring_buffer_detail::prefetch_for_writing(reinterpret_cast<const std::byte*>(&slot(position)));
  }

  // The counts of line `index`, for observers; by its user alone, hence no locked operation.
  void count_retry(std::uint32_t index) const noexcept { raise(participants_[index].retries); }
  void count_refused(std::uint32_t index) const noexcept { raise(participants_[index].refused); }
  void note_high_water(std::uint32_t index, std::uint64_t used) const noexcept {
    std::atomic<std::uint64_t>& most = participants_[index].high_water;
    if (used > most.load(std::memory_order_relaxed)) most.store(used, std::memory_order_relaxed);
  }

  /// Waits a little, because somebody else was faster.
  static void relax(std::uint32_t turns) noexcept {
    for (; turns != 0; --turns) {
#if defined(__x86_64__) || defined(__i386__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      asm volatile("yield" ::: "memory");
#endif
    }
  }

 private:
  static void raise(std::atomic<std::uint64_t>& count) noexcept {
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  MpmcRecordControl* control_;
  MpmcParticipant* participants_;
  std::byte* slots_;
  std::uint32_t slot_count_;
  std::uint32_t slot_size_bytes_;
  std::uint32_t participant_count_;
  std::uint32_t lap_shift_;
};
using MpmcRecordMemory = BasicMpmcRecordMemory<true>;

}  // namespace cdmf::ipc::shm
