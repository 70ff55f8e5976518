// The kernel's own ways, bare: a Unix stream socket and two FIFOs. One write per message, as programs do; a reader
// takes as much as there is. What every transport through the kernel has to be compared with.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>

#include <cerrno>
#include <system_error>

#include "peers/link_bench.h"

namespace cdmf::bench {
namespace {

constexpr int kBufferBytes = 1 << 20;

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

/// Messages of fixed size out of a stream of bytes.
class Reader {
 public:
  Reader(int fd, std::size_t size)
      : fd_(fd), size_(size), buffer_(std::max<std::size_t>(std::size_t{64} << 10, 2 * size)) {}
  /// Reads once and hands out what is whole. 0: nothing whole yet.
  template <class Handler>
  std::size_t read_some(Handler&& handler) {
    const ssize_t got = ::read(fd_, buffer_.data() + filled_, buffer_.size() - filled_);
    if (got == 0) throw std::runtime_error("the other end closed");
    if (got < 0) {
      if (errno == EAGAIN || errno == EINTR) return 0;
      fail("read");
    }
    filled_ += static_cast<std::size_t>(got);
    std::size_t at = 0, count = 0;
    for (; filled_ - at >= size_; at += size_, ++count) handler(std::span<const std::byte>(buffer_.data() + at, size_));
    std::memmove(buffer_.data(), buffer_.data() + at, filled_ - at);
    filled_ -= at;
    return count;
  }
  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  int fd_;
  std::size_t size_;
  std::vector<std::byte> buffer_;
  std::size_t filled_ = 0;
};

/// What a socket and a FIFO have in common. Derived classes open.
class ByteLink {
 public:
  explicit ByteLink(const Place& place) : place_(place) {}
  ~ByteLink() {
    for (const auto& reader : readers_) ::close(reader.fd());
    if (listener_ >= 0) ::close(listener_);
    if (out_ >= 0) ::close(out_);
    for (const auto& path : owned_) ::unlink(path.c_str());
  }
  ByteLink(const ByteLink&) = delete;
  ByteLink& operator=(const ByteLink&) = delete;

  void send(std::span<const std::byte> message, bool) {
    while (!message.empty()) {
      const ssize_t done = ::write(out_, message.data(), message.size());
      if (done >= 0) {
        message = message.subspan(static_cast<std::size_t>(done));
      } else if (errno == EAGAIN) {
        if (place_.polls() && place_.what.clients == 1) continue;
        pollfd wait{out_, POLLOUT, 0};
        ::poll(&wait, 1, 1000);
      } else if (errno != EINTR) {
        fail("write");
      }
    }
  }
  template <class Handler>
  std::size_t receive(Handler&& handler, std::size_t) {
    accept_all();
    if (place_.polls()) {
      return poll_some([&] {
        std::size_t count = 0;
        for (auto& reader : readers_) count += reader.read_some(handler);
        return count;
      });
    }
    if (readers_.size() == 1) return readers_[0].read_some(handler);  // It sleeps in read().
    waits_.clear();
    for (const auto& reader : readers_) waits_.push_back({reader.fd(), POLLIN, 0});
    std::size_t count = 0;
    if (::poll(waits_.data(), waits_.size(), 1000) <= 0) return 0;
    for (std::size_t i = 0; i < readers_.size(); ++i) {
      if (waits_[i].revents != 0) count += readers_[i].read_some(handler);
    }
    return count;
  }

 protected:
  void open_reader(int fd, bool also_out = false) {
    readers_.emplace_back(fd, place_.what.size_bytes);
    if (also_out) out_ = ::dup(fd);
  }
  void accept_all() {
    // Each client says that it is connected before any of them sends, so the backlog has them all.
    while (listener_ >= 0 && readers_.size() < static_cast<std::size_t>(place_.what.clients)) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | (place_.polls() ? SOCK_NONBLOCK : 0));
      if (fd < 0) fail("accept");
      prepare(fd);
      open_reader(fd, place_.what.clients == 1);
    }
  }
  static void prepare(int fd) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kBufferBytes, sizeof kBufferBytes);
    const timeval second{1, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
  }

  const Place place_;
  std::vector<Reader> readers_;
  std::vector<pollfd> waits_;
  std::vector<std::string> owned_;
  int listener_ = -1;
  int out_ = -1;
};

class SocketLink : public ByteLink {
 public:
  explicit SocketLink(const Place& place) : ByteLink(place) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = place.path(".socket");
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    const auto* const generic = reinterpret_cast<const sockaddr*>(&address);
    if (place.server) {
      listener_ = fd;
      owned_ = {path};
      if (::bind(fd, generic, sizeof address) != 0 || ::listen(fd, 64) != 0) fail("bind");
    } else {
      prepare(fd);
      if (::connect(fd, generic, sizeof address) != 0) fail("connect");
      if (place.polls()) ::fcntl(fd, F_SETFL, O_NONBLOCK);
      open_reader(fd, true);
    }
  }
};

class FifoLink : public ByteLink {
 public:
  explicit FifoLink(const Place& place) : ByteLink(place) {
    const std::string there = place.path(".there"), back = place.path(".back");
    if (place.server) {
      owned_ = {there, back};
      if (::mkfifo(there.c_str(), 0600) != 0 || ::mkfifo(back.c_str(), 0600) != 0) fail("mkfifo");
    }
    // For both ways, so that opening waits for nobody and no end of file comes with the first client.
    const int in = ::open((place.server ? there : back).c_str(), O_RDWR | O_CLOEXEC);
    out_ = ::open((place.server ? back : there).c_str(), O_RDWR | O_CLOEXEC);
    if (in < 0 || out_ < 0) fail("open");
    for (const int fd : {in, out_}) {
      ::fcntl(fd, F_SETPIPE_SZ, kBufferBytes);
      if (place.polls()) ::fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
    }
    open_reader(in);
  }
};

template <class Link>
Subject subject(const std::string& name, const std::string& label, const std::string& what_it_is) {
  utsname system{};
  uname(&system);
  Subject made;
  made.name = name;
  made.label = label;
  made.library = std::string(system.sysname) + " " + system.release;
  made.settings = [=](const Case& what) {
    return what_it_is + ", buffer 1 MiB, one write per message, " +
           (what.wait == Wait::poll ? "non-blocking reads without pause" : "blocking reads");
  };
  made.applies = [](const Case&) { return true; };
  made.measure = [](const Case& what, const Setting& setting) { return measure_link<Link>(what, setting); };
  return made;
}

}  // namespace

std::vector<Subject> socket_subjects() {
  return {subject<SocketLink>("bare_socket", "bare Unix socket", "SOCK_STREAM"),
          subject<FifoLink>("bare_pipe", "bare pipe", "two FIFOs")};
}

}  // namespace cdmf::bench
