// A transport by somebody else, to copy: one peer over an abstract SOCK_SEQPACKET socket, which keeps frames whole.
// It knows the installed headers of cdmf and nothing of cdmf's tree. plugin_api/README.md walks through it.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ipc/plugin.h"

namespace acme {

using cdmf::ipc::DriverConfig;
using cdmf::ipc::ErrorText;
using cdmf::ipc::PluginHost;

constexpr std::size_t kQueueMax = 64;  // Frames the kernel did not take yet; then the sender hears BUFFER_FULL.
constexpr int kGoodbyeMs = 200;        // How long close() waits for a peer that does not read.

// First byte of every packet. Without a goodbye the end of the socket is a death.
enum Kind : char { kFrame = 'F', kGoodbye = 'G' };

// Bytes of one frame, at an address that is a multiple of CDMF_FRAME_ALIGNMENT.
struct Frame {
  std::vector<std::max_align_t> memory;
  std::size_t size = 0;

  explicit Frame(std::size_t bytes) : memory(bytes / sizeof(std::max_align_t) + 1), size(bytes) {}
  std::byte* data() noexcept { return reinterpret_cast<std::byte*>(memory.data()); }
};
static_assert(alignof(std::max_align_t) >= CDMF_FRAME_ALIGNMENT);

// A descriptor, shared with whoever waits for it: its number is not used again before the last of them is done.
class Fd {
 public:
  explicit Fd(int fd) noexcept : fd_(fd) {}
  ~Fd() { ::close(fd_); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const noexcept { return fd_; }

 private:
  const int fd_;
};
using SharedFd = std::shared_ptr<const Fd>;

SharedFd adopt_fd(int fd) { return fd < 0 ? nullptr : std::make_shared<const Fd>(fd); }
SharedFd new_socket() { return adopt_fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }

// A killed process gives back its descriptors from the highest number down. The listener goes first, or a client that
// notices the end of its link would be taken once more by the process that is dying.
constexpr int kListenerFdMin = 512;
SharedFd above_all(SharedFd fd) {
  SharedFd moved = fd ? adopt_fd(fcntl(fd->get(), F_DUPFD_CLOEXEC, kListenerFdMin)) : nullptr;
  return moved ? moved : fd;  // Beyond the limit of descriptors: it stays where it is.
}

// Ends a wait of another thread: the running one, or the next one.
class Alarm {
 public:
  bool open() {
    fd_ = adopt_fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    return fd_ != nullptr;
  }
  void close() { fd_.reset(); }
  void ring() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(fd(), &one, sizeof one);  // Full means: it rings already.
  }
  void silence() const {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto taken = ::read(fd(), &count, sizeof count);
  }
  int fd() const { return fd_ ? fd_->get() : -1; }

 private:
  SharedFd fd_;
};

class PacketDriver final : public cdmf::ipc::Driver {
 public:
  PacketDriver(const DriverConfig& config, PluginHost host)
      : host_(host),
        server_(config.is_server()),
        name_(config.text("prefix") + std::string(config.endpoint())),
        frame_size_max_(config.frame_size_max()),
        received_(frame_size_max_) {
    if (name_.size() > sizeof(sockaddr_un::sun_path) - 1) {
      throw cdmf::ipc::ConfigError("prefix and endpoint together take ", name_.size(), " bytes; at most ",
                                   sizeof(sockaddr_un::sun_path) - 1, " fit into a socket address");
    }
  }
  ~PacketDriver() override { PacketDriver::close(); }

  cdmf_status open(ErrorText& error) override {
    if (!send_alarm_.open() || !receive_alarm_.open() || !backlog_alarm_.open()) {
      const int reason = errno;
      PacketDriver::close();
      return error.fail(CDMF_RESOURCE_EXHAUSTED, reason, "acme_packet \"@", name_, "\": no eventfd");
    }
    if (!server_) return CDMF_OK;
    listener_ = above_all(new_socket());
    const auto [address, length] = socket_address();
    if (!listener_ || bind(listener_->get(), reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
        listen(listener_->get(), 8) != 0) {
      const int reason = errno;
      PacketDriver::close();
      return error.fail(reason == EADDRINUSE ? CDMF_ENDPOINT_IN_USE : CDMF_RESOURCE_EXHAUSTED, reason,
                        "acme_packet \"@", name_, "\": cannot listen");
    }
    return CDMF_OK;
  }

  cdmf_status attach(std::uint64_t /*deadline*/, cdmf_peer& peer, ErrorText& error) override {
    const std::lock_guard lock(mutex_);
    if (socket_) return error.fail(CDMF_ALREADY_INITIALIZED, 0, "acme_packet: this client has its peer");
    SharedFd made = new_socket();
    const auto [address, length] = socket_address();
    // A local connect() does not wait: the server's backlog takes it, or is full, or there is none.
    if (!made || ::connect(made->get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) {
      const int reason = errno;
      if (reason != ECONNREFUSED) {
        return error.fail(CDMF_CONNECTION_FAILED, reason, "acme_packet \"@", name_, "\": cannot be reached");
      }
      return error.fail(CDMF_ENDPOINT_NOT_FOUND, reason, "acme_packet \"@", name_,
                        "\": no server is listening; start one or check 'endpoint' and 'prefix'");
    }
    begin_link(std::move(made));
    peer = peer_;
    return CDMF_OK;
  }

  cdmf_status claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) override {
    const std::lock_guard lock(mutex_);
    if (!socket_ || peer != peer_) return CDMF_NOT_CONNECTED;
    if (size > frame_size_max_) return CDMF_BUFFER_OVERFLOW;
    if (claimed_) return CDMF_RESOURCE_EXHAUSTED;
    if (is_cut_) return CDMF_NOT_CONNECTED;
    if (queue_.size() >= kQueueMax) flushed_ = queue_.size();  // A batch that fills the queue flushes itself.
    send_flushed();
    if (queue_.size() >= kQueueMax) return CDMF_BUFFER_FULL;
    claimed_.emplace(size);
    loan = {claimed_->data(), size, peer, 0};
    return CDMF_OK;
  }

  cdmf_status commit(const cdmf_loan& loan, std::size_t size, bool flush) override {
    const std::lock_guard lock(mutex_);
    if (!socket_ || loan.peer != peer_) {
      claimed_.reset();
      return CDMF_CONNECTION_CLOSED;
    }
    claimed_->size = size;
    queue_.push_back(std::move(*claimed_));
    claimed_.reset();
    if (flush) flush_queue();
    return CDMF_OK;
  }

  void abort(const cdmf_loan& /*loan*/) override {
    const std::lock_guard lock(mutex_);
    claimed_.reset();
  }

  cdmf_status flush(cdmf_peer peer, std::uint64_t deadline) override {
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        if (peer != CDMF_NO_PEER && (!socket_ || peer != peer_)) return CDMF_NOT_CONNECTED;
        flush_queue();
        if (queue_.empty()) return CDMF_OK;
        if (is_cut_) return CDMF_NOT_CONNECTED;
      }
      if (deadline == cdmf::ipc::kNoWait) return CDMF_BUFFER_FULL;
      if (const cdmf_status waited = await_space(peer, 0, deadline); waited != CDMF_OK) return waited;
    }
  }

  cdmf_status await_space(cdmf_peer peer, std::size_t /*size*/, std::uint64_t deadline) override {
    SharedFd link;
    {
      const std::lock_guard lock(mutex_);
      if (!socket_ || (peer != CDMF_NO_PEER && peer != peer_)) return CDMF_NOT_CONNECTED;
      if (is_cut_) return CDMF_NOT_CONNECTED;
      link = socket_;
    }
    std::array<pollfd, 2> wanted{{{link->get(), POLLOUT, 0}, {send_alarm_.fd(), POLLIN, 0}}};
    return wait(wanted, send_alarm_, deadline);
  }

  std::size_t receive_burst(cdmf_view* views, std::size_t capacity) override {
    const std::lock_guard lock(mutex_);
    if (capacity == 0) return 0;
    if (!socket_ && listener_) {
      if (SharedFd made = accept_client()) begin_link(std::move(made));
    }
    if (!socket_) return 0;
    views[0] = {};
    views[0].peer = peer_;
    if (announce_) {
      announce_ = false;
      views[0].kind = CDMF_VIEW_PEER_CONNECTED;
      return 1;
    }
    send_flushed();
    return receive_one(views[0]) ? 1 : 0;
  }
  void release_burst() override {}

  cdmf_status await_messages(std::uint64_t deadline) override {
    for (;;) {
      SharedFd link;
      short events = POLLIN;
      {
        const std::lock_guard lock(mutex_);
        if (socket_ && announce_) return CDMF_OK;
        send_flushed();
        link = socket_ ? socket_ : listener_;
        if (socket_ && flushed_ > 0 && !is_cut_)
          events = POLLIN | POLLOUT;  // What is queued leaves though the sender is idle.
      }
      std::array<pollfd, 3> wanted{
          {{link ? link->get() : -1, events, 0}, {receive_alarm_.fd(), POLLIN, 0}, {backlog_alarm_.fd(), POLLIN, 0}}};
      const cdmf_status waited = wait(wanted, receive_alarm_, deadline);
      if (wanted[2].revents != 0) backlog_alarm_.silence();
      if (waited != CDMF_OK || (wanted[0].revents & ~POLLOUT) != 0) return waited;
    }
  }

  void interrupt() override {
    send_alarm_.ring();
    receive_alarm_.ring();
  }

  cdmf_status disconnect(cdmf_peer peer, cdmf_status reason) override {
    const std::lock_guard lock(mutex_);
    if (!socket_ || peer != peer_) return CDMF_NOT_CONNECTED;
    end_reason_ = reason;
    say_goodbye();
    shutdown(socket_->get(), SHUT_RDWR);  // receive_burst() sees the end and reports it.
    return CDMF_OK;
  }

  void close() override {
    const std::lock_guard lock(mutex_);
    // First, so that nobody comes back to a server that is leaving, and whoever is told finds the name free. Clients
    // whom the kernel took and nobody has seen are told, too.
    std::vector<SharedFd> unseen;
    if (listener_) {
      shutdown(listener_->get(), SHUT_RDWR);
      while (SharedFd client = accept_client()) unseen.push_back(std::move(client));
      listener_.reset();
    }
    for (;;) {
      if (socket_) say_goodbye();
      end_link();
      if (unseen.empty()) break;
      socket_ = std::move(unseen.back());
      unseen.pop_back();
    }
    send_alarm_.close();
    receive_alarm_.close();
    backlog_alarm_.close();
  }

  void describe(cdmf_info& info) override {
    address_ = "unix:@" + name_;
    info.capabilities = CDMF_CAP_INTER_PROCESS;
    info.frame_size_max = frame_size_max_;
    info.address = address_.c_str();
    info.detail = "";
  }

 private:
  // Abstract: the name starts with a zero byte, has a length, and vanishes with its last socket.
  std::pair<sockaddr_un, socklen_t> socket_address() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(name_.begin(), name_.end(), address.sun_path + 1);
    return {address, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name_.size())};
  }

  SharedFd accept_client() const {
    return adopt_fd(accept4(listener_->get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  }

  void begin_link(SharedFd socket) {
    socket_ = std::move(socket);
    ++peer_;
    announce_ = true;
    end_reason_ = CDMF_PEER_DIED;
    host_.log(CDMF_LOG_DEBUG, "acme_packet: peer ", peer_);
  }

  void end_link() {
    if (socket_) shutdown(socket_->get(), SHUT_RDWR);  // Wakes who still waits for it.
    socket_.reset();
    queue_.clear();
    flushed_ = 0;
    is_cut_ = false;
  }

  static bool send_packet(const Fd& socket, Kind kind, std::byte* data, std::size_t size) {
    std::array<iovec, 2> parts{{{&kind, 1}, {data, size}}};
    msghdr packet{};
    packet.msg_iov = parts.data();
    packet.msg_iovlen = parts.size();
    return sendmsg(socket.get(), &packet, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
  }

  // What is committed and not flushed stays: the peer must not see a batch before its flush.
  void send_flushed() {
    for (; socket_ && !is_cut_ && flushed_ > 0; --flushed_) {
      if (!send_packet(*socket_, kFrame, queue_.front().data(), queue_.front().size)) {
        is_cut_ = errno != EAGAIN && errno != EINTR && errno != ENOBUFS && errno != ENOMEM;
        return;
      }
      queue_.pop_front();
    }
  }

  void flush_queue() {
    flushed_ = queue_.size();
    send_flushed();
    if (flushed_ > 0 && !is_cut_)
      backlog_alarm_.ring();  // The receiver's thread may be asleep, and has to look after it.
  }

  // What was accepted goes first, if the peer reads it within kGoodbyeMs.
  void say_goodbye() {
    const std::uint64_t deadline = cdmf::ipc::monotonic_now_ns() + kGoodbyeMs * 1'000'000u;
    pollfd room{socket_->get(), POLLOUT, 0};
    for (flushed_ = queue_.size();;) {
      send_flushed();
      if (flushed_ == 0 && send_packet(*socket_, kGoodbye, nullptr, 0)) return;
      if (is_cut_ || ::poll(&room, 1, cdmf::ipc::poll_timeout_ms(deadline)) <= 0) return;
      if ((room.revents & ~POLLOUT) != 0) return;
    }
  }

  bool receive_one(cdmf_view& view) {
    Kind kind{};
    std::array<iovec, 2> parts{{{&kind, 1}, {received_.data(), frame_size_max_}}};
    for (;;) {
      msghdr packet{};
      packet.msg_iov = parts.data();
      packet.msg_iovlen = parts.size();
      const ssize_t got = recvmsg(socket_->get(), &packet, MSG_DONTWAIT);
      if (got < 0 && errno == EAGAIN) return false;
      // ECONNRESET comes before what the peer sent and we have not read yet.
      if (got < 0 && (errno == EINTR || errno == ECONNRESET)) continue;
      if (got > 1 && kind == kFrame && (packet.msg_flags & MSG_TRUNC) == 0) {
        view.kind = CDMF_VIEW_MESSAGE;
        view.frame = received_.data();
        view.size = static_cast<std::size_t>(got) - 1;
        return true;
      }
      if (got == 1 && kind == kGoodbye) {
        if (end_reason_ == CDMF_PEER_DIED) end_reason_ = CDMF_CONNECTION_CLOSED;
      } else if (got > 0) {
        end_reason_ = CDMF_PROTOCOL_ERROR;
      }
      view.kind = CDMF_VIEW_PEER_DISCONNECTED;
      view.reason = end_reason_;
      view.lost = queue_.size();
      end_link();
      return true;
    }
  }

  // The last of `wanted` that belongs to `alarm` says INTERRUPTED; any other event says OK.
  template <std::size_t Count>
  static cdmf_status wait(std::array<pollfd, Count>& wanted, const Alarm& alarm, std::uint64_t deadline) {
    for (;;) {
      const int ready = ::poll(wanted.data(), wanted.size(), cdmf::ipc::poll_timeout_ms(deadline));
      if (ready < 0) continue;  // A signal.
      if (ready == 0) return CDMF_TIMEOUT;
      if (wanted[1].revents == 0) return CDMF_OK;
      alarm.silence();
      return CDMF_INTERRUPTED;
    }
  }

  const PluginHost host_;
  const bool server_;
  const std::string name_;
  const std::size_t frame_size_max_;
  std::string address_;
  Frame received_;  // The receiver's alone.
  Alarm send_alarm_;
  Alarm receive_alarm_;
  Alarm backlog_alarm_;

  std::mutex mutex_;  // Guards what is below. Receiver and sender may be two threads.
  SharedFd listener_;
  SharedFd socket_;
  cdmf_peer peer_ = CDMF_NO_PEER;  // Counts up, so no id returns.
  bool announce_ = false;
  cdmf_status end_reason_ = CDMF_PEER_DIED;
  std::optional<Frame> claimed_;  // Stays when its link ends: a loan is valid memory until it is given back.
  std::deque<Frame> queue_;       // Committed.
  std::size_t flushed_ = 0;       // So many of them, from the front, may leave.
  bool is_cut_ = false;           // Nothing can be sent any more; receive_burst() will see the end and its reason.
};

constexpr cdmf_property kProperties[] = {
    cdmf::ipc::text_property("prefix", "acme", "Put before the endpoint to make the socket's name."),
};
constexpr cdmf::ipc::TransportDescription kDescription{
    .type = "acme_packet",
    .version = "2.1.0",
    .vendor = "Acme",
    .license = "MIT",
    .summary = "Whole packets to one peer over a SOCK_SEQPACKET socket",
    .capabilities = CDMF_CAP_INTER_PROCESS,
    .max_message_size_limit = 64 * 1024,
    .properties = kProperties,
};

}  // namespace acme

CDMF_EXPORT_TRANSPORT(acme::PacketDriver, acme::kDescription)
