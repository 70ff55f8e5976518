#pragma once
// segment/endpoint.h: from the logical endpoint name to the Unix socket where server and clients meet.
#include <string>

#include "ipc/driver.h"
#include "segment/access.h"
#include "segment/unique_fd.h"

namespace cdmf::ipc::shm {

/// An endpoint as part of a file name: its leading '/' dropped, every byte outside [A-Za-z0-9._-] as %XX; an endpoint
/// without that '/' starts with %00, so that two endpoints never share a file.
std::string encode_endpoint(const char* endpoint);

/// The socket of an endpoint: $XDG_RUNTIME_DIR/cdmf/<name>.shm, or /tmp/cdmf-<uid>/<name>.shm, with the name encoded.
/// Makes the folder when it is missing, and refuses one that others could write to. INVALID_CONFIG: too long a name.
cdmf_status socket_path(const char* endpoint, std::string& path, ErrorText& error);

/// The same for a path that the configuration names. Its folder must be there, and nobody but its owner, who must be
/// root or somebody that access admits, may replace files in it (sticky folders are fine).
cdmf_status check_socket_path(const std::string& path, const Access& access, ErrorText& error);

/// A server's claim on an endpoint: the listening socket, and a lock that tells a live server from a leftover file.
class ListeningEndpoint {
 public:
  ListeningEndpoint() = default;
  ListeningEndpoint(ListeningEndpoint&&) noexcept = default;
  ListeningEndpoint& operator=(ListeningEndpoint&&) noexcept = default;
  ~ListeningEndpoint() { close(); }

  /// ENDPOINT_IN_USE when a server lives there. What a dead server left behind is replaced.
  /// The socket has access's mode and group before anybody can connect.
  cdmf_status open(const std::string& path, ErrorText& error, const Access& access = {});
  /// Removes the files. Idempotent.
  void close() noexcept;
  int fd() const noexcept { return socket_.get(); }

 private:
  std::string path_;
  UniqueFd lock_;
  UniqueFd socket_;
};

/// Connects to a server. ENDPOINT_NOT_FOUND at once when none listens; waits until the deadline when its queue is full.
cdmf_status connect_endpoint(const std::string& path, std::uint64_t deadline, UniqueFd& socket, ErrorText& error);

}  // namespace cdmf::ipc::shm
