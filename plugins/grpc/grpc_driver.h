#pragma once
// grpc_driver.h: the transport over gRPC: one server and many clients on any machine, a bidirectional stream per link.
// What is promised and why: README.md. Bytes: wire.h.
#include <grpcpp/server.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "alarm.h"
#include "link.h"
#include "options.h"
#include "pump.h"
#include "socket_file.h"

namespace cdmf::ipc::grpc_transport {

/// Whoever drives gRPC (Pump) completes reads and writes, and copies what came into aligned blocks.
/// Locks, always in this order: mutex_, then one Link's.
class GrpcDriver final : public Driver, private LinkEvents {
 public:
  GrpcDriver(const DriverConfig& config, PluginHost host);
  ~GrpcDriver() override;

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
  struct Owned {
    std::shared_ptr<Block> block;
    cdmf_peer peer;
  };
  /// What belongs to gRPC while the driver is open. In a forked child its threads are missing and its sockets are the
  /// parent's: there it is neither used nor destroyed.
  struct Engine {
    SocketFile socket_file;
    grpc::AsyncGenericService service;
    std::unique_ptr<grpc::Server> server;
    std::unique_ptr<grpc::CompletionQueue> queue;  // A server's is a ServerCompletionQueue.
    std::unique_ptr<Pump> pump;
    std::map<cdmf_peer, std::shared_ptr<Link>> all;    // Those gRPC still has to do with.
    std::map<cdmf_peer, std::shared_ptr<Link>> links;  // Those the program has not seen the end of.
  };

  void receivable() override;
  bool receiver_is_here() override { return pump_->receiver_drives(); }
  void called(Link& link) override;
  void finished(cdmf_peer id) override;

  [[nodiscard]] cdmf_status open_server(Engine& engine, ErrorText& error) const;
  [[nodiscard]] cdmf_status check_client(Link& link, std::string& problem);
  void request_next();
  static void complete(void* tag, bool ok);
  void expect_progress();
  [[nodiscard]] std::shared_ptr<Link> find_link(cdmf_peer peer);
  [[nodiscard]] std::shared_ptr<Link> make_link();
  [[nodiscard]] bool any_receivable() const;

  // Constant.
  const Options options_;
  const std::string detail_;
  const PluginHost host_;

  std::atomic<int> owner_{-1};  // The process that opened it; -1: closed.
  std::atomic<std::size_t> agreed_frame_size_max_;

  std::mutex mutex_;                  // Guards everything below.
  std::condition_variable finished_;  // engine_->all shrank.
  std::unique_ptr<Engine> engine_;    // Null: closed.
  bool closing_ = false;
  cdmf_peer last_peer_ = CDMF_NO_PEER;    // Ids count up for the life of the driver.
  cdmf_peer last_served_ = CDMF_NO_PEER;  // Where the rotation over links stands.
  std::map<std::uint64_t, Owned> held_;
  std::map<cdmf_peer, unsigned> held_blocks_;
  std::uint64_t last_held_ = 0;

  std::shared_ptr<Alarm> alarm_;  // Set by open(), constant until close().
  Pump* pump_ = nullptr;          // The engine's; as alarm_.
  // interrupt() counts; a wait ends when the count is not what the wait before it has seen.
  std::atomic<std::uint64_t> interrupts_{0};
  std::atomic<std::uint64_t> interrupts_seen_sending_{0};

  std::atomic<bool> news_{false};  // receivable() was called since the receiver, waiting, has looked at the links.

  // The receiver's own.
  std::uint64_t interrupts_seen_receiving_ = 0;
  std::uint64_t bursts_ = 0;
  std::vector<Owned> burst_;  // Token of a view: its index here.
};

}  // namespace cdmf::ipc::grpc_transport
