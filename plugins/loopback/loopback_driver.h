#pragma once
// loopback_driver.h: endpoints inside one process. Read this first when you write a transport of your own: it honours
// every clause of cdmf_driver_ops in the plainest way. ../../plugin_api/README.md walks through it.
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ipc/driver.h"
#include "ipc/plugin.h"
#include "link.h"
#include "registry.h"

namespace cdmf::ipc::loopback {

inline constexpr cdmf_property kProperties[] = {
    size_property("queue_size", "1MiB", "4KiB", "1GiB",
                  "Bytes of messages that may wait in one direction of a link, held ones included; then senders see "
                  "BUFFER_FULL. The server's value counts. At least one largest message; the default grows to two."),
};
inline constexpr TransportDescription kDescription{
    .type = "loopback",
    .vendor = "cdmf",
    .license = "Apache-2.0",
    .summary = "peers inside one process, without the kernel: for tests, and as the example of a transport",
    .capabilities = CDMF_CAP_MANY_PEERS | CDMF_CAP_ZERO_COPY_SEND | CDMF_CAP_ZERO_COPY_RECEIVE | CDMF_CAP_HOLD |
                    CDMF_CAP_POLL_FD | CDMF_CAP_TIMESTAMP,
    .max_message_size_limit = std::uint64_t{1} << 29,
    .properties = kProperties,
};

/// Locks, always in this order: mutex_ of the driver, then one Link's or the Listener's. Peers' threads lock links
/// and ring alarms, and never come here.
class LoopbackDriver final : public Driver {
 public:
  LoopbackDriver(const DriverConfig& config, PluginHost host);
  ~LoopbackDriver() override;

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
  struct Peer {
    std::shared_ptr<Link> link;
    bool announced = false;  // Its PEER_CONNECTED was received.
  };
  /// A frame with its link, which takes the bytes back: claimed, in the current burst, or held.
  struct Owned {
    std::shared_ptr<Link> link;
    Frame frame;
  };

  [[nodiscard]] std::shared_ptr<Link> find_link(cdmf_peer peer);
  [[nodiscard]] std::shared_ptr<Alarm> alarm();
  [[nodiscard]] Owned take_claim(cdmf_peer peer);
  void adopt_new_links();
  [[nodiscard]] bool next_view(cdmf_peer id, Peer& peer, cdmf_view& view);

  // Constant.
  const Side side_;
  const std::string endpoint_;
  const std::string address_;
  const LinkLimits limits_;  // A client's own wishes; its link has the server's.
  const std::string detail_;
  const PluginHost host_;

  std::mutex mutex_;                    // Guards everything below.
  std::shared_ptr<Alarm> alarm_;        // Null: closed.
  std::shared_ptr<Listener> listener_;  // Null: closed, or a client.
  LinkLimits agreed_;                   // The server's, as soon as a client has met it.
  std::map<cdmf_peer, Peer> peers_;
  cdmf_peer last_peer_ = CDMF_NO_PEER;    // Ids count up for the life of the driver.
  cdmf_peer last_served_ = CDMF_NO_PEER;  // Where the rotation over peers stands.
  std::map<cdmf_peer, Owned> claims_;     // Open claims outlive their link.
  std::vector<Owned> burst_;              // Token of a view: its index here.
  std::map<std::uint64_t, Owned> held_;
  std::uint64_t last_held_ = 0;

  // interrupt() counts; a wait ends when the count is not what it was, or what the wait before it has seen.
  std::atomic<std::uint64_t> interrupts_{0};
  std::atomic<std::uint64_t> interrupts_seen_sending_{0};
  std::uint64_t interrupts_seen_receiving_ = 0;  // The receiver's own.
};

}  // namespace cdmf::ipc::loopback
