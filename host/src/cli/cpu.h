#pragma once
// cli/cpu.h: which two processors a measurement runs on, and pinning to them.
#include <sched.h>

#include <string>

namespace cdmf::ipc::cli {

/// Two processors for two processes that talk to each other.
struct CpuPair {
  int first = -1;  // -1 when not pinned.
  int second = -1;
  bool pinned = false;
  std::string
      note;  // For the reader of a report: "cpu 0 and 1, one package, different cores", or why nothing is pinned.
};

/// Chooses among the processors this thread may use: first two cores of one package, then two packages, then two
/// threads of one core. With one usable processor nothing is pinned, and figures then measure the scheduler: `note`
/// says so.
[[nodiscard]] CpuPair choose_cpu_pair();

/// Binds the calling thread to one processor. A negative `cpu` does nothing.
/// returns  false when the system refuses (processor gone, outside the allowed set).
bool pin_to_cpu(int cpu) noexcept;

/// Pins the calling thread for a scope and restores what it was allowed before. Destroy it on the same thread.
class ScopedPin {
 public:
  explicit ScopedPin(int cpu) noexcept;
  ~ScopedPin();
  ScopedPin(const ScopedPin&) = delete;
  ScopedPin& operator=(const ScopedPin&) = delete;

 private:
  cpu_set_t before_{};
  bool restore_ = false;
};

}  // namespace cdmf::ipc::cli
