// A transport by somebody else: one peer over an abstract SOCK_SEQPACKET socket, which keeps frames whole.
// It knows the installed headers of cdmf and nothing of cdmf's tree.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
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

// Bytes of one frame, at an address that is a multiple of CDMF_FRAME_ALIGNMENT.
struct Frame {
  std::vector<std::max_align_t> memory;
  std::size_t size = 0;

  explicit Frame(std::size_t bytes) : memory(bytes / sizeof(std::max_align_t) + 1), size(bytes) {}
  std::byte* data() noexcept { return reinterpret_cast<std::byte*>(memory.data()); }
};
static_assert(alignof(std::max_align_t) >= CDMF_FRAME_ALIGNMENT);

class PacketDriver final : public cdmf::ipc::Driver {
 public:
  PacketDriver(const DriverConfig& config, PluginHost host)
      : host_(host),
        server_(config.is_server()),
        name_(config.text("prefix") + std::string(config.endpoint())),
        received_(config.frame_size_max()),
        frame_size_max_(config.frame_size_max()) {
    if (name_.size() > sizeof(sockaddr_un::sun_path) - 1) {
      throw cdmf::ipc::ConfigError("prefix and endpoint together take ", name_.size(), " bytes; at most ",
                                   sizeof(sockaddr_un::sun_path) - 1, " fit into a socket address");
    }
  }
  ~PacketDriver() override { PacketDriver::close(); }

  cdmf_status open(ErrorText& error) override {
    wake_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_ < 0) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "acme_packet: no eventfd");
    if (!server_) return CDMF_OK;
    listener_ = new_socket();
    const auto [address, length] = socket_address();
    if (listener_ < 0 || bind(listener_, reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
        listen(listener_, 8) != 0) {
      const int reason = errno;
      PacketDriver::close();
      return error.fail(reason == EADDRINUSE ? CDMF_ENDPOINT_IN_USE : CDMF_RESOURCE_EXHAUSTED, reason,
                        "acme_packet \"@", name_, "\": cannot listen");
    }
    return CDMF_OK;
  }

  cdmf_status attach(std::uint64_t /*deadline*/, cdmf_peer& peer, ErrorText& error) override {
    const std::lock_guard lock(mutex_);
    if (socket_ >= 0) return error.fail(CDMF_ALREADY_INITIALIZED, 0, "acme_packet: this client has its peer");
    const int made = new_socket();
    const auto [address, length] = socket_address();
    // A local connect() does not wait: the server's backlog takes it, or is full, or is not there.
    if (made < 0 || ::connect(made, reinterpret_cast<const sockaddr*>(&address), length) != 0) {
      const int reason = errno;
      if (made >= 0) ::close(made);
      return error.fail(reason == ECONNREFUSED ? CDMF_ENDPOINT_NOT_FOUND : CDMF_CONNECTION_FAILED, reason,
                        "acme_packet \"@", name_, "\": no server is listening; start one or check 'endpoint'");
    }
    adopt(made);
    peer = peer_;
    return CDMF_OK;
  }

  cdmf_status claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) override {
    const std::lock_guard lock(mutex_);
    if (socket_ < 0 || peer != peer_) return CDMF_NOT_CONNECTED;
    if (size > frame_size_max_) return CDMF_BUFFER_OVERFLOW;
    if (claimed_) return CDMF_RESOURCE_EXHAUSTED;
    send_queued();
    if (queue_.size() >= kQueueMax) return CDMF_BUFFER_FULL;
    claimed_.emplace(size);
    loan = {claimed_->data(), size, peer, 0};
    return CDMF_OK;
  }

  cdmf_status commit(const cdmf_loan& loan, std::size_t size, bool flush) override {
    const std::lock_guard lock(mutex_);
    if (socket_ < 0 || loan.peer != peer_) {
      claimed_.reset();
      return CDMF_CONNECTION_CLOSED;
    }
    claimed_->size = size;
    queue_.push_back(std::move(*claimed_));
    claimed_.reset();
    if (flush) send_queued();
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
        if (peer != CDMF_NO_PEER && (socket_ < 0 || peer != peer_)) return CDMF_NOT_CONNECTED;
        send_queued();
        if (queue_.empty()) return CDMF_OK;
      }
      if (deadline == cdmf::ipc::kNoWait) return CDMF_BUFFER_FULL;
      if (const cdmf_status waited = wait(POLLOUT, deadline); waited != CDMF_OK) return waited;
    }
  }

  cdmf_status await_space(cdmf_peer peer, std::size_t /*size*/, std::uint64_t deadline) override {
    {
      const std::lock_guard lock(mutex_);
      if (socket_ < 0 || peer != peer_) return CDMF_NOT_CONNECTED;
    }
    return wait(POLLOUT, deadline);
  }

  std::size_t receive_burst(cdmf_view* views, std::size_t capacity) override {
    const std::lock_guard lock(mutex_);
    if (capacity == 0) return 0;
    if (socket_ < 0 && listener_ >= 0) {
      if (const int made = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); made >= 0) adopt(made);
    }
    if (socket_ < 0) return 0;
    views[0] = {};
    views[0].peer = peer_;
    if (announce_) {
      announce_ = false;
      views[0].kind = CDMF_VIEW_PEER_CONNECTED;
      return 1;
    }
    send_queued();
    const ssize_t got = recv(socket_, received_.data(), frame_size_max_, MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got > 0 && static_cast<std::size_t>(got) <= frame_size_max_) {
      views[0].kind = CDMF_VIEW_MESSAGE;
      views[0].frame = received_.data();
      views[0].size = static_cast<std::size_t>(got);
      return 1;
    }
    views[0].kind = CDMF_VIEW_PEER_DISCONNECTED;
    views[0].reason = got > 0 ? CDMF_PROTOCOL_ERROR : end_reason_;
    views[0].lost = queue_.size();
    drop_link();
    return 1;
  }
  void release_burst() override {}

  cdmf_status await_messages(std::uint64_t deadline) override { return wait(POLLIN, deadline); }

  void interrupt() override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_, &one, sizeof one);  // Full means: already awake.
  }

  cdmf_status disconnect(cdmf_peer peer, cdmf_status reason) override {
    const std::lock_guard lock(mutex_);
    if (socket_ < 0 || peer != peer_) return CDMF_NOT_CONNECTED;
    end_reason_ = reason;
    shutdown(socket_, SHUT_RDWR);  // receive_burst() sees the end of file and reports it.
    return CDMF_OK;
  }

  void close() override {
    const std::lock_guard lock(mutex_);
    send_queued();
    drop_link();
    for (int* fd : {&listener_, &wake_}) {
      if (*fd >= 0) ::close(*fd);
      *fd = -1;
    }
  }

  void describe(cdmf_info& info) override {
    address_ = "unix:@" + name_;
    info.capabilities = CDMF_CAP_INTER_PROCESS;
    info.frame_size_max = frame_size_max_;
    info.address = address_.c_str();
    info.detail = "";
  }

 private:
  static int new_socket() { return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

  // Abstract: the name starts with a zero byte, has a length, and vanishes with its last socket.
  std::pair<sockaddr_un, socklen_t> socket_address() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(name_.begin(), name_.end(), address.sun_path + 1);
    return {address, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name_.size())};
  }

  void adopt(int made) {
    socket_ = made;
    ++peer_;
    announce_ = true;
    end_reason_ = CDMF_CONNECTION_CLOSED;
    host_.log(CDMF_LOG_DEBUG, "acme_packet: peer ", peer_);
  }

  void drop_link() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
    queue_.clear();
  }

  void send_queued() {
    while (socket_ >= 0 && !queue_.empty()) {
      Frame& frame = queue_.front();
      if (::send(socket_, frame.data(), frame.size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return;  // An end shows in recv().
      queue_.pop_front();
    }
  }

  cdmf_status wait(short event, std::uint64_t deadline) {
    std::array<pollfd, 2> descriptors{};
    {
      const std::lock_guard lock(mutex_);
      if (event == POLLIN && socket_ >= 0 && announce_) return CDMF_OK;
      descriptors[0] = socket_ >= 0 ? pollfd{socket_, event, 0} : pollfd{listener_, POLLIN, 0};
      descriptors[1] = {wake_, POLLIN, 0};
    }
    const int ready = ::poll(descriptors.data(), descriptors.size(), cdmf::ipc::poll_timeout_ms(deadline));
    if (ready == 0) return CDMF_TIMEOUT;
    if (descriptors[1].revents != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] const auto taken = ::read(wake_, &count, sizeof count);
      return CDMF_INTERRUPTED;
    }
    return CDMF_OK;
  }

  const PluginHost host_;
  const bool server_;
  const std::string name_;
  std::string address_;
  Frame received_;
  const std::size_t frame_size_max_;

  std::mutex mutex_;  // Guards what is below. Receiver and sender may be two threads.
  int listener_ = -1;
  int wake_ = -1;
  int socket_ = -1;
  cdmf_peer peer_ = CDMF_NO_PEER;  // Counts up, so no id returns.
  bool announce_ = false;
  cdmf_status end_reason_ = CDMF_CONNECTION_CLOSED;
  std::optional<Frame> claimed_;
  std::deque<Frame> queue_;
};

constexpr cdmf_property kProperties[] = {
    cdmf::ipc::text_property("prefix", "acme", "Put before the endpoint to make the socket's name."),
};
constexpr cdmf::ipc::TransportDescription kDescription{
    .type = "acme_packet",
    .version = "2.1.0",
    .vendor = "Acme",
    .license = "MIT",
    .summary = "Whole packets to one peer over a SOCK_SEQPACKET socket.",
    .capabilities = CDMF_CAP_INTER_PROCESS,
    .max_message_size_limit = 64 * 1024,
    .properties = kProperties,
};

}  // namespace acme

CDMF_EXPORT_TRANSPORT(acme::PacketDriver, acme::kDescription)
