// Life of the driver, and sending. Receiving and waiting: unix_socket_driver_receive.cpp.
#include "unix_socket_driver.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "handshake.h"

namespace cdmf::ipc::unix_socket {
namespace {

// What the kernel adds to a packet in its account of the send buffer, of which it takes off twice of what was asked
// for.
constexpr std::size_t kPacketOverhead = 32;

constexpr std::size_t largest_packet_of(int send_buffer) {
  const auto bytes = static_cast<std::size_t>(send_buffer);
  return bytes > kPacketOverhead ? bytes - kPacketOverhead : 0;
}

/// Asks for the send buffer, beyond net.core.wmem_max where this process may. What the kernel accounts with now: twice
/// of that, or less.
int set_send_buffer(int socket, int bytes) {
  setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  int granted = 0;
  socklen_t size = sizeof granted;
  getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &granted, &size);
  if (granted / 2 < bytes && setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) == 0) {
    getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &granted, &size);
  }
  return granted;
}

/// The peer's process, to wait for its end; none when the kernel has no such thing or the process is out of sight.
Fd process_of(int socket, pid_t pid) {
  constexpr int kPeerPidfd = 77;  // SO_PEERPIDFD, Linux 6.5: exact, where a number may have been given to another.
  int fd = -1;
  socklen_t size = sizeof fd;
  if (getsockopt(socket, SOL_SOCKET, kPeerPidfd, &fd, &size) == 0 && fd >= 0) return Fd(fd);
  return pid > 0 ? Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) : Fd();
}

}  // namespace

UnixSocketDriver::Options::Options(const DriverConfig& config)
    : frame_size_max(config.frame_size_max()),
      queue_bytes(static_cast<std::size_t>(config.number("queue_size"))),
      read_bytes(static_cast<std::size_t>(config.number("receive_buffer"))),
      packets(config.number("socket_type") != 0),
      send_buffer_bytes(static_cast<int>(config.number("send_buffer"))),
      send_buffer_given(config.given("send_buffer")),
      backlog(static_cast<int>(config.number("backlog"))),
      access(parse_access(config.text("mode"), config.text("group"), config.text("allow_uids"))),
      clients_max(static_cast<std::size_t>(config.number("max_clients"))),
      clients_per_user_max(static_cast<std::size_t>(config.number("max_clients_per_user"))),
      handshake_timeout(config.number("handshake_timeout")),
      frame_timeout(config.number("frame_timeout")),
      spin_budget(config.number("spin_budget")),
      linger(config.number("linger")) {
  const std::size_t record = record_bytes(frame_size_max);
  if (!config.given("queue_size")) queue_bytes = std::max(queue_bytes, 2 * record);
  const bool file_options = config.given("group") || access.mode != 0600;
  if (file_options && !std::string_view(config.text("address")).starts_with('/')) {
    throw ConfigError("mode and group need an address that is a path, not \"", config.text("address"),
                      "\": the directory of auto is this user's alone, and an abstract name has no permissions");
  }
  if (queue_bytes < record) {
    throw ConfigError("queue_size ", queue_bytes, " holds no message of max_message_size ", config.max_message_size(),
                      "; it must be at least ", record);
  }
}

UnixSocketDriver::UnixSocketDriver(const DriverConfig& config, PluginHost host)
    : server_(config.is_server()),
      options_(config),
      path_(endpoint_address(config.endpoint(), config.text("address"))),
      address_("unix:" + path_.socket),
      detail_(std::string(options_.packets ? "packets" : "stream") + "; queue of " +
              std::to_string(options_.queue_bytes) + " bytes per peer, send buffer " +
              std::to_string(options_.send_buffer_bytes)),
      host_(host),
      agreed_frame_size_max_(options_.frame_size_max),
      spin_budget_(static_cast<std::uint64_t>(options_.spin_budget.count())) {}

UnixSocketDriver::~UnixSocketDriver() { UnixSocketDriver::close(); }

// ---- Life -----------------------------------------------------------------------------------------------------------

cdmf_status UnixSocketDriver::open(ErrorText& error) {
  {
    const std::lock_guard lock(mutex_);
    if (owner_ != -1) return error.fail(CDMF_ALREADY_INITIALIZED, 0, address_, " is open already");
  }
  Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  Fd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  Fd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;
  epoll_event timer_event = event;
  timer_event.data.ptr = &frame_timer_;
  if (!epoll || !wake || !timer || epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0 ||
      epoll_ctl(epoll.get(), EPOLL_CTL_ADD, timer.get(), &timer_event) != 0) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, address_, ": no descriptor; raise `ulimit -n`");
  }
  if (options_.packets) {
    const Fd probe(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!probe) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, address_, ": no descriptor; raise `ulimit -n`");
    if (const auto status = check_packets(probe.get(), options_.frame_size_max, error); status != CDMF_OK)
      return status;
  }
  std::unique_ptr<Acceptor> acceptor;
  if (server_) {
    ListeningSocket listening;
    const ListeningSocket::Options options{options_.backlog, options_.packets ? SOCK_SEQPACKET : SOCK_STREAM,
                                           options_.access};
    const auto status = ListeningSocket::open(path_, options, listening, error);
    if (status != CDMF_OK) return status;
    Acceptor::Reception reception;
    reception.has_room = [this](uid_t uid) { return has_room(uid); };
    reception.welcome = [this](Fd socket, const PeerIdentity& identity) {
      add_link(std::move(socket), identity, options_.frame_size_max);
    };
    acceptor = std::make_unique<Acceptor>(
        std::move(listening), address_,
        Acceptor::Rules{options_.frame_size_max, options_.handshake_timeout, options_.access}, std::move(reception),
        host_);
  }
  const std::lock_guard lock(mutex_);
  epoll_ = std::move(epoll);
  wake_ = std::move(wake);
  frame_timer_ = std::move(timer);
  frame_timer_at_ = kForever;
  agreed_frame_size_max_ = options_.frame_size_max;
  if (acceptor != nullptr) {
    if (const int problem = acceptor->start(); problem != 0) {
      acceptor.reset();
      epoll_.reset();
      wake_.reset();
      frame_timer_.reset();
      return error.fail(CDMF_RESOURCE_EXHAUSTED, problem, address_, ": no control thread");
    }
    acceptor_ = std::move(acceptor);
  }
  owner_ = getpid();
  return CDMF_OK;
}

cdmf_status UnixSocketDriver::attach(std::uint64_t deadline, cdmf_peer& peer, ErrorText& error) {
  {
    const std::lock_guard lock(mutex_);
    if (owner_ == -1) return error.fail(CDMF_NOT_INITIALIZED, 0, address_, " is not open");
    if (server_) return error.fail(CDMF_UNSUPPORTED, 0, address_, " is a server: clients attach to it");
    if (!links_.empty()) return error.fail(CDMF_ALREADY_INITIALIZED, 0, address_, " has its server already");
  }
  Fd socket;
  const int type = options_.packets ? SOCK_SEQPACKET : SOCK_STREAM;
  if (const auto status = connect_socket(path_, type, options_.access, deadline, socket, error); status != CDMF_OK) {
    return status;
  }
  Hello answer;
  const auto status = exchange_hello(socket.get(), options_.frame_size_max, deadline, path_.socket, answer, error);
  if (status != CDMF_OK) return status;
  const auto agreed = static_cast<std::size_t>(answer.frame_size_max);
  if (options_.packets) {
    if (const auto fits = check_packets(socket.get(), agreed, error); fits != CDMF_OK) return fits;
  }
  agreed_frame_size_max_ = agreed;
  const PeerIdentity identity = peer_identity(socket.get());
  peer = add_link(std::move(socket), identity, agreed);
  take_news();
  return CDMF_OK;
}

bool UnixSocketDriver::has_room(uid_t uid) {
  const std::lock_guard lock(mutex_);
  if (links_.size() >= options_.clients_max) return false;
  if (links_.size() < options_.clients_per_user_max) return true;
  const auto same =
      std::count_if(links_.begin(), links_.end(), [&](const auto& one) { return one.second->uid() == uid; });
  return static_cast<std::size_t>(same) < options_.clients_per_user_max;
}

/// The kernel takes a packet whole or not at all, and never one that is larger than the send buffer. The buffer is made
/// as large as the largest message needs, unless the user has said how large it is to be.
cdmf_status UnixSocketDriver::check_packets(int socket, std::size_t frame_size_max, ErrorText& error) const {
  const std::size_t largest = record_bytes(frame_size_max);
  const auto needed = static_cast<int>(std::min<std::size_t>((largest + kPacketOverhead + 1) / 2, INT32_MAX / 2));
  const int wanted =
      options_.send_buffer_given ? options_.send_buffer_bytes : std::max(options_.send_buffer_bytes, needed);
  const std::size_t possible = largest_packet_of(set_send_buffer(socket, wanted));
  if (largest <= possible) return CDMF_OK;
  const std::size_t around = largest - (frame_size_max - CDMF_FRAME_OVERHEAD_MAX);
  return error.fail(CDMF_INVALID_CONFIG, 0, address_, ": socket_type SEQPACKET: max_message_size ",
                    frame_size_max - CDMF_FRAME_OVERHEAD_MAX, " needs packets of ", largest,
                    " bytes, a send_buffer of ", wanted, " gives ", possible, " here; set max_message_size to ",
                    possible > around ? possible - around : 0, ", or send_buffer (and net.core.wmem_max) to ", needed,
                    ", or use STREAM");
}

/// Puts a connected socket in front of the receiver.
cdmf_peer UnixSocketDriver::add_link(Fd socket, const PeerIdentity& identity, std::size_t frame_size_max) {
  Link::Limits limits{frame_size_max, std::max(options_.queue_bytes, record_bytes(frame_size_max)), options_.read_bytes,
                      0, options_.frame_timeout};
  // What the kernel grants is up to net.core.wmem_max; less than asked for works, only with more switches.
  std::size_t send_buffer = static_cast<std::size_t>(options_.send_buffer_bytes);
  if (options_.packets) {
    limits.packet_bytes = packet_bytes_max(frame_size_max);
    if (!options_.send_buffer_given) send_buffer = std::max(send_buffer, limits.packet_bytes / 2 + kPacketOverhead);
  }
  set_send_buffer(socket.get(), static_cast<int>(send_buffer));
  Fd process = process_of(socket.get(), identity.pid);
  const std::lock_guard lock(mutex_);
  auto link = std::make_shared<Link>(++last_peer_, std::move(socket), std::move(process), identity.uid, limits);
  links_.emplace(link->id(), link);
  news_.push_back(std::move(link));
  wake_receiver();
  return last_peer_;
}

cdmf_status UnixSocketDriver::disconnect(cdmf_peer peer, cdmf_status reason) {
  const auto link = find_link(peer);
  if (link == nullptr) return CDMF_NOT_CONNECTED;
  link->end(reason, monotonic_now_ns() + static_cast<std::uint64_t>(options_.linger.count()));
  const std::lock_guard lock(mutex_);
  if (owner_ == -1) return CDMF_OK;
  news_.push_back(link);
  wake_receiver();
  return CDMF_OK;
}

void UnixSocketDriver::close() {
  std::unique_lock lock(mutex_);
  if (owner_ == -1) return;
  const bool mine = owner_ == getpid();
  owner_ = -1;
  const auto acceptor = std::move(acceptor_);
  lock.unlock();
  // First, so that nobody comes in any more. Without the lock, which the control thread may be waiting for.
  if (acceptor != nullptr) mine ? acceptor->stop() : acceptor->abandon();
  lock.lock();
  const std::uint64_t deadline = monotonic_now_ns() + static_cast<std::uint64_t>(options_.linger.count());
  for (const auto& [id, link] : links_) {
    if (!mine) link->abandon();
    link->end(CDMF_CONNECTION_CLOSED, deadline);
    if (mine) link->unwatch();  // In a forked child the set is the parent's as well.
  }
  // burst_ and held_ stay, and open claims keep their links: their memory is promised to be valid.
  ready_.clear();
  watched_.clear();
  news_.clear();
  has_news_ = false;
  links_.clear();
  epoll_.reset();
  wake_.reset();
  frame_timer_.reset();
}

void UnixSocketDriver::describe(cdmf_info& info) {
  info.capabilities = kDescription.capabilities;
  info.frame_size_max = agreed_frame_size_max_;
  info.buffer_bytes = options_.queue_bytes + static_cast<std::size_t>(options_.send_buffer_bytes);
  info.address = address_.c_str();
  info.detail = detail_.c_str();
}

// ---- Sending --------------------------------------------------------------------------------------------------------

cdmf_status UnixSocketDriver::claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) {
  const auto link = find_link(peer);
  return link == nullptr ? CDMF_NOT_CONNECTED : link->claim(size, loan);
}

cdmf_status UnixSocketDriver::commit(const cdmf_loan& loan, std::size_t size, bool flush) {
  return Link::commit(loan, size, flush);
}

void UnixSocketDriver::abort(const cdmf_loan& loan) { Link::abort(loan); }

cdmf_status UnixSocketDriver::flush(cdmf_peer peer, std::uint64_t deadline) {
  if (peer != CDMF_NO_PEER) {
    const auto link = find_link(peer);
    return link == nullptr ? CDMF_NOT_CONNECTED : link->flush(deadline);
  }
  std::vector<std::shared_ptr<Link>> all;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, link] : links_) all.push_back(link);
  }
  cdmf_status result = CDMF_OK;
  for (const auto& link : all) {
    const cdmf_status status = link->flush(deadline);
    // A link that ended reports what it lost with its PEER_DISCONNECTED.
    if (status == CDMF_BUFFER_FULL || status == CDMF_TIMEOUT) result = status;
  }
  return result;
}

cdmf_status UnixSocketDriver::await_space(cdmf_peer peer, std::size_t size, std::uint64_t deadline) {
  const auto link = find_link(peer);
  if (link == nullptr) return CDMF_NOT_CONNECTED;
  const std::uint64_t before = interrupts_seen_sending_.load();
  const cdmf_status status = link->await_space(size, deadline, interrupts_, before);
  if (status == CDMF_INTERRUPTED) interrupts_seen_sending_.store(interrupts_.load());
  return status;
}

// ---- From any thread ------------------------------------------------------------------------------------------------

void UnixSocketDriver::interrupt() {
  const std::lock_guard lock(mutex_);
  ++interrupts_;
  if (wake_) {
    const std::uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof one);
  }
  for (const auto& [id, link] : links_) link->wake_waiters();
}

std::shared_ptr<Link> UnixSocketDriver::find_link(cdmf_peer peer) {
  const std::lock_guard lock(mutex_);
  const auto found = links_.find(peer);
  return found == links_.end() ? nullptr : found->second;
}

/// Under mutex_.
void UnixSocketDriver::wake_receiver() {
  has_news_.store(true, std::memory_order_release);
  const std::uint64_t one = 1;
  (void)!write(wake_.get(), &one, sizeof one);
}

}  // namespace cdmf::ipc::unix_socket
