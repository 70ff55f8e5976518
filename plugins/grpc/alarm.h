#pragma once
// alarm.h: wakes the receiver of one driver, by a descriptor that epoll can wait for.
// Costs a sender one atomic exchange while the receiver is awake, and one system call when it sleeps.
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <memory>

namespace cdmf::ipc::grpc_transport {

/// Shared with every link of the driver, hence it outlives the driver's close().
/// Edge  ASLEEP  The receiver calls arm() and then looks at its links, each under its mutex; a sender changes a link
///               under that mutex and then calls ring(). Whoever has the mutex second sees the other's step: either
///               the receiver finds the change, or the sender finds the alarm armed.
class Alarm {
 public:
  /// Null when the process has no descriptor left; errno says why.
  [[nodiscard]] static std::shared_ptr<Alarm> make() {
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) return nullptr;
    return std::make_shared<Alarm>(fd);
  }
  explicit Alarm(int fd) noexcept : fd_(fd) {}
  ~Alarm() { close(fd_); }
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  /// Readable from a ring() until the next arm().
  [[nodiscard]] int fd() const noexcept { return fd_; }

  /// From now on a ring() makes the descriptor readable. Look at the links after this, then sleep. [receiver]
  void arm() noexcept {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto drained = read(fd_, &count, sizeof count);  // Nothing to drain is the usual case.
    armed_.store(true);                                                     // ASLEEP
  }
  /// The receiver looks by itself for now. [receiver]
  void disarm() noexcept { armed_.store(false); }
  /// Something changed for the receiver. Whether it slept. [any]
  bool ring() noexcept {
    if (!armed_.exchange(false)) return false;  // ASLEEP
    ring_always();
    return true;
  }
  void ring_always() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = write(fd_, &one, sizeof one);  // Fails only when it is readable anyway.
  }

 private:
  const int fd_;
  std::atomic<bool> armed_{false};
};

}  // namespace cdmf::ipc::grpc_transport
