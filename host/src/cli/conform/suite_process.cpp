#include "cli/conform/suite_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>

#include "cli/command_error.h"
#include "cli/process.h"

namespace cdmf::ipc::cli::conform {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kOutputBytesMax = 64 * 1024;
// Peers die with their test, but not in the same instant.
constexpr std::chrono::seconds kPeersEndTimeMax{5};

[[noreturn]] void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

fs::path make_folder(const fs::path& parent) {
  std::string name = (parent / "test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw_errno("cannot make a folder in " + parent.string());
  return name;
}

std::string last_part_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  const auto size = static_cast<std::size_t>(std::max<std::streamoff>(in.tellg(), 0));
  const std::size_t skipped = size > kOutputBytesMax ? size - kOutputBytesMax : 0;
  in.seekg(static_cast<std::streamoff>(skipped));
  std::string text = skipped == 0 ? "" : "[" + std::to_string(skipped) + " bytes before this are left out]\n";
  text.append(std::istreambuf_iterator<char>(in), {});
  return text;
}

std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      plain += text[++i] == 'n' ? '\n' : text[i];
    } else {
      plain += text[i];
    }
  }
  return plain;
}

void add_line(std::string& text, std::string_view line) {
  if (!text.empty()) text += '\n';
  text += line;
}

/// What the suite said itself (tests/conformance/report.h has the format).
struct Report {
  std::string ended;  ///< passed | failed | skipped; empty: it did not get that far
  std::string failures;
  std::string skips;
};

Report read_report(const fs::path& file) {
  Report report;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const std::string_view all = line;
    const auto blank = all.find(' ');
    if (blank == std::string_view::npos) continue;
    const std::string_view what = all.substr(0, blank);
    const std::string_view rest = all.substr(blank + 1);
    if (what == "ended") report.ended = rest;
    if (what == "failed") add_line(report.failures, unescaped(rest));
    if (what == "skipped") add_line(report.skips, unescaped(rest));
  }
  return report;
}

}  // namespace

SuiteProcess::SuiteProcess(const std::string& suite, std::vector<std::string> words, const fs::path& temporary,
                           Clock::duration time_limit)
    : folder_(make_folder(temporary)), time_limit_(time_limit), started_(Clock::now()) {
  words.insert(words.begin(), suite);
  words.push_back("--report=" + (folder_ / "report").string());
  // Everything that allocates comes before fork().
  std::vector<std::string> variables{"TMPDIR=" + folder_.string(), "XDG_RUNTIME_DIR=" + folder_.string()};
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (!text.starts_with("TMPDIR=") && !text.starts_with("XDG_RUNTIME_DIR=") && !text.starts_with("GTEST_")) {
      variables.emplace_back(text);
    }
  }
  std::vector<char*> argv;
  std::vector<char*> envp;
  for (auto& word : words) argv.push_back(word.data());
  for (auto& variable : variables) envp.push_back(variable.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  const std::string folder = folder_.string();
  const std::string output = (folder_ / "output").string();

  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
    throw_errno("cannot start a test");
  }
  if (pid_ == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    signal(SIGPIPE, SIG_DFL);
    const int input = open("/dev/null", O_RDONLY);
    const int out = open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (chdir(folder.c_str()) != 0 || dup2(input, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(out, STDERR_FILENO) < 0) {
      _exit(127);
    }
    // Tests count descriptors: nothing of this program belongs there.
    syscall(SYS_close_range, 3u, ~0u, 0u);
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  }
  setpgid(pid_, pid_);  // In both, so that it is true whoever runs first.
  end_fd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
}

SuiteProcess::~SuiteProcess() {
  kill_group();
  if (!reaped_) {
    while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
    }
  }
  if (end_fd_ >= 0) close(end_fd_);
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void SuiteProcess::kill_group() noexcept {
  if (!group_gone_) ::kill(-pid_, SIGKILL);
}

bool SuiteProcess::finished() {
  if (reaped_) return true;
  if (waitpid(pid_, &status_, WNOHANG) == pid_) {
    reaped_ = true;
  } else if (Clock::now() >= deadline()) {
    timed_out_ = true;
    kill_group();
    while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
    }
    reaped_ = true;
  }
  if (reaped_) ended_ = Clock::now();
  return reaped_;
}

TestResult SuiteProcess::result() {
  // This program adopts what the test leaves behind (PR_SET_CHILD_SUBREAPER), so its end can be seen here.
  bool left_behind = false;
  for (const auto until = Clock::now() + kPeersEndTimeMax;;) {
    while (waitpid(-pid_, nullptr, WNOHANG) > 0) {
    }
    group_gone_ = group_gone_ || ::kill(-pid_, 0) != 0;
    if (group_gone_) break;
    if (Clock::now() >= until) {
      left_behind = true;
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (left_behind) kill_group();

  const Report report = read_report(folder_ / "report");
  TestResult result;
  result.seconds = ended_ - started_;
  result.output = last_part_of(folder_ / "output");
  result.text = report.failures;
  const bool clean_exit = WIFEXITED(status_) && WEXITSTATUS(status_) == 0;
  if (timed_out_) {
    const auto limit = std::chrono::duration<double>(time_limit_).count();
    char text[80];
    std::snprintf(text, sizeof text, "no end within %g s; it was killed, and its whole process group", limit);
    add_line(result.text, text);
  } else if (WIFSIGNALED(status_)) {
    add_line(result.text, "ended by " + ExitStatus{true, WTERMSIG(status_)}.text());
  } else if (report.ended.empty()) {
    add_line(result.text, "the suite ended early with exit code " + std::to_string(WEXITSTATUS(status_)));
  } else if (!clean_exit && report.ended != "failed") {
    // A sanitizer's way to say it: a leak is found after the last test.
    add_line(result.text, "passed, but the process ended with exit code " + std::to_string(WEXITSTATUS(status_)));
  }
  if (left_behind) add_line(result.text, "left processes behind, which still ran 5 s later");
  if (report.ended == "failed" && result.text.empty()) result.text = "failed without a reason";
  if (result.text.empty()) {
    result.verdict = report.ended == "skipped" ? Verdict::skipped : Verdict::passed;
    if (result.verdict == Verdict::skipped) result.text = report.skips;
  }
  return result;
}

std::vector<std::string> list_tests(const std::string& suite, const std::string& filter) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw_errno("cannot list the tests");
  std::string text;
  ExitStatus status;
  {
    ChildProcess lister = ChildProcess::run(suite, {"--gtest_list_tests", "--gtest_filter=" + filter},
                                            {.input = -1, .output = ends[1], .error = -1});
    close(ends[1]);
    char bytes[4096];
    for (ssize_t got = 0; (got = read(ends[0], bytes, sizeof bytes)) != 0;) {
      if (got > 0) text.append(bytes, static_cast<std::size_t>(got));
      if (got < 0 && errno != EINTR) break;
    }
    close(ends[0]);
    status = lister.wait_for(std::chrono::seconds(60)).value_or(ExitStatus{true, SIGALRM});
  }
  if (!status.success()) throw CommandError(suite + " cannot list its tests: " + status.text());
  std::vector<std::string> tests;
  std::string group;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    line.erase(std::min(line.find_last_not_of(" \r") + 1, line.size()));
    if (line.starts_with("  ")) {
      tests.push_back(group + line.substr(2));
    } else {
      group = line;  // "Suite."
    }
  }
  return tests;
}

}  // namespace cdmf::ipc::cli::conform
