#include "rendezvous.h"

#include "socket_rendezvous.h"

namespace cdmf::ipc::shm {

std::unique_ptr<Rendezvous> make_rendezvous(const Options& options, Rendezvous::Owner& owner, PluginHost host) {
  return std::make_unique<SocketRendezvous>(options, owner, host);
}

}  // namespace cdmf::ipc::shm
