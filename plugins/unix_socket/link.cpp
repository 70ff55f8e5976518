#include "link.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "frame_parser.h"

namespace cdmf::ipc::unix_socket {
namespace {

// A socket that was full is tried again by a commit when this much more is queued, or this much time has passed: then
// many frames leave with one system call. The receiver's EPOLLOUT comes first where somebody receives.
constexpr std::size_t kRetryBytes = 32 * 1024;
constexpr std::uint64_t kRetryTimeUs = 100;

// A record from this size on is read up to its end and one header more, so that the next one begins a read: then
// nothing has to be moved in memory, and the same block is used again. A system call costs less than moving that much.
constexpr std::size_t kOwnReadBytes = 32 * 1024;

std::uint64_t wall_clock_us() noexcept {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(now.tv_nsec) / 1000;
}

ssize_t send_pieces(int socket, SendQueue::Pieces& pieces) noexcept {
  constexpr int kFlags = MSG_NOSIGNAL | MSG_DONTWAIT;
  // The kernel copies a msghdr and its vector before it looks at them; nearly always one piece is all there is.
  if (pieces.count == 1) return ::send(socket, pieces.parts[0].iov_base, pieces.parts[0].iov_len, kFlags);
  msghdr message{};
  message.msg_iov = pieces.parts.data();
  message.msg_iovlen = pieces.count;
  return sendmsg(socket, &message, kFlags);
}

Link& link_of(const cdmf_loan& loan) noexcept { return *reinterpret_cast<Link*>(loan.token); }

}  // namespace

Link::Link(cdmf_peer id, Fd socket, Fd pidfd, uid_t uid, const Limits& limits)
    : id_(id),
      limits_(limits),
      socket_(std::move(socket)),
      pidfd_(std::move(pidfd)),
      uid_(uid),
      queue_(limits.queue_bytes),
      buffer_(std::max(limits.read_bytes, limits.packet_bytes)) {}

cdmf_status Link::state() const noexcept {
  if (ended_ != CDMF_OK) return ended_;
  if (const cdmf_status local = local_end_.load(std::memory_order_relaxed); local != CDMF_OK) return local;
  return broken_;
}

// ---- Sending --------------------------------------------------------------------------------------------------------

cdmf_status Link::claim(std::size_t size, cdmf_loan& loan) {
  const std::lock_guard lock(mutex_);
  if (const cdmf_status status = state(); status != CDMF_OK) return status;
  if (size == 0) return CDMF_INVALID_ARGUMENT;
  if (size > limits_.frame_size_max) return CDMF_BUFFER_OVERFLOW;
  if (queue_.claimed()) return CDMF_RESOURCE_EXHAUSTED;
  std::byte* memory = queue_.claim(size);
  if (memory == nullptr) {
    queue_.publish();  // Else a sender that never flushes would wait for room that only its own batch takes up.
    transmit();
    if (const cdmf_status status = state(); status != CDMF_OK) return status;
    memory = queue_.claim(size);
    if (memory == nullptr) return CDMF_BUFFER_FULL;
  }
  claimed_self_ = shared_from_this();
  loan = {memory, size, id_, reinterpret_cast<std::uintptr_t>(this)};
  return CDMF_OK;
}

cdmf_status Link::commit(const cdmf_loan& loan, std::size_t size, bool flush) {
  Link& link = link_of(loan);
  std::shared_ptr<Link> self;  // Outlives the lock: this may be the last that keeps the link.
  const std::lock_guard lock(link.mutex_);
  self = std::move(link.claimed_self_);
  cdmf_status status = link.state();
  if (status == CDMF_OK && (size == 0 || size > loan.size)) status = CDMF_INVALID_ARGUMENT;
  if (status != CDMF_OK) {
    link.queue_.abort();
    return status;
  }
  const std::uint64_t now_us = wall_clock_us();
  link.queue_.commit(size, now_us);
  if (!flush) return CDMF_OK;
  link.queue_.publish();
  const bool worth_trying = !link.is_behind() || link.queue_.published_bytes() >= link.refused_bytes_ + kRetryBytes ||
                            now_us - link.refused_time_us_ >= kRetryTimeUs;
  if (worth_trying) link.transmit();
  return link.state();
}

void Link::abort(const cdmf_loan& loan) {
  Link& link = link_of(loan);
  std::shared_ptr<Link> self;
  const std::lock_guard lock(link.mutex_);
  self = std::move(link.claimed_self_);
  link.queue_.abort();
}

/// Gives what is published to the socket until it is full. True: nothing published is left.
bool Link::transmit() {
  bool progress = false;
  while (queue_.published_bytes() != 0 && broken_ == CDMF_OK) {
    SendQueue::Pieces pieces =
        limits_.packet_bytes != 0 ? queue_.pending_packet(limits_.packet_bytes) : queue_.pending();
    const ssize_t sent = send_pieces(fd(), pieces);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) break;
      broken_ = why_broken();
      progress = true;
      break;
    }
    progress = true;
    queue_.sent(static_cast<std::size_t>(sent));
    if (static_cast<std::size_t>(sent) < pieces.bytes) break;  // The socket is full.
  }
  const bool left = queue_.published_bytes() != 0 && broken_ == CDMF_OK;
  if (left) {
    refused_bytes_ = queue_.published_bytes();
    refused_time_us_ = wall_clock_us();
  }
  behind_.store(left, std::memory_order_relaxed);
  watch_writable(left);
  if (progress && !waiters_.empty()) {
    const std::uint64_t one = 1;
    for (const int waiter : waiters_) (void)!write(waiter, &one, sizeof one);
  }
  return !left && broken_ == CDMF_OK;
}

/// The peer's last word is in the socket, or in the receiver's buffer, or it died without one.
cdmf_status Link::why_broken() const {
  int waiting = 0;
  if (ioctl(fd(), FIONREAD, &waiting) == 0 && waiting > 0) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(waiting));
    const ssize_t peeked = recv(fd(), bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
    if (peeked > 0) {
      const cdmf_status said = goodbye_at_end(std::span(bytes).first(static_cast<std::size_t>(peeked)));
      if (said != CDMF_OK) return said;
    }
  }
  const cdmf_status read = goodbye_read_.load(std::memory_order_relaxed);
  return read != CDMF_OK ? read : CDMF_PEER_DIED;
}

void Link::watch_writable(bool on) {
  if (on == writable_watched_ || epoll_ < 0) return;
  epoll_event event{};
  event.events = EPOLLIN | (on ? static_cast<std::uint32_t>(EPOLLOUT) : 0u);
  event.data.ptr = this;
  if (epoll_ctl(epoll_, EPOLL_CTL_MOD, fd(), &event) == 0) writable_watched_ = on;
}

void Link::send_rest() {
  const std::lock_guard lock(mutex_);
  transmit();
}

/// A thread that waits for room. Its descriptor is its own, because a shared one that is drained by one of several
/// waiters would leave the others asleep.
class Link::Waiter {
 public:
  explicit Waiter(Link& link) : link_(link), event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (event_) link_.waiters_.push_back(event_.get());
  }
  ~Waiter() { std::erase(link_.waiters_, event_.get()); }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  /// Until the socket may take more, or somebody else changed something. The lock is open meanwhile.
  void wait(std::unique_lock<std::mutex>& lock, std::uint64_t deadline) {
    lock.unlock();
    pollfd wait[3] = {{link_.fd(), POLLOUT, 0}, {event_.get(), POLLIN, 0}, {link_.pidfd_.get(), POLLIN, 0}};
    int timeout_ms = poll_timeout_ms(deadline);
    // Without a descriptor nobody can wake this thread: then it looks every few milliseconds.
    if (!event_ && (timeout_ms < 0 || timeout_ms > 5)) timeout_ms = 5;
    poll(wait, 3, timeout_ms);
    if (wait[1].revents != 0) {
      std::uint64_t count = 0;
      (void)!read(event_.get(), &count, sizeof count);
    }
    lock.lock();
    // Nobody reads any more, though the socket may still be open elsewhere.
    if (wait[2].revents != 0 && link_.broken_ == CDMF_OK) link_.broken_ = link_.why_broken();
  }

 private:
  Link& link_;
  const Fd event_;
};

cdmf_status Link::flush(std::uint64_t deadline) {
  std::unique_lock lock(mutex_);
  if (const cdmf_status status = state(); status != CDMF_OK) return status;
  queue_.publish();
  if (transmit()) return CDMF_OK;
  if (deadline == kNoWait) return state() != CDMF_OK ? state() : CDMF_BUFFER_FULL;
  Waiter waiter(*this);
  for (;;) {
    if (const cdmf_status status = state(); status != CDMF_OK) return status;
    if (queue_.published_bytes() == 0) return CDMF_OK;
    if (monotonic_now_ns() >= deadline) return CDMF_TIMEOUT;
    waiter.wait(lock, deadline);
    transmit();
  }
}

cdmf_status Link::await_space(std::size_t size, std::uint64_t deadline, const std::atomic<std::uint64_t>& interrupts,
                              std::uint64_t interrupts_before) {
  if (size > limits_.frame_size_max) return CDMF_BUFFER_OVERFLOW;
  std::unique_lock lock(mutex_);
  Waiter waiter(*this);
  for (;;) {
    if (const cdmf_status status = state(); status != CDMF_OK) return status;
    if (interrupts.load() != interrupts_before) return CDMF_INTERRUPTED;
    if (queue_.has_room(size)) return CDMF_OK;
    if (deadline == kNoWait || monotonic_now_ns() >= deadline) return CDMF_TIMEOUT;
    waiter.wait(lock, deadline);
    queue_.publish();  // As in claim(): what fills the queue has to leave.
    transmit();
  }
}

void Link::wake_waiters() {
  const std::lock_guard lock(mutex_);
  const std::uint64_t one = 1;
  for (const int waiter : waiters_) (void)!write(waiter, &one, sizeof one);
}

// ---- Receiving ------------------------------------------------------------------------------------------------------

bool Link::watch(int epoll) {
  // For wait_by_reading(); every other call on this socket says MSG_DONTWAIT.
  const timeval patience{0, kReadWaitMs * 1000};
  if (setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 || fcntl(fd(), F_SETFL, 0) != 0) {
    return false;
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = this;
  const std::lock_guard lock(mutex_);
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd(), &event) != 0) return false;
  epoll_ = epoll;
  if (pidfd_) {
    event.data.u64 = reinterpret_cast<std::uintptr_t>(this) + kProcessTag;
    epoll_ctl(epoll, EPOLL_CTL_ADD, pidfd_.get(), &event);  // Without it, the end of the socket still tells.
  }
  return true;
}

void Link::set_process_ended() {
  process_ended_ = true;
  readable_ = true;
  const std::lock_guard lock(mutex_);
  if (epoll_ >= 0) epoll_ctl(epoll_, EPOLL_CTL_DEL, pidfd_.get(), nullptr);  // Readable for ever.
}

std::uint64_t Link::frame_deadline() const noexcept {
  if (stalled_since_ns_ == 0 || limits_.frame_timeout.count() == 0) return kForever;
  return stalled_since_ns_ + static_cast<std::uint64_t>(limits_.frame_timeout.count());
}

void Link::unwatch() {
  const std::lock_guard lock(mutex_);
  if (epoll_ >= 0) {
    epoll_ctl(epoll_, EPOLL_CTL_DEL, fd(), nullptr);
    if (pidfd_) epoll_ctl(epoll_, EPOLL_CTL_DEL, pidfd_.get(), nullptr);
  }
  epoll_ = -1;
}

std::size_t Link::receive(std::span<cdmf_view> views, Burst& burst) {
  std::size_t count = 0;
  const Block* segment = nullptr;  // The block of the burst's last segment, when that is this link's.
  while (count < views.size() && !done_) {
    cdmf_view& view = views[count];
    if (!announced_) {
      announced_ = true;
      view = {};
      view.peer = id_;
      view.kind = CDMF_VIEW_PEER_CONNECTED;
      ++count;
      continue;
    }
    if (const cdmf_status local = local_end_.load(std::memory_order_acquire); local != CDMF_OK) {
      finish(local, view);
      ++count;
      break;
    }
    const Parsed parsed = parse_record(buffer_.unread(), limits_.frame_size_max);
    switch (parsed.kind) {
      case Parsed::Kind::kFrame:
        if (segment != buffer_.block().get()) {
          segment = buffer_.block().get();
          buffer_.block()->pin();
          burst.segments.push_back({buffer_.block(), id_});
        }
        view = {};
        view.frame = parsed.frame.data();
        view.size = parsed.frame.size();
        view.peer = id_;
        view.token = burst.segments.size() - 1;
        view.timestamp_us = parsed.timestamp_us;
        view.kind = CDMF_VIEW_MESSAGE;
        stalled_since_ns_ = 0;
        buffer_.consume(parsed.bytes);
        ++count;
        break;
      case Parsed::Kind::kGoodbye:
        finish(parsed.reason, view);
        ++count;
        break;
      case Parsed::Kind::kViolation:
        finish_with_goodbye(CDMF_PROTOCOL_ERROR, parsed.problem, view);
        ++count;
        break;
      case Parsed::Kind::kIncomplete:
        if (remote_end_ == CDMF_PROTOCOL_ERROR) {
          finish_with_goodbye(remote_end_, "a packet larger than agreed", view);
          ++count;
        } else if (limits_.packet_bytes != 0 && !buffer_.unread().empty()) {
          finish_with_goodbye(CDMF_PROTOCOL_ERROR, "a record cut by the end of its packet", view);
          ++count;
        } else if (remote_end_ != CDMF_OK) {
          finish(remote_end_, view);
          ++count;
        } else if (const bool looked = readable_; !looked || !fill(parsed.bytes, MSG_DONTWAIT)) {
          const cdmf_status end = end_of_silence(looked);
          if (end == CDMF_OK) return count;
          if (end == CDMF_TIMEOUT) {
            finish_with_goodbye(end, "a frame that does not go on (frame_timeout)", view);
          } else {
            finish(end, view);
          }
          ++count;
        }
        break;
    }
  }
  return count;
}

/// Nothing is there to be read, as far as is known, or for sure when the socket was looked at. Why that is the end of
/// the link, or CDMF_OK.
cdmf_status Link::end_of_silence(bool looked) {
  if (process_ended_ && looked) return CDMF_PEER_DIED;
  const std::size_t begun = buffer_.unread().size();
  if (begun == 0) {
    stalled_since_ns_ = 0;
  } else if (limits_.frame_timeout.count() != 0) {
    const std::uint64_t now = monotonic_now_ns();
    if (stalled_since_ns_ == 0 || begun != stalled_bytes_) {  // It moves, however slowly.
      stalled_since_ns_ = now;
      stalled_bytes_ = begun;
    } else if (looked && now >= frame_deadline()) {
      return CDMF_TIMEOUT;
    }
  }
  return CDMF_OK;
}

bool Link::has_more() const noexcept {
  if (readable_ || remote_end_ != CDMF_OK || local_end_.load(std::memory_order_relaxed) != CDMF_OK) return true;
  return parse_record(buffer_.unread(), limits_.frame_size_max).kind != Parsed::Kind::kIncomplete;
}

bool Link::wait_by_reading() { return read_once(0); }
bool Link::read_now() { return read_once(MSG_DONTWAIT); }

bool Link::read_once(int flags) {
  const Parsed parsed = parse_record(buffer_.unread(), limits_.frame_size_max);
  return parsed.kind != Parsed::Kind::kIncomplete || fill(parsed.bytes, flags);
}

/// Reads once. False: there is nothing more now.
bool Link::fill(std::size_t needed, int flags) {
  const bool packets = limits_.packet_bytes != 0;
  const std::size_t unread = buffer_.unread().size();
  std::span<std::byte> room = buffer_.room(packets ? unread + limits_.packet_bytes : needed);
  if (!packets && needed >= kOwnReadBytes) {
    room = room.first(std::min(room.size(), needed - unread + sizeof(RecordHeader)));
  }
  ssize_t count = recv(fd(), room.data(), room.size(), packets ? flags | MSG_TRUNC : flags);
  // A peer that left without reading everything: SEQPACKET says so before what it sent, and once.
  if (packets && count < 0 && errno == ECONNRESET) count = recv(fd(), room.data(), room.size(), flags | MSG_TRUNC);
  if (packets && count > static_cast<ssize_t>(room.size())) {
    remote_end_ = CDMF_PROTOCOL_ERROR;  // Larger than agreed; what did not fit is lost.
    return true;
  }
  if (count > 0) {
    buffer_.filled(static_cast<std::size_t>(count));
    if (const cdmf_status said = goodbye_at_end(buffer_.unread()); said != CDMF_OK) {
      goodbye_read_.store(said, std::memory_order_relaxed);
    }
    // A read that leaves room has emptied the socket, and epoll will say more. Of packets it brings only one.
    readable_ = packets ? flags != 0 : static_cast<std::size_t>(count) == room.size();
    return true;
  }
  if (count < 0 && errno == EINTR) return flags != 0;  // Only a wait ends with a signal.
  if (count < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)) {
    readable_ = false;
    return false;
  }
  remote_end_ = CDMF_PEER_DIED;  // End of file without a goodbye, or a broken connection.
  return true;
}

/// The last view of the link. The reason of this side wins over what the peer said meanwhile.
void Link::finish(cdmf_status reason, cdmf_view& view) {
  std::uint64_t lost = 0;
  // What had arrived from the peer and will not be handed out.
  for (std::span<const std::byte> rest = buffer_.unread();;) {
    const Parsed parsed = parse_record(rest, limits_.frame_size_max);
    if (parsed.kind != Parsed::Kind::kFrame) break;
    ++lost;
    rest = rest.subspan(parsed.bytes);
  }
  unwatch();
  const std::lock_guard lock(mutex_);
  if (const cdmf_status local = local_end_.load(std::memory_order_relaxed); local != CDMF_OK) reason = local;
  ended_ = reason;
  done_ = true;
  lost += queue_.unsent_frames();
  shutdown(fd(), SHUT_RDWR);  // Wakes who waits for room.
  view = {};
  view.peer = id_;
  view.kind = CDMF_VIEW_PEER_DISCONNECTED;
  view.reason = reason;
  view.lost = lost;
}

/// For a peer that broke a rule: it is told, if it listens.
void Link::finish_with_goodbye(cdmf_status reason, const char* problem, cdmf_view& view) {
  problem_ = problem;
  say_goodbye(reason, kNoWait);
  finish(reason, view);
}

// ---- The end --------------------------------------------------------------------------------------------------------

void Link::end(cdmf_status reason, std::uint64_t deadline) {
  if (abandoned_) return;
  {
    const std::lock_guard lock(mutex_);
    if (ended_ != CDMF_OK || local_end_.load(std::memory_order_relaxed) != CDMF_OK) return;
    local_end_.store(reason == CDMF_OK ? CDMF_CONNECTION_CLOSED : reason, std::memory_order_release);
  }
  say_goodbye(reason, deadline);
  shutdown(fd(), SHUT_RDWR);
  wake_waiters();
}

/// Best effort: a peer that does not read learns of the end by the end of file.
void Link::say_goodbye(cdmf_status reason, std::uint64_t deadline) {
  std::unique_lock lock(mutex_);
  while (!transmit() && broken_ == CDMF_OK) {
    if (deadline == kNoWait || monotonic_now_ns() >= deadline) return;  // Inside a frame nothing else may be said.
    lock.unlock();
    pollfd wait{fd(), POLLOUT, 0};
    poll(&wait, 1, poll_timeout_ms(deadline));
    lock.lock();
  }
  RecordHeader goodbye;
  goodbye.kind = RecordKind::kGoodbye;
  goodbye.reason = static_cast<std::uint16_t>(reason == CDMF_OK ? CDMF_CONNECTION_CLOSED : reason);
  while (broken_ == CDMF_OK && ::send(fd(), &goodbye, sizeof goodbye, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    if (errno == EAGAIN && deadline != kNoWait && monotonic_now_ns() < deadline) {
      lock.unlock();
      pollfd wait{fd(), POLLOUT, 0};
      poll(&wait, 1, poll_timeout_ms(deadline));
      lock.lock();
    } else if (errno != EINTR) {
      return;
    }
  }
}

}  // namespace cdmf::ipc::unix_socket
