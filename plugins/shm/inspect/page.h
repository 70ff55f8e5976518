#pragma once
// inspect/page.h: what an observer gets of a running endpoint: one page of counters, in a memfd that nobody can write
// to any more. Bytes: ../LAYOUT.md; the structures are those of ipc/inspect_abi.h.
//
// A page is made when somebody asks, by the control thread, from words that the data path keeps anyway. Hence nobody
// pays while nobody looks, an observer can harm nothing, and a server cannot change under its observer's feet what it
// has checked.
#include <cstdint>
#include <vector>

#include "ipc/driver.h"
#include "ipc/inspect_abi.h"
#include "segment/unique_fd.h"

namespace cdmf::ipc::shm {

inline constexpr std::uint32_t kPageMagic = 0xCDAF5001;
inline constexpr std::uint32_t kPageVersion = 1;
inline constexpr std::uint64_t kPageBytesMax = 256 << 20;  // More than 65536 links need.

struct PageHeader {
  std::uint32_t magic = kPageMagic;
  std::uint32_t version = kPageVersion;
  std::uint64_t total_bytes = 0;
  std::uint32_t endpoint_bytes = 0;  // Sizes of the structures as their writer knew them; they only grow.
  std::uint32_t link_bytes = 0;
  std::uint32_t ring_bytes = 0;
  std::uint32_t reserved = 0;
  std::uint64_t link_count = 0;
  std::uint64_t ring_count = 0;
  std::uint64_t reserved2[2] = {};
};
static_assert(sizeof(PageHeader) == 64);
// Then: one cdmf_endpoint_report (its pointers are 0), the links, the rings.

struct Snapshot {
  cdmf_endpoint_report endpoint{};
  std::vector<cdmf_link_report> links;
  std::vector<cdmf_ring_report> rings;
};

/// Makes the file and seals it.
cdmf_status write_page(const Snapshot& snapshot, UniqueFd& page, ErrorText& error);
/// Reads a file that another process sent. PROTOCOL_ERROR: it is not sealed, or its parts do not add up. The numbers in
/// it are whatever the sender liked.
cdmf_status read_page(int page, Snapshot& snapshot, ErrorText& error);

}  // namespace cdmf::ipc::shm
