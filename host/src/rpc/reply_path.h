#pragma once
// rpc/reply_path.h: calls need a transport over which answers come back.
#include <string>

#include "ipc/transport.h"

namespace cdmf::ipc::rpc {

/// SUCCESS, or UNSUPPORTED for a connected transport that is a pool; it is then disconnected again.
inline TransportResult<> require_reply_path(Transport& transport) {
  const TransportInfo info = transport.getInfo();
  if ((info.capabilities & CDMF_CAP_POOL) == 0) return {};
  static_cast<void>(transport.disconnect());
  return {TransportError::UNSUPPORTED, info.type + " \"" + info.endpoint +
                                           "\" is a pool: messages reach any one of its consumers, and nothing finds "
                                           "back, but a call needs its answer; use a transport with links (shm with "
                                           "ring_type: spsc), or send messages instead of calling"};
}

}  // namespace cdmf::ipc::rpc
