#include "inspect/object_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

namespace cdmf::ipc::shm {

cdmf_status ObjectFile::open(const std::string& name, const char* missing, ObjectFile& found, ErrorText& error) {
  ObjectFile file;
  // O_NONBLOCK: a FIFO at the name would wait for its other end. Reading does not wake those who watch for writers.
  file.fd.reset(::open(("/dev/shm" + name).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.fd) {
    if (errno == ENOENT) return error.fail(CDMF_ENDPOINT_NOT_FOUND, 0, "shm: nobody has made ", missing);
    return error.fail(CDMF_PERMISSION_DENIED, errno, "shm: the object ", name, " cannot be read");
  }
  struct stat info {};
  if (fstat(file.fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: ", name, " is no shared-memory object");
  }
  if (info.st_uid != geteuid() && info.st_uid != 0 && geteuid() != 0) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, "shm: the object ", name, " belongs to user ", info.st_uid,
                      "; only the same user or root may look into it");
  }
  file.size = static_cast<std::uint64_t>(info.st_size);
  file.owner = info.st_uid;
  found = std::move(file);
  return CDMF_OK;
}

}  // namespace cdmf::ipc::shm
