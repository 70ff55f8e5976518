#pragma once
// raw_peer.h: the other end of a link, byte by byte: for peers that break the rules.
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>

#include "fd.h"
#include "ipc/driver.h"
#include "wire.h"

namespace cdmf::ipc::unix_socket::test {

class RawPeer {
 public:
  /// Connects to that path, waiting up to 30 s for somebody to listen; connected() tells whether it did.
  RawPeer(const std::string& path, int type) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    const std::uint64_t deadline = monotonic_now_ns() + 30'000'000'000u;
    while (monotonic_now_ns() < deadline) {
      Fd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
      if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
        const timeval watchdog{30, 0};
        setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &watchdog, sizeof watchdog);
        fd_ = std::move(fd);
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  [[nodiscard]] bool connected() const { return static_cast<bool>(fd_); }
  [[nodiscard]] int fd() const { return fd_.get(); }

  /// One send, hence one packet of a SEQPACKET socket.
  [[nodiscard]] bool say(std::string_view bytes) const {
    return send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  template <typename Struct>
  [[nodiscard]] bool say_struct(const Struct& value) const {
    return say({reinterpret_cast<const char*>(&value), sizeof value});
  }
  /// False: the end came first, or the watchdog.
  template <typename Struct>
  [[nodiscard]] bool hear(Struct& value) const {
    return recv(fd(), &value, sizeof value, MSG_WAITALL) == static_cast<ssize_t>(sizeof value);
  }
  [[nodiscard]] bool shake_hands(std::uint64_t frame_size_max = 1000) const {
    Hello hello;
    hello.frame_size_max = frame_size_max;
    Hello answer;
    return say_struct(hello) && hear(answer) && answer.status == CDMF_OK;
  }
  /// Whether the other side has hung up, whatever it said before.
  [[nodiscard]] bool is_hung_up_on() const {
    char bytes[4096];
    for (;;) {
      const ssize_t count = recv(fd(), bytes, sizeof bytes, 0);
      if (count == 0 || (count < 0 && errno == ECONNRESET)) return true;
      if (count < 0 && errno != EINTR) return false;
    }
  }
  void hang_up() { fd_.reset(); }

 private:
  Fd fd_;
};

/// A record's bytes, its header as given, whether true or not.
[[nodiscard]] inline std::string raw_record(std::uint32_t size, std::string_view content,
                                            RecordKind kind = RecordKind::kFrame, std::uint16_t reason = 0) {
  const RecordHeader header{size, kind, reason, 1};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += content;
  bytes.resize((bytes.size() + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment);
  return bytes;
}

}  // namespace cdmf::ipc::unix_socket::test
