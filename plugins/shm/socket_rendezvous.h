#pragma once
// socket_rendezvous.h: meeting at a Unix socket (segment: memfd). The protocol is in handshake.h, the thread in
// control_thread.h.
#include "control_thread.h"
#include "options.h"
#include "rendezvous.h"
#include "segment/endpoint.h"

namespace cdmf::ipc::shm {

class SocketRendezvous final : public Rendezvous {
 public:
  /// options must outlive it.
  SocketRendezvous(const Options& options, Owner& owner, PluginHost host);
  ~SocketRendezvous() override { SocketRendezvous::close(); }

  cdmf_status open(ErrorText& error) override;
  cdmf_status attach(std::uint64_t deadline, Attached& attached, ErrorText& error) override;
  void watch(std::shared_ptr<Link> link) override { thread_.watch(std::move(link)); }
  void close() noexcept override;
  std::string address() const override { return "memfd via " + path_; }

 private:
  const Options& options_;
  std::string path_;
  ListeningEndpoint listener_;
  ControlThread thread_;
};

}  // namespace cdmf::ipc::shm
