#include "ipc/shared_memory_transport.h"

#include "ipc/plugin.h"
#include "shm_driver.h"

namespace cdmf::ipc {
namespace {

// Lives as long as the program, as Transport wants it.
constinit const cdmf_plugin kPlugin = make_plugin<shm::ShmDriver>(shm::kDescription);

}  // namespace

SharedMemoryTransport::SharedMemoryTransport() : Transport(kPlugin) {}

}  // namespace cdmf::ipc
