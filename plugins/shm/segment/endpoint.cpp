#include "segment/endpoint.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace cdmf::ipc::shm {
namespace {

constexpr std::size_t kPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;
constexpr int kBacklog = 256;

cdmf_status private_folder(std::string& folder, ErrorText& error) {
  const char* const runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && *runtime == '/') {
    folder = std::string(runtime) + "/cdmf";
  } else {
    folder = "/tmp/cdmf-" + std::to_string(geteuid());
  }
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return error.fail(CDMF_PERMISSION_DENIED, errno, "shm: folder ", folder, " cannot be made");
  }
  struct stat info;
  if (lstat(folder.c_str(), &info) != 0) {
    return error.fail(CDMF_PERMISSION_DENIED, errno, "shm: folder ", folder, " cannot be looked at");
  }
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
    return error.fail(
        CDMF_PERMISSION_DENIED, 0, "shm: ", folder,
        " must be a folder of this user with mode 0700, or anybody could take the server's place; remove it");
  }
  return CDMF_OK;
}

void fill_address(sockaddr_un& address, const std::string& path) noexcept {
  std::memset(&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
}

// The lock file may be removed by a server that ends between our open() and flock(): then the lock we got is on a file
// that nobody else will find, and we start over.
cdmf_status take_lock(const std::string& path, UniqueFd& lock, ErrorText& error) {
  for (;;) {
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) return error.fail(CDMF_PERMISSION_DENIED, errno, "shm: lock file ", path, " cannot be opened");
    if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      return CDMF_ENDPOINT_IN_USE;
    }
    struct stat ours;
    struct stat named;
    if (fstat(file.get(), &ours) == 0 && stat(path.c_str(), &named) == 0 && ours.st_ino == named.st_ino &&
        ours.st_dev == named.st_dev) {
      lock = std::move(file);
      return CDMF_OK;
    }
  }
}

}  // namespace

std::string encode_endpoint(const char* endpoint) {
  std::string name;
  // No endpoint contains a NUL, so %00 marks the ones without '/' unmistakably.
  if (*endpoint == '/') {
    ++endpoint;
  } else {
    name = "%00";
  }
  for (; *endpoint != '\0'; ++endpoint) {
    const char c = *endpoint;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
        c == '-') {
      name += c;
    } else {
      constexpr char kDigits[] = "0123456789ABCDEF";
      name += '%';
      name += kDigits[static_cast<unsigned char>(c) >> 4];
      name += kDigits[static_cast<unsigned char>(c) & 15];
    }
  }
  return name;
}

cdmf_status socket_path(const char* endpoint, std::string& path, ErrorText& error) {
  std::string folder;
  if (const cdmf_status status = private_folder(folder, error); status != CDMF_OK) return status;
  const std::string name = encode_endpoint(endpoint);
  if (name.empty()) return error.fail(CDMF_INVALID_CONFIG, 0, "shm: endpoint \"", endpoint, "\" has no name after '/'");
  path = folder + '/' + name + ".shm";
  if (path.size() > kPathBytesMax) {
    return error.fail(CDMF_INVALID_CONFIG, 0, "shm: endpoint \"", endpoint, "\" makes a socket path of ", path.size(),
                      " bytes, more than the ", kPathBytesMax, " that Unix sockets allow: ", path,
                      "; use a shorter name");
  }
  return CDMF_OK;
}

cdmf_status check_socket_path(const std::string& path, const Access& access, ErrorText& error) {
  if (path.size() > kPathBytesMax) {
    return error.fail(CDMF_INVALID_CONFIG, 0, "shm: address ", path, " has ", path.size(), " bytes, more than the ",
                      kPathBytesMax, " that Unix sockets allow; use a shorter one");
  }
  const std::string folder = path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
  struct stat found {};
  if (stat(folder.c_str(), &found) != 0 || !S_ISDIR(found.st_mode)) {
    return error.fail(errno == EACCES ? CDMF_PERMISSION_DENIED : CDMF_ENDPOINT_NOT_FOUND, errno, "shm: folder ", folder,
                      " of 'address' cannot be entered; make it, or correct 'address'");
  }
  if (!access.admits(found.st_uid)) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, "shm: folder ", folder, " belongs to user ", found.st_uid,
                      ", who could put another socket there; use a folder of this user or of root");
  }
  if ((found.st_mode & 0022) != 0 && (found.st_mode & S_ISVTX) == 0) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, "shm: folder ", folder,
                      " may be written by others, who could put another socket there; `chmod go-w` it");
  }
  return CDMF_OK;
}

cdmf_status ListeningEndpoint::open(const std::string& path, ErrorText& error, const Access& access) {
  UniqueFd lock;
  if (const cdmf_status status = take_lock(path + ".lock", lock, error); status != CDMF_OK) {
    if (status != CDMF_ENDPOINT_IN_USE) return status;
    return error.fail(status, 0, "shm: a server already listens at ", path, "; stop it or choose another 'endpoint'");
  }
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: no socket for ", path);
  struct stat there {};
  if (lstat(path.c_str(), &there) == 0 && !S_ISSOCK(there.st_mode)) {
    return error.fail(CDMF_ENDPOINT_IN_USE, 0, "shm: ", path, " is not a socket; remove it or change 'address'");
  }
  unlink(path.c_str());  // Ours by the lock: a leftover of a server that was killed.
  sockaddr_un address;
  fill_address(address, path);
  if (bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return error.fail(CDMF_PERMISSION_DENIED, errno, "shm: cannot bind ", path);
  }
  path_ = path;
  lock_ = std::move(lock);
  socket_ = std::move(socket);
  const bool other_group = access.group != static_cast<gid_t>(-1);
  if ((other_group && lchown(path.c_str(), static_cast<uid_t>(-1), access.group) != 0) ||
      chmod(path.c_str(), access.mode) != 0 || listen(socket_.get(), kBacklog) != 0) {
    const int failure = errno;
    close();
    return error.fail(CDMF_PERMISSION_DENIED, failure, "shm: cannot listen at ", path);
  }
  return CDMF_OK;
}

void ListeningEndpoint::close() noexcept {
  if (!socket_) return;
  // shutdown: a copy of the socket in a child of fork() must not keep clients waiting for an answer.
  shutdown(socket_.get(), SHUT_RDWR);
  socket_.reset();
  unlink(path_.c_str());
  unlink((path_ + ".lock").c_str());  // While the lock is held; see take_lock().
  lock_.reset();
}

cdmf_status connect_endpoint(const std::string& path, std::uint64_t deadline, UniqueFd& socket, ErrorText& error) {
  sockaddr_un address;
  fill_address(address, path);
  for (;;) {
    UniqueFd made(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!made) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: no socket for ", path);
    if (connect(made.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
      socket = std::move(made);
      return CDMF_OK;
    }
    if (errno == EINTR) continue;
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return error.fail(CDMF_ENDPOINT_NOT_FOUND, errno, "shm: no server is listening at ", path,
                        "; start one or check 'endpoint'");
    }
    if (errno != EAGAIN) return error.fail(CDMF_CONNECTION_FAILED, errno, "shm: cannot connect to ", path);
    // The server's queue is full. Nothing announces that it has room again.
    if (deadline != kForever && monotonic_now_ns() >= deadline) {
      return error.fail(CDMF_TIMEOUT, 0, "shm: the server at ", path, " has too many clients waiting");
    }
    poll(nullptr, 0, 1);
  }
}

}  // namespace cdmf::ipc::shm
