#include "pool/pool_watch.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

#include "wait/bell.h"

namespace cdmf::ipc::shm {
namespace {

constexpr int kSoonMs = 1;
constexpr unsigned kSuspicion = 100;  // Looks.

}  // namespace

cdmf_status PoolWatch::start(ErrorText& error) {
  wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_)
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: no descriptor for the thread that watches a pool");
  stop_ = false;
  // Signals are the application's, on its own threads.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  cdmf_status status = CDMF_OK;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& problem) {
    status = error.fail(CDMF_RESOURCE_EXHAUSTED, problem.code().value(), "shm: no thread to watch a pool");
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return status;
}

void PoolWatch::stop() noexcept {
  if (!thread_.joinable()) return;
  stop_ = true;
  poke();
  thread_.join();
  for (Watched& each : watched_) each = {};
}

void PoolWatch::poke() noexcept { signal_fd(wake_.get()); }

/// True: not what it was.
bool PoolWatch::look_at(std::uint32_t index, bool& dead) noexcept {
  Watched& watched = watched_[index];
  const std::uint64_t state = memory_.ring().participant(index).state.load(std::memory_order_acquire);  // LINE
  if (mpmc_attached(state) && !owner_.is_alive(index)) dead = true;
  if (state == watched.state) return false;
  watched = {};
  watched.state = state;
  const std::int32_t pid = memory_.member(index).pid.load(std::memory_order_relaxed);
  if (mpmc_attached(state) && pid > 0 && pid != getpid()) {
    watched.process.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    // One that died before its pid could be looked up was seen dead by its lock, or will be at the next look.
  }
  return true;
}

void PoolWatch::run() {
  pthread_setname_np(pthread_self(), "cdmf-shm-pool");
  std::vector<pollfd> polled;
  std::vector<std::uint32_t> who;
  while (!stop_) {
    bool dead = false;
    bool changed = false;
    for (std::uint32_t index = 0; index < kPoolMembersMax; ++index) {
      if (index != self_) changed |= look_at(index, dead);
    }
    bool settled = true;
    if (dead) settled = owner_.bury_the_dead();
    if (changed || dead) owner_.members_changed();

    polled.assign(1, {wake_.get(), POLLIN, 0});
    who.assign(1, self_);
    bool soon = !settled;
    for (std::uint32_t index = 0; index < kPoolMembersMax; ++index) {
      Watched& watched = watched_[index];
      if (watched.suspicion != 0) {
        soon |= --watched.suspicion != 0;
      } else if (watched.process) {
        polled.push_back({watched.process.get(), POLLIN, 0});
        who.push_back(index);
      }
    }
    if (poll(polled.data(), polled.size(), soon ? kSoonMs : kLookMs) <= 0) continue;
    if ((polled[0].revents & POLLIN) != 0) {
      std::uint64_t pokes = 0;
      [[maybe_unused]] const ssize_t drained = read(wake_.get(), &pokes, sizeof pokes);
    }
    for (std::size_t i = 1; i < polled.size(); ++i) {
      if (polled[i].revents == 0) continue;
      watched_[who[i]].process.reset();  // It has said all it can.
      watched_[who[i]].suspicion = kSuspicion;
    }
  }
}

}  // namespace cdmf::ipc::shm
