#include "socket_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace cdmf::ipc::grpc_transport {

cdmf_status check_directory(const Address& address, ErrorText& error) {
  if (!address.derived) return CDMF_OK;
  const std::string directory = address.socket_path.substr(0, address.socket_path.rfind('/'));
  struct stat found {};
  // lstat: a symbolic link in /tmp could be anybody's.
  if (lstat(directory.c_str(), &found) != 0) {
    return error.fail(errno == ENOENT ? CDMF_ENDPOINT_NOT_FOUND : CDMF_PERMISSION_DENIED, errno, directory,
                      ": no server of this user listens there; start one or check 'endpoint'");
  }
  if (!S_ISDIR(found.st_mode) || (found.st_uid != geteuid() && found.st_uid != 0) || (found.st_mode & 0077) != 0) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, directory,
                      " must be a directory of this user alone (chown, chmod 0700)");
  }
  return CDMF_OK;
}

cdmf_status SocketFile::take(const Address& address, SocketFile& made, ErrorText& error) {
  if (address.socket_path.empty()) return CDMF_OK;
  if (address.derived) {
    const std::string directory = address.socket_path.substr(0, address.socket_path.rfind('/'));
    if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
      return error.fail(CDMF_PERMISSION_DENIED, errno, directory, " cannot be made; check XDG_RUNTIME_DIR");
    }
    if (const auto status = check_directory(address, error); status != CDMF_OK) return status;
  }
  const std::string lock_path = address.socket_path + ".lock";
  for (;;) {
    const int lock = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock < 0) {
      return error.fail(errno == ENOENT ? CDMF_INVALID_CONFIG : CDMF_PERMISSION_DENIED, errno, lock_path,
                        " cannot be made; check 'address'");
    }
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
      const int problem = errno;
      ::close(lock);
      if (problem != EWOULDBLOCK) return error.fail(CDMF_CONNECTION_FAILED, problem, lock_path, " cannot be locked");
      return error.fail(CDMF_ENDPOINT_IN_USE, 0, address.target,
                        ": another server listens there; stop it or change 'endpoint'");
    }
    struct stat mine {};
    struct stat there {};
    // The one before may have removed the file between open() and flock(): then this lock protects nothing.
    if (fstat(lock, &mine) == 0 && stat(lock_path.c_str(), &there) == 0 && mine.st_ino == there.st_ino &&
        mine.st_dev == there.st_dev) {
      made.path_ = address.socket_path;
      made.lock_ = lock;
      return CDMF_OK;
    }
    ::close(lock);
  }
}

void SocketFile::restrict_access() const {
  if (lock_ >= 0) (void)chmod(path_.c_str(), 0600);
}

void SocketFile::release() noexcept {
  if (lock_ < 0) return;
  unlink(path_.c_str());
  unlink((path_ + ".lock").c_str());
  ::close(std::exchange(lock_, -1));
}

}  // namespace cdmf::ipc::grpc_transport
