#include "inspect/extension.h"

#include <cstring>

#include "inspect/sizes.h"

namespace cdmf::ipc::shm {

const void* find_extension(const char* name) noexcept {
  if (std::strcmp(name, CDMF_SIZES_EXTENSION) == 0) return &kSizes;
  return nullptr;
}

}  // namespace cdmf::ipc::shm
