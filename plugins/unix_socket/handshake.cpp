#include "handshake.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace cdmf::ipc::unix_socket {

bool answer_hello(const Hello& client, std::uint64_t frame_size_max, Hello& answer) noexcept {
  if (client.magic != kHelloMagic) return false;
  answer = Hello{};
  answer.frame_size_max = frame_size_max;
  answer.pid = static_cast<std::uint32_t>(getpid());
  if (client.version != kWireVersion) {
    answer.status = CDMF_VERSION_MISMATCH;
  } else if (client.frame_size_max > frame_size_max) {
    answer.status = CDMF_INVALID_CONFIG;
  }
  return true;
}

cdmf_status check_answer(const Hello& answer, std::uint64_t frame_size_wanted, const std::string& path,
                         ErrorText& error) {
  if (answer.magic != kHelloMagic) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, path, ": what listens there is no cdmf server; check 'endpoint'");
  }
  if (answer.version != kWireVersion || answer.status == CDMF_VERSION_MISMATCH) {
    return error.fail(CDMF_VERSION_MISMATCH, 0, path, ": the server speaks version ", answer.version, ", this client ",
                      kWireVersion, "; use the same release of the plugin on both sides");
  }
  switch (answer.status) {
    case CDMF_OK:
      if (answer.frame_size_max >= frame_size_wanted && answer.frame_size_max <= UINT32_MAX) return CDMF_OK;
      return error.fail(CDMF_PROTOCOL_ERROR, 0, path, ": the server answered with an impossible frame size ",
                        answer.frame_size_max);
    case CDMF_INVALID_CONFIG:
      return error.fail(CDMF_INVALID_CONFIG, 0, path, ": this client wants max_message_size ",
                        frame_size_wanted - CDMF_FRAME_OVERHEAD_MAX, ", the server allows ",
                        answer.frame_size_max - CDMF_FRAME_OVERHEAD_MAX, "; lower the one or raise the other");
    case CDMF_PERMISSION_DENIED:
      return error.fail(CDMF_PERMISSION_DENIED, 0, path, ": the server (process ", answer.pid,
                        ") serves its own user, root and those of its allow_uids only; run both as the same user");
    case CDMF_RESOURCE_EXHAUSTED:
      return error.fail(CDMF_RESOURCE_EXHAUSTED, 0, path, ": the server (process ", answer.pid,
                        ") has no room for another client; raise its max_clients, max_clients_per_user or `ulimit -n`");
    default:
      return error.fail(CDMF_CONNECTION_FAILED, 0, path, ": the server (process ", answer.pid, ") refused with status ",
                        answer.status);
  }
}

cdmf_status exchange_hello(int socket, std::uint64_t frame_size_wanted, std::uint64_t deadline, const std::string& path,
                           Hello& answer, ErrorText& error) {
  Hello hello;
  hello.frame_size_max = frame_size_wanted;
  hello.pid = static_cast<std::uint32_t>(getpid());
  const auto hung_up = [&](int problem) {
    return error.fail(CDMF_PEER_DIED, problem, path, ": the server hung up during the handshake; look at its log");
  };
  // A fresh socket always has room for 32 bytes; anything else is a broken connection. A server that refuses before it
  // reads has left its answer behind, hence the look at it all the same.
  const bool spoken = send(socket, &hello, sizeof hello, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof hello);
  auto* const bytes = reinterpret_cast<std::byte*>(&answer);
  std::size_t received = 0;
  while (received < sizeof answer) {
    const ssize_t count = recv(socket, bytes + received, sizeof answer - received, MSG_DONTWAIT);
    if (count > 0) {
      received += static_cast<std::size_t>(count);
      continue;
    }
    if (count == 0) return hung_up(0);
    if (errno == EINTR) continue;
    if (errno != EAGAIN || !spoken) return hung_up(errno);
    pollfd wait{socket, POLLIN, 0};
    if (poll(&wait, 1, poll_timeout_ms(deadline)) == 0 && (deadline == kNoWait || monotonic_now_ns() >= deadline)) {
      return error.fail(CDMF_TIMEOUT, 0, path, ": the server did not answer the handshake in time");
    }
  }
  return check_answer(answer, frame_size_wanted, path, error);
}

}  // namespace cdmf::ipc::unix_socket
