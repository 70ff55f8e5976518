#pragma once
// shm_hostile/peers.h: peers that speak the protocol by hand, and what the tests of them share: the good pair beside,
// the log, and the count of cases.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "checksum.h"
#include "fault/support/footprint.h"
#include "handshake.h"
#include "segment/endpoint.h"
#include "support/eventually.h"
#include "unit/plugins/shm/driver_under_test.h"

namespace cdmf::ipc::shm::hostile {

using ipc::testing::eventually;
using testing::DriverUnderTest;
using testing::in_ms;
using testing::kPatienceMs;
using testing::Message;
using testing::Options;
using testing::unique_endpoint;

inline constexpr auto kDisconnected = static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED);
inline constexpr auto kConnected = static_cast<std::uint32_t>(CDMF_VIEW_PEER_CONNECTED);
inline constexpr std::uint64_t kFrameMax = 4096 + CDMF_FRAME_OVERHEAD_MAX;

/// How much was tried; printed at the end (counts.cpp).
struct Counts {
  std::atomic<std::uint64_t> cases{0};           // distinct ways to be hostile
  std::atomic<std::uint64_t> runs{0};            // of them, each waiting and trust mode counted
  std::atomic<std::uint64_t> writes{0};          // of wild values into shared memory
  std::atomic<std::uint64_t> links_ended{0};     // because of any of it
  std::atomic<std::uint64_t> good_exchanges{0};  // of the good pair beside
};
inline Counts& counts() {
  static Counts counts;
  return counts;
}

/// The log of a driver.
class Log {
 public:
  Log() {
    host_.struct_size = sizeof host_;
    host_.abi_major = CDMF_ABI_MAJOR;
    host_.abi_minor = CDMF_ABI_MINOR;
    host_.context = this;
    host_.log_level = [](void*) -> std::uint32_t { return CDMF_LOG_DEBUG; };
    host_.log = [](void* self, std::uint32_t level, const char* text, const char*, std::uint32_t) {
      if (level >= CDMF_LOG_WARNING) static_cast<Log*>(self)->add(text);
    };
    host_.get_extension = [](void*, const char*) -> const void* { return nullptr; };
  }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  const cdmf_host* host() const { return &host_; }
  /// Warnings and errors so far.
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return lines_.size();
  }
  std::string text() const {
    const std::lock_guard lock(mutex_);
    std::string all;
    for (const std::string& line : lines_) all += line + '\n';
    return all;
  }

 private:
  void add(const char* text) {
    const std::lock_guard lock(mutex_);
    lines_.emplace_back(text);
  }
  cdmf_host host_{};
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

/// Sends bytes as one packet, with any number of descriptors, and waits for room. False: the other end has hung up.
inline bool say(int socket, const void* bytes, std::size_t size, std::span<const int> fds = {}) {
  iovec part{const_cast<void*>(bytes), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  std::vector<char> control(CMSG_SPACE(fds.size_bytes()));
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  for (;;) {
    const ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<std::size_t>(sent) == size;
    if (errno != EAGAIN && errno != EINTR) return false;
    pollfd wait{socket, POLLOUT, 0};
    poll(&wait, 1, 100);
  }
}
template <typename Packet>
bool say(int socket, const Packet& packet, std::span<const int> fds = {}) {
  return say(socket, &packet, sizeof packet, fds);
}
/// Waits for a packet of exactly this type. False: the other end has hung up, or said something else.
template <typename Packet>
bool hear(int socket, Packet& packet, std::span<UniqueFd> fds = {}, std::size_t size_min = 0) {
  const std::uint64_t deadline = in_ms(kPatienceMs);
  for (;;) {
    const Received received = receive_packet(socket, &packet, sizeof packet, fds, size_min);
    if (received != Received::nothing) return received == Received::packet;
    if (monotonic_now_ns() >= deadline) return false;
    pollfd wait{socket, POLLIN, 0};
    poll(&wait, 1, 100);
  }
}
/// Whether the other end has hung up; what it said before is thrown away.
inline bool is_hung_up_on_now(int socket) {
  char bytes[512];
  for (;;) {
    const ssize_t got = recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got <= 0) return got == 0 || errno != EAGAIN;
  }
}
/// Waits until the other end hangs up, whatever it says before.
inline bool is_hung_up_on(int socket) {
  const std::uint64_t deadline = in_ms(kPatienceMs);
  char bytes[512];
  for (;;) {
    const ssize_t got = recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno == ECONNRESET)) return true;
    if (got > 0) continue;
    if (monotonic_now_ns() >= deadline) return false;
    pollfd wait{socket, POLLIN, 0};
    poll(&wait, 1, 100);
  }
}

/// A client by hand.
struct RawClient {
  explicit RawClient(const std::string& endpoint) {
    text.struct_size = sizeof text;
    std::string path;
    if (socket_path(endpoint.c_str(), path, error) != CDMF_OK ||
        connect_endpoint(path, in_ms(kPatienceMs), socket, error) != CDMF_OK) {
      ADD_FAILURE() << text.message;
    }
  }
  bool shake_hands(bool may_sleep = false) {
    return handshake.run(socket.get(), kFrameMax, may_sleep, in_ms(kPatienceMs), error) == CDMF_OK;
  }
  int fd() const { return socket.get(); }

  cdmf_error text{};
  ErrorText error{&text};
  UniqueFd socket;
  ClientHandshake handshake;
};

/// Messages of the good pair: their content tells whether one is whole, and which it is.
inline std::string good_content(std::uint64_t number) {
  std::string content(1 + number * 397 % 4000, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(number * 31 + i * 7);
  return content;
}

/// Processes that this one watches for their end.
inline std::ptrdiff_t watched_processes() {
  std::ptrdiff_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // The folder's own descriptor.
    count += std::filesystem::read_symlink(entry, gone).string().find("pidfd") != std::string::npos;
  }
  return count;
}

/// A server of ours and a good client of it; what is hostile comes and goes beside them.
class GoodPair {
 public:
  explicit GoodPair(const Options& options = {}, const cdmf_host* log = nullptr,
                    const std::string& at = unique_endpoint())
      : endpoint(at),
        server(CDMF_ROLE_SERVER, endpoint, options, 4096, log),
        client(CDMF_ROLE_CLIENT, endpoint, options) {
    const std::ptrdiff_t watched = watched_processes();
    EXPECT_EQ(server.open(), CDMF_OK) << server.error.message;
    EXPECT_EQ(client.open(), CDMF_OK) << client.error.message;
    EXPECT_EQ(client.attach(), CDMF_OK) << client.error.message;
    EXPECT_EQ(client.next_peer(), client.peer);
    // The last thing that happens to a link that begins: each end watches the other's process.
    EXPECT_TRUE(eventually([&] { return watched_processes() >= watched + 2; }));
    // Others may be there already: ours is the one that knows this.
    EXPECT_EQ(client.send(client.peer, "the good one"), CDMF_OK);
    Message first = server.next();
    while (first.content != "the good one" && first.kind != testing::kNothing) first = server.next();
    client_peer = first.peer;
  }
  /// There and back, with contents checked. What the server receives from others meanwhile goes to `aside`.
  void expect_service(const std::function<void(const Message&)>& aside = {}) {
    const std::string content = good_content(++number_);
    ASSERT_EQ(client.send(client.peer, content), CDMF_OK);
    Message asked = server.next();
    while (asked.peer != client_peer && asked.kind != testing::kNothing) {
      if (aside) {
        aside(asked);
      } else {
        ADD_FAILURE() << "kind " << asked.kind << " reason " << asked.reason << " of peer " << asked.peer;
      }
      asked = server.next();
    }
    ASSERT_EQ(asked.kind, static_cast<std::uint32_t>(CDMF_VIEW_MESSAGE)) << "reason " << asked.reason;
    ASSERT_TRUE(asked.content == content) << "what the server received is not what the good client sent";
    ASSERT_EQ(server.send(client_peer, content), CDMF_OK);
    const Message answered = client.next();
    ASSERT_EQ(answered.kind, static_cast<std::uint32_t>(CDMF_VIEW_MESSAGE)) << "reason " << answered.reason;
    ASSERT_TRUE(answered.content == content) << "what the good client received is not what the server sent";
    ++counts().good_exchanges;
  }

  const std::string endpoint;
  DriverUnderTest server;
  DriverUnderTest client;
  cdmf_peer client_peer = CDMF_NO_PEER;

 private:
  std::uint64_t number_ = 0;
};

inline constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
/// Of a server by hand.
inline constexpr SegmentPlan kPlan{.ring_capacity = 64, .slot_size = 512, .frame_size_max = kFrameMax};

/// What a server offers: a good Welcome, until a case spoils it.
struct Offer {
  Offer() {
    welcome.ring_capacity = kPlan.ring_capacity;
    welcome.slot_size = kPlan.slot_size;
    welcome.bidirectional = 1;
    welcome.checksum = 1;
    welcome.frame_size_max = kPlan.frame_size_max;
    cdmf_error text{};
    ErrorText error(&text);
    UniqueFd memory;
    EXPECT_EQ(Segment::create(kPlan, {}, {}, segment, memory, error), CDMF_OK) << text.message;
    fds.push_back(std::move(memory));
    for (int i = 0; i < 2; ++i) fds.emplace_back(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    bytes = sizeof welcome;
  }
  /// Puts another file in the segment's place.
  void replace_memory(unsigned flags, int seals, std::uint64_t size, bool allocated = true) {
    UniqueFd made(memfd_create("cdmf-test", flags));
    if (!made) return;  // No huge pages here: the case is one of a missing descriptor.
    if (ftruncate(made.get(), static_cast<off_t>(size)) == 0 && allocated && size != 0) {
      (void)!posix_fallocate(made.get(), 0, static_cast<off_t>(size));
      (void)!pwrite(made.get(), &segment.control(), std::min(size, std::uint64_t{sizeof(SegmentControl)}), 0);
    }
    if (seals != 0) fcntl(made.get(), F_ADD_SEALS, seals);
    fds[kSegmentFd] = std::move(made);
  }
  void say_to(int socket) const {
    std::vector<int> numbers;
    for (const UniqueFd& fd : fds) numbers.push_back(fd.get());
    std::string packet(std::max(bytes, sizeof welcome), 'x');
    std::memcpy(packet.data(), &welcome, sizeof welcome);
    (void)say(socket, packet.data(), bytes, numbers);
  }

  Welcome welcome;
  std::size_t bytes;  // Of it that are sent.
  Segment segment;
  std::vector<UniqueFd> fds;
};

/// A server by hand, for one client. What it does with it is up to the test.
class RawServer {
 public:
  explicit RawServer(std::function<void(int socket)> serve) : endpoint(unique_endpoint()) {
    cdmf_error text{};
    ErrorText error(&text);
    std::string path;
    EXPECT_EQ(socket_path(endpoint.c_str(), path, error), CDMF_OK) << text.message;
    EXPECT_EQ(listener_.open(path, error), CDMF_OK) << text.message;
    fcntl(listener_.fd(), F_SETFL, 0);
    thread_ = std::thread([this, serve = std::move(serve)] {
      const UniqueFd socket(accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
      if (socket) serve(socket.get());
    });
  }
  ~RawServer() {
    shutdown(listener_.fd(), SHUT_RDWR);  // Nobody came: accept() returns.
    thread_.join();
  }
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;

  const std::string endpoint;

 private:
  ListeningEndpoint listener_;
  std::thread thread_;
};

inline bool hear_hello(int socket) {
  Hello hello;
  return hear(socket, hello);
}
inline void until_hung_up(int socket) { (void)is_hung_up_on(socket); }

}  // namespace cdmf::ipc::shm::hostile
