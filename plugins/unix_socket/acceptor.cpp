#include "acceptor.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "handshake.h"

namespace cdmf::ipc::unix_socket {

int Acceptor::start() {
  stop_event_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event_) return errno;
  reserve_ = Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  // The program's signal handlers must not find themselves on a thread it does not know of.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int problem = 0;
  try {
    thread_ = std::thread([this] { run(); });
    pthread_setname_np(thread_.native_handle(), "cdmf-accept");
  } catch (const std::system_error& thrown) {
    problem = thrown.code().value();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return problem;
}

void Acceptor::stop() noexcept {
  if (thread_.joinable()) {
    const std::uint64_t one = 1;
    (void)!write(stop_event_.get(), &one, sizeof one);
    thread_.join();
  }
  guests_.clear();
  listening_.close();
}

void Acceptor::abandon() noexcept {
  if (thread_.joinable()) thread_.detach();
  listening_.close();
}

void Acceptor::run() {
  std::vector<pollfd> waits;
  for (;;) {
    waits.clear();
    waits.push_back({stop_event_.get(), POLLIN, 0});
    const bool accepting = guests_.size() < kGuestsMax;  // The others wait in the kernel's backlog.
    waits.push_back({accepting ? listening_.fd() : -1, POLLIN, 0});
    std::uint64_t deadline = kForever;
    for (const Guest& guest : guests_) {
      waits.push_back({guest.socket.get(), POLLIN, 0});
      deadline = std::min(deadline, guest.deadline_ns);
    }
    if (poll(waits.data(), waits.size(), poll_timeout_ms(deadline)) < 0 && errno != EINTR) {
      host_.log(CDMF_LOG_ERROR, address_, ": poll failed with errno ", errno, "; no further clients are accepted");
      return;
    }
    if (waits[0].revents != 0) return;
    std::erase_if(guests_, [this](Guest& guest) { return !keep_waiting(guest); });
    if (waits[1].revents != 0) accept_some();
  }
}

void Acceptor::accept_some() {
  while (guests_.size() < kGuestsMax) {
    Fd socket(accept4(listening_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EMFILE || errno == ENFILE) {
        turn_one_away();
      } else if (errno != EAGAIN) {
        pause();  // The kernel has no memory. The client is still there, and the socket still readable.
      }
      return;
    }
    out_of_descriptors_ = false;
    const PeerIdentity identity = peer_identity(socket.get());
    if (const cdmf_status status = judge(identity); status != CDMF_OK) {
      Hello refusal;
      refusal.status = status;
      refusal.pid = static_cast<std::uint32_t>(getpid());
      answer(socket.get(), refusal);
      continue;
    }
    const auto patience = static_cast<std::uint64_t>(rules_.handshake_timeout.count());
    guests_.push_back({std::move(socket), identity, monotonic_now_ns() + patience, Hello{}, 0});
  }
}

/// Before a word was said: CDMF_OK, or why not.
cdmf_status Acceptor::judge(const PeerIdentity& identity) const {
  if (!rules_.access.admits(identity.uid)) {
    host_.log(CDMF_LOG_WARNING, address_, ": refused a client of user ", identity.uid,
              ": only this user, root and those of allow_uids may come in");
    return CDMF_PERMISSION_DENIED;
  }
  if (identity.uid == geteuid() || identity.uid == 0) return CDMF_OK;
  const auto same = std::count_if(guests_.begin(), guests_.end(),
                                  [&](const Guest& guest) { return guest.identity.uid == identity.uid; });
  return static_cast<std::size_t>(same) < kGuestsOfOneUserMax ? CDMF_OK : CDMF_RESOURCE_EXHAUSTED;
}

/// Something is short that time may bring back. Its return is worth a short wait, not a spin.
void Acceptor::pause() const {
  pollfd stop{stop_event_.get(), POLLIN, 0};
  poll(&stop, 1, 10);
}

/// Without this the listening socket would stay readable, and this thread would spin.
void Acceptor::turn_one_away() {
  if (!std::exchange(out_of_descriptors_, true)) {
    host_.log(CDMF_LOG_ERROR, address_, ": no descriptor left, clients are turned away; raise `ulimit -n`");
  }
  reserve_.reset();
  Fd socket(accept4(listening_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket) {
    Hello refusal;
    refusal.status = CDMF_RESOURCE_EXHAUSTED;
    refusal.pid = static_cast<std::uint32_t>(getpid());
    answer(socket.get(), refusal);
  } else {
    pause();  // Another thread took the descriptor first.
  }
  socket.reset();  // Its number is what the reserve takes.
  reserve_ = Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

/// False: the guest is through, or gone.
bool Acceptor::keep_waiting(Guest& guest) {
  auto* const bytes = reinterpret_cast<std::byte*>(&guest.hello);
  while (guest.received < sizeof guest.hello) {
    // Not one byte more than the hello: what follows belongs to the link.
    const ssize_t count =
        recv(guest.socket.get(), bytes + guest.received, sizeof guest.hello - guest.received, MSG_DONTWAIT);
    if (count > 0) {
      guest.received += static_cast<std::size_t>(count);
    } else if (count < 0 && errno == EINTR) {
      continue;
    } else if (count < 0 && errno == EAGAIN) {
      if (monotonic_now_ns() < guest.deadline_ns) return true;
      host_.log(CDMF_LOG_WARNING, address_, ": dropped a client that did not say hello in time");
      return false;
    } else {
      return false;
    }
  }
  finish_handshake(guest);
  return false;
}

void Acceptor::finish_handshake(Guest& guest) {
  Hello reply;
  if (!answer_hello(guest.hello, rules_.frame_size_max, reply)) {
    host_.log(CDMF_LOG_WARNING, address_, ": dropped a client that speaks another protocol");
    return;
  }
  if (reply.status == CDMF_OK && !reception_.has_room(guest.identity.uid)) reply.status = CDMF_RESOURCE_EXHAUSTED;
  answer(guest.socket.get(), reply);
  if (reply.status == CDMF_OK) {
    reception_.welcome(std::move(guest.socket), guest.identity);
  } else {
    host_.log(CDMF_LOG_WARNING, address_, ": refused the client of process ", guest.hello.pid, " with status ",
              reply.status);
  }
}

void Acceptor::answer(int socket, const Hello& hello) {
  // A fresh socket has room for it; a client that is gone already does not miss it.
  (void)!send(socket, &hello, sizeof hello, MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace cdmf::ipc::unix_socket
