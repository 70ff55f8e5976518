#pragma once
// listening_socket.h: a server's place at an endpoint. At most one process has it; a dead one leaves nothing in the
// way.
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "endpoint_path.h"
#include "fd.h"
#include "ipc/driver.h"

namespace cdmf::ipc::unix_socket {

/// Holds the flock of the lock file first, the socket file second, and gives both back in the other order. The lock
/// decides who may replace a socket file: without it, two servers that find the same stale file would each remove the
/// other's new one.
class ListeningSocket {
 public:
  /// ENDPOINT_IN_USE when somebody listens; a socket file that nobody listens on is replaced. The file is 0600.
  [[nodiscard]] static cdmf_status open(const EndpointPath& path, int backlog, ListeningSocket& made, ErrorText& error);

  ListeningSocket() = default;
  ListeningSocket(ListeningSocket&&) = default;
  ListeningSocket& operator=(ListeningSocket&&) = delete;
  ~ListeningSocket() { close(); }

  /// Does not block.
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  /// Removes both files. In a forked child of the owner it only closes.
  void close() noexcept;

 private:
  [[nodiscard]] cdmf_status take_lock(ErrorText& error);
  [[nodiscard]] cdmf_status remove_stale_socket(ErrorText& error) const;

  EndpointPath path_;
  Fd lock_;
  Fd socket_;
  pid_t owner_ = -1;
};

/// One attempt to connect, again while the server's backlog is full. The descriptor does not block.
/// ENDPOINT_NOT_FOUND: nobody listens. TIMEOUT: the backlog stayed full until deadline.
[[nodiscard]] cdmf_status connect_socket(const EndpointPath& path, std::uint64_t deadline, Fd& connected,
                                         ErrorText& error);

/// Whether the process at the other end may be talked to: the same user, or root. denied_uid: who it is otherwise.
[[nodiscard]] bool peer_is_trusted(int socket, uid_t& denied_uid) noexcept;

}  // namespace cdmf::ipc::unix_socket
