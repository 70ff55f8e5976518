#pragma once
// A child process with all its threads, run from system call to system call, to be killed before or after any of them.

#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <functional>
#include <set>
#include <system_error>

namespace cdmf::ipc::test {

/// Owns the child: its destruction kills and reaps it. The caller must have no other child that may end or stop
/// meanwhile: every wait is for any child.
class TracedProcess {
 public:
  /// Forks. The child runs `body` freely up to stop_here(), and from there on as next() lets it.
  explicit TracedProcess(const std::function<void()>& body) {
    pid_ = fork();
    if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (pid_ == 0) {
      if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(2);
      body();
      _exit(0);
    }
    int status = 0;
    if (waitpid(pid_, &status, 0) != pid_) throw std::system_error(errno, std::generic_category(), "waitpid");
    if (!WIFSTOPPED(status)) {
      ended_ = true;
      return;
    }
    ptrace(PTRACE_SETOPTIONS, pid_, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
    threads_.insert(pid_);
    resume_ = pid_;
  }
  ~TracedProcess() { kill(); }
  TracedProcess(const TracedProcess&) = delete;
  TracedProcess& operator=(const TracedProcess&) = delete;

  /// In the child: hands control to the parent. Once.
  static void stop_here() { raise(SIGSTOP); }

  /// Runs on until a thread enters or leaves a system call, and leaves that thread there; the others go on. False: the
  /// child has ended by itself.
  bool next() {
    while (!ended_) {
      if (resume_ != 0) ptrace(PTRACE_SYSCALL, resume_, nullptr, signal_);
      resume_ = 0;
      signal_ = 0;
      int status = 0;
      const pid_t thread = waitpid(-1, &status, __WALL);
      if (thread < 0) throw std::system_error(errno, std::generic_category(), "waitpid");
      if (WIFEXITED(status) || WIFSIGNALED(status)) {
        if (thread == pid_) {
          ended_ = true;
          clean_ = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        }
        continue;
      }
      resume_ = thread;
      const int signal = WSTOPSIG(status);
      if (signal == (SIGTRAP | 0x80)) return true;
      const bool is_new = threads_.insert(thread).second;
      // A new thread starts with a stop of its own; a clone is told by a trap. Other signals are the child's.
      if (!(is_new && signal == SIGSTOP) && signal != SIGTRAP) signal_ = signal;
    }
    return false;
  }

  void kill() {
    if (ended_) return;
    ::kill(pid_, SIGKILL);
    for (int status = 0; !ended_;) {
      const pid_t thread = waitpid(-1, &status, __WALL);
      if (thread < 0 || (thread == pid_ && !WIFSTOPPED(status))) ended_ = true;
    }
  }

  bool finished() const { return ended_ && clean_; }

 private:
  pid_t pid_ = -1;
  std::set<pid_t> threads_;
  pid_t resume_ = 0;
  int signal_ = 0;
  bool ended_ = false;
  bool clean_ = false;
};

}  // namespace cdmf::ipc::test
