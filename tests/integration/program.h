#pragma once
// tests/integration/program.h: runs the real program `cdmf` with files for streams, in a folder that is removed again.
#include <string>
#include <vector>

#include "cli/process.h"

namespace cdmf::ipc::test {

/// Ends a broken test; never a bound on a good one.
inline constexpr auto kWatchdog = std::chrono::seconds(90);

/// A folder of its own for one test.
class TestFolder {
 public:
  TestFolder();
  ~TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }
  /// Writes a file and returns its path.
  std::string write(const std::string& name, const std::string& text) const;
  /// Writes size_bytes of noise and returns the path.
  std::string write_noise(const std::string& name, std::size_t size_bytes) const;

 private:
  std::string folder_;
};

[[nodiscard]] std::string read_file(const std::string& path);

/// The shipped configuration, under an endpoint of its own, changed to `type` by `sed` on the word after `type:` alone.
/// Returns the path of the file.
std::string shipped_config(const TestFolder& folder, const std::string& type);
/// A file with a transport of type shm over a named object, at an endpoint of its own. options: more, as "key: value".
std::string object_config(const TestFolder& folder, const std::string& options = "segment: posix");
/// Removes what processes that were killed left of the endpoint in such a file.
void remove_objects(const std::string& file);

/// Digest by sha256sum.
[[nodiscard]] std::string sha256(const std::string& path);

/// Where a program's streams go. Empty: /dev/null for input, files in the folder for output and errors.
struct Streams {
  std::string input{};
  int input_fd = -1;   ///< used instead of `input` when not -1
  int output_fd = -1;  ///< used instead of a file when not -1
};

/// One running `cdmf`.
class Program {
 public:
  Program(const TestFolder& folder, const std::string& name, const std::vector<std::string>& words,
          Streams streams = {});

  /// Waits for its end. -1 when it does not end, which fails the test; 128 + number for a signal.
  int wait();
  /// Waits until its standard output contains `text`. returns false when it ends before, or never.
  bool wait_for_output(const std::string& text);
  [[nodiscard]] bool running() { return !child_.wait_for(std::chrono::milliseconds(0)).has_value(); }
  [[nodiscard]] pid_t pid() const { return child_.pid(); }
  /// SIGSTOP, and waits until all of it stands still, which takes a moment.
  void freeze();
  [[nodiscard]] std::string output() const { return read_file(output_path_); }
  [[nodiscard]] std::string errors() const { return read_file(error_path_); }
  [[nodiscard]] const std::string& output_path() const { return output_path_; }

 private:
  std::string output_path_;
  std::string error_path_;
  cli::ChildProcess child_;
};

/// Runs it to its end.
struct Finished {
  int code = -1;
  std::string output;
  std::string errors;
};
Finished run(const TestFolder& folder, const std::vector<std::string>& words, Streams streams = {});

}  // namespace cdmf::ipc::test
