#pragma once
// inspect/pool_report.h: looking into a pool (ring_type: mpmc), which has no server to ask: by reading its object.
#include "inspect/page.h"

namespace cdmf::ipc::shm {

/// Reads, and cannot write. The file is read, not mapped, so that it may shrink meanwhile.
/// ENDPOINT_NOT_FOUND: no pool has that name. PERMISSION_DENIED: it is another user's. PROTOCOL_ERROR: it is no pool,
/// or its header is not what any member would make.
cdmf_status report_pool(const char* endpoint, Snapshot& snapshot, ErrorText& error);

}  // namespace cdmf::ipc::shm
