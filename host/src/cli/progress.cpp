#include "cli/progress.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

namespace cdmf::ipc::cli {

std::string human_bytes(double bytes) {
  static constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  const int decimals = unit == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
  char text[32];
  std::snprintf(text, sizeof text, "%.*f %s", decimals, bytes, kUnits[unit]);
  return text;
}

std::string progress_text(std::uint64_t done, std::optional<std::uint64_t> total, double seconds) {
  const std::string rate = human_bytes(seconds > 0 ? static_cast<double>(done) / seconds : 0) + "/s";
  if (!total || *total == 0) return human_bytes(static_cast<double>(done)) + "  " + rate;
  constexpr std::size_t kBarWidth = 30;
  const double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(*total));
  const auto filled = static_cast<std::size_t>(part * kBarWidth);
  char percent[8];
  std::snprintf(percent, sizeof percent, "%3.0f%%", part * 100);
  return "[" + std::string(filled, '#') + std::string(kBarWidth - filled, '.') + "] " + percent + "  " +
         human_bytes(static_cast<double>(done)) + " of " + human_bytes(static_cast<double>(*total)) + "  " + rate;
}

Progress::Progress(int input_fd) {
  shown_ = isatty(STDERR_FILENO) == 1 && isatty(input_fd) != 1;
  struct stat status {};
  if (fstat(input_fd, &status) == 0 && S_ISREG(status.st_mode)) {
    const off_t position = std::max<off_t>(lseek(input_fd, 0, SEEK_CUR), 0);
    total_ = static_cast<std::uint64_t>(std::max<off_t>(status.st_size - position, 0));
  }
}

void Progress::add(std::uint64_t bytes) {
  done_ += bytes;
  if (!shown_) return;
  const auto now = Clock::now();
  if (drawn_ && now - drawn_at_ < std::chrono::milliseconds(100)) return;
  drawn_ = true;
  drawn_at_ = now;
  const std::string text = progress_text(done_, total_, std::chrono::duration<double>(now - begin_).count());
  std::fprintf(stderr, "\r\033[K%s", text.c_str());
  std::fflush(stderr);
}

void Progress::clear() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

}  // namespace cdmf::ipc::cli
