#include "rendezvous.h"

#include "object_rendezvous.h"
#include "socket_rendezvous.h"

namespace cdmf::ipc::shm {

std::unique_ptr<Rendezvous> make_rendezvous(const Options& options, Rendezvous::Owner& owner, PluginHost host) {
  if (options.segment == SegmentKind::posix) return std::make_unique<ObjectRendezvous>(options, owner, host);
  return std::make_unique<SocketRendezvous>(options, owner, host);
}

}  // namespace cdmf::ipc::shm
