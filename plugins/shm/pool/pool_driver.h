#pragma once
// pool/pool_driver.h: a pool as a driver: one queue in shared memory, any number of processes that put messages in, and
// any number that take them out, each message once. What becomes of peers, roles and promises: README.md beside this.
#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ipc/driver.h"
#include "pool/pool_membership.h"
#include "pool/pool_options.h"
#include "wait/interrupt.h"
#include "wait/spinner.h"
#include "wall_clock.h"

namespace cdmf::ipc::shm {

class PoolDriver final : public Driver {
 public:
  PoolDriver(const DriverConfig& config, PluginHost host);
  ~PoolDriver() override;

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
  void interrupt() override;

  cdmf_status disconnect(cdmf_peer peer, cdmf_status reason) override;
  void close() override;
  void describe(cdmf_info& info) override;

 private:
  struct Held {
    std::shared_ptr<PoolMembership> pool;
    std::uint64_t position;
  };

  std::shared_ptr<PoolMembership> pool();
  void enter(std::shared_ptr<PoolMembership> pool);
  void move_on() noexcept;
  PoolMembership& sending_pool() noexcept;
  void retire(const std::vector<std::shared_ptr<PoolMembership>>& left) noexcept;
  void retire_all() noexcept;
  void forget(const PoolMembership& pool) noexcept;

  // The link: from a PEER_CONNECTED to its PEER_DISCONNECTED.
  cdmf_peer begin_link() noexcept;
  void end_link(cdmf_status reason) noexcept;
  void finish_link(PoolMembership& pool, cdmf_view& view) noexcept;
  void look_at_members(PoolMembership& pool) noexcept;
  cdmf_status link_state(cdmf_peer peer) const noexcept;
  bool is_over(const PoolMembership& pool) const noexcept;

  // The receiver.
  std::size_t receive_messages(PoolMembership& pool, cdmf_view* views, std::size_t capacity);
  std::size_t share_of(const PoolMembership& pool, std::size_t capacity) const noexcept;
  bool is_sound(const PoolMembership& pool, const MpmcRecordView& record) const noexcept;
  void discard(PoolMembership& pool, const MpmcRecordView& record);
  bool has_input(const PoolMembership& pool) const noexcept;
  template <typename Done>
  void sleep(PoolMembership& pool, std::uint64_t deadline, Done&& done) noexcept;

  const PoolOptions options_;
  const PluginHost host_;
  bool is_open_ = false;

  std::mutex pools_mutex_;
  std::shared_ptr<PoolMembership> pool_;                   // Replaced by attach(), open() and close() under the mutex.
  std::vector<std::shared_ptr<PoolMembership>> replaced_;  // By attach(); until the sender moves on.
  std::vector<std::shared_ptr<PoolMembership>> leftover_;  // With a claim that outlived its link.
  std::atomic<PoolMembership*> current_{nullptr};          // pool_, for the receiver, and for the sender to compare.

  std::atomic<cdmf_peer> peer_{CDMF_NO_PEER};
  std::atomic<cdmf_status> ended_{CDMF_OK};  // Why the link is over, before its PEER_DISCONNECTED was received.

  // The sender's own.
  WallClock clock_;
  PoolMembership* sending_ = nullptr;  // pool_, or the one that attach() has replaced since: among replaced_.
  std::uint32_t unrung_ = 0;           // Messages sent there since consumers were last woken.

  // The receiver's own.
  cdmf_peer last_peer_ = CDMF_NO_PEER;
  bool announced_ = false;
  std::uint64_t lost_told_ =
      0;  // Losses of the pool that earlier links were told of, or that are older than this member.
  std::uint64_t discarded_ = 0;  // Of this link, for their checksums.
  std::uint64_t next_discard_log_ns_ = 0;
  std::uint64_t lap_looked_at_ = UINT64_MAX;  // Of the pool's ring, for the high-water mark.
  std::array<MpmcRecordView, kMpmcBatchMax> burst_;
  std::uint32_t burst_size_ = 0;
  AdaptiveBudget budget_;
  const bool spinning_helps_;

  // Shared with [any].
  Interrupt space_interrupt_;
  Interrupt message_interrupt_;
  std::atomic<std::uint32_t> idle_{kPoolAwake};  // Where a client sleeps that is in no pool.
  std::mutex waiters_mutex_;
  std::uint32_t waiters_ = 0;  // Threads in await_space().
  std::mutex held_mutex_;
  std::map<std::uint64_t, Held> held_;
  std::uint64_t last_held_ = 0;
  std::mutex describe_mutex_;
  std::string detail_;
  std::string address_;
};

}  // namespace cdmf::ipc::shm
