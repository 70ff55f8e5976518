#include "object_rendezvous.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "inspect/observer_notes.h"
#include "wait/bell.h"
#include "wait/futex.h"

namespace cdmf::ipc::shm {
namespace {

constexpr std::uint64_t kLookAgainNs = 1'000'000;     // A client between two generations.
constexpr std::uint64_t kAnswerSliceNs = 20'000'000;  // How often a client that asks looks whether its server lives.
constexpr std::uint64_t kFirstLookNs = 1'000'000;
constexpr std::uint64_t kLastLookNs = 64'000'000;
constexpr int kReleaseLooks = 100;
constexpr std::uint64_t kReleaseLookNs = 100'000;
constexpr std::uint64_t kPublishPauseNs = 100'000'000;
// Segments that came to nothing are made at once for so long, and then take a twentieth of the time.
constexpr std::uint64_t kWasteBurstNs = 50'000'000;
constexpr std::uint64_t kWasteShare = 20;

constexpr std::size_t kSuffixBytes = sizeof "sem._tx.next";  // What semaphores and replacements add to a name.

void sleep_ns(std::uint64_t ns) noexcept {
  const timespec pause{0, static_cast<long>(ns)};
  nanosleep(&pause, nullptr);
}

/// Whose process that is, as far as this process can see.
PeerCredentials credentials_of(std::int32_t pid) noexcept {
  struct stat info {};
  const std::string path = "/proc/" + std::to_string(pid);
  return {pid, stat(path.c_str(), &info) == 0 ? info.st_uid : geteuid()};
}

/// Whether the two of a link can be what the segment says, so that nothing that follows need ask again.
cdmf_status read_plan(const SharedObject& object, std::uint64_t frame_size_max, SegmentPlan& plan, ErrorText& error) {
  const SegmentHeader header = object.control->header;  // Once: its maker could change it between two looks.
  const std::string& name = object.segment.name();
  if (header.version != kVersionMajor) {
    return error.fail(CDMF_VERSION_MISMATCH, 0, "shm: object ", name, " has layout ", header.version, '.', header.minor,
                      ", this side works with ", kVersionMajor, '.', kVersionMinor,
                      "; use the same release on both sides");
  }
  if (!Segment::read_plan(header, object.segment.size(), plan)) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: object ", name, " says rings of ", plan.ring_bytes(),
                      " bytes for frames of ", plan.frame_size_max, " and has ", object.segment.size() - kRingsOffset,
                      " bytes for them, which cannot be");
  }
  if (frame_size_max > plan.frame_size_max) {
    return error.fail(CDMF_INVALID_CONFIG, 0, "shm: this client wants max_message_size ",
                      frame_size_max - CDMF_FRAME_OVERHEAD_MAX, ", the server of ", name, " allows ",
                      plan.frame_size_max - CDMF_FRAME_OVERHEAD_MAX, "; lower the one or raise the other");
  }
  return CDMF_OK;
}

}  // namespace

ObjectRendezvous::ObjectRendezvous(const Options& options, Owner& owner, PluginHost host)
    : options_(options), owner_(owner), host_(host) {}

EndFacts ObjectRendezvous::own_facts() const {
  return {.pid = getpid(), .may_sleep = options_.may_sleep() ? 1u : 0u, .only_cpu = only_cpu()};
}

std::unique_ptr<Channel> ObjectRendezvous::channel_to(const std::shared_ptr<SharedObject>& object) {
  return std::make_unique<ObjectChannel>(object, options_.is_server, wake_);
}

// ---- Life

cdmf_status ObjectRendezvous::open(ErrorText& error) {
  if (const cdmf_status status = object_name(options_.endpoint.c_str(), kSuffixBytes, name_, error);
      status != CDMF_OK) {
    return status;
  }
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  inotify_.reset(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify_) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno,
                      "shm: no inotify instance is left for this user; raise fs.inotify.max_user_instances");
  }
  wake_ = std::make_shared<UniqueFd>(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const auto add = [&](int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    return fd >= 0 && epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  };
  if (!add(wake_->get()) || !add(inotify_.get())) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: no descriptors for endpoint ", name_);
  }
  if (options_.is_server) {
    if (const cdmf_status status = publish(error); status != CDMF_OK) return status;
  }
  stops_.store(false, std::memory_order_relaxed);
  // Signals are the application's, on its own threads.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  cdmf_status status = CDMF_OK;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& problem) {
    object_.reset();
    status = error.fail(CDMF_RESOURCE_EXHAUSTED, problem.code().value(), "shm: the control thread cannot be started");
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return status;
}

void ObjectRendezvous::close() noexcept {
  if (thread_.joinable()) {
    stops_.store(true, std::memory_order_relaxed);
    signal_fd(wake_->get());
    thread_.join();
  }
  // Links keep the object until they hang up.
  unwatch();
  link_.reset();
  object_.reset();
  attaching_.reset();
}

void ObjectRendezvous::run() {
  pthread_setname_np(pthread_self(), "cdmf-shm");
  while (!stops_.load(std::memory_order_relaxed)) {
    std::array<epoll_event, 4> events;
    const std::uint64_t next = std::min(publish_again_at_ != 0 ? publish_again_at_ : kForever, look_again_at_);
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), poll_timeout_ms(next));
    Events heard;
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == inotify_.get()) {
        heard = take_events();
      } else if (fd == wake_->get()) {
        std::uint64_t times;
        [[maybe_unused]] const ssize_t got = read(fd, &times, sizeof times);
      } else {
        // The process that has the peer's number has ended. If that was not the peer, its lock says so.
        epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
      }
    }
    // The kernel tells of a close a moment before it drops the locks: look some more times, further and further apart.
    if (heard.closed) look_pause_ns_ = kFirstLookNs;
    look_again_at_ = look_pause_ns_ != 0 ? monotonic_now_ns() + look_pause_ns_ : kForever;
    look_pause_ns_ = look_pause_ns_ < kLastLookNs ? 2 * look_pause_ns_ : 0;
    // An exception here is a lack of memory: it costs the look, not the thread.
    try {
      const std::lock_guard lock(mutex_);
      look(heard.rang);
      if (notes_due_.exchange(false, std::memory_order_acquire)) write_notes();
    } catch (const std::exception& problem) {
      host_.log(CDMF_LOG_ERROR, "shm: control thread: ", problem.what());
    }
  }
}

void ObjectRendezvous::tell_observers() noexcept {
  if (options_.is_server && !notes_due_.exchange(true, std::memory_order_release)) signal_fd(wake_->get());
}

/// For observers (inspect/observer_notes.h), in the segment that there is now.
void ObjectRendezvous::write_notes() {
  if (!object_ || publish_again_at_ != 0) return;  // The next one gets them.
  Snapshot seen;
  owner_.observe(seen);
  shm::write_notes(reinterpret_cast<std::byte*>(object_->control), seen, link_ ? link_->id() : CDMF_NO_PEER);
}

// ---- Events

bool ObjectRendezvous::watch_object() noexcept {
  const std::string itself = "/proc/self/fd/" + std::to_string(object_->segment.fd());
  const std::uint32_t ring = options_.is_server ? IN_ATTRIB : IN_MODIFY;
  object_watch_ = inotify_add_watch(inotify_.get(), itself.c_str(), IN_CLOSE_WRITE | ring);
  return object_watch_ >= 0;
}

/// Only a second way to hear of a death, so that it may fail.
void ObjectRendezvous::watch_process(std::int32_t pid) noexcept {
  if (pid <= 0) return;
  process_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process_) return;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = process_.get();
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, process_.get(), &event);
}

void ObjectRendezvous::unwatch() noexcept {
  if (object_watch_ >= 0) inotify_rm_watch(inotify_.get(), object_watch_);
  object_watch_ = -1;
  process_.reset();  // Leaves the epoll set: nobody else has this descriptor.
}

ObjectRendezvous::Events ObjectRendezvous::take_events() {
  Events heard;
  alignas(inotify_event) std::array<char, 4096> bytes;
  ssize_t size;
  while ((size = read(inotify_.get(), bytes.data(), bytes.size())) > 0) {
    for (ssize_t at = 0; at < size;) {
      const auto* const event = reinterpret_cast<const inotify_event*>(bytes.data() + at);
      // More events than the kernel keeps: anything may have been among them.
      const bool overflowed = (event->mask & IN_Q_OVERFLOW) != 0;
      heard.rang = heard.rang || overflowed || (event->mask & (IN_ATTRIB | IN_MODIFY)) != 0;
      heard.closed = heard.closed || overflowed || (event->mask & IN_CLOSE_WRITE) != 0;
      at += static_cast<ssize_t>(sizeof *event + event->len);
    }
  }
  return heard;
}

void ObjectRendezvous::look(bool rang) {
  if (publish_again_at_ != 0 && monotonic_now_ns() >= publish_again_at_) publish_or_try_later();
  if (!object_) return;
  if (!link_) {
    if (options_.is_server && publish_again_at_ == 0) answer();
    // Removed, which rings like a client: nobody would find the server any more.
    if (options_.is_server && publish_again_at_ == 0 && !link_ && !object_->segment.has_its_name()) {
      publish_or_try_later();
    }
    return;
  }
  if (const cdmf_status reason = end_of_link(); reason != CDMF_OK) {
    end_link(reason);
  } else if (rang) {
    owner_.kick(link_->id());
  }
}

/// What ended the link; CDMF_OK: it has not ended.
cdmf_status ObjectRendezvous::end_of_link() const {
  if (const cdmf_status ended = link_->ended(); ended != CDMF_OK) return ended;
  const bool alive =
      options_.is_server ? object_->segment.is_locked_by_another(kClientLock) : object_->segment.is_held_by_another();
  // After the lock: what a peer says before it goes is there when its lock is free.
  const SegmentEnd& peer = options_.is_server ? object_->control->client : object_->control->server;
  const std::int32_t goodbye = peer.goodbye.load(std::memory_order_acquire);
  if (goodbye > CDMF_OK && goodbye <= CDMF_INTERNAL_ERROR) return goodbye;
  if (goodbye != CDMF_OK) return CDMF_CONNECTION_CLOSED;
  return alive ? CDMF_OK : CDMF_PEER_DIED;
}

void ObjectRendezvous::end_link(cdmf_status reason) {
  const std::shared_ptr<Link> link = std::move(link_);
  link_.reset();
  unwatch();
  if (link->end(reason)) host_.log(CDMF_LOG_DEBUG, "shm: link ", link->id(), " ended, reason ", reason);
  link->hang_up(reason);
  owner_.kick(link->id());
  if (options_.is_server) {
    publish_or_try_later();
  } else {
    // A process that dies drops its locks one by one. What it still has when we let go would keep its name.
    for (int look = 0; reason == CDMF_PEER_DIED && look < kReleaseLooks && object_->is_held_by_another(); ++look) {
      sleep_ns(kReleaseLookNs);
    }
    object_.reset();
  }
}

// ---- The server

/// Puts a fresh segment in the place of the one before, if any.
cdmf_status ObjectRendezvous::publish(ErrorText& error) {
  SegmentPlan plan = options_.plan;
  plan.generation = ++generation_;
  if (options_.wait == WaitMode::semaphore) plan.features |= kFeatureSemaphores;
  auto made = std::make_shared<SharedObject>();
  const cdmf_status status =
      SharedObject::create(name_, options_.access, plan, own_facts(), object_.get(), *made, error);
  if (status != CDMF_OK) return status;
  unwatch();
  object_ = std::move(made);
  if (!watch_object()) {
    const int problem = errno;
    object_.reset();
    return error.fail(CDMF_RESOURCE_EXHAUSTED, problem, "shm: object ", name_,
                      " cannot be watched; raise fs.inotify.max_user_watches");
  }
  write_notes();
  return CDMF_OK;
}

void ObjectRendezvous::publish_or_try_later() {
  cdmf_error text{};
  text.struct_size = sizeof text;
  ErrorText error(&text);
  const std::uint64_t began = monotonic_now_ns();
  // Whoever asks and does not come, or removes the name, as fast as it can, would have us make segments all the time.
  if (!had_link_ && began < wasted_until_) {
    publish_again_at_ = wasted_until_;
    return;
  }
  publish_again_at_ = 0;
  const bool wasted = !std::exchange(had_link_, false);
  const cdmf_status status = publish(error);
  const std::uint64_t now = monotonic_now_ns();
  if (status == CDMF_OK) {
    if (wasted) wasted_until_ = std::max(wasted_until_, began - kWasteBurstNs) + (now - began) * kWasteShare;
    answer();  // Somebody may have asked before it was watched,
    const bool waits = publish_again_at_ == 0 && !link_;
    if (waits && !object_->segment.has_its_name()) publish_again_at_ = now + kPublishPauseNs;  // or removed it.
    return;
  }
  if (std::uint64_t left_out = 0; complaints_.allows(now, left_out)) {
    host_.log(CDMF_LOG_ERROR, "no client can connect; trying again: ", text.message, " (", left_out,
              " lines left out before)");
  }
  publish_again_at_ = now + kPublishPauseNs;
}

/// Looks whether a client asks for the link.
void ObjectRendezvous::answer() {
  SegmentControl& control = *object_->control;
  const std::uint32_t stage = control.client.stage.load(std::memory_order_acquire);  // ASKED
  const std::int32_t goodbye = control.client.goodbye.load(std::memory_order_acquire);
  if (stage == 0 && goodbye == CDMF_OK) return;
  // It asked and died, or gave up, or wrote what no client does: this segment is used.
  if (stage != kAsks || goodbye != CDMF_OK || !object_->segment.is_locked_by_another(kClientLock)) {
    return publish_or_try_later();
  }
  const EndFacts facts = control.client.facts;
  const PeerCredentials peer = credentials_of(facts.pid);
  LinkTerms terms;
  cdmf_error text{};
  text.struct_size = sizeof text;
  ErrorText error(&text);
  const LinkRequest request{.may_sleep = facts.may_sleep != 0, .only_cpu = facts.only_cpu};
  if (const cdmf_status refusal = owner_.admit(request, peer, terms, error); refusal != CDMF_OK) {
    host_.log(CDMF_LOG_WARNING, "shm: client with pid ", facts.pid, " refused: ", text.message);
    owner_.refused(refusal, text.message);
    control.server.stage.store(kRefused, std::memory_order_release);  // ANSWERED
    futex_wake_all(control.server.stage);
    return publish_or_try_later();
  }
  terms.plan.minor = std::min(facts.minor, kVersionMinor);
  terms.plan.generation = generation_;
  std::shared_ptr<Link> link;
  try {
    auto channel = channel_to(object_);
    link = std::make_shared<Link>(terms, Segment::adopt(object_->segment.take_mapping(), terms.plan),
                                  std::move(channel), UniqueFd(), UniqueFd());
  } catch (...) {  // No memory.
    owner_.dismissed(terms.id);
    throw;
  }
  link_ = link;
  had_link_ = true;
  watch_process(facts.pid);
  // The client first: what our sender flushes from here on is the client's to read, also if this process dies now.
  control.server.stage.store(kStands, std::memory_order_release);  // ANSWERED
  futex_wake_all(control.server.stage);
  try {
    owner_.connected(std::move(link));  // Before its end can be noticed.
  } catch (...) {                       // No memory.
    end_link(CDMF_RESOURCE_EXHAUSTED);
    throw;
  }
  write_notes();
  look(false);  // It may have died before its process was watched.
}

// ---- The client

cdmf_status ObjectRendezvous::attach(std::uint64_t deadline, Attached& attached, ErrorText& error) {
  {
    // A link that this side ended itself may still be in the way.
    const std::lock_guard lock(mutex_);
    if (link_ && link_->ended() != CDMF_OK) end_link(link_->ended());
  }
  auto object = std::make_shared<SharedObject>();
  SegmentPlan plan;
  if (const cdmf_status status = open_object(deadline, *object, plan, error); status != CDMF_OK) return status;
  if (const cdmf_status status = ask(deadline, *object, error); status != CDMF_OK) return status;
  const EndFacts server = object->control->server.facts;
  attached.terms = {.peer_may_sleep = server.may_sleep != 0,
                    .peer_only_cpu = server.only_cpu,
                    .plan = plan,
                    .peer = {server.pid, object->segment.owner()},
                    .memory = {}};
  attached.channel = channel_to(object);
  attached.segment = Segment::adopt(object->segment.take_mapping(), plan);
  const std::lock_guard lock(mutex_);
  attaching_ = std::move(object);
  return CDMF_OK;
}

/// A segment that waits for its client, with the client's lock taken.
cdmf_status ObjectRendezvous::open_object(std::uint64_t deadline, SharedObject& object, SegmentPlan& plan,
                                          ErrorText& error) {
  for (;;) {
    if (const cdmf_status status = SharedObject::open(name_, options_.access, object, error); status != CDMF_OK) {
      return status;
    }
    if (const cdmf_status status = read_plan(object, options_.plan.frame_size_max, plan, error); status != CDMF_OK) {
      return status;
    }
    SegmentControl& control = *object.control;
    // Not locked when somebody has asked before: the server would take us for the one who did.
    const bool used = control.client.stage.load(std::memory_order_acquire) != 0;
    const bool locked = !used && object.segment.try_lock(kClientLock);
    if (locked && control.client.stage.load(std::memory_order_acquire) == 0) break;
    const bool taken = used ? object.segment.is_locked_by_another(kClientLock) : !locked;
    const bool ended = control.client.goodbye.load(std::memory_order_acquire) != CDMF_OK ||
                       control.server.goodbye.load(std::memory_order_acquire) != CDMF_OK;
    if (taken && !ended && object.segment.has_its_name()) {
      return error.fail(CDMF_ENDPOINT_IN_USE, 0, "shm: object ", name_, " has its client already (pid ",
                        control.client.facts.pid,
                        "); with 'segment: posix' a server has one at a time, with "
                        "'segment: memfd' many");
    }
    // Used: the server is about to put the next one in its place.
    object = SharedObject();
    if (deadline != kForever && monotonic_now_ns() >= deadline) {
      return error.fail(CDMF_TIMEOUT, 0, "shm: the server of ", name_, " has not let go of its former client yet");
    }
    sleep_ns(kLookAgainNs);
  }
  const bool has_semaphores = (plan.features & kFeatureSemaphores) != 0;
  if (options_.wait == WaitMode::semaphore && !has_semaphores) {
    return error.fail(CDMF_INVALID_CONFIG, 0, "shm: the server of ", name_,
                      " has made no semaphores; set 'wait: semaphore' on both sides, or another 'wait' on this one");
  }
  return has_semaphores ? object.open_semaphores(error) : CDMF_OK;
}

cdmf_status ObjectRendezvous::ask(std::uint64_t deadline, SharedObject& object, ErrorText& error) {
  SegmentControl& control = *object.control;
  control.client.facts = own_facts();
  control.client.stage.store(kAsks, std::memory_order_release);  // ASKED
  futimens(object.segment.fd(), nullptr);                        // The client's ring; see object_channel.cpp.
  std::uint32_t stage;
  while ((stage = control.server.stage.load(std::memory_order_acquire)) == 0) {  // ANSWERED
    if (!object.segment.is_held_by_another()) {
      // It may have answered, sent and died since the look at its answer: then there is a link, with what it sent.
      if ((stage = control.server.stage.load(std::memory_order_acquire)) != 0) break;  // ANSWERED
      return error.fail(CDMF_CONNECTION_FAILED, 0, "shm: the server of ", name_, " died before it answered");
    }
    const std::uint64_t now = monotonic_now_ns();
    if (deadline != kForever && now >= deadline) {
      return error.fail(CDMF_TIMEOUT, 0, "shm: the server of ", name_, " did not answer in time");
    }
    futex_wait(control.server.stage, 0, std::min(deadline, now + kAnswerSliceNs));
  }
  if (stage != kStands) {
    return error.fail(CDMF_CONNECTION_FAILED, 0, "shm: the server of ", name_, " refused; its log says why");
  }
  return CDMF_OK;
}

void ObjectRendezvous::watch(std::shared_ptr<Link> link) {
  {
    const std::lock_guard lock(mutex_);
    object_ = std::move(attaching_);
    link_ = std::move(link);
    if (!watch_object()) {
      host_.log(CDMF_LOG_WARNING, "shm: object ", name_, " cannot be watched (errno ", errno,
                "); raise fs.inotify.max_user_watches. The server's death is noticed, its ring is not");
    }
    watch_process(object_->control->server.facts.pid);
  }
  signal_fd(wake_->get());  // What happened before it was watched.
}

}  // namespace cdmf::ipc::shm
