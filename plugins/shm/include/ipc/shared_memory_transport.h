#pragma once
// ipc/shared_memory_transport.h: the shared-memory transport linked into the program, without plugins: cdmf::shm.
#include "ipc/transport.h"

namespace cdmf::ipc {

/// A Transport of type shm. Everything else is in ipc/transport.h; the options of TransportConfig::properties are those
/// that a YAML file has under `shm:` (config/reference.yaml). Log lines of the driver go nowhere: a program that wants
/// them makes its transports with a TransportRegistry.
class SharedMemoryTransport : public Transport {
 public:
  SharedMemoryTransport();
};

}  // namespace cdmf::ipc
