#include "cli/stop_signal.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace cdmf::ipc::cli {

StopSignal::StopSignal(std::function<void()> on_stop) {
  sigset_t stops;
  sigemptyset(&stops);
  sigaddset(&stops, SIGINT);
  sigaddset(&stops, SIGTERM);
  signals_fd_ = signalfd(-1, &stops, SFD_CLOEXEC);
  quit_fd_ = eventfd(0, EFD_CLOEXEC);
  if (signals_fd_ < 0 || quit_fd_ < 0) {
    const int error = errno;
    if (signals_fd_ >= 0) close(signals_fd_);
    if (quit_fd_ >= 0) close(quit_fd_);
    throw std::system_error(error, std::generic_category(), "cannot watch for signals");
  }
  pthread_sigmask(SIG_BLOCK, &stops, &mask_before_);
  thread_ = std::thread([this, on_stop = std::move(on_stop)] { watch(on_stop); });
}

StopSignal::~StopSignal() {
  const std::uint64_t one = 1;
  while (write(quit_fd_, &one, sizeof one) < 0 && errno == EINTR) {
  }
  thread_.join();
  pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
  close(signals_fd_);
  close(quit_fd_);
}

void StopSignal::watch(const std::function<void()>& on_stop) {
  for (;;) {
    pollfd sources[2] = {{signals_fd_, POLLIN, 0}, {quit_fd_, POLLIN, 0}};
    if (poll(sources, 2, -1) < 0) continue;
    if (sources[1].revents != 0) return;
    signalfd_siginfo info{};
    if (read(signals_fd_, &info, sizeof info) != sizeof info) continue;
    const int number = static_cast<int>(info.ssi_signo);
    if (number_.exchange(number, std::memory_order_acq_rel) != 0) _exit(128 + number);  // Asked twice: no more waiting.
    on_stop();
    handled_.store(true, std::memory_order_release);
    handled_.notify_all();
  }
}

}  // namespace cdmf::ipc::cli
