#pragma once
// inspect/sizes.h: what memory a link takes, to the byte, from the code that lays it out.
#include "ipc/sizes_abi.h"

namespace cdmf::ipc::shm {

/// The answer to CDMF_SIZES_EXTENSION.
extern const cdmf_sizes kSizes;

}  // namespace cdmf::ipc::shm
