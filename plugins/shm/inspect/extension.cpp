#include "inspect/extension.h"

#include <cstring>

#include "inspect/inspector.h"
#include "inspect/sizes.h"

namespace cdmf::ipc::shm {

const void* find_extension(const char* name) noexcept {
  if (std::strcmp(name, CDMF_SIZES_EXTENSION) == 0) return &kSizes;
  if (std::strcmp(name, CDMF_INSPECT_EXTENSION) == 0) return &kInspect;
  return nullptr;
}

}  // namespace cdmf::ipc::shm
