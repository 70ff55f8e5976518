#pragma once
// A child process executed one instruction at a time, to be killed between any two of them. Needs permission to
// trace; can_trace() says whether there is.

#include <sched.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <functional>
#include <system_error>

namespace cdmf::ipc::test {

/// Owns the child: its destruction kills and reaps it. One thread.
class SteppedProcess {
 public:
  /// Forks. The child runs `body` freely up to stop_here(), and from there on as step() lets it; when `body` returns,
  /// it ends without running anything else.
  /// while_running  called again and again until the child has stopped, for whoever must help it get there.
  explicit SteppedProcess(
      const std::function<void()>& body, const std::function<void()>& while_running = [] {}) {
    pid_ = fork();
    if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (pid_ == 0) {
      if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(2);
      body();
      _exit(0);
    }
    int status = 0;
    pid_t stopped = 0;
    while ((stopped = waitpid(pid_, &status, WNOHANG)) == 0) {
      while_running();
      sched_yield();  // Both may share one processor, see StayOnOneProcessor.
    }
    note(stopped, status);
  }
  ~SteppedProcess() { kill(); }
  SteppedProcess(const SteppedProcess&) = delete;
  SteppedProcess& operator=(const SteppedProcess&) = delete;

  /// In the child: hands control to the parent. Once.
  static void stop_here() { raise(SIGSTOP); }

  /// Executes one instruction of the child, or one system call. False: it has ended by itself.
  bool step() {
    if (ended_) return false;
    if (ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) != 0) {
      throw std::system_error(errno, std::generic_category(), "ptrace single step");
    }
    int status = 0;
    const pid_t waited = waitpid(pid_, &status, 0);
    note(waited, status);
    return !ended_;
  }

  /// The instruction it stands at is its last but one for ever. Returns when it is gone.
  void kill() {
    if (ended_) return;
    ::kill(pid_, SIGKILL);
    int status = 0;
    waitpid(pid_, &status, 0);
    ended_ = true;
  }

  /// It ended by itself with success.
  bool finished() const { return ended_ && clean_; }
  pid_t pid() const { return pid_; }

 private:
  void note(pid_t waited, int status) {
    if (waited != pid_) throw std::system_error(errno, std::generic_category(), "waitpid");
    if (WIFSTOPPED(status)) return;
    ended_ = true;
    clean_ = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  pid_t pid_ = -1;
  bool ended_ = false;
  bool clean_ = false;
};

/// While it lives, the thread and the children it forks share one processor: a step then costs a switch, and not the
/// waking of an idle processor, which is several times slower.
class StayOnOneProcessor {
 public:
  StayOnOneProcessor() {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
  }
  ~StayOnOneProcessor() { sched_setaffinity(0, sizeof before_, &before_); }
  StayOnOneProcessor(const StayOnOneProcessor&) = delete;
  StayOnOneProcessor& operator=(const StayOnOneProcessor&) = delete;

 private:
  cpu_set_t before_;
};

/// Containers may forbid tracing, and emulators cannot.
inline bool can_trace() {
  try {
    SteppedProcess probe([] { SteppedProcess::stop_here(); });
    return probe.step();
  } catch (const std::system_error&) {
    return false;
  }
}

}  // namespace cdmf::ipc::test
