#pragma once
// cli/stop_signal.h: turns SIGINT and SIGTERM into an ordinary call, so that a command can end in order.
#include <signal.h>

#include <atomic>
#include <functional>
#include <thread>

namespace cdmf::ipc::cli {

/// While it lives, the first SIGINT or SIGTERM calls `on_stop` on a thread of its own, and a second one ends the
/// program at once. Make it before anything that starts threads: they inherit that these signals are not for them.
class StopSignal {
 public:
  /// throws  std::system_error when the system refuses a descriptor or thread.
  explicit StopSignal(std::function<void()> on_stop);
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// The number of the signal that came, or 0. [any thread]
  [[nodiscard]] int number() const noexcept { return number_.load(std::memory_order_acquire); }
  /// Waits until a signal has come and on_stop has returned.
  void wait() const noexcept { handled_.wait(false, std::memory_order_acquire); }

 private:
  void watch(const std::function<void()>& on_stop);

  std::atomic<int> number_{0};
  std::atomic<bool> handled_{false};
  sigset_t mask_before_{};
  int signals_fd_ = -1;
  int quit_fd_ = -1;
  std::thread thread_;
};

}  // namespace cdmf::ipc::cli
