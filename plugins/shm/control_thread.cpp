#include "control_thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <new>
#include <utility>

#include "inspect/look.h"

namespace cdmf::ipc::shm {
namespace {

constexpr std::uint64_t kStopKey = 0;
constexpr std::uint64_t kListenerKey = 1;
constexpr std::size_t kPendingMax = 256;  // Clients in the middle of their handshake.
constexpr unsigned kAcceptsPerLook = 64;  // Others have their turn between; epoll reports again what is left.
constexpr unsigned kNoticesPerLook = 64;
constexpr std::uint64_t kAcceptPauseNs = 100'000'000;
constexpr std::uint64_t kNoticePauseNs = 10'000'000;
// Clients that come to nothing get a twentieth of a processor, and twenty times that for a moment.
constexpr std::uint64_t kWasteShare = 20;
constexpr std::uint64_t kWasteBurstNs = 1'000'000'000;
constexpr std::uint64_t kWastePauseMaxNs = 1'000'000'000;  // However much one client has cost.
constexpr std::uint64_t kBrokenLinkCostMinNs = 1'000'000;  // Of one whose peer broke the rules: it will be back.
constexpr std::uint64_t kBrokenLinkFactor = 3;    // Of what making it took: it was also served, and taken down.
constexpr std::uint64_t kConnectCostNs = 30'000;  // Of one that says nothing: accepted, watched, logged, closed.

/// What this thread has had of a processor.
std::uint64_t own_cpu_ns() noexcept {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

/// Links of this thread have a socket.
int socket_of(const Link& link) noexcept { return static_cast<const SocketChannel&>(link.channel()).socket(); }

/// What ended a link, as its socket tells; CDMF_OK: it has not ended. floods: there is still more to read.
cdmf_status read_notices(Link& link, bool& rang, bool& floods) noexcept {
  bool closed_once = false;
  for (unsigned count = 0; count < kNoticesPerLook; ++count) {
    Notice notice;
    switch (receive_packet(socket_of(link), &notice, sizeof notice)) {
      case Received::nothing:
        return CDMF_OK;
      case Received::malformed:
        return CDMF_PROTOCOL_ERROR;
      case Received::closed:
        // A reset is reported before what was sent: a goodbye may still be there.
        if (closed_once) return CDMF_PEER_DIED;
        closed_once = true;
        break;
      case Received::packet:
        if (notice.header.magic != kSegmentMagic) return CDMF_PROTOCOL_ERROR;
        if (notice.header.kind == PacketKind::goodbye) {
          return notice.reason > CDMF_OK && notice.reason <= CDMF_INTERNAL_ERROR ? notice.reason
                                                                                 : CDMF_CONNECTION_CLOSED;
        }
        if (notice.header.kind != PacketKind::wake) return CDMF_PROTOCOL_ERROR;
        rang = true;
        break;
    }
  }
  floods = true;
  return CDMF_OK;
}

}  // namespace

bool ControlThread::add_to_epoll(int fd, std::uint64_t key) noexcept {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = key;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

cdmf_status ControlThread::start(int listener, ErrorText& error) {
  listener_ = listener;
  accept_again_at_ = 0;
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  stop_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_ || !stop_ || !add_to_epoll(stop_.get(), kStopKey) ||
      (listener >= 0 && !add_to_epoll(listener, kListenerKey))) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: no descriptors for the control thread");
  }
  // Signals are the application's, on its own threads.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& problem) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return error.fail(CDMF_RESOURCE_EXHAUSTED, problem.code().value(), "shm: the control thread cannot be started");
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return CDMF_OK;
}

void ControlThread::stop() noexcept {
  if (!thread_.joinable()) return;
  signal_fd(stop_.get());
  thread_.join();
  for (auto& [key, client] : clients_) {
    if (client.welcomed) owner_.dismissed(client.terms.id);
  }
  clients_.clear();
  const std::lock_guard lock(links_mutex_);
  links_.clear();
  processes_.clear();
  epoll_.reset();
}

void ControlThread::watch(std::shared_ptr<Link> link, std::uint64_t cost_ns) {
  const std::uint64_t key = next_key_.fetch_add(2, std::memory_order_relaxed);
  Watched watched{link, UniqueFd(), key + 1, cost_ns};
  if (link->terms().peer.pid > 0) {
    // A peer that died before this is noticed by its socket. One whose pid means somebody else by now is dead too,
    // hence the same; a child that keeps the socket open at the same time is beyond what can be told.
    watched.process.reset(static_cast<int>(syscall(SYS_pidfd_open, link->terms().peer.pid, 0)));
  }
  {
    const std::lock_guard lock(links_mutex_);  // Until both are watched: the thread may forget() it at once.
    if (watched.process) {
      processes_.emplace(watched.process_key, key);
      add_to_epoll(watched.process.get(), key + 1);  // Without it the socket tells of most deaths.
    }
    links_.emplace(key, std::move(watched));
    if (add_to_epoll(socket_of(*link), key)) return;
  }
  // Its end would never be noticed. So it ends now.
  host_.log(CDMF_LOG_ERROR, "shm: link ", link->id(), " cannot be watched (errno ", errno,
            ") and is ended; raise fs.epoll.max_user_watches");
  forget(key);
  link->end(CDMF_RESOURCE_EXHAUSTED);
  link->hang_up(CDMF_RESOURCE_EXHAUSTED);
  owner_.kick(link->id());
}

void ControlThread::forget(std::uint64_t key) {
  const std::lock_guard lock(links_mutex_);
  const auto found = links_.find(key);
  if (found == links_.end()) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, socket_of(*found->second.link), nullptr);
  if (found->second.process) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.process.get(), nullptr);
  processes_.erase(found->second.process_key);
  links_.erase(found);
}

void ControlThread::run() {
  pthread_setname_np(pthread_self(), "cdmf-shm");
  for (;;) {
    std::array<epoll_event, 64> events;
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), next_timeout_ms());
    for (int i = 0; i < count; ++i) {
      const std::uint64_t key = events[static_cast<std::size_t>(i)].data.u64;
      if (key == kStopKey) return;
      // An exception here is a lack of memory: it costs the client or the look, not the thread.
      try {
        if (key == kListenerKey) {
          accept_clients();
        } else if (clients_.contains(key)) {
          advance(key);
        } else {
          look_at_link(key);
        }
      } catch (const std::exception& problem) {
        host_.log(CDMF_LOG_ERROR, "shm: control thread: ", problem.what());
      }
    }
    drop_late_clients();
    resume_links();
    if (accept_again_at_ != 0 && monotonic_now_ns() >= accept_again_at_) {
      accept_again_at_ = 0;
      add_to_epoll(listener_, kListenerKey);
    }
  }
}

int ControlThread::next_timeout_ms() const {
  std::uint64_t deadline = accept_again_at_ != 0 ? accept_again_at_ : kForever;
  for (const auto& [key, client] : clients_) deadline = std::min(deadline, client.deadline);
  if (!paused_.empty()) deadline = std::min(deadline, paused_.front().first);
  return poll_timeout_ms(deadline);
}

void ControlThread::accept_clients() {
  for (unsigned count = 0; count < kAcceptsPerLook && accept_again_at_ == 0; ++count) {
    UniqueFd socket(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EAGAIN && errno != EINVAL) {
        // Out of descriptors: the listener stays readable, so that looking at once again would never end.
        host_.log(CDMF_LOG_ERROR, "shm: cannot accept clients (errno ", errno, "); trying again");
        epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_, nullptr);
        accept_again_at_ = monotonic_now_ns() + kAcceptPauseNs;
      }
      return;
    }
    // Keys only grow, so the first has waited longest. A client that means it is done within a millisecond; a flood of
    // such that never finish drives out its own.
    if (clients_.size() >= kPendingMax) give_up(clients_.begin()->first, "to make room for others");
    const std::uint64_t key = next_key_.fetch_add(2, std::memory_order_relaxed);
    const int fd = socket.get();
    PendingClient client;
    client.socket = std::move(socket);
    client.deadline = monotonic_now_ns() + kHandshakeTimeoutNs;
    client.cost_ns = kConnectCostNs;
    clients_.emplace(key, std::move(client));
    if (!add_to_epoll(fd, key)) give_up(key, "as it cannot be watched");
  }
}

void ControlThread::advance(std::uint64_t key) {
  PendingClient& client = clients_.at(key);
  if (!client.welcomed) {
    const std::uint64_t begun = own_cpu_ns();
    const bool stays = welcome(client);
    client.cost_ns += own_cpu_ns() - begun;
    if (!stays) drop_client(key);
    return;
  }
  Ack ack;
  switch (receive_packet(client.socket.get(), &ack, sizeof ack)) {
    case Received::nothing:
      return;
    case Received::packet:
      if (ack.header.magic == kSegmentMagic && ack.header.kind == PacketKind::ack) return finish(key);
      [[fallthrough]];
    case Received::closed:
    case Received::malformed:
      give_up(key, "as it did not acknowledge its link");
  }
}

/// Answers a Hello. False: the client is to be dropped.
bool ControlThread::welcome(PendingClient& client) {
  const int socket = client.socket.get();
  Hello hello;
  const Received received = receive_packet(socket, &hello, sizeof hello, {}, kHelloBytesMin);
  if (received == Received::nothing) return true;
  if (received != Received::packet) {
    complain("shm: a client was dropped, as it ", received == Received::closed ? "left" : "sent something else",
             " where its hello was due");
    return false;
  }
  if (hello.header.magic == kSegmentMagic && hello.header.kind == PacketKind::look) {
    answer_look(socket, hello.header, [this](UniqueFd& page, ErrorText& error) { return owner_.report(page, error); });
    return false;
  }

  cdmf_error text{};
  text.struct_size = sizeof text;
  ErrorText error(&text);
  Welcome answer;
  // Version 1.0 takes no other.
  const std::size_t answer_bytes = hello.header.minor == 0 ? kWelcomeBytesMin : sizeof answer;
  UniqueFd memory;
  PeerCredentials peer;
  cdmf_status status = peer_credentials(socket, peer) ? CDMF_OK : CDMF_PERMISSION_DENIED;
  if (status == CDMF_OK && !access_.admits(peer.uid)) {
    status = error.fail(CDMF_PERMISSION_DENIED, 0, "shm: the server runs as user ", geteuid(),
                        " and does not serve user ", peer.uid, "; list it in the server's 'allow_uids'");
  }
  if (status == CDMF_OK) status = check_header(hello.header, PacketKind::hello, "client", error);
  const LinkRequest request{hello.may_sleep != 0, hello.only_cpu, hello.frame_size_max, hello.ring_bytes};
  if (status == CDMF_OK) status = owner_.admit(request, peer, client.terms, error);
  const bool admitted = status == CDMF_OK;
  SegmentPlan& plan = client.terms.plan;
  if (status == CDMF_OK) {
    plan.minor = std::min<std::uint32_t>(hello.header.minor, kVersionMinor);
    plan.features = hello.features & kSocketFeaturesKnown;
    plan.generation = ++generation_;
    const EndFacts own{.pid = getpid(), .may_sleep = may_sleep_ ? 1u : 0u, .only_cpu = only_cpu()};
    const EndFacts its{peer.pid, hello.header.minor, hello.may_sleep, hello.only_cpu};
    status = Segment::create(plan, own, its, client.segment, memory, error);
  }
  if (status == CDMF_OK) {
    client.own_bell.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    client.peer_bell.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!client.own_bell || !client.peer_bell) {
      status = error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: the server has no descriptors left");
    }
  }
  if (status != CDMF_OK) {
    if (admitted) owner_.dismissed(client.terms.id);
    complain("shm: client with pid ", peer.pid, " refused: ", text.message);
    owner_.refused(status, text.message);
    answer.status = status;
    std::snprintf(answer.text, sizeof answer.text, "%.*s", static_cast<int>(sizeof answer.text - 1), text.message);
    send_packet(socket, &answer, answer_bytes);
    return false;
  }
  answer.may_sleep = may_sleep_ ? 1 : 0;
  answer.only_cpu = only_cpu();
  answer.ring_capacity = plan.ring_capacity;
  answer.slot_size = plan.slot_size;
  answer.bidirectional = plan.bidirectional ? 1 : 0;
  answer.checksum = plan.checksum ? 1 : 0;
  answer.frame_size_max = plan.frame_size_max;
  answer.features = plan.features;
  std::array<int, kWelcomeFdCount> fds{};
  fds[kSegmentFd] = memory.get();
  fds[kServerBellFd] = client.own_bell.get();
  fds[kClientBellFd] = client.peer_bell.get();
  client.welcomed = true;  // From here on, dropping it gives its id back.
  client.deadline = monotonic_now_ns() + kHandshakeTimeoutNs;
  return send_packet(socket, &answer, answer_bytes, fds);
}

void ControlThread::finish(std::uint64_t key) {
  auto node = clients_.extract(key);
  PendingClient& client = node.mapped();
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, client.socket.get(), nullptr);
  std::shared_ptr<Link> link;
  try {
    link = std::make_shared<Link>(client.terms, std::move(client.segment),
                                  std::make_unique<SocketChannel>(std::move(client.socket)), std::move(client.own_bell),
                                  std::move(client.peer_bell));
  } catch (...) {  // No memory.
    owner_.dismissed(client.terms.id);
    throw;
  }
  owner_.connected(link);  // Before its end can be noticed.
  watch(std::move(link), client.cost_ns);
}

void ControlThread::give_up(std::uint64_t key, const char* why) {
  complain("shm: a client was dropped in its handshake, ", why);
  drop_client(key);
}

void ControlThread::drop_client(std::uint64_t key) {
  const auto found = clients_.find(key);
  if (found->second.welcomed) owner_.dismissed(found->second.terms.id);
  waste(found->second.cost_ns);
  // Closing is not enough: a child of fork() may have a copy of the socket, and epoll would go on reporting it.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.socket.get(), nullptr);
  clients_.erase(found);
}

/// Time went into a client that came to nothing. When that becomes too much, accepting pauses: a flood of such would
/// otherwise take a whole processor from the application. Clients that become links are not charged, unless their peer
/// broke the rules.
void ControlThread::waste(std::uint64_t cost_ns) {
  const std::uint64_t now = monotonic_now_ns();
  wasted_until_ = std::max(wasted_until_, now > kWasteBurstNs ? now - kWasteBurstNs : 0) + cost_ns * kWasteShare;
  wasted_until_ = std::min(wasted_until_, now + kWastePauseMaxNs);
  if (wasted_until_ <= now || accept_again_at_ != 0 || listener_ < 0) return;
  if (std::uint64_t left_out = 0; slow_downs_.allows(now, left_out)) {
    host_.log(CDMF_LOG_WARNING, "shm: too many clients come to nothing; for ", (wasted_until_ - now) / 1'000'000,
              " ms all have to wait");
  }
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_, nullptr);
  accept_again_at_ = wasted_until_;
}

/// Its peer sends notices faster than any that means them. HUP is still reported.
void ControlThread::pause_link(std::uint64_t key) noexcept {
  try {
    paused_.emplace_back(monotonic_now_ns() + kNoticePauseNs, key);
  } catch (const std::bad_alloc&) {
    return;
  }
  const std::lock_guard lock(links_mutex_);
  epoll_event event{};
  event.data.u64 = key;
  if (const auto found = links_.find(key); found != links_.end()) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, socket_of(*found->second.link), &event);
  }
}

void ControlThread::resume_links() noexcept {
  if (paused_.empty()) return;
  const std::uint64_t now = monotonic_now_ns();
  for (; !paused_.empty() && paused_.front().first <= now; paused_.pop_front()) {
    const std::lock_guard lock(links_mutex_);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = paused_.front().second;
    if (const auto found = links_.find(event.data.u64); found != links_.end()) {
      epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, socket_of(*found->second.link), &event);
    }
  }
}

void ControlThread::drop_late_clients() {
  if (clients_.empty()) return;
  const std::uint64_t now = monotonic_now_ns();
  for (auto next = clients_.begin(); next != clients_.end();) {
    const auto current = next++;
    if (now < current->second.deadline) continue;
    give_up(current->first, "as it did not finish in time");
  }
}

void ControlThread::look_at_link(std::uint64_t key) {
  std::shared_ptr<Link> link;
  std::uint64_t cost_ns = 0;
  bool process_ended = false;
  {
    const std::lock_guard lock(links_mutex_);
    if (const auto process = processes_.find(key); process != processes_.end()) {
      process_ended = true;
      key = process->second;
    }
    const auto found = links_.find(key);
    if (found == links_.end()) return;  // Ended by an earlier event of the same round.
    link = found->second.link;
    cost_ns = found->second.cost_ns;
  }
  bool rang = false;
  bool floods = false;
  cdmf_status reason = read_notices(*link, rang, floods);
  if (floods) pause_link(key);
  if (reason == CDMF_OK && process_ended) reason = CDMF_PEER_DIED;
  if (reason == CDMF_OK) {
    if (rang) owner_.kick(link->id());
    return;
  }
  forget(key);
  if (link->end(reason)) {
    if (reason == CDMF_PROTOCOL_ERROR) {
      complain("shm: link to peer ", link->id(), " (pid ", link->terms().peer.pid,
               ") is broken: what it sent over the socket is no notice");
    } else {
      host_.log(CDMF_LOG_DEBUG, "shm: link ", link->id(), " ended, reason ", reason);
    }
  }
  if (link->ended() == CDMF_PROTOCOL_ERROR) waste(std::max(kBrokenLinkCostMinNs, kBrokenLinkFactor * cost_ns));
  link->hang_up(reason);
  owner_.kick(link->id());
}

}  // namespace cdmf::ipc::shm
