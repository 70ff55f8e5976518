#pragma once
// inspect/observer_notes.h: what the server of a named object leaves in it for whoever looks in: in the page of the
// control block, behind it. The rings' own words are live; here is the rest, as of the last event.
//
// An observer opens the object for reading and reads: it can change nothing, the server need not answer, and one that
// is stopped, stuck or busy is seen as well as any other. It maps nothing, so that an object that is cut short under it
// is an error and not a SIGBUS. What it reads is whatever a peer liked to write.
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "inspect/page.h"
#include "segment/segment.h"

namespace cdmf::ipc::shm {

/// Written by the thread of the server's rendezvous alone.
struct ObserverNotes {
  std::atomic<std::uint32_t> sequence;  // Odd while it writes; raised with each change.
  std::uint32_t endpoint_bytes;         // Sizes of the two as their writer knew them; 0: nothing was written.
  std::uint32_t link_bytes;
  std::uint32_t reserved;
  cdmf_endpoint_report endpoint;  // Its pointers and counts are 0.
  cdmf_link_report link;          // peer CDMF_NO_PEER: there is none.
};
inline constexpr std::uint64_t kNotesOffset = sizeof(SegmentControl);
static_assert(kNotesOffset % alignof(ObserverNotes) == 0);
static_assert(kNotesOffset + sizeof(ObserverNotes) < kRingsOffset - 1);  // The last byte of the page is a bell.

/// memory  of the segment, mapped.
/// link    which of the snapshot's links is this segment's; CDMF_NO_PEER: none.
void write_notes(std::byte* memory, const Snapshot& seen, cdmf_peer link) noexcept;

}  // namespace cdmf::ipc::shm
