#pragma once
// pool/pool_layout.h: the shared memory of a pool: header, words to wake each other with, members, and the record ring
// of ring/mpmc_record_layout.h. Bytes: ../LAYOUT.md; change the two together, and raise the version.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ring/mpmc_record_layout.h"
#include "segment/segment.h"

namespace cdmf::ipc::shm {

inline constexpr std::uint32_t kPoolVersion = 1;
inline constexpr std::uint32_t kPoolKind = 0x4C4F4F50;  // "POOL": a link's object has a count here, 0 to 2.
inline constexpr std::uint32_t kPoolMembersMax = 256;
inline constexpr const char* kPoolSuffix = ".pool";  // Of the object's name, after the endpoint's.

/// What the member that makes a pool decides about it.
struct PoolPlan {
  std::uint32_t ring_capacity = 0;  // Slots; one message each.
  std::uint32_t slot_size = 0;      // Bytes, the slot's header included.
  std::uint64_t frame_size_max = 0;
  bool checksum = true;

  std::uint64_t total_size() const noexcept;
  bool operator==(const PoolPlan&) const = default;
};
/// The smallest slot that holds frames of that size. 64 bits: may be more than a slot can have.
constexpr std::uint64_t pool_slot_size_for(std::uint64_t frame_size_max) noexcept {
  return (frame_size_max + kMpmcSlotHeaderBytes + kLineBytes - 1) / kLineBytes * kLineBytes;
}

/// The first bytes of the object. Constant from before it has its name. Checked once, then every member keeps its own.
struct PoolHeader {
  std::uint32_t magic;  // kSegmentMagic
  std::uint32_t version;
  std::uint64_t total_size;
  std::uint32_t ring_capacity;
  std::uint32_t slot_size;
  std::uint32_t kind;  // kPoolKind
  std::uint32_t members_max;
  std::int32_t creator_pid;
  std::uint32_t checksum;  // 1: CRC-32.
  std::uint64_t frame_size_max;
  std::uint64_t members_offset;
  std::uint64_t ring_offset;
  std::uint64_t reserved;
};

/// Which members sleep until something happens: bit i stands for member i. A summary, so that whoever makes it happen
/// looks at one line that stays in his cache. What counts is the sleeper's own word.
struct PoolSleepers {
  alignas(kSharedBlockBytes) std::atomic<std::uint64_t> bits[kPoolMembersMax / 64];
};

struct PoolControl {
  alignas(kSharedBlockBytes) PoolHeader header;
  // Written when members come, go, or are found dead.
  alignas(kSharedBlockBytes) std::atomic<std::uint32_t> changes;  // Raised each time: look at the members again.
  std::atomic<std::uint32_t> broken;                              // 0, or 1 + the MpmcFault that somebody found.
  // Written by those that sleep, read after every message sent and every burst given back.
  PoolSleepers consumers;  // Until there is a message.
  PoolSleepers producers;  // Until there is room.
};

enum class PoolRole : std::uint32_t { none = 0, producer = 1, consumer = 2 };

/// One per line of the ring's participants, written by the line's user.
struct PoolMember {
  // Before the line says `attached`; means something while it does.
  alignas(kSharedBlockBytes) std::atomic<std::uint32_t> role;  // PoolRole
  std::atomic<std::int32_t> pid;  // In its own PID namespace: a hint where to look for its death.
  // For observers; of all users that the line has had.
  std::atomic<std::uint64_t> wakes;        // Of other members, by this one: a system call each.
  std::atomic<std::uint64_t> space_waits;  // Sleeps of its threads until there is room.
  // States of pool_bell.h; futexes. Written by those that wake this member, too.
  alignas(kLineBytes) std::atomic<std::uint32_t> receiver;  // Its receiving thread.
  std::atomic<std::uint32_t> sender;                        // Its threads that wait for room.
};

static_assert(std::is_standard_layout_v<PoolControl> && std::is_standard_layout_v<PoolMember>);
static_assert(sizeof(PoolHeader) <= kSharedBlockBytes && sizeof(PoolControl) == 4 * kSharedBlockBytes);
static_assert(offsetof(PoolControl, changes) == kSharedBlockBytes);
static_assert(sizeof(PoolMember) == kSharedBlockBytes);
static_assert(std::atomic<std::int32_t>::is_always_lock_free);

inline constexpr std::uint64_t kPoolMembersOffset = sizeof(PoolControl);
inline constexpr std::uint64_t kPoolRingOffset = 36864;  // Whole pages: 512 and 256 x 128 bytes, rounded up.
static_assert(kPoolRingOffset >= kPoolMembersOffset + kPoolMembersMax * sizeof(PoolMember));
static_assert(kPoolMembersMax <= kMpmcParticipantsMax);

inline std::uint64_t PoolPlan::total_size() const noexcept {
  return kPoolRingOffset + MpmcRecordMemory::size_bytes(ring_capacity, slot_size, kPoolMembersMax);
}

/// Writes the header into memory of plan.total_size() bytes that is all zero; NamedObject marks it as an object.
void lay_out_pool(std::byte* memory, const PoolPlan& plan) noexcept;
/// The plan that a header in an object of so many bytes says; `header` is a private copy, and of this kind and version.
/// False: it cannot be.
bool read_pool_plan(const PoolHeader& header, std::uint64_t size, PoolPlan& plan) noexcept;

/// A mapped pool. Owns nothing.
class PoolMemory {
 public:
  PoolMemory(std::byte* memory, const PoolPlan& plan) noexcept
      : memory_(memory), ring_(memory + kPoolRingOffset, plan.ring_capacity, plan.slot_size, kPoolMembersMax) {}

  PoolControl& control() const noexcept { return *reinterpret_cast<PoolControl*>(memory_); }
  /// index  below kPoolMembersMax.
  PoolMember& member(std::uint32_t index) const noexcept {
    return reinterpret_cast<PoolMember*>(memory_ + kPoolMembersOffset)[index];
  }
  const MpmcRecordMemory& ring() const noexcept { return ring_; }

 private:
  std::byte* memory_;
  MpmcRecordMemory ring_;
};

}  // namespace cdmf::ipc::shm
