#pragma once
// inspect/object_report.h: a link over a named object (segment: posix) as an observer sees it. Nobody is asked: the
// object is read. See observer_notes.h.
#include "inspect/page.h"

namespace cdmf::ipc::shm {

/// ENDPOINT_NOT_FOUND: there is no object, or its server is dead. PERMISSION_DENIED, PROTOCOL_ERROR, VERSION_MISMATCH.
cdmf_status report_object(const char* endpoint, Snapshot& snapshot, ErrorText& error);

}  // namespace cdmf::ipc::shm
