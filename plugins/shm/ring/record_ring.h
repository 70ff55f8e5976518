#pragma once
// ring/record_ring.h: what the two ends of the one-producer, one-consumer ring of variable-size records share.
// The ends are record_producer.h and record_consumer.h. Bytes: ../LAYOUT.md; change the two together.

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace cdmf::ipc::shm {

inline constexpr std::uint64_t kLineBytes = 64;        // A record's unit. Fixed by the layout, not by the CPU.
inline constexpr std::size_t kSharedBlockBytes = 128;  // Keeps the two writers apart, adjacent-line prefetch included.
inline constexpr std::uint64_t kRingBytesMin = 4 * kLineBytes;
inline constexpr std::uint64_t kRingBytesMax = std::uint64_t{1} << 40;

/// The ring in one page
///
/// Positions are byte counts since the ring was made. They only grow, are multiples of a line, and never wrap (64
/// bits). The byte at position p stands at offset p mod capacity; p / capacity is its lap. A record occupies whole
/// lines and never crosses the end: a padding record fills what is left. The first four bytes of a record are its
/// commit word:
///
///     bits 28-31  stamp of the lap, 1 to 15      bits 0-27  envelope and payload in bytes (16 or more), or
///     kPaddingSize
///
/// A consumer at position p polls the word there, and no other. It takes the word for a commit when the stamp is that
/// of p's own lap. There is no index to fetch besides, so a record of one line costs one transfer of one line.
///
/// Why it can never take something stale for a commit. Lines are reused with other contents in each lap: what was a
/// header may become payload, and payload bytes can look like any word at all. The producer keeps one private bit per
/// line, `dirty`, with this invariant for every line, p being its next position at or after the tail:
///
///     (I) not dirty  =>  the line's word is 0, or the commit word of a record that began there exactly one lap before
///     p.
///
///   - Fresh memory is all 0 and no line is dirty: (I) holds.
///   - A claim makes every line it lends dirty, except the first: the borrower may write there whatever becomes of the
///     claim (commit, shrink, abort). It cannot touch the first line's word, which lies in the envelope.
///   - When the tail moves over a record, its first line received this lap's word and is marked not dirty: its next
///   position
///     is one lap later, so (I) holds. Its other lines have been dirty since the claim. Lines passed by a padding
///     record, except its first, are marked dirty too: their words may be of any age.
///   - A flush puts the tail at the place the consumer will poll next. If that line is dirty, its word is set to 0 and
///   it is
///     not dirty any more. This store precedes the release that publishes the batch (FILLED), hence whoever reaches
///     that place sees 0 or something newer.
///   So a polled word is 0, or carries the previous lap's stamp, or is this lap's commit. Two stamps would suffice: no
///   word survives two laps unnoticed, however long its line was not a header, so that reuse of a stamp after 15 laps
///   is harmless. Anything else at a polled place is a fault of the peer, and the consumer treats it so.
///
/// Setting a word to 0 never hits a record that is still to be read: if the place was not free, then tail - capacity ==
/// head, where a record begins whose header was written in the lap before: that line is not dirty. Hence all lines are
/// usable.
///
/// Where sizes are mixed, the producer also sets to 0, and marks not dirty, dirty lines somewhat beyond the tail that
/// are free and not lent, in advance of the flush that would have to.
///
/// A stream of records of one size never meets a dirty line: each lap starts at offset 0, so its headers stand at the
/// same places in every lap. That is the point: setting the next word to 0 touches a line the consumer is busy with.
///
/// Edges      FILLED  commit word: store(release) -> load(acquire). The record may be read, and those of its batch.
///            FREED   head:        store(release) -> load(acquire). The lines before head may be written again.
struct RecordRingControl {
  // Written by the producer alone. Nobody polls the first line, so its stores stay in the producer's cache.
  alignas(kSharedBlockBytes) std::atomic<std::uint64_t> tail{0};  // After the last flushed record; for observers only.
  std::atomic<std::uint64_t> records_flushed{0};                  // Padding not counted.
  // For observers too; written where the producer is slow anyway.
  std::atomic<std::uint64_t> claims_refused{0};  // Found the ring full.
  std::atomic<std::uint64_t> high_water{0};      // Most bytes not freed, whenever the producer looked at the head: when
                                                 // it runs out of what it knew to be free, so at least once a lap.
  std::atomic<std::uint64_t> wakes{0};           // Of the consumer. By wait/, as
  std::atomic<std::uint64_t> space_waits{0};     // the sleeps until there is room.
  // The producer sleeps, or is about to, until there is room. Operated by wait/.
  alignas(kLineBytes) std::atomic<std::uint32_t> space_wanted{0};
  // Of a large record that is being written: where it begins and how far it has come. A hint, which nothing depends on,
  // for a consumer that waits for it: RecordConsumer::fetch_early().
  std::atomic<std::uint64_t> writing_from{0};
  std::atomic<std::uint64_t> written_to{0};

  // Written by the consumer alone (but for `armed`, which the producer takes back when it wakes the consumer).
  alignas(kSharedBlockBytes) std::atomic<std::uint64_t> head{0};  // Everything before it is free. Published lazily.
  std::atomic<std::uint64_t> records_taken{0};                    // For observers; once per burst.
  // The consumer sleeps, or is about to, until there is a record. On its own line: the producer reads it at each flush,
  // which must not cost it the line of `head`. Operated by wait/.
  alignas(kLineBytes) std::atomic<std::uint32_t> armed{0};
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);  // A hidden lock would belong to one process.
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(std::atomic_ref<std::uint32_t>::is_always_lock_free);
static_assert(std::is_standard_layout_v<RecordRingControl> && sizeof(RecordRingControl) == 2 * kSharedBlockBytes);

/// What precedes every payload, packed: the timestamp is not aligned, so it is copied, never pointed at.
inline constexpr std::uint64_t kEnvelopeBytes = 16;
inline constexpr std::size_t kTimestampOffset = 4;  // u64, microseconds since the Unix epoch, 0: none
inline constexpr std::size_t kChecksumOffset = 12;  // u32, CRC-32 (IEEE) of the payload, 0 when checksums are off

inline constexpr std::uint32_t kSizeMask = 0x0FFF'FFFF;
inline constexpr std::uint32_t kStampShift = 28;
inline constexpr std::uint32_t kStampCount = 15;  // Stamps are 1 to 15; 0 is the stamp of memory never used.
inline constexpr std::uint32_t kPaddingSize = 1;  // "Nothing up to the end of the ring"; no record is that small.

constexpr std::uint32_t next_stamp(std::uint32_t stamp) noexcept { return stamp == kStampCount ? 1 : stamp + 1; }
constexpr std::uint32_t commit_word(std::uint32_t stamp, std::uint32_t size) noexcept {
  return stamp << kStampShift | size;
}
constexpr std::uint64_t whole_lines(std::uint64_t bytes) noexcept {
  return (bytes + kLineBytes - 1) & ~(kLineBytes - 1);
}

/// Largest record, envelope included: half a ring, so that a record and the padding before it always fit an empty ring.
constexpr std::uint64_t record_bytes_max(std::uint64_t capacity_bytes) noexcept {
  const std::uint64_t half = capacity_bytes / 2;
  return half <= kSizeMask ? half : (kSizeMask + 1) - kLineBytes;
}
constexpr std::uint64_t payload_bytes_max(std::uint64_t capacity_bytes) noexcept {
  return record_bytes_max(capacity_bytes) - kEnvelopeBytes;
}
constexpr bool is_valid_capacity(std::uint64_t capacity_bytes) noexcept {
  return std::has_single_bit(capacity_bytes) && capacity_bytes >= kRingBytesMin && capacity_bytes <= kRingBytesMax;
}

/// Where a ring lives. Owns nothing: whoever mapped the memory keeps it mapped longer than both ends exist.
/// The memory was all zero when the ring was made, and never held a ring before.
struct RecordRingMemory {
  RecordRingControl* control = nullptr;  // Aligned to 128 bytes.
  std::byte* bytes = nullptr;            // `capacity_bytes` of them, aligned to 64.
  std::uint64_t capacity_bytes = 0;      // From this process's own checks, not read from the segment again.
};

/// Whether a record of that payload would fit behind what is flushed, as the shared words tell; true also when they
/// make no sense, so that a waiter stops waiting and the claim says what is wrong. Any thread of either process.
bool ring_has_room(const RecordRingMemory& memory, std::uint64_t payload_bytes) noexcept;
/// Records flushed of which the consumer has not said that it is done: after its death, the most that can be lost.
/// Walks the ring, so it is for the end of a link. A peer that tampered with the ring can make the number wrong,
/// nothing worse.
std::uint64_t count_unreleased(const RecordRingMemory& memory) noexcept;

/// What a peer did that no correct peer does. The end that noticed refuses to work from then on.
enum class RingFault : std::uint8_t {
  none,
  bad_stamp,    // a word at a polled place that belongs neither to this lap nor to the one before
  bad_size,     // smaller than an envelope, or larger than the largest record
  past_end,     // a record reaching over the end of the ring
  bad_padding,  // padding where a whole ring is still to come
  overrun,      // records where the consumer has not freed the lines yet
  bad_head,     // head moved back, beyond what was flushed, or into the middle of a line
  bad_tail,     // somebody else wrote to the tail
};
const char* to_string(RingFault fault) noexcept;

}  // namespace cdmf::ipc::shm
