#include "listening_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

namespace cdmf::ipc::unix_socket {
namespace {

Fd new_socket() { return Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);  // endpoint_path() checked that it fits.
  return address;
}

int connect_to(int fd, const std::string& path) {
  const sockaddr_un address = address_of(path);
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

bool same_file(const struct stat& one, const struct stat& other) {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

cdmf_status status_of_file_error(int problem) {
  switch (problem) {
    case EACCES:
    case EPERM:
    case EROFS:
      return CDMF_PERMISSION_DENIED;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
    case ENOSPC:
    case EDQUOT:
      return CDMF_RESOURCE_EXHAUSTED;
    default:
      return CDMF_CONNECTION_FAILED;
  }
}

}  // namespace

cdmf_status ListeningSocket::open(const EndpointPath& path, int backlog, ListeningSocket& made, ErrorText& error) {
  made.path_ = path;
  made.owner_ = getpid();
  if (const auto status = make_directory(path.directory, error); status != CDMF_OK) return status;
  if (const auto status = made.take_lock(error); status != CDMF_OK) return status;
  if (const auto status = made.remove_stale_socket(error); status != CDMF_OK) {
    made.close();
    return status;
  }
  Fd fd = new_socket();
  const sockaddr_un address = address_of(path.socket);
  // Nobody can connect between bind and listen, and the directory keeps other users out until chmod.
  if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      chmod(path.socket.c_str(), 0600) != 0 || listen(fd.get(), backlog) != 0) {
    const int problem = errno;
    made.close();
    return error.fail(status_of_file_error(problem), problem, path.socket, ": cannot listen there");
  }
  made.socket_ = std::move(fd);
  return CDMF_OK;
}

cdmf_status ListeningSocket::take_lock(ErrorText& error) {
  // The previous owner removes the file while it holds the lock. Whoever opened it before that gets the lock of a file
  // that is gone, and has to look again. Each turn means that another server came or went; nobody waits.
  for (int turn = 0; turn < 100; ++turn) {
    Fd fd(::open(path_.lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) return error.fail(status_of_file_error(errno), errno, path_.lock, ": cannot be opened");
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno != EWOULDBLOCK) return error.fail(status_of_file_error(errno), errno, path_.lock, ": cannot be locked");
      break;
    }
    struct stat opened {};
    struct stat present {};
    if (fstat(fd.get(), &opened) == 0 && stat(path_.lock.c_str(), &present) == 0 && same_file(opened, present)) {
      lock_ = std::move(fd);
      return CDMF_OK;
    }
  }
  return error.fail(CDMF_ENDPOINT_IN_USE, 0, path_.socket,
                    ": another server listens there; stop it or change 'endpoint' (`fuser ", path_.lock, "` names it)");
}

cdmf_status ListeningSocket::remove_stale_socket(ErrorText& error) const {
  struct stat found {};
  if (lstat(path_.socket.c_str(), &found) != 0) {
    return errno == ENOENT ? CDMF_OK : error.fail(status_of_file_error(errno), errno, path_.socket);
  }
  if (!S_ISSOCK(found.st_mode)) {
    return error.fail(CDMF_ENDPOINT_IN_USE, 0, path_.socket, " is not a socket; remove it or change 'endpoint'");
  }
  // A cleaner of temporary files may have removed the lock file of a living server.
  const Fd probe = new_socket();
  if (!probe) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, path_.socket, ": no socket");
  if (connect_to(probe.get(), path_.socket) == 0 || errno == EAGAIN) {
    return error.fail(CDMF_ENDPOINT_IN_USE, 0, path_.socket,
                      ": another server listens there; stop it or change 'endpoint'");
  }
  if (unlink(path_.socket.c_str()) != 0 && errno != ENOENT) {
    return error.fail(status_of_file_error(errno), errno, path_.socket, ": a stale socket that cannot be removed");
  }
  return CDMF_OK;
}

void ListeningSocket::close() noexcept {
  if (lock_ && owner_ == getpid()) {
    if (socket_) unlink(path_.socket.c_str());
    unlink(path_.lock.c_str());
    flock(lock_.get(), LOCK_UN);  // Explicitly: a forked child may have inherited the descriptor.
  }
  socket_.reset();
  lock_.reset();
}

cdmf_status connect_socket(const EndpointPath& path, std::uint64_t deadline, Fd& connected, ErrorText& error) {
  if (const auto status = check_directory(path.directory, error); status != CDMF_OK) return status;
  Fd fd = new_socket();
  if (!fd) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, path.socket, ": no socket; raise `ulimit -n`");
  for (;;) {
    if (connect_to(fd.get(), path.socket) == 0) break;
    switch (errno) {
      case EINTR:
        continue;
      case EAGAIN:  // The backlog is full, and the kernel offers nothing to wait on.
        if (deadline == kNoWait || monotonic_now_ns() >= deadline) {
          return error.fail(CDMF_TIMEOUT, 0, path.socket, ": the server's backlog is full; it is too busy to accept");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      case ENOENT:
      case ECONNREFUSED:
        return error.fail(CDMF_ENDPOINT_NOT_FOUND, 0, path.socket,
                          ": no server is listening; start one or check 'endpoint'");
      default:
        return error.fail(status_of_file_error(errno), errno, path.socket, ": cannot connect");
    }
  }
  if (uid_t uid = 0; !peer_is_trusted(fd.get(), uid)) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, path.socket, ": the server there is user ", uid,
                      ", neither this user nor root");
  }
  connected = std::move(fd);
  return CDMF_OK;
}

bool peer_is_trusted(int socket, uid_t& denied_uid) noexcept {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || size != sizeof peer) {
    denied_uid = static_cast<uid_t>(-1);
    return false;
  }
  denied_uid = peer.uid;
  return peer.uid == geteuid() || peer.uid == 0;
}

}  // namespace cdmf::ipc::unix_socket
