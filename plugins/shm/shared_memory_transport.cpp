#include "ipc/shared_memory_transport.h"

#include "ipc/plugin.h"
#include "shm_plugin.h"

namespace cdmf::ipc {
namespace {

// Lives as long as the program, as Transport wants it.
constinit const cdmf_plugin kPlugin = make_plugin(shm::kDescription, &shm::create_shm_driver);

}  // namespace

SharedMemoryTransport::SharedMemoryTransport() : Transport(kPlugin) {}

}  // namespace cdmf::ipc
