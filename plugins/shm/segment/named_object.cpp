#include "segment/named_object.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "segment/endpoint.h"
#include "segment/fork_guard.h"

namespace cdmf::ipc::shm {
namespace {

constexpr const char* kFolder = "/dev/shm";  // Where glibc has the objects of shm_open().
// Locks are beyond every object's bytes: nobody who locks what he reads meets them.
constexpr off_t kPresenceByte = off_t{1} << 40;
constexpr off_t kFirstLockByte = kPresenceByte + 1;
// Each turn of a loop means that somebody else came or went meanwhile.
constexpr int kTurnsMax = 1000;

std::string path_of(const std::string& name) { return kFolder + name; }
/// A replacement's name until it takes the place of its predecessor.
std::string next_name(const std::string& name) { return name + ".next"; }

bool set_lock(int fd, short type, off_t byte) noexcept {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  int done;
  do {
    done = fcntl(fd, F_OFD_SETLK, &lock);
  } while (done != 0 && errno == EINTR);
  return done == 0;
}

/// The lock of another open of the file that an exclusive one would meet: F_RDLCK, F_WRLCK, or F_UNLCK for none.
short lock_of_another(int fd, off_t byte) noexcept {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return fcntl(fd, F_OFD_GETLK, &lock) == 0 ? lock.l_type : static_cast<short>(F_UNLCK);
}

bool has_mark(int fd, std::uint64_t offset) noexcept {
  std::uint32_t mark = 0;
  return pread(fd, &mark, sizeof mark, static_cast<off_t>(offset)) == sizeof mark && mark == kObjectMark;
}

bool leads_to(const std::string& path, const struct stat& file) noexcept {
  struct stat named {};
  return lstat(path.c_str(), &named) == 0 && named.st_dev == file.st_dev && named.st_ino == file.st_ino;
}

cdmf_status status_of(int problem) noexcept {
  switch (problem) {
    case ENOSPC:
    case EFBIG:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EDQUOT:
      return CDMF_RESOURCE_EXHAUSTED;
    default:
      return CDMF_PERMISSION_DENIED;
  }
}

/// Opens what has the name, without following it and without being held up by it. 0 or an errno.
int open_named(const std::string& path, UniqueFd& fd) noexcept {
  // O_NONBLOCK: a FIFO would wait for its other end.
  fd.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  return fd ? 0 : errno;
}

/// Why what has the name cannot be opened; the path is looked at only to say so.
cdmf_status explain(const std::string& path, int problem, ErrorText& error) {
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) return error.fail(status_of(problem), problem, "shm: ", path);
  if (!S_ISREG(found.st_mode)) {
    return error.fail(CDMF_ENDPOINT_IN_USE, 0, "shm: ", path,
                      " is no shared-memory object (a link, a folder or the like); remove it or change 'endpoint'");
  }
  if (problem == EACCES || problem == EPERM) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, "shm: ", path, " belongs to user ", found.st_uid,
                      " and does not let user ", geteuid(),
                      " in; have it removed, change 'endpoint', or give its server a 'mode' and 'group' that do");
  }
  return error.fail(status_of(problem), problem, "shm: ", path, " cannot be opened");
}

/// The folder belongs to everybody: only the sticky bit keeps others from putting their object in the place of ours.
cdmf_status check_folder(ErrorText& error) {
  struct stat folder {};
  if (stat(kFolder, &folder) != 0) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: ", kFolder, " is missing; mount a tmpfs there");
  }
  if ((folder.st_mode & S_IWOTH) != 0 && (folder.st_mode & S_ISVTX) == 0) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, "shm: ", kFolder,
                      " lets everybody replace everybody's objects; `chmod +t ", kFolder, "` as root");
  }
  return CDMF_OK;
}

}  // namespace

cdmf_status object_name(const char* endpoint, std::size_t reserve, std::string& name, ErrorText& error) {
  const std::string word = encode_endpoint(endpoint);
  if (word.empty() || word == "." || word == "..") {
    return error.fail(CDMF_INVALID_CONFIG, 0, "shm: endpoint \"", endpoint, "\" is no name of an object");
  }
  if (word.size() + reserve > NAME_MAX) {
    return error.fail(CDMF_INVALID_CONFIG, 0, "shm: endpoint \"", endpoint, "\" makes an object name of ", word.size(),
                      " bytes, more than the ", NAME_MAX - reserve, " that fit; use a shorter name");
  }
  name = '/' + word;
  return CDMF_OK;
}

// Shared by those who hold it present; whoever has it whole is taking the name away.
bool is_held_present(int fd) noexcept { return lock_of_another(fd, kPresenceByte) == F_RDLCK; }
bool is_locked(int fd, std::uint32_t index) noexcept { return lock_of_another(fd, kFirstLockByte + index) != F_UNLCK; }

void NamedObject::swap(NamedObject& other) noexcept {
  std::swap(name_, other.name_);
  std::swap(terms_, other.terms_);
  std::swap(fd_, other.fd_);
  std::swap(mapping_, other.mapping_);
  std::swap(size_, other.size_);
  std::swap(owner_, other.owner_);
  std::swap(process_, other.process_);
  std::swap(present_, other.present_);
}

bool NamedObject::keep_private() noexcept {
  process_ = getpid();
  return keep_from_children(fd_.get());
}

cdmf_status NamedObject::make_unnamed(const std::string& name, std::uint64_t size, const Terms& terms,
                                      const std::function<void(std::byte* memory)>& fill, NamedObject& made,
                                      ErrorText& error) {
  NamedObject object;
  object.name_ = name;
  object.terms_ = terms;
  object.fd_.reset(::open(kFolder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!object.fd_) return error.fail(status_of(errno), errno, "shm: no object can be made in ", kFolder);
  const int fd = object.fd_.get();
  if (const int problem = allocate_bytes(fd, size); problem != 0) {
    return error.fail(status_of(problem), problem, "shm: no room in ", kFolder, " for ", size, " bytes of ", name,
                      "; lower 'ring_buffer_capacity' or 'slot_size', or make room there");
  }
  // By the descriptor, not by umask(), which is the whole process's.
  if ((terms.access.group != static_cast<gid_t>(-1) && fchown(fd, static_cast<uid_t>(-1), terms.access.group) != 0) ||
      fchmod(fd, terms.access.mode) != 0) {
    return error.fail(CDMF_PERMISSION_DENIED, errno, "shm: ", name, " cannot be given to group ", terms.access.group,
                      "; choose a 'group' of this user");
  }
  if (!object.mapping_.map(fd, size)) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: ", size, " bytes of ", name, " cannot be mapped");
  }
  fill(object.mapping_.memory());
  object.size_ = size;
  object.owner_ = geteuid();
  if (!object.keep_private() || !set_lock(fd, F_RDLCK, kPresenceByte)) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: ", name, " cannot be locked");
  }
  object.present_ = true;
  made = std::move(object);
  return CDMF_OK;
}

/// CDMF_OK: there is nothing at the name, or there was and it is gone; try again.
cdmf_status NamedObject::remove_leftover(const std::string& name, const Terms& terms, ErrorText& error) {
  const std::string path = path_of(name);
  UniqueFd fd;
  if (const int problem = open_named(path, fd); problem != 0) {
    return problem == ENOENT ? CDMF_OK : explain(path, problem, error);
  }
  struct stat found {};
  if (fstat(fd.get(), &found) != 0 || !S_ISREG(found.st_mode)) return explain(path, EINVAL, error);
  if (found.st_uid != geteuid()) return explain(path, EPERM, error);
  if (!has_mark(fd.get(), terms.mark_offset)) {
    return error.fail(CDMF_ENDPOINT_IN_USE, 0, "shm: ", path,
                      " is of another program; remove it if nobody needs it, or change 'endpoint'");
  }
  // The proof: the kernel gives this to nobody while a process that holds the object lives.
  if (!set_lock(fd.get(), F_WRLCK, kPresenceByte)) {
    if (errno != EAGAIN && errno != EACCES) {
      return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: ", path, " cannot be locked");
    }
    if (lock_of_another(fd.get(), kPresenceByte) != F_RDLCK) {
      sched_yield();
      return CDMF_OK;  // Somebody else is about to remove it.
    }
    return error.fail(CDMF_ENDPOINT_IN_USE, 0, "shm: a living process has ", path,
                      "; stop it or change 'endpoint' (`fuser ", path, "` names it)");
  }
  // Whoever removes the name has this lock, so that nobody who keeps to this can have put another object there since.
  if (leads_to(path, found)) unlink(path.c_str());
  return CDMF_OK;
}

cdmf_status NamedObject::create(const std::string& name, std::uint64_t size, const Terms& terms,
                                const std::function<void(std::byte* memory)>& fill, NamedObject& made,
                                ErrorText& error) {
  if (const cdmf_status status = check_folder(error); status != CDMF_OK) return status;
  // What a server left that was killed inside replace().
  if (const cdmf_status status = remove_leftover(next_name(name), terms, error); status != CDMF_OK) return status;
  NamedObject object;
  if (const cdmf_status status = make_unnamed(name, size, terms, fill, object, error); status != CDMF_OK) return status;
  const std::string path = path_of(name);
  const std::string itself = "/proc/self/fd/" + std::to_string(object.fd_.get());
  for (int turn = 0; turn < kTurnsMax; ++turn) {
    // link() fails when something is there: two that start at once cannot both win.
    if (linkat(AT_FDCWD, itself.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      made = std::move(object);
      return CDMF_OK;
    }
    if (errno != EEXIST) return error.fail(status_of(errno), errno, "shm: ", path, " cannot be made");
    if (const cdmf_status status = remove_leftover(name, terms, error); status != CDMF_OK) return status;
  }
  return error.fail(CDMF_ENDPOINT_IN_USE, 0, "shm: ", path, " comes and goes; somebody else uses this 'endpoint'");
}

cdmf_status NamedObject::replace(NamedObject& before, std::uint64_t size,
                                 const std::function<void(std::byte* memory)>& fill, NamedObject& made,
                                 ErrorText& error) {
  // Somebody removed the name under its living server, or put something else there: that is taken back if nobody lives
  // with it.
  if (!before.has_its_name()) return create(before.name_, size, before.terms_, fill, made, error);
  // Holding `before` present keeps every other server away from the name, and from the next one as well.
  const std::string next = next_name(before.name_);
  if (const cdmf_status status = remove_leftover(next, before.terms_, error); status != CDMF_OK) return status;
  NamedObject object;
  if (const cdmf_status status = make_unnamed(before.name_, size, before.terms_, fill, object, error);
      status != CDMF_OK) {
    return status;
  }
  const std::string path = path_of(before.name_);
  const std::string next_path = path_of(next);
  const std::string itself = "/proc/self/fd/" + std::to_string(object.fd_.get());
  if (linkat(AT_FDCWD, itself.c_str(), AT_FDCWD, next_path.c_str(), AT_SYMLINK_FOLLOW) != 0 ||
      rename(next_path.c_str(), path.c_str()) != 0) {
    return error.fail(status_of(errno), errno, "shm: ", path, " cannot be replaced");
  }
  made = std::move(object);
  return CDMF_OK;
}

cdmf_status NamedObject::open(const std::string& name, std::uint64_t size_min, const Terms& terms, Presence presence,
                              NamedObject& found, ErrorText& error) {
  if (const cdmf_status status = check_folder(error); status != CDMF_OK) return status;
  const std::string path = path_of(name);
  for (int turn = 0; turn < kTurnsMax; ++turn) {
    NamedObject object;
    object.name_ = name;
    object.terms_ = terms;
    if (const int problem = open_named(path, object.fd_); problem != 0) {
      if (problem != ENOENT) return explain(path, problem, error);
      return error.fail(CDMF_ENDPOINT_NOT_FOUND, 0, "shm: no server has made ", path,
                        "; start one or check 'endpoint'");
    }
    const int fd = object.fd_.get();
    struct stat info {};
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return explain(path, EINVAL, error);
    if (!terms.access.admits(info.st_uid)) {
      return error.fail(CDMF_PERMISSION_DENIED, 0, "shm: ", path, " belongs to user ", info.st_uid,
                        ", neither this user nor root nor one of 'allow_uids'; if that is right, list it there, "
                        "otherwise have it removed or change 'endpoint'");
    }
    const mode_t mode = info.st_mode & 07777;
    if ((mode & ~terms.access.mode & ~mode_t{0700}) != 0) {
      char octal[8];
      std::snprintf(octal, sizeof octal, "0%o", static_cast<unsigned>(mode));
      return error.fail(CDMF_PERMISSION_DENIED, 0, "shm: ", path, " has mode ", octal,
                        ", which lets in others than this side's 'mode' does; set the same 'mode' on both sides");
    }
    // A second name would be somebody's way of passing one of our objects off as another one.
    if (info.st_nlink > 1) {
      return error.fail(CDMF_PERMISSION_DENIED, 0, "shm: ", path, " has ", info.st_nlink, " names; remove it");
    }
    const auto size = static_cast<std::uint64_t>(info.st_size);
    if (size < size_min || !has_mark(fd, terms.mark_offset)) {
      return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: ", path, ", ", size,
                        " bytes, is of another program; change 'endpoint'");
    }
    if (static_cast<std::uint64_t>(info.st_blocks) * 512 < size) {
      return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: ", path, " has memory for ", info.st_blocks * 512, " of its ",
                        size, " bytes; its server is not of cdmf");
    }
    if (!object.keep_private()) return error.fail(CDMF_RESOURCE_EXHAUSTED, 0, "shm: no memory for ", path);
    object.size_ = size;
    object.owner_ = info.st_uid;
    // Whole, only with nobody alive. Not a look alone: of two that come at once, each would see the other.
    const bool left_behind =
        presence == Presence::yes ? set_lock(fd, F_WRLCK, kPresenceByte) : !object.is_held_by_another();
    if (presence == Presence::yes && !left_behind) {
      object.present_ = set_lock(fd, F_RDLCK, kPresenceByte);
      if (!object.present_ && errno != EAGAIN && errno != EACCES) {
        return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: ", path, " cannot be locked");
      }
    }
    // The name is somebody else's by now, or about to be: look again.
    if (!object.has_its_name() || (presence == Presence::yes && !left_behind && !object.present_)) {
      sched_yield();
      continue;
    }
    if (left_behind) {
      return error.fail(CDMF_ENDPOINT_NOT_FOUND, 0, "shm: ", path, " was left behind by a server that died; start one");
    }
    if (!object.mapping_.map(fd, size)) {
      return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: ", size, " bytes of ", path, " cannot be mapped");
    }
    found = std::move(object);
    return CDMF_OK;
  }
  return error.fail(CDMF_ENDPOINT_NOT_FOUND, 0, "shm: ", path, " comes and goes; somebody else uses this 'endpoint'");
}

void NamedObject::let_go() noexcept {
  present_ = false;
  if (fd_ && process_ == getpid()) {
    // Nobody else alive has it, also when its maker was killed. Whoever opens it from here on does not get it present
    // any more, and looks for another one.
    if (set_lock(fd_.get(), F_WRLCK, kPresenceByte) && has_its_name()) unlink(path_of(name_).c_str());
    // Explicitly: a mapping that somebody took keeps the open file alive, and with it its locks.
    struct flock all {};
    all.l_type = F_UNLCK;
    all.l_whence = SEEK_SET;
    fcntl(fd_.get(), F_OFD_SETLK, &all);
  }
}

void NamedObject::close() noexcept {
  if (!fd_) return;
  let_go();
  if (process_ == getpid()) forget_descriptor(fd_.get());
  fd_.reset();
  mapping_ = Mapping();
}

bool NamedObject::has_its_name() const noexcept {
  struct stat info {};
  return fd_ && fstat(fd_.get(), &info) == 0 && leads_to(path_of(name_), info);
}

bool NamedObject::try_lock(std::uint32_t index) noexcept {
  return process_ == getpid() && set_lock(fd_.get(), F_WRLCK, kFirstLockByte + index);
}
void NamedObject::unlock(std::uint32_t index) noexcept {
  if (process_ == getpid()) set_lock(fd_.get(), F_UNLCK, kFirstLockByte + index);
}
bool NamedObject::is_locked_by_another(std::uint32_t index) const noexcept { return is_locked(fd_.get(), index); }
bool NamedObject::is_held_by_another() const noexcept { return is_held_present(fd_.get()); }

}  // namespace cdmf::ipc::shm
