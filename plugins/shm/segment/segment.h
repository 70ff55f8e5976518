#pragma once
// segment/segment.h: the shared memory of one link: a control block and two record rings. Bytes: ../LAYOUT.md.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ipc/driver.h"
#include "ring/record_ring.h"
#include "segment/mapping.h"
#include "segment/unique_fd.h"

namespace cdmf::ipc::shm {

inline constexpr std::uint32_t kSegmentMagic = 0xCDAF5000;
// Of the layout and of the handshake, which change together. Another major version is another layout: not understood.
// A minor version adds fields where zeros were and packets that are longer: both sides use what the older one knows.
//   1.1  the client may ask for rings of its own size; features
inline constexpr std::uint32_t kVersionMajor = 1;
inline constexpr std::uint32_t kVersionMinor = 1;
inline constexpr std::uint64_t kRingsOffset = 4096;  // The control block has the first page.

/// What both sides must know of to use it, by bits; a link has what both have.
inline constexpr std::uint32_t kFeatureSemaphores =
    1;  // posix: beside the segment are semaphores, /name_tx and /name_rx.
inline constexpr std::uint32_t kFeaturesKnown = kFeatureSemaphores;
inline constexpr std::uint32_t kSocketFeaturesKnown = 0;  // Of those, what a link over a socket may have.

/// What the server decides about a link and tells the client.
struct SegmentPlan {
  std::uint32_t ring_capacity = 0;  // Slots per ring; ring bytes = ring_capacity * slot_size.
  std::uint32_t slot_size = 0;      // Bytes.
  std::uint64_t frame_size_max = 0;
  bool bidirectional = true;            // false: no RX ring, the server sends nothing.
  bool checksum = true;                 // Envelopes carry the CRC-32 of the payload.
  std::uint32_t minor = kVersionMinor;  // The older of both sides' minor versions.
  std::uint32_t features = 0;           // What both have of kFeaturesKnown.
  std::uint64_t generation = 0;         // How many segments the server had made, this one included.

  std::uint64_t ring_bytes() const noexcept { return std::uint64_t{ring_capacity} * slot_size; }
  /// Whether a ring of so many slots carries the largest frame.
  bool suffices(std::uint64_t capacity) const noexcept {
    const std::uint64_t bytes = capacity * slot_size;
    return is_valid_capacity(bytes) && frame_size_max <= payload_bytes_max(bytes);
  }
  std::uint64_t total_size() const noexcept { return kRingsOffset + ring_bytes() * (bidirectional ? 2 : 1); }
};

/// What one side says of itself: in the handshake, and for observers in the segment.
struct EndFacts {
  std::int32_t pid = 0;
  std::uint32_t minor = kVersionMinor;
  std::uint32_t may_sleep = 0;  // 0: this side only spins, so the peer need not look whether to wake it.
  std::int32_t only_cpu = -1;   // See wait/spinner.h.
};

/// The first bytes of a segment. Constant from before the server lets anybody see it.
/// Nobody works with these values: each side checks them against the handshake once and keeps its own.
struct SegmentHeader {
  std::uint32_t magic;
  std::uint32_t version;  // kVersionMajor.
  std::uint64_t total_size;
  std::uint32_t ring_capacity;
  std::uint32_t slot_size;
  std::uint32_t minor;  // Of the link.
  std::uint32_t features;
  std::uint64_t frame_size_max;
  std::uint64_t tx_offset;  // Of the ring's bytes from the start of the segment.
  std::uint64_t rx_offset;  // 0: there is none.
  std::uint32_t checksum;   // 1: CRC-32.
  std::uint32_t reserved;
  std::uint64_t generation;
};
/// One side of the link. Where there is a socket, it has said all this, and `stage` and `goodbye` stay 0.
struct SegmentEnd {
  EndFacts facts;
  std::atomic<std::uint32_t> stage;
  std::atomic<std::int32_t> goodbye;  // 0, or why this side ended the link.
};
/// Attached ends. Both sides count, for observers alone.
struct SegmentCounts {
  std::atomic<std::uint32_t> reader_count;  // 0 to 2.
  std::atomic<std::uint32_t> writer_count;
};
struct SegmentControl {
  alignas(kSharedBlockBytes) SegmentHeader header;
  alignas(kSharedBlockBytes) SegmentEnd server;
  alignas(kSharedBlockBytes) SegmentEnd client;
  alignas(kSharedBlockBytes) SegmentCounts counts;
  RecordRingControl tx;  // Client to server.
  RecordRingControl rx;  // Server to client.
};
static_assert(std::is_standard_layout_v<SegmentControl>);
static_assert(sizeof(SegmentHeader) <= kSharedBlockBytes && offsetof(SegmentControl, tx) == 4 * kSharedBlockBytes);
static_assert(sizeof(SegmentControl) == 8 * kSharedBlockBytes && sizeof(SegmentControl) <= kRingsOffset);

/// One end's mapping of a segment. The mapping goes with the object; it is not inherited by fork().
class Segment {
 public:
  /// Makes a sealed memfd of plan.total_size() bytes, all of them allocated, and maps it. fd is for the client and may
  /// be closed once sent. RESOURCE_EXHAUSTED when there is no memory or no descriptor.
  static cdmf_status create(const SegmentPlan& plan, const EndFacts& server, const EndFacts& client, Segment& segment,
                            UniqueFd& fd, ErrorText& error);
  /// Maps what a server sent, after checking the seals, the size and every value of the header against the plan.
  /// PROTOCOL_ERROR, VERSION_MISMATCH: it is not what the plan says; the text names both sides' values.
  static cdmf_status attach(int fd, const SegmentPlan& plan, Segment& segment, ErrorText& error);

  /// Writes the control block into memory of plan.total_size() bytes that is all zero.
  static void lay_out(std::byte* memory, const SegmentPlan& plan, const EndFacts& server, const EndFacts& client);
  /// The plan that a header in an object of so many bytes says; `header` is a private copy. False: it cannot be.
  static bool read_plan(const SegmentHeader& header, std::uint64_t size, SegmentPlan& plan) noexcept;
  /// A segment that was laid out, and checked, elsewhere.
  static Segment adopt(Mapping mapping, const SegmentPlan& plan) noexcept;

  explicit operator bool() const noexcept { return static_cast<bool>(mapping_); }
  RecordRingMemory tx() const noexcept { return {&control().tx, mapping_.memory() + kRingsOffset, ring_bytes_}; }
  /// Only when bidirectional.
  RecordRingMemory rx() const noexcept {
    return {&control().rx, mapping_.memory() + kRingsOffset + ring_bytes_, ring_bytes_};
  }
  SegmentHeader& header() const noexcept { return control().header; }
  SegmentControl& control() const noexcept { return *reinterpret_cast<SegmentControl*>(mapping_.memory()); }

 private:
  Mapping mapping_;
  std::uint64_t ring_bytes_ = 0;
};

}  // namespace cdmf::ipc::shm
