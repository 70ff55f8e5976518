#include "segment/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cerrno>

namespace cdmf::ipc::shm {

int allocate_bytes(int fd, std::uint64_t size) noexcept {
  // Beyond this limit the kernel would not only fail but also send SIGXFSZ, which ends the program.
  rlimit largest{};
  if (getrlimit(RLIMIT_FSIZE, &largest) == 0 && largest.rlim_cur != RLIM_INFINITY && size > largest.rlim_cur) {
    return EFBIG;
  }
  int problem;
  do {
    problem = posix_fallocate(fd, 0, static_cast<off_t>(size));
  } while (problem == EINTR);
  return problem;
}

Mapping::~Mapping() {
  if (memory_ != nullptr) munmap(memory_, size_);
}

bool Mapping::map(int fd, std::size_t size) noexcept {
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (memory == MAP_FAILED) return false;
  // A child of fork() would keep the memory of every link alive without ever using it.
  madvise(memory, size, MADV_DONTFORK);
  Mapping made;
  made.memory_ = static_cast<std::byte*>(memory);
  made.size_ = size;
  swap(made);
  return true;
}

}  // namespace cdmf::ipc::shm
