#include "segment/fork_guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <vector>

namespace cdmf::ipc::shm {
namespace {

struct Guarded {
  std::mutex mutex;
  std::vector<int> fds;
};

/// Never destroyed: fork() may be called while the program ends.
Guarded& guarded() {
  static Guarded* const all = [] {
    auto* const made = new Guarded;
    // Locked across fork(): the child then finds the list whole, whatever other threads did.
    pthread_atfork([] { guarded().mutex.lock(); }, [] { guarded().mutex.unlock(); },
                   [] {
                     Guarded& here = guarded();
                     const int nothing = here.fds.empty() ? -1 : ::open("/dev/null", O_RDWR | O_CLOEXEC);
                     for (const int fd : here.fds) {
                       if (nothing < 0 || dup3(nothing, fd, O_CLOEXEC) < 0) ::close(fd);
                     }
                     if (nothing >= 0) ::close(nothing);
                     here.fds.clear();
                     here.mutex.unlock();
                   });
    return made;
  }();
  return *all;
}

}  // namespace

bool keep_from_children(int fd) noexcept {
  try {
    Guarded& all = guarded();
    const std::lock_guard lock(all.mutex);
    all.fds.push_back(fd);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void forget_descriptor(int fd) noexcept {
  Guarded& all = guarded();
  const std::lock_guard lock(all.mutex);
  std::erase(all.fds, fd);
}

}  // namespace cdmf::ipc::shm
