#pragma once
// socket_file.h: the file of a Unix socket that gRPC listens on. gRPC removes whatever lies at the path before it
// binds; a lock beside it sees to it that this is never another server's.
#include <string>
#include <utility>

#include "options.h"

namespace cdmf::ipc::grpc_transport {

/// Held while a server listens. For addresses that are no Unix sockets it does nothing.
class SocketFile {
 public:
  SocketFile() = default;
  SocketFile(SocketFile&& other) noexcept : path_(std::move(other.path_)), lock_(std::exchange(other.lock_, -1)) {}
  SocketFile& operator=(SocketFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(lock_, other.lock_);
    return *this;
  }
  ~SocketFile() { release(); }

  /// Makes the directory of a derived address, and takes the lock. ENDPOINT_IN_USE: another server has it.
  [[nodiscard]] static cdmf_status take(const Address& address, SocketFile& made, ErrorText& error);
  /// Server, once it listens: the file is this user's alone.
  void restrict_access() const;
  /// Removes both files.
  void release() noexcept;

 private:
  std::string path_;
  int lock_ = -1;
};

/// Client: whether the directory of a derived address can be trusted. ENDPOINT_NOT_FOUND: it is not there.
[[nodiscard]] cdmf_status check_directory(const Address& address, ErrorText& error);

}  // namespace cdmf::ipc::grpc_transport
