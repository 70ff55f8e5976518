#pragma once
// channel.h: the line between the two sides of a link beside its rings: it wakes, and it says why a link ends.
// Which kind a link has depends on how the two sides met; see rendezvous.h.
#include <semaphore.h>

#include <cstdint>

#include "ipc/driver.h"
#include "segment/unique_fd.h"

namespace cdmf::ipc::shm {

class Channel {
 public:
  Channel() = default;
  virtual ~Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// Tells the peer why this side ends the link, and cuts the line: both sides' rendezvous notice. Idempotent. [any]
  virtual void hang_up(cdmf_status reason) noexcept = 0;
  /// Wakes the peer's receiver, which said in `armed` (wait/bell.h) how it sleeps; not for kArmedFutex. [sender]
  virtual void ring(std::uint32_t armed) noexcept = 0;
  /// The semaphore that this side's receiver may sleep in, with kArmedSemaphore; none: nullptr. [receiver]
  virtual sem_t* own_semaphore() const noexcept { return nullptr; }
};

/// Over the socket of the handshake.
class SocketChannel final : public Channel {
 public:
  explicit SocketChannel(UniqueFd socket) noexcept : socket_(static_cast<UniqueFd&&>(socket)) {}

  void hang_up(cdmf_status reason) noexcept override;
  void ring(std::uint32_t armed) noexcept override;
  int socket() const noexcept { return socket_.get(); }

 private:
  UniqueFd socket_;
};

}  // namespace cdmf::ipc::shm
