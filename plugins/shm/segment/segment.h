#pragma once
// segment/segment.h: the shared memory of one link: a control block and two record rings. Bytes: ../LAYOUT.md.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ipc/driver.h"
#include "ring/record_ring.h"
#include "segment/unique_fd.h"

namespace cdmf::ipc::shm {

inline constexpr std::uint32_t kSegmentMagic = 0xCDAF5000;
inline constexpr std::uint32_t kSegmentVersion = 1;
inline constexpr std::uint64_t kRingsOffset = 4096;  // The control block has the first page.

/// What the server decides about a link and tells the client.
struct SegmentPlan {
  std::uint32_t ring_capacity = 0;  // Slots per ring; ring bytes = ring_capacity * slot_size.
  std::uint32_t slot_size = 0;      // Bytes.
  std::uint64_t frame_size_max = 0;
  bool bidirectional = true;  // false: no RX ring, the server sends nothing.
  bool checksum = true;       // Envelopes carry the CRC-32 of the payload.

  std::uint64_t ring_bytes() const noexcept { return std::uint64_t{ring_capacity} * slot_size; }
  std::uint64_t total_size() const noexcept { return kRingsOffset + ring_bytes() * (bidirectional ? 2 : 1); }
};

/// The first bytes of a segment. Constant once the server has sent the segment to the client, but for the two counts.
/// Nobody works with these values: each side checks them against the handshake once and keeps its own.
struct SegmentHeader {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint64_t total_size;
  std::uint32_t ring_capacity;
  std::uint32_t slot_size;
  std::atomic<std::uint32_t> reader_count;  // Ends attached for reading, 0 to 2; for observers.
  std::atomic<std::uint32_t> writer_count;
  std::int32_t server_pid;
  std::int32_t client_pid;
  std::uint64_t frame_size_max;
  std::uint64_t tx_offset;  // Of the ring's bytes from the start of the segment.
  std::uint64_t rx_offset;  // 0: there is none.
  std::uint32_t checksum;   // 1: CRC-32.
  std::uint32_t reserved;
};
struct SegmentControl {
  alignas(kSharedBlockBytes) SegmentHeader header;
  RecordRingControl tx;  // Client to server.
  RecordRingControl rx;  // Server to client.
};
static_assert(std::is_standard_layout_v<SegmentControl>);
static_assert(sizeof(SegmentHeader) <= kSharedBlockBytes && offsetof(SegmentControl, tx) == kSharedBlockBytes);
static_assert(sizeof(SegmentControl) == 5 * kSharedBlockBytes && sizeof(SegmentControl) <= kRingsOffset);

/// One end's mapping of a segment. The mapping goes with the object; it is not inherited by fork().
class Segment {
 public:
  Segment() = default;
  Segment(Segment&& other) noexcept { swap(other); }
  Segment& operator=(Segment&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Segment();

  /// Makes a sealed memfd of plan.total_size() bytes, all of them allocated, and maps it. fd is for the client and may
  /// be closed once sent. RESOURCE_EXHAUSTED when there is no memory or no descriptor.
  static cdmf_status create(const SegmentPlan& plan, std::int32_t client_pid, Segment& segment, UniqueFd& fd,
                            ErrorText& error);
  /// Maps what a server sent, after checking the seals, the size and every value of the header against the plan.
  /// PROTOCOL_ERROR, VERSION_MISMATCH: it is not what the plan says; the text names the difference.
  static cdmf_status attach(int fd, const SegmentPlan& plan, Segment& segment, ErrorText& error);

  explicit operator bool() const noexcept { return memory_ != nullptr; }
  RecordRingMemory tx() const noexcept { return {&control()->tx, memory_ + kRingsOffset, ring_bytes_}; }
  /// Only when bidirectional.
  RecordRingMemory rx() const noexcept { return {&control()->rx, memory_ + kRingsOffset + ring_bytes_, ring_bytes_}; }
  SegmentHeader& header() const noexcept { return control()->header; }

 private:
  SegmentControl* control() const noexcept { return reinterpret_cast<SegmentControl*>(memory_); }
  bool map(int fd, const SegmentPlan& plan) noexcept;
  void swap(Segment& other) noexcept;

  std::byte* memory_ = nullptr;
  std::size_t size_ = 0;
  std::uint64_t ring_bytes_ = 0;
};

}  // namespace cdmf::ipc::shm
