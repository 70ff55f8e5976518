#include "conformance/report.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>

namespace cdmf::ipc::conformance {
namespace {

class Report : public ::testing::EmptyTestEventListener {
 public:
  explicit Report(std::FILE* file) : file_(file) {}
  ~Report() override { std::fclose(file_); }

  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.passed()) return;
    std::string text = result.message();
    if (result.failed() && result.file_name() != nullptr) {
      const std::string_view path = result.file_name();
      const auto folder = path.rfind('/');
      text = std::string(folder == std::string_view::npos ? path : path.substr(folder + 1)) + ':' +
             std::to_string(result.line_number()) + ": " + text;
    }
    write(result.skipped() ? "skipped " : "failed ", text);
  }
  void OnTestEnd(const ::testing::TestInfo& test) override {
    write("ended ", test.result()->Skipped() ? "skipped" : test.result()->Passed() ? "passed" : "failed");
  }

 private:
  void write(const char* what, std::string_view text) {
    std::string line = what;
    for (const char c : text) {
      if (c == '\n') {
        line += "\\n";
      } else if (c == '\\') {
        line += "\\\\";
      } else {
        line += c;
      }
    }
    line += '\n';
    const std::lock_guard lock(mutex_);  // Assertions also fail on threads.
    std::fwrite(line.data(), 1, line.size(), file_);
    std::fflush(file_);  // A crash right after this must not lose it.
  }

  std::mutex mutex_;
  std::FILE* file_;
};

}  // namespace

::testing::TestEventListener* make_report(const std::string& file) {
  std::FILE* const opened = std::fopen(file.c_str(), "we");
  if (opened == nullptr) {
    std::perror(("cdmf-conformance: " + file).c_str());
    std::exit(2);
  }
  return new Report(opened);
}

}  // namespace cdmf::ipc::conformance
