#include "listening_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <thread>

namespace cdmf::ipc::unix_socket {
namespace {

Fd new_socket(int type) { return Fd(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }

/// The kernel's form of a path or of an abstract "@name". endpoint_address() checked that it fits.
struct Address {
  explicit Address(const EndpointPath& path) {
    unix.sun_family = AF_UNIX;
    std::memcpy(unix.sun_path, path.socket.data(), path.socket.size());
    const bool abstract = path.kind == EndpointPath::Kind::kAbstract;
    if (abstract) unix.sun_path[0] = '\0';
    // The length is part of an abstract name; a path ends with its NUL.
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.socket.size() + (abstract ? 0 : 1));
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&unix); }

  sockaddr_un unix{};
  socklen_t size = 0;
};

int connect_to(int fd, const EndpointPath& path) {
  const Address address(path);
  return connect(fd, address.get(), address.size);
}

cdmf_status in_use(const EndpointPath& path, ErrorText& error) {
  return error.fail(CDMF_ENDPOINT_IN_USE, 0, path.socket,
                    ": another server listens there; stop it or change 'endpoint'");
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

cdmf_status ListeningSocket::open(const EndpointPath& path, const Options& options, ListeningSocket& made,
                                  ErrorText& error) {
  made.path_ = path;
  made.owner_ = getpid();
  const bool file = path.kind != EndpointPath::Kind::kAbstract;
  if (file) {
    const auto directory = path.kind == EndpointPath::Kind::kOwn
                               ? make_directory(path.directory, error)
                               : check_given_directory(path.directory, options.access, error);
    if (directory != CDMF_OK) return directory;
    if (const auto status = made.take_lock(error); status != CDMF_OK) return status;
    if (const auto status = made.remove_stale_socket(options.type, error); status != CDMF_OK) {
      made.close();
      return status;
    }
  }
  Fd fd = new_socket(options.type);
  const Address address(path);
  const char* const name = path.socket.c_str();
  const auto permit = [&] {
    return !file || ((options.access.group == static_cast<gid_t>(-1) ||
                      lchown(name, static_cast<uid_t>(-1), options.access.group) == 0) &&
                     chmod(name, options.access.mode) == 0);
  };
  // Nobody can connect between bind and listen: until then the file's permissions are of no use to anybody.
  bool bound = false;
  if (!fd || !(bound = bind(fd.get(), address.get(), address.size) == 0) || !permit() ||
      listen(fd.get(), options.backlog) != 0) {
    const int problem = errno;
    if (bound && file) unlink(name);
    made.close();
    if (problem == EADDRINUSE) return in_use(path, error);
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

cdmf_status ListeningSocket::remove_stale_socket(int type, ErrorText& error) const {
  struct stat found {};
  if (lstat(path_.socket.c_str(), &found) != 0) {
    return errno == ENOENT ? CDMF_OK : error.fail(status_of_file_error(errno), errno, path_.socket);
  }
  if (!S_ISSOCK(found.st_mode)) {
    return error.fail(CDMF_ENDPOINT_IN_USE, 0, path_.socket, " is not a socket; remove it or change 'endpoint'");
  }
  // A cleaner of temporary files may have removed the lock file of a living server.
  const Fd probe = new_socket(type);
  if (!probe) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, path_.socket, ": no socket");
  // EPROTOTYPE: somebody is there with another type of socket.
  if (connect_to(probe.get(), path_) == 0 || errno == EAGAIN || errno == EPROTOTYPE) return in_use(path_, error);
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

cdmf_status connect_socket(const EndpointPath& path, int type, const Access& access, std::uint64_t deadline,
                           Fd& connected, ErrorText& error) {
  if (path.kind != EndpointPath::Kind::kAbstract) {
    const auto directory = path.kind == EndpointPath::Kind::kOwn ? check_directory(path.directory, error)
                                                                 : check_given_directory(path.directory, access, error);
    if (directory != CDMF_OK) return directory;
  }
  Fd fd = new_socket(type);
  if (!fd) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, path.socket, ": no socket; raise `ulimit -n`");
  for (;;) {
    if (connect_to(fd.get(), path) == 0) break;
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
      case EPROTOTYPE:
        return error.fail(CDMF_INVALID_CONFIG, 0, path.socket, ": the server there has another socket_type than ",
                          type == SOCK_SEQPACKET ? "SEQPACKET" : "STREAM", "; use the same at both ends");
      default:
        return error.fail(status_of_file_error(errno), errno, path.socket, ": cannot connect");
    }
  }
  if (const uid_t uid = peer_identity(fd.get()).uid; !access.admits(uid)) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, path.socket, ": the server there is user ", uid,
                      ", neither this user nor root nor one of allow_uids");
  }
  connected = std::move(fd);
  return CDMF_OK;
}

}  // namespace cdmf::ipc::unix_socket
