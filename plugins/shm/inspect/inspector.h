#pragma once
// inspect/inspector.h: looking into a running endpoint of another process.
#include "ipc/inspect_abi.h"

namespace cdmf::ipc::shm {

/// The answer to CDMF_INSPECT_EXTENSION.
extern const cdmf_inspect kInspect;

}  // namespace cdmf::ipc::shm
