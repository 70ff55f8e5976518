#pragma once
// cli/process.h: child processes that cannot outlive or hang the program, and a line of text to and from each.
// The demo, the benchmark and the tests play "two programs" with it.
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cdmf::ipc::cli {

/// One end of a two-way text connection between a parent and its child: "ready", "go", a result. Not thread-safe.
class ControlChannel {
 public:
  enum class ReadOutcome { line, timed_out, closed };

  /// Takes over `fd`, a connected stream socket; -1 makes a channel that is closed from the start.
  explicit ControlChannel(int fd) noexcept : fd_(fd) {}
  ~ControlChannel();
  ControlChannel(ControlChannel&& other) noexcept;
  ControlChannel& operator=(ControlChannel&& other) noexcept;

  /// Two ends of one connection, for two threads of one process. throws  std::system_error.
  [[nodiscard]] static std::pair<ControlChannel, ControlChannel> pair();

  /// The channel to the parent that ChildProcess::run or run_self gave this program, or nothing when it was started
  /// otherwise. The first call takes it; it is not passed on to this program's own children.
  [[nodiscard]] static std::optional<ControlChannel> from_parent();

  /// Sends `line`, which must not contain '\n'. Waits while the other side leaves some 100 KiB unread.
  /// returns  false: the other side is gone.
  bool send_line(std::string_view line) noexcept;

  /// Waits up to `timeout` (0 = look once) for a whole line and stores it in `line`, without its '\n'.
  /// returns  line | timed_out (a part of a line is kept for the next call) | closed (the other side is gone and
  ///          everything it sent has been read)
  [[nodiscard]] ReadOutcome read_line(std::string& line, std::chrono::milliseconds timeout);

  /// Ends the connection: the other side's next read_line says closed.
  void close() noexcept;
  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  int fd_;
  std::string unread_;
};

/// How a process ended.
struct ExitStatus {
  bool signaled = false;
  int value = 0;  // Exit code, or the signal's number.

  [[nodiscard]] bool success() const noexcept { return !signaled && value == 0; }
  [[nodiscard]] std::string text() const;  // "exit code 3", "signal 9 (Killed)"
};

/// Standard streams of a program that is started: descriptors of the caller, -1 = the caller's own stream.
struct StandardStreams {
  int input = -1;
  int output = -1;
  int error = -1;
};

/// A running child. The kernel kills it when the thread that started it ends, so a killed parent leaves nothing behind;
/// hence start children on a thread that outlives them. Destroying the object kills and reaps it. Not thread-safe.
class ChildProcess {
 public:
  /// Runs `body` in a copy of this process and exits with its result (125 when it throws), without running destructors
  /// of globals. The copy has one thread: with others running here, `body` must not allocate or lock. throws
  /// std::system_error when the system has no process or socket to give.
  [[nodiscard]] static ChildProcess call(const std::function<int(ControlChannel&)>& body);

  /// Starts `program` (a path) with `arguments` (without the program's name). It inherits the environment and, unless
  /// `streams` says otherwise, the standard streams, and finds its end of the channel with
  /// ControlChannel::from_parent(). throws  std::system_error, also when `program` cannot be executed.
  [[nodiscard]] static ChildProcess run(const std::string& program, const std::vector<std::string>& arguments,
                                        StandardStreams streams = {});

  /// run() for the program that is running now, even when its file has been replaced since.
  [[nodiscard]] static ChildProcess run_self(const std::vector<std::string>& arguments, StandardStreams streams = {});

  ~ChildProcess();
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] ControlChannel& control() noexcept { return control_; }

  /// Waits up to `timeout` (0 = look once) for the end. returns nothing while it still runs; the same answer ever
  /// after.
  [[nodiscard]] std::optional<ExitStatus> wait_for(std::chrono::milliseconds timeout);

  /// Ends it with SIGKILL and waits for that.
  ExitStatus kill() noexcept;

 private:
  ChildProcess(pid_t pid, ControlChannel control) noexcept : pid_(pid), control_(std::move(control)) {}
  bool reap(int wait_options) noexcept;

  pid_t pid_ = -1;
  ControlChannel control_;
  std::optional<ExitStatus> ended_;
};

}  // namespace cdmf::ipc::cli
