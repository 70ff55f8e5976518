#pragma once
// cli/progress.h: a line on the terminal that shows how far a transfer is.
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace cdmf::ipc::cli {

/// "12.3 MiB", "640 B": three significant digits, for people.
[[nodiscard]] std::string human_bytes(double bytes);

/// Text of the line. total  Bytes in all, when known; then it has a bar and a percentage.
[[nodiscard]] std::string progress_text(std::uint64_t done, std::optional<std::uint64_t> total, double seconds);

/// Rewrites one line of standard error at most ten times a second; shows nothing when that is no terminal.
class Progress {
 public:
  /// input_fd  Where the bytes come from: the size of a regular file is the total; typing at a terminal shows no bar.
  explicit Progress(int input_fd);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void add(std::uint64_t bytes);
  /// Removes the line, before anything else is printed.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  bool shown_ = false;
  bool drawn_ = false;
  std::uint64_t done_ = 0;
  std::optional<std::uint64_t> total_;
  Clock::time_point begin_ = Clock::now();
  Clock::time_point drawn_at_{};
};

}  // namespace cdmf::ipc::cli
