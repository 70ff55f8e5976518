#include "socket_rendezvous.h"

#include <utility>

namespace cdmf::ipc::shm {

SocketRendezvous::SocketRendezvous(const Options& options, Owner& owner, PluginHost host)
    : options_(options), thread_(owner, host, options.access, options.may_sleep()) {}

cdmf_status SocketRendezvous::open(ErrorText& error) {
  const cdmf_status found = options_.address == "auto"
                                ? socket_path(options_.endpoint.c_str(), path_, error)
                                : check_socket_path(path_ = options_.address, options_.access, error);
  if (found != CDMF_OK) return found;
  if (options_.is_server) {
    if (const cdmf_status status = listener_.open(path_, error, options_.access); status != CDMF_OK) return status;
  }
  const cdmf_status status = thread_.start(listener_.fd(), error);
  if (status != CDMF_OK) listener_.close();
  return status;
}

cdmf_status SocketRendezvous::attach(std::uint64_t deadline, Attached& attached, ErrorText& error) {
  UniqueFd socket;
  if (const cdmf_status status = connect_endpoint(path_, deadline, socket, error); status != CDMF_OK) return status;
  ClientHandshake handshake;
  handshake.ring_bytes_wanted = options_.ring_bytes_wanted;
  handshake.access = options_.access;
  const cdmf_status status =
      handshake.run(socket.get(), options_.plan.frame_size_max, options_.may_sleep(), deadline, error);
  if (status != CDMF_OK) return status;
  attached.terms = {.peer_may_sleep = handshake.peer_may_sleep,
                    .peer_only_cpu = handshake.peer_only_cpu,
                    .plan = handshake.plan,
                    .peer = handshake.peer,
                    .memory = {}};
  attached.segment = std::move(handshake.segment);
  attached.channel = std::make_unique<SocketChannel>(std::move(socket));
  attached.own_bell = std::move(handshake.own_bell);
  attached.peer_bell = std::move(handshake.peer_bell);
  return CDMF_OK;
}

void SocketRendezvous::close() noexcept {
  thread_.stop();
  listener_.close();
}

}  // namespace cdmf::ipc::shm
