#include "handshake.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "wait/spinner.h"

namespace cdmf::ipc::shm {

bool send_packet(int socket, const void* packet, std::size_t size, std::span<const int> fds) noexcept {
  iovec part{const_cast<void*>(packet), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kWelcomeFdCount)] = {};
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(size);
}

namespace {

bool has_hung_up(int socket) noexcept {
  pollfd look{socket, POLLRDHUP, 0};
  return poll(&look, 1, 0) != 0;
}

/// Whether this descriptor, which a peer sent, is an eventfd: anything else could block us, or raise a signal, when it
/// is written to. True also of the few other anonymous files when /proc is not there to ask; those refuse a write.
bool is_eventfd(int fd) noexcept {
  struct stat info;
  if (fstat(fd, &info) != 0 || (info.st_mode & S_IFMT) != 0) return false;
  char name[32] = {};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t length = readlink(link.c_str(), name, sizeof name - 1);
  return length < 0 || std::string_view(name) == "anon_inode:[eventfd]";
}

/// The server's words go to our log: in one line, and without what a terminal obeys.
void make_printable(char* text) noexcept {
  for (; *text != '\0'; ++text) {
    const auto byte = static_cast<unsigned char>(*text);
    if (byte < 0x20 || byte == 0x7f) *text = '?';
  }
}

}  // namespace

Received receive_packet(int socket, void* packet, std::size_t size, std::span<UniqueFd> fds,
                        std::size_t size_min) noexcept {
  // Room for one descriptor more than a Welcome has: too many then show as such. What exceeds even this is dropped by
  // the kernel, and MSG_CTRUNC says so.
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * (kWelcomeFdCount + 1))];
  iovec part{packet, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got;
  do {
    got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | MSG_TRUNC);  // Says the packet's own size.
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? Received::nothing : Received::closed;

  std::array<UniqueFd, kWelcomeFdCount + 1> arrived;
  std::size_t count = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < here; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      if (count < arrived.size()) {
        arrived[count++].reset(fd);
      } else {
        ::close(fd);
      }
    }
  }
  // An empty packet looks like the end of the socket, but for this.
  if (got == 0) return has_hung_up(socket) ? Received::closed : Received::malformed;
  const auto sent = static_cast<std::size_t>(got);
  const bool right_size = size_min == 0 ? sent == size : sent >= size_min && sent <= kPacketBytesMax;
  if ((message.msg_flags & MSG_CTRUNC) != 0 || !right_size) return Received::malformed;
  if (sent < size) std::memset(static_cast<std::byte*>(packet) + sent, 0, size - sent);
  // A refusal carries no descriptors.
  if (count != fds.size() && count != 0) return Received::malformed;
  std::move(arrived.begin(), arrived.begin() + static_cast<std::ptrdiff_t>(count), fds.begin());
  return Received::packet;
}

cdmf_status check_header(const PacketHeader& header, PacketKind expected, const char* peer_name, ErrorText& error) {
  if (header.magic != kSegmentMagic) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the ", peer_name, " does not speak this protocol");
  }
  if (header.major != kVersionMajor) {
    return error.fail(CDMF_VERSION_MISMATCH, 0, "shm: the ", peer_name, " speaks protocol ", header.major, '.',
                      header.minor, ", this side ", kVersionMajor, '.', kVersionMinor,
                      "; use the same release on both sides");
  }
  if (header.kind != expected) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the ", peer_name, " sent packet ",
                      static_cast<std::uint32_t>(header.kind), " where ", static_cast<std::uint32_t>(expected),
                      " was due");
  }
  return CDMF_OK;
}

bool peer_credentials(int socket, PeerCredentials& credentials) noexcept {
  ucred found{};
  socklen_t size = sizeof found;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &found, &size) != 0) return false;
  credentials.pid = found.pid;
  credentials.uid = found.uid;
  return true;
}

cdmf_status ClientHandshake::run(int socket, std::uint64_t frame_size_max, bool may_sleep, std::uint64_t deadline,
                                 ErrorText& error) {
  if (!peer_credentials(socket, peer) || !access.admits(peer.uid)) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, "shm: the server runs as user ", peer.uid, ", this side as ",
                      geteuid(), "; only the same user, root and those in 'allow_uids' are trusted");
  }
  Hello hello;
  hello.may_sleep = may_sleep ? 1 : 0;
  hello.only_cpu = only_cpu();
  hello.features = kSocketFeaturesKnown;
  hello.frame_size_max = frame_size_max;
  hello.ring_bytes = ring_bytes_wanted;
  if (!send_packet(socket, &hello, sizeof hello)) {
    return error.fail(CDMF_CONNECTION_FAILED, errno, "shm: the server closed the connection");
  }
  Welcome welcome;
  std::array<UniqueFd, kWelcomeFdCount> fds;
  for (;;) {
    const Received received = receive_packet(socket, &welcome, sizeof welcome, fds, kWelcomeBytesMin);
    if (received == Received::packet) break;
    if (received == Received::malformed)
      return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server's answer is malformed");
    if (received == Received::closed) {
      return error.fail(CDMF_CONNECTION_FAILED, 0, "shm: the server closed the connection during the handshake");
    }
    pollfd wait{socket, POLLIN, 0};
    const int timeout_ms = poll_timeout_ms(deadline);
    if (poll(&wait, 1, timeout_ms) == 0 && deadline != kForever && monotonic_now_ns() >= deadline) {
      return error.fail(CDMF_TIMEOUT, 0, "shm: the server did not answer in time");
    }
  }
  if (const cdmf_status status = check_header(welcome.header, PacketKind::welcome, "server", error);
      status != CDMF_OK) {
    return status;
  }
  if (welcome.status != CDMF_OK) {
    welcome.text[sizeof welcome.text - 1] = '\0';
    make_printable(welcome.text);
    if (welcome.status < CDMF_OK || welcome.status > CDMF_INTERNAL_ERROR) {
      return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server refuses with the unknown status ", welcome.status,
                        ": ", welcome.text);
    }
    return error.fail(welcome.status, 0,
                      welcome.text[0] != '\0' ? welcome.text : "shm: the server refuses and does not say why");
  }
  plan = {.ring_capacity = welcome.ring_capacity,
          .slot_size = welcome.slot_size,
          .frame_size_max = welcome.frame_size_max,
          .bidirectional = welcome.bidirectional != 0,
          .checksum = welcome.checksum != 0,
          .minor = std::min<std::uint32_t>(welcome.header.minor, kVersionMinor),
          .features = welcome.features};
  if ((plan.features & ~kSocketFeaturesKnown) != 0) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server uses features ", plan.features, ", this side offered ",
                      kSocketFeaturesKnown);
  }
  if (!fds[kSegmentFd] || !is_valid_capacity(plan.ring_bytes()) || plan.frame_size_max == 0 ||
      plan.frame_size_max > payload_bytes_max(plan.ring_bytes())) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server offers rings of ", plan.ring_bytes(),
                      " bytes for frames of ", plan.frame_size_max, " bytes, which cannot be");
  }
  if (plan.frame_size_max < frame_size_max) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server offers frames of ", plan.frame_size_max,
                      " bytes to a client that asked for ", frame_size_max);
  }
  for (const WelcomeFd bell : {kServerBellFd, kClientBellFd}) {
    if (!is_eventfd(fds[bell].get())) {
      return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server's descriptor ", bell, " is not an eventfd");
    }
    fcntl(fds[bell].get(), F_SETFL, O_NONBLOCK);
  }
  if (const cdmf_status status = Segment::attach(fds[kSegmentFd].get(), plan, segment, error); status != CDMF_OK) {
    return status;
  }
  peer_may_sleep = welcome.may_sleep != 0;
  peer_only_cpu = welcome.only_cpu;
  own_bell = std::move(fds[kClientBellFd]);
  peer_bell = std::move(fds[kServerBellFd]);
  const Ack ack;
  if (!send_packet(socket, &ack, sizeof ack)) {
    return error.fail(CDMF_CONNECTION_FAILED, errno, "shm: the server closed the connection during the handshake");
  }
  return CDMF_OK;
}

}  // namespace cdmf::ipc::shm
