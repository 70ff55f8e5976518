#pragma once
// unix_socket_driver.h: the transport over Unix sockets: one server, many clients, on one machine.
// What is promised and why: README.md. Bytes: wire.h.
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "acceptor.h"
#include "endpoint_path.h"
#include "ipc/driver.h"
#include "ipc/plugin.h"
#include "ipc/spin_budget.h"
#include "link.h"

namespace cdmf::ipc::unix_socket {

inline constexpr const char* kSocketTypes[] = {"STREAM", "SEQPACKET", nullptr};
inline constexpr const char* kModes[] = {"0600", "0660", "0666", nullptr};
inline constexpr cdmf_property kProperties[] = {
    choice_property("socket_type", "STREAM", kSocketTypes,
                    "Kind of socket, the same at both ends. STREAM: a byte stream with framing on top, for messages of "
                    "any size. SEQPACKET: packets of whole messages, none larger than what send_buffer can hold."),
    text_property("address", "auto",
                  "Where the endpoint is, the same at both ends. auto: a file derived from endpoint, in a directory of "
                  "this user. abstract: an abstract name derived from endpoint and user, without a file. "
                  "/path/to/file: that file. @name: that abstract name."),
    choice_property("mode", "0600", kModes,
                    "Server: permissions of the socket file; others than 0600 need an address that is a path. Who may "
                    "open the file must still be let in: see allow_uids."),
    text_property("group", "",
                  "Server: group of the socket file, by name or number; needs an address that is a path. Empty: as it "
                  "comes."),
    text_property("allow_uids", "",
                  "Users whose processes are accepted at the other end, besides this user and root: numbers, separated "
                  "by commas."),
    size_property("queue_size", "1MiB", "4KiB", "1GiB",
                  "Bytes that may wait in this process for one peer, after what the kernel holds; then senders see "
                  "BUFFER_FULL. At least one largest message; the default grows to two."),
    size_property("send_buffer", "256KiB", "4KiB", "64MiB",
                  "SO_SNDBUF: bytes the kernel holds for one peer, its overhead included, limited by "
                  "net.core.wmem_max. Larger: fewer switches between sender and receiver."),
    size_property("receive_buffer", "256KiB", "4KiB", "64MiB",
                  "Bytes read from one peer with one system call. (The kernel itself has no receive buffer for Unix "
                  "sockets; the sender's send_buffer limits what is on its way.)"),
    int_property("backlog", "128", "1", "4096", "Server: connections that wait to be accepted."),
    int_property("max_clients", "1024", "1", "65536", "Server: connections at once; further clients are refused."),
    int_property("max_clients_per_user", "1024", "1", "65536",
                 "Server: connections of one user at once, so that nobody of allow_uids takes all of max_clients."),
    duration_property("handshake_timeout", "2s", "1ms", "60s",
                      "Server: a client that has not said hello by then is dropped."),
    duration_property("frame_timeout", "30s", "0", "24h",
                      "A peer that has begun a frame and sends no further byte of it for so long is disconnected with "
                      "TIMEOUT; one that sends slowly is not. 0: never."),
    duration_property("spin_budget", "100us", "0", "10ms",
                      "Longest time that a receiver which gets messages in quick succession looks for the next one "
                      "before it sleeps; less when that does not pay. 0: it sleeps at once."),
    duration_property("linger", "200ms", "0", "60s",
                      "How long closing waits, in all, for peers to take what was accepted for them."),
};
inline constexpr TransportDescription kDescription{
    .type = "unix_socket",
    .vendor = "cdmf",
    .license = "Apache-2.0",
    .summary = "Unix sockets: one server and many clients on one machine",
    .capabilities = CDMF_CAP_MANY_PEERS | CDMF_CAP_INTER_PROCESS | CDMF_CAP_HOLD | CDMF_CAP_POLL_FD |
                    CDMF_CAP_TIMESTAMP | CDMF_CAP_SURVIVES_SENDER,
    .max_message_size_limit = std::uint64_t{1} << 29,
    .properties = kProperties,
};

/// Locks, always in this order: mutex_, then one Link's. The receiver's members need none: receive_burst(),
/// await_messages(), arm() and attach() are one thread's, and close() comes never together with them.
class UnixSocketDriver final : public Driver {
 public:
  UnixSocketDriver(const DriverConfig& config, PluginHost host);
  ~UnixSocketDriver() override;

  cdmf_status open(ErrorText& error) override;
  cdmf_status attach(std::uint64_t deadline, cdmf_peer& peer, ErrorText& error) override;

  cdmf_status claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) override;
  cdmf_status commit(const cdmf_loan& loan, std::size_t size, bool flush) override;
  void abort(const cdmf_loan& loan) override;
  cdmf_status flush(cdmf_peer peer, std::uint64_t deadline) override;
  cdmf_status await_space(cdmf_peer peer, std::size_t size, std::uint64_t deadline) override;

  std::size_t receive_burst(cdmf_view* views, std::size_t capacity) override;
  void release_burst() override;
  cdmf_status await_messages(std::uint64_t deadline) override;
  cdmf_status hold(cdmf_peer peer, std::uint64_t token, std::uint64_t& held) override;
  void unhold(std::uint64_t held) override;
  int poll_fd() override;
  cdmf_arm_result arm() override;
  void interrupt() override;

  cdmf_status disconnect(cdmf_peer peer, cdmf_status reason) override;
  void close() override;
  void describe(cdmf_info& info) override;

 private:
  struct Options {
    explicit Options(const DriverConfig& config);
    std::size_t frame_size_max;
    std::size_t queue_bytes;
    std::size_t read_bytes;
    bool packets;  // SEQPACKET
    int send_buffer_bytes;
    bool send_buffer_given;
    int backlog;
    Access access;
    std::size_t clients_max;
    std::size_t clients_per_user_max;
    std::chrono::nanoseconds handshake_timeout;
    std::chrono::nanoseconds frame_timeout;
    std::chrono::nanoseconds spin_budget;
    std::chrono::nanoseconds linger;
  };
  struct Held {
    std::shared_ptr<Block> block;
    cdmf_peer peer;
  };

  [[nodiscard]] std::shared_ptr<Link> find_link(cdmf_peer peer);
  [[nodiscard]] bool has_room(uid_t uid);
  [[nodiscard]] cdmf_status check_packets(int socket, std::size_t frame_size_max, ErrorText& error) const;
  cdmf_peer add_link(Fd socket, const PeerIdentity& identity, std::size_t frame_size_max);
  void wake_receiver();
  void take_news();
  void look(int timeout_ms);
  [[nodiscard]] bool spin(std::uint64_t deadline);
  [[nodiscard]] Link* only_link() const noexcept;
  [[nodiscard]] bool wait_for_only_link();
  void make_ready(Link& link);
  void watch_frame(const Link& link);
  void look_for_stalled_frames();
  void forget(Link& link);

  // Constant.
  const bool server_;
  const Options options_;
  const EndpointPath path_;
  const std::string address_;
  const std::string detail_;
  const PluginHost host_;

  std::mutex mutex_;
  // Guarded by mutex_.
  pid_t owner_ = -1;  // -1: closed.
  std::map<cdmf_peer, std::shared_ptr<Link>> links_;
  cdmf_peer last_peer_ = CDMF_NO_PEER;       // Ids count up for the life of the driver.
  std::vector<std::shared_ptr<Link>> news_;  // Links that are new, or ended from this side.
  std::map<std::uint64_t, Held> held_;
  std::map<cdmf_peer, unsigned> held_blocks_;
  std::uint64_t last_held_ = 0;

  // Set by open(), constant until close().
  Fd epoll_;
  Fd wake_;         // In the epoll set: news or an interrupt.
  Fd frame_timer_;  // In the epoll set: a frame that has begun may have stalled.
  std::unique_ptr<Acceptor> acceptor_;
  std::atomic<std::size_t> agreed_frame_size_max_;

  std::atomic<bool> has_news_{false};
  // interrupt() counts; a wait ends when the count is not what the wait before it has seen.
  std::atomic<std::uint64_t> interrupts_{0};
  std::atomic<std::uint64_t> interrupts_seen_sending_{0};

  // The receiver's own.
  std::uint64_t interrupts_seen_receiving_ = 0;
  std::map<const Link*, std::shared_ptr<Link>> watched_;  // In the epoll set.
  std::deque<Link*> ready_;                               // Those with something to do, in their turn.
  bool looked_ = false;                                   // await_messages() has just asked the kernel.
  unsigned unasked_ = 0;                                  // Looks in a row that asked the only link and not epoll.
  std::uint64_t frame_timer_at_ = kForever;               // When frame_timer_ goes off.
  SpinBudget spin_budget_;
  Burst burst_;
};

}  // namespace cdmf::ipc::unix_socket
