#pragma once
// inspect/link_report.h: one link as an observer sees it, from words that its two ends keep anyway.
#include "inspect/page.h"
#include "link.h"

namespace cdmf::ipc::shm {

/// Adds the link and its rings. [any]
/// server_may_sleep, server_cpu  of this side's receiver.
void report_link(const Link& link, bool server_may_sleep, std::int32_t server_cpu, Snapshot& snapshot);

/// The position words of a ring whose ends go on meanwhile, in the order in which they must be read.
struct RingPositions {
  std::uint64_t head_before = 0;
  std::uint64_t tail = 0;
  std::uint64_t head_after = 0;
};
/// Fills in what the words of a ring tell. A peer may have written anything there: the flags then say IMPLAUSIBLE.
/// [any]
void report_ring(const RecordRingControl& control, const RingPositions& positions, std::uint64_t capacity_bytes,
                 cdmf_ring_report& ring) noexcept;
void report_ring(const RecordRingControl& control, std::uint64_t capacity_bytes, cdmf_ring_report& ring) noexcept;

}  // namespace cdmf::ipc::shm
