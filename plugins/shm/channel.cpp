#include "channel.h"

#include <sys/socket.h>

#include "handshake.h"

namespace cdmf::ipc::shm {

void SocketChannel::hang_up(cdmf_status reason) noexcept {
  Notice goodbye;
  goodbye.reason = reason;
  send_packet(socket_.get(), &goodbye, sizeof goodbye);
  // Not close(): the control thread still watches the descriptor. This also reaches copies in children of fork().
  shutdown(socket_.get(), SHUT_RDWR);
}

/// MSG_DONTWAIT: a peer that does not read it harms itself.
void SocketChannel::ring(std::uint32_t /*armed*/) noexcept {
  Notice wake;
  wake.header.kind = PacketKind::wake;
  send_packet(socket_.get(), &wake, sizeof wake);
}

}  // namespace cdmf::ipc::shm
