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

// Blocks of one link that holds may keep: with them, the memory of a link stays bounded whatever a program holds.
constexpr unsigned kHeldBlocksMax = 16;

// A program that polls without waiting asks its only link and not the epoll set; but the set also knows of the peer's
// process and of stalled frames, hence every so many bursts it is asked as well.
constexpr unsigned kUnaskedMax = 256;

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
      agreed_frame_size_max_(options_.frame_size_max) {}

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

// ---- Receiving ------------------------------------------------------------------------------------------------------

std::size_t UnixSocketDriver::receive_burst(cdmf_view* views, std::size_t capacity) {
  if (!epoll_) return 0;
  if (!std::exchange(looked_, false)) {
    if (has_news_.load(std::memory_order_acquire)) take_news();
    if (watched_.size() == 1 && !watched_.begin()->second->is_behind() && ++unasked_ < kUnaskedMax) {
      // Asking the only socket directly costs as much as asking epoll, and brings the data.
      Link& only = *watched_.begin()->second;
      if (!only.queued) only.set_readable();
      make_ready(only);
    } else {
      unasked_ = 0;
      look(0);
    }
  }
  if (ready_.empty()) return 0;
  // A share of the burst for each, then a next turn: nobody can crowd out the others.
  const std::size_t share = std::max<std::size_t>(1, capacity / ready_.size());
  std::size_t count = 0;
  while (count < capacity && !ready_.empty()) {
    Link& link = *ready_.front();
    ready_.pop_front();
    const std::size_t wanted = std::min(share, capacity - count);
    const std::size_t taken = link.receive({views + count, wanted}, burst_);
    count += taken;
    if (link.is_done()) {
      link.queued = false;
      forget(link);
    } else if (taken == wanted && link.has_more()) {
      ready_.push_back(&link);
    } else {
      link.queued = false;
      watch_frame(link);
    }
  }
  return count;
}

/// Sees to it that a frame which has begun and does not go on is looked at in time.
void UnixSocketDriver::watch_frame(const Link& link) {
  const std::uint64_t deadline = link.frame_deadline();
  if (deadline >= frame_timer_at_) return;  // Mostly: kForever.
  itimerspec at{};
  at.it_value.tv_sec = static_cast<time_t>(deadline / 1'000'000'000u);
  at.it_value.tv_nsec = static_cast<long>(deadline % 1'000'000'000u);
  if (timerfd_settime(frame_timer_.get(), TFD_TIMER_ABSTIME, &at, nullptr) == 0) frame_timer_at_ = deadline;
}

void UnixSocketDriver::look_for_stalled_frames() {
  std::uint64_t expirations = 0;
  (void)!read(frame_timer_.get(), &expirations, sizeof expirations);
  frame_timer_at_ = kForever;
  for (const auto& [key, link] : watched_) {
    if (link->frame_deadline() == kForever) continue;
    link->set_readable();  // What has come while the program was busy elsewhere counts.
    make_ready(*link);
  }
}

void UnixSocketDriver::release_burst() {
  for (const auto& segment : burst_.segments) segment.block->unpin();
  burst_.segments.clear();
}

cdmf_status UnixSocketDriver::await_messages(std::uint64_t deadline) {
  if (!epoll_) return CDMF_NOT_INITIALIZED;
  for (;;) {
    const std::uint64_t interrupts = interrupts_.load();
    if (interrupts != std::exchange(interrupts_seen_receiving_, interrupts)) return CDMF_INTERRUPTED;
    if (!ready_.empty()) return CDMF_OK;
    int timeout_ms = poll_timeout_ms(deadline);
    if (timeout_ms < 0 || timeout_ms > Link::kReadWaitMs) {
      if (wait_for_only_link()) return CDMF_OK;
      timeout_ms = poll_timeout_ms(deadline);
    }
    look(timeout_ms);
    looked_ = !ready_.empty();
    if (looked_) return CDMF_OK;
    if (timeout_ms == 0 || (deadline != kForever && monotonic_now_ns() >= deadline)) {
      return interrupts_.load() != interrupts ? CDMF_INTERRUPTED : CDMF_TIMEOUT;
    }
  }
}

/// Where one link is all there is, the next message is waited for in recv(), for a few milliseconds. An interrupt or a
/// new client is noticed that much later; who is silent for longer costs no further wake-up.
bool UnixSocketDriver::wait_for_only_link() {
  if (watched_.size() != 1 || has_news_.load(std::memory_order_acquire)) return false;
  Link& only = *watched_.begin()->second;
  if (only.is_behind() || !only.wait_by_reading()) return false;
  make_ready(only);
  looked_ = true;
  return true;
}

cdmf_arm_result UnixSocketDriver::arm() {
  // The epoll set is level-triggered: whatever comes from here on makes it readable.
  if (epoll_ && ready_.empty()) look(0);
  looked_ = !ready_.empty();
  return ready_.empty() ? CDMF_ARMED : CDMF_READY;
}

int UnixSocketDriver::poll_fd() {
  const std::lock_guard lock(mutex_);
  return epoll_.get();
}

/// Asks the kernel which links have something to do.
void UnixSocketDriver::look(int timeout_ms) {
  epoll_event events[64];
  const int count = epoll_wait(epoll_.get(), events, 64, timeout_ms);
  bool woken = false;
  for (int i = 0; i < count; ++i) {
    if (events[i].data.ptr == nullptr) {
      woken = true;
      continue;
    }
    if (events[i].data.ptr == &frame_timer_) {
      look_for_stalled_frames();
      continue;
    }
    // Alive: this thread alone takes it out of watched_.
    Link& link = *reinterpret_cast<Link*>(events[i].data.u64 & ~std::uint64_t{Link::kProcessTag});
    if ((events[i].data.u64 & Link::kProcessTag) != 0) {
      link.set_process_ended();
      make_ready(link);
      continue;
    }
    if ((events[i].events & EPOLLOUT) != 0) link.send_rest();
    if ((events[i].events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) {
      link.set_readable();
      make_ready(link);
    }
  }
  if (woken) {
    std::uint64_t drained = 0;
    (void)!read(wake_.get(), &drained, sizeof drained);
    take_news();
  }
}

void UnixSocketDriver::take_news() {
  std::vector<std::shared_ptr<Link>> news;
  {
    const std::lock_guard lock(mutex_);
    has_news_ = false;
    news.swap(news_);
  }
  for (auto& link : news) {
    if (link->is_done()) continue;  // It ended by itself before this news of its end was read.
    if (!watched_.contains(link.get())) {
      if (!link->watch(epoll_.get())) {
        host_.log(CDMF_LOG_ERROR, address_, ": epoll_ctl failed with errno ", errno, "; peer ", link->id(),
                  " is disconnected");
        link->end(CDMF_RESOURCE_EXHAUSTED, kNoWait);
      }
      watched_.emplace(link.get(), link);
    }
    make_ready(*link);
  }
}

void UnixSocketDriver::make_ready(Link& link) {
  if (std::exchange(link.queued, true)) return;
  ready_.push_back(&link);
}

/// The link's PEER_DISCONNECTED is in the burst.
void UnixSocketDriver::forget(Link& link) {
  const auto found = watched_.find(&link);
  const std::shared_ptr<Link> last = std::move(found->second);
  watched_.erase(found);
  if (last->problem()[0] != '\0') {
    host_.log(CDMF_LOG_WARNING, address_, ": peer ", last->id(), " of user ", last->uid(), " sent ", last->problem(),
              "; it is disconnected");
  }
  const std::lock_guard lock(mutex_);
  links_.erase(last->id());
}

cdmf_status UnixSocketDriver::hold(cdmf_peer peer, std::uint64_t token, std::uint64_t& held) {
  if (token >= burst_.segments.size() || burst_.segments[token].peer != peer) return CDMF_INVALID_ARGUMENT;
  const std::shared_ptr<Block>& block = burst_.segments[token].block;
  const std::lock_guard lock(mutex_);
  if (block->holds == 0) {
    unsigned& blocks = held_blocks_[peer];
    if (blocks >= kHeldBlocksMax) return CDMF_RESOURCE_EXHAUSTED;
    ++blocks;
  }
  ++block->holds;
  block->pin();
  held = ++last_held_;
  held_.emplace(held, Held{block, peer});
  return CDMF_OK;
}

void UnixSocketDriver::unhold(std::uint64_t held) {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(held);
  if (found == held_.end()) return;
  const auto& [block, peer] = found->second;
  block->unpin();
  if (--block->holds == 0) {
    const auto blocks = held_blocks_.find(peer);
    if (--blocks->second == 0) held_blocks_.erase(blocks);
  }
  held_.erase(found);
}

void UnixSocketDriver::interrupt() {
  const std::lock_guard lock(mutex_);
  ++interrupts_;
  if (wake_) {
    const std::uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof one);
  }
  for (const auto& [id, link] : links_) link->wake_waiters();
}

// ---- Helpers --------------------------------------------------------------------------------------------------------

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
