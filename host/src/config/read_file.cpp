#include "config/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace cdmf::ipc::config {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  int get() const { return fd_; }

 private:
  int fd_;
};

FileText refusal(std::string reason, std::string hint = {}) {
  FileText result;
  result.reason = std::move(reason);
  result.hint = std::move(hint);
  return result;
}

std::string system_text(int error_number) { return std::generic_category().message(error_number); }

FileText cannot_open(int error_number) {
  std::string hint;
  if (error_number == ENOENT) hint = "check the path; a relative one starts at the working directory";
  if (error_number == EACCES) hint = "check the permissions of the file and of the folders above it";
  return refusal("cannot be opened: " + system_text(error_number), std::move(hint));
}

std::string kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "is a folder";
  if (S_ISFIFO(mode)) return "is a pipe";
  if (S_ISSOCK(mode)) return "is a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "is a device";
  return "is not a regular file";
}

}  // namespace

FileText read_small_file(const std::string& path, std::size_t bytes_max) {
  if (path.empty()) return refusal("no file name is given");
  if (path.find('\0') != std::string::npos) return refusal("the file name has a zero byte");
  // O_NONBLOCK: opening a pipe that nobody writes to would otherwise wait for ever.
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file.get() < 0) return cannot_open(errno);

  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return refusal("cannot be examined: " + system_text(errno));
  if (!S_ISREG(status.st_mode)) return refusal(kind_of(status.st_mode), "name a regular file");
  const std::string too_large = "is larger than " + std::to_string(bytes_max / 1024) + " KiB";
  if (status.st_size > 0 && static_cast<std::size_t>(status.st_size) > bytes_max) return refusal(too_large);

  // The size is only a hint: files in /proc claim 0, and a writer may append meanwhile.
  FileText result;
  result.text.resize(bytes_max + 1);
  std::size_t filled = 0;
  while (filled < result.text.size()) {
    const ssize_t count = ::read(file.get(), result.text.data() + filled, result.text.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return refusal("cannot be read: " + system_text(errno));
    if (count == 0) break;
    filled += static_cast<std::size_t>(count);
  }
  if (filled > bytes_max) return refusal(too_large);
  result.text.resize(filled);
  result.ok = true;
  return result;
}

}  // namespace cdmf::ipc::config
