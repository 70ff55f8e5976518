#pragma once
// cli/conform/suite_process.h: one test of the conformance suite in a process group of its own, so that whatever it
// does, crash, hang, leave processes behind, is its own result and nobody else's.
#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace cdmf::ipc::cli::conform {

enum class Verdict { passed, failed, skipped };

struct TestResult {
  Verdict verdict = Verdict::failed;
  std::string text;    ///< why it failed or was skipped, lines separated by '\n'; empty when it passed
  std::string output;  ///< what it printed, its last part when that is much
  std::chrono::duration<double> seconds{0};
};

/// A running test. Destroying it kills the whole group and removes its folder. Not thread-safe.
class SuiteProcess {
 public:
  using Clock = std::chrono::steady_clock;

  /// Starts `suite` with `words` and a report file. Its working directory, TMPDIR and XDG_RUNTIME_DIR are a new folder
  /// below `temporary`. throws  std::system_error.
  SuiteProcess(const std::string& suite, std::vector<std::string> words, const std::filesystem::path& temporary,
               Clock::duration time_limit);
  ~SuiteProcess();
  SuiteProcess(const SuiteProcess&) = delete;
  SuiteProcess& operator=(const SuiteProcess&) = delete;

  /// Readable when the process has ended; -1 on a system without pidfds.
  [[nodiscard]] int end_fd() const noexcept { return end_fd_; }
  [[nodiscard]] Clock::time_point deadline() const noexcept { return started_ + time_limit_; }
  /// Looks whether it has ended, and ends it when its time is over. Never waits long.
  [[nodiscard]] bool finished();
  /// After finished(). The text names the signal, the time limit, or processes that it left behind.
  [[nodiscard]] TestResult result();

 private:
  void kill_group() noexcept;

  std::filesystem::path folder_;
  Clock::duration time_limit_;
  Clock::time_point started_;
  Clock::time_point ended_;
  pid_t pid_ = -1;
  int end_fd_ = -1;
  int status_ = 0;
  bool reaped_ = false;
  bool group_gone_ = false;  ///< its number may belong to somebody else by now
  bool timed_out_ = false;
};

/// Names of the tests that `filter` (as --gtest_filter) chooses, in order. throws  CommandError when the suite fails.
[[nodiscard]] std::vector<std::string> list_tests(const std::string& suite, const std::string& filter);

}  // namespace cdmf::ipc::cli::conform
