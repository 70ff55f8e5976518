#pragma once
// control_thread.h: the one thread of a driver with sockets. It accepts clients, shakes hands with them, and notices
// the end of links, off the data path; it never touches a ring.
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "handshake.h"
#include "link.h"
#include "log_limit.h"
#include "rendezvous.h"
#include "segment/access.h"
#include "segment/endpoint.h"
#include "segment/unique_fd.h"

namespace cdmf::ipc::shm {

/// A client that has not finished its handshake.
struct PendingClient {
  UniqueFd socket;
  std::uint64_t deadline = 0;
  std::uint64_t cost_ns = 0;  // Time spent on it so far.
  bool welcomed = false;      // Waiting for its Ack; the rest is set then.
  LinkTerms terms;
  Segment segment;
  UniqueFd own_bell;
  UniqueFd peer_bell;
};

class ControlThread {
 public:
  using Owner = Rendezvous::Owner;

  /// access     who is let in; it must outlive the thread
  /// may_sleep  what clients are told about this side's receiver
  ControlThread(Owner& owner, PluginHost host, const Access& access, bool may_sleep)
      : owner_(owner), host_(host), access_(access), may_sleep_(may_sleep) {}
  ~ControlThread() { stop(); }
  ControlThread(const ControlThread&) = delete;
  ControlThread& operator=(const ControlThread&) = delete;

  /// listener  -1 for a client. It must stay open until stop().
  cdmf_status start(int listener, ErrorText& error);
  /// Joins. Pending clients are dropped. Idempotent.
  void stop() noexcept;
  /// Notices the end of this link from now on. [any]
  /// cost_ns  Time that making it took; 0: none of this thread's.
  void watch(std::shared_ptr<Link> link, std::uint64_t cost_ns = 0);

 private:
  struct Watched {
    std::shared_ptr<Link> link;
    UniqueFd process;  // A pidfd: a peer's socket may live on in its children, the process itself does not.
    std::uint64_t process_key = 0;
    std::uint64_t cost_ns = 0;
  };

  void run();
  void accept_clients();
  void advance(std::uint64_t key);
  bool welcome(PendingClient& client);
  void finish(std::uint64_t key);
  void give_up(std::uint64_t key, const char* why);
  void drop_client(std::uint64_t key);
  void drop_late_clients();
  void waste(std::uint64_t cost_ns);
  void pause_link(std::uint64_t key) noexcept;
  void resume_links() noexcept;
  void look_at_link(std::uint64_t key);
  void forget(std::uint64_t key);
  /// A warning about a client. Clients can cause as many as they like, hence no more than some go to the log.
  template <typename... Parts>
  void complain(const Parts&... parts) {
    if (std::uint64_t left_out = 0; complaints_.allows(monotonic_now_ns(), left_out)) {
      if (left_out != 0) host_.log(CDMF_LOG_WARNING, "shm: ", left_out, " more warnings about clients were left out");
      host_.log(CDMF_LOG_WARNING, parts...);
    }
  }
  int next_timeout_ms() const;
  bool add_to_epoll(int fd, std::uint64_t key) noexcept;

  Owner& owner_;
  PluginHost host_;
  const Access& access_;
  bool may_sleep_;
  int listener_ = -1;
  std::uint64_t accept_again_at_ = 0;  // 0: accepting.
  std::uint64_t wasted_until_ = 0;     // See waste().
  UniqueFd epoll_;
  UniqueFd stop_;
  std::thread thread_;
  std::map<std::uint64_t, PendingClient> clients_;  // The thread's own.
  std::uint64_t generation_ = 0;                    // Likewise.
  std::mutex links_mutex_;
  std::map<std::uint64_t, Watched> links_;            // By the key of the socket.
  std::map<std::uint64_t, std::uint64_t> processes_;  // Key of a pidfd to key of its link.
  std::atomic<std::uint64_t> next_key_{2};
  // The thread's own.
  LogLimit complaints_;
  LogLimit slow_downs_;
  std::deque<std::pair<std::uint64_t, std::uint64_t>> paused_;  // When to listen again, and to which link.
};

}  // namespace cdmf::ipc::shm
