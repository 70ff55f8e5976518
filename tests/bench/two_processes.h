#pragma once
// bench/two_processes.h: memory that two processes share, and the second process, for measurements without a transport.
#include <sys/mman.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <functional>
#include <stdexcept>
#include <system_error>

#include "cli/cpu.h"
#include "cli/process.h"

namespace cdmf::bench {

/// Zeroed memory that a child forked later shares. Page aligned.
class SharedMemory {
 public:
  explicit SharedMemory(std::size_t size_bytes) : size_bytes_(size_bytes) {
    address_ = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (address_ == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "cannot map shared memory");
  }
  ~SharedMemory() { munmap(address_, size_bytes_); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  std::byte* bytes() const noexcept { return static_cast<std::byte*>(address_); }

  /// Gives the calling process all the pages at once, so that none is asked for while a clock runs. A kernel
  /// before 5.14 does not know that; the first lap is slower then.
  void map_all() const noexcept { madvise(address_, size_bytes_, MADV_POPULATE_WRITE); }

 private:
  void* address_ = nullptr;
  std::size_t size_bytes_;
};

/// Runs `body` in a second process on cpus.second while the caller is bound to cpus.first; kills it when this object
/// goes. `body` may poll for ever.
class OtherProcess {
 public:
  OtherProcess(const ipc::cli::CpuPair& cpus, const std::function<void()>& body)
      : pin_(cpus.first), child_(ipc::cli::ChildProcess::call([&](ipc::cli::ControlChannel&) {
          ipc::cli::pin_to_cpu(cpus.second);
          body();
          return 0;
        })) {}

  /// Polls until ready(). Throws when the other process has died, or after 10 seconds, so that a benchmark of something
  /// broken ends.
  template <typename Ready>
  void poll_until(Ready&& ready) {
    constexpr int kPollsBetweenLooks = 1 << 16;  // Some 50 us: a look is a system call.
    std::chrono::steady_clock::time_point since{};
    for (;;) {
      for (int i = 0; i < kPollsBetweenLooks; ++i) {
        if (ready()) return;
      }
      const auto now = std::chrono::steady_clock::now();
      if (since == std::chrono::steady_clock::time_point{}) since = now;
      if (const auto ended = child_.wait_for(std::chrono::milliseconds(0))) {
        throw std::runtime_error("the other process ended early: " + ended->text());
      }
      if (now - since > std::chrono::seconds(10)) throw std::runtime_error("no answer for 10 seconds");
    }
  }

 private:
  ipc::cli::ScopedPin pin_;
  ipc::cli::ChildProcess child_;
};

}  // namespace cdmf::bench
