#include "cli/fd_io.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "cli/command_error.h"

namespace cdmf::ipc::cli {
namespace {

[[noreturn]] void fail(const std::string& what, int error) {
  if (error == EPIPE) throw CommandError(what + " was closed by whoever reads it; the rest is not delivered");
  throw CommandError(what + ": " + std::generic_category().message(error));
}

}  // namespace

void write_all(int fd, std::span<const std::byte> bytes, const std::string& what) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {  // Somebody made a shared pipe or terminal non-blocking.
      pollfd writable{fd, POLLOUT, 0};
      ::poll(&writable, 1, -1);
    } else if (errno != EINTR) {
      fail(what, errno);
    }
  }
}

void write_all(int fd, std::string_view text, const std::string& what) {
  write_all(fd, std::as_bytes(std::span(text.data(), text.size())), what);
}

std::size_t read_available(int fd, std::span<std::byte> bytes, const std::string& what) {
  std::size_t size = 0;
  while (size < bytes.size()) {
    if (size > 0 && !wait_readable(fd, 0)) break;
    const ssize_t got = ::read(fd, bytes.data() + size, bytes.size() - size);
    if (got > 0) {
      size += static_cast<std::size_t>(got);
    } else if (got == 0) {
      break;
    } else if (errno == EAGAIN) {
      if (size > 0) break;
      static_cast<void>(wait_readable(fd, -1));  // However it ends, read() says more.
    } else if (errno != EINTR) {
      fail(what, errno);
    }
  }
  return size;
}

bool wait_readable(int fd, int timeout_ms) noexcept {
  pollfd readable{fd, POLLIN, 0};
  return ::poll(&readable, 1, timeout_ms) > 0;
}

}  // namespace cdmf::ipc::cli
