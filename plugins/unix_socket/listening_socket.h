#pragma once
// listening_socket.h: a server's place at an endpoint. At most one process has it; a dead one leaves nothing in the
// way.
#include <sys/socket.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "access.h"
#include "endpoint_path.h"
#include "fd.h"
#include "ipc/driver.h"

namespace cdmf::ipc::unix_socket {

/// Holds the flock of the lock file first, the socket file second, and gives both back in the other order. The lock
/// decides who may replace a socket file: without it, two servers that find the same stale file would each remove the
/// other's new one.
class ListeningSocket {
 public:
  struct Options {
    int backlog = 128;
    int type = SOCK_STREAM;  ///< or SOCK_SEQPACKET
    Access access{};
  };
  /// ENDPOINT_IN_USE when somebody listens; a socket file that nobody listens on is replaced. The file has the mode and
  /// the group of options.access before anybody can connect. An abstract address has no files.
  [[nodiscard]] static cdmf_status open(const EndpointPath& path, const Options& options, ListeningSocket& made,
                                        ErrorText& error);

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
  [[nodiscard]] cdmf_status remove_stale_socket(int type, ErrorText& error) const;

  EndpointPath path_;
  Fd lock_;
  Fd socket_;
  pid_t owner_ = -1;
};

/// One attempt to connect, again while the server's backlog is full. The descriptor does not block.
/// ENDPOINT_NOT_FOUND: nobody listens. TIMEOUT: the backlog stayed full until deadline. INVALID_CONFIG: the server has
/// another type of socket. PERMISSION_DENIED: access does not admit the server.
[[nodiscard]] cdmf_status connect_socket(const EndpointPath& path, int type, const Access& access,
                                         std::uint64_t deadline, Fd& connected, ErrorText& error);

}  // namespace cdmf::ipc::unix_socket
