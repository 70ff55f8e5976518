#include "cli/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <thread>
#include <utility>

namespace cdmf::ipc::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr char kControlVariable[] = "CDMF_CONTROL_FD";
constexpr std::size_t kLineBytesMax = std::size_t{1} << 20;  // Bounds what a child gone wrong can make us keep.
constexpr int kBodyThrew = 125;

[[noreturn]] void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

int milliseconds_left(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<long long>(left, 0, 1'000'000'000));
}

struct SocketPair {
  int ours = -1;
  int theirs = -1;
  SocketPair() {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) throw_errno("cannot make a control channel");
    ours = fds[0];
    theirs = fds[1];
    // A program started with a standard stream closed gets its number here, and the child would take that for the
    // stream.
    if (theirs <= STDERR_FILENO) {
      const int moved = fcntl(theirs, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
      if (moved < 0) throw_errno("cannot make a control channel");
      ::close(std::exchange(theirs, moved));
    }
  }
  ~SocketPair() {
    if (ours >= 0) ::close(ours);
    if (theirs >= 0) ::close(theirs);
  }
  SocketPair(const SocketPair&) = delete;
  SocketPair& operator=(const SocketPair&) = delete;
};

// In the child. The parent may have died before the request to die with it was made, hence the second look.
void die_with_parent(pid_t parent) noexcept {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kBodyThrew);
}

// "NAME=value" strings of our environment without our own control variable, then the child's.
std::vector<std::string> environment_for_child(int control_fd) {
  std::vector<std::string> variables;
  const std::string own = std::string(kControlVariable) + "=";
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (std::string_view(*variable).substr(0, own.size()) != own) variables.emplace_back(*variable);
  }
  variables.push_back(own + std::to_string(control_fd));
  return variables;
}

std::vector<char*> pointers_to(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (auto& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

ControlChannel::~ControlChannel() { close(); }

ControlChannel::ControlChannel(ControlChannel&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), unread_(std::move(other.unread_)) {}

ControlChannel& ControlChannel::operator=(ControlChannel&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(unread_, other.unread_);
  return *this;
}

std::pair<ControlChannel, ControlChannel> ControlChannel::pair() {
  SocketPair sockets;
  const int ours = std::exchange(sockets.ours, -1);
  const int theirs = std::exchange(sockets.theirs, -1);
  return {ControlChannel(ours), ControlChannel(theirs)};
}

std::optional<ControlChannel> ControlChannel::from_parent() {
  const char* text = std::getenv(kControlVariable);
  if (text == nullptr) return std::nullopt;
  const int fd = std::atoi(text);
  unsetenv(kControlVariable);
  // Not a descriptor, or one of the standard streams: somebody set the variable by hand.
  if (fd <= STDERR_FILENO || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return std::nullopt;
  return ControlChannel(fd);
}

bool ControlChannel::send_line(std::string_view line) noexcept {
  if (fd_ < 0) return false;
  const auto send_all = [this](std::string_view part, int flags) {
    while (!part.empty()) {
      const ssize_t sent = ::send(fd_, part.data(), part.size(), MSG_NOSIGNAL | flags);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) return false;
      part.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  };
  return send_all(line, MSG_MORE) && send_all("\n", 0);
}

ControlChannel::ReadOutcome ControlChannel::read_line(std::string& line, std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  std::size_t searched = 0;
  for (;;) {
    const auto end = unread_.find('\n', searched);
    if (end != std::string::npos) {
      line.assign(unread_, 0, end);
      unread_.erase(0, end + 1);
      return ReadOutcome::line;
    }
    searched = unread_.size();
    if (fd_ < 0 || unread_.size() > kLineBytesMax) return ReadOutcome::closed;
    pollfd readable{fd_, POLLIN, 0};
    const int ready = ::poll(&readable, 1, milliseconds_left(deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return ReadOutcome::timed_out;
    char bytes[4096];
    const ssize_t got = ::recv(fd_, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return ReadOutcome::closed;
    unread_.append(bytes, static_cast<std::size_t>(got));
  }
}

void ControlChannel::close() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

std::string ExitStatus::text() const {
  if (!signaled) return "exit code " + std::to_string(value);
  const char* name = sigdescr_np(value);
  return "signal " + std::to_string(value) + " (" + (name != nullptr ? name : "unknown") + ")";
}

ChildProcess ChildProcess::call(const std::function<int(ControlChannel&)>& body) {
  SocketPair sockets;
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) throw_errno("cannot fork");
  if (pid == 0) {
    die_with_parent(parent);
    ::close(std::exchange(sockets.ours, -1));  // Else this copy would hide the parent's end of file.
    int code = kBodyThrew;
    try {
      ControlChannel control(std::exchange(sockets.theirs, -1));
      code = body(control);
    } catch (...) {  // The parent sees the code; there is nobody else to tell.
    }
    _exit(code);
  }
  return {pid, ControlChannel(std::exchange(sockets.ours, -1))};
}

ChildProcess ChildProcess::run(const std::string& program, const std::vector<std::string>& arguments,
                               StandardStreams streams) {
  SocketPair sockets;
  SocketPair exec_report;  // Closed by a successful exec; carries errno otherwise.

  // Everything that allocates comes before fork(): another thread may hold the allocator's lock in the copy.
  std::vector<std::string> words{program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables = environment_for_child(sockets.theirs);
  const std::vector<char*> argv = pointers_to(words);
  const std::vector<char*> envp = pointers_to(variables);

  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) throw_errno("cannot fork");
  if (pid == 0) {
    die_with_parent(parent);
    fcntl(sockets.theirs, F_SETFD, 0);
    if (streams.input >= 0) dup2(streams.input, STDIN_FILENO);
    if (streams.output >= 0) dup2(streams.output, STDOUT_FILENO);
    if (streams.error >= 0) dup2(streams.error, STDERR_FILENO);
    execve(program.c_str(), argv.data(), envp.data());
    const int error = errno;
    const ssize_t told = write(exec_report.theirs, &error, sizeof error);
    _exit(told == sizeof error ? kBodyThrew + 1 : kBodyThrew + 2);
  }
  ChildProcess child(pid, ControlChannel(std::exchange(sockets.ours, -1)));
  ::close(std::exchange(exec_report.theirs, -1));
  int error = 0;
  ssize_t got = 0;
  while ((got = read(exec_report.ours, &error, sizeof error)) < 0 && errno == EINTR) {
  }
  if (got == sizeof error) {
    errno = error;
    throw_errno("cannot run " + program);
  }
  return child;
}

ChildProcess ChildProcess::run_self(const std::vector<std::string>& arguments, StandardStreams streams) {
  return run("/proc/self/exe", arguments, streams);
}

ChildProcess::~ChildProcess() { kill(); }

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), control_(std::move(other.control_)), ended_(other.ended_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(control_, other.control_);
  std::swap(ended_, other.ended_);
  return *this;
}

bool ChildProcess::reap(int wait_options) noexcept {
  if (ended_ || pid_ < 0) return true;
  int status = 0;
  pid_t got = 0;
  while ((got = waitpid(pid_, &status, wait_options)) < 0 && errno == EINTR) {
  }
  if (got == 0) return false;
  // Failing means somebody else reaped it, as with SIGCHLD ignored: it has ended, how is not known.
  if (got < 0)
    ended_ = ExitStatus{false, kBodyThrew};
  else if (WIFSIGNALED(status))
    ended_ = ExitStatus{true, WTERMSIG(status)};
  else
    ended_ = ExitStatus{false, WEXITSTATUS(status)};
  return true;
}

std::optional<ExitStatus> ChildProcess::wait_for(std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  if (reap(WNOHANG)) return ended_;
  if (timeout.count() <= 0) return std::nullopt;
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  while (!reap(WNOHANG)) {
    const int left = milliseconds_left(deadline);
    if (left == 0) break;
    if (pidfd >= 0) {
      pollfd ended{pidfd, POLLIN, 0};
      ::poll(&ended, 1, left);
    } else {  // Kernels before 5.3 and some sandboxes have no pidfd.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  if (pidfd >= 0) ::close(pidfd);
  return ended_;
}

ExitStatus ChildProcess::kill() noexcept {
  if (!reap(WNOHANG)) {
    ::kill(pid_, SIGKILL);  // Not reaped yet, so the number cannot belong to anybody else.
    reap(0);
  }
  return ended_.value_or(ExitStatus{});
}

}  // namespace cdmf::ipc::cli
