#pragma once
// child.h: a forked process that cannot outlive its test.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <exception>
#include <utility>

namespace cdmf::ipc::unix_socket::test {

/// Fork children before the test starts threads: thread sanitizer refuses threads in a child of a process with threads.
class Child {
 public:
  /// body  returns the exit code; 0 is success. It must not use gtest assertions.
  template <typename Body>
  explicit Child(Body&& body) : pid_(fork()) {
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(60);  // The watchdog: ends a child that waits for something that never comes.
    int code = 99;
    try {
      code = std::forward<Body>(body)();
    } catch (const std::exception&) {
    }
    _exit(code);
  }
  ~Child() {
    if (pid_ > 0) kill_and_wait();
  }
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// Exit code; -signal when a signal ended it.
  int wait() {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0) {
      if (errno != EINTR) return -1000;
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  int kill_and_wait() {
    kill(pid_, SIGKILL);
    return wait();
  }
  void signal(int number) const { kill(pid_, number); }

 private:
  pid_t pid_;
};

/// Lets processes meet: one byte written lets one read return.
class Gate {
 public:
  Gate() {
    if (pipe(ends_) != 0) ADD_FAILURE() << "pipe failed";
  }
  ~Gate() {
    close(ends_[0]);
    close(ends_[1]);
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  void open(char value = 1) const { (void)!write(ends_[1], &value, 1); }
  char pass() const {
    char value = 0;
    while (read(ends_[0], &value, 1) < 0 && errno == EINTR) {
    }
    return value;
  }

 private:
  int ends_[2] = {-1, -1};
};

}  // namespace cdmf::ipc::unix_socket::test
