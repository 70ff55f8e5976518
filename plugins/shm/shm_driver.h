#pragma once
// shm_driver.h: the shared-memory transport as a driver. The contract of each method is at cdmf_driver_ops in
// ipc/plugin_abi.h; how the parts work together is told in README.md.
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "inspect/troubles.h"
#include "ipc/driver.h"
#include "ipc/put_abi.h"
#include "link.h"
#include "link_calls.h"
#include "link_table.h"
#include "options.h"
#include "polled_links.h"
#include "rendezvous.h"
#include "wait/interrupt.h"
#include "wait/spinner.h"
#include "wall_clock.h"

namespace cdmf::ipc::shm {

class ShmDriver final : public Driver, private Rendezvous::Owner {
 public:
  ShmDriver(const DriverConfig& config, PluginHost host);
  ~ShmDriver() override;

  cdmf_status open(ErrorText& error) override;
  cdmf_status attach(std::uint64_t deadline, cdmf_peer& peer, ErrorText& error) override;

  cdmf_status claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) override;
  cdmf_status commit(const cdmf_loan& loan, std::size_t size, bool flush) override;
  void abort(const cdmf_loan& loan) override;
  /// In place of claim() and commit(), for one frame and for many: ipc/put_abi.h.
  cdmf_status put(cdmf_peer peer, const cdmf_pieces& frame, bool flush) noexcept;
  std::size_t put_burst(cdmf_peer peer, std::span<const cdmf_pieces> frames, bool flush) noexcept;
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
  /// Private copies of the records of the current burst, for links that are not trusted.
  struct Copies {
    std::shared_ptr<std::byte[]> memory;
    std::size_t size = 0;
    std::size_t used = 0;
  };
  struct Held {
    std::shared_ptr<Link> link;
    std::uint64_t begin = 0;              // Of the record in the ring; or
    std::shared_ptr<std::byte[]> copies;  // the copy that is kept.
  };

  // Rendezvous::Owner, on its thread.
  cdmf_status admit(const LinkRequest& request, const PeerCredentials& peer, LinkTerms& terms,
                    ErrorText& error) override;
  void dismissed(cdmf_peer id) override;
  void refused(cdmf_status reason, const char* text) noexcept override;
  cdmf_status report(UniqueFd& page, ErrorText& error) override;
  void observe(Snapshot& seen) override;
  void connected(std::shared_ptr<Link> link) override;
  void kick(cdmf_peer link) override;

  void close_descriptors() noexcept;
  std::string detail_of(const SegmentPlan& plan) const;
  bool is_hostile(const PeerCredentials& peer) const noexcept;

  // The sender.
  Link* sending_link(cdmf_peer peer);
  void renew_sender_links();
  cdmf_status put_timed(Link& link, const cdmf_pieces& frame, bool flush) noexcept;
  cdmf_status put_long(Link& link, const cdmf_pieces& frame, bool flush) noexcept;
  cdmf_status flush_put(Link& link) noexcept;
  cdmf_status put_slowly(cdmf_peer peer, const cdmf_pieces& frame, bool flush) noexcept;
  cdmf_status finish(Link& link, std::size_t size, std::uint32_t checksum, bool flush);
  cdmf_status put_failed(Link& link) noexcept;
  cdmf_status claim_failed(Link& link, ClaimOutcome outcome);
  std::uint64_t time_of_sending(Link& link) noexcept;
  void break_bell(Link& link);

  // The receiver.
  void attend();
  void renew_receiver_links();
  void renew_copies();
  std::size_t receive_from(Link& link, cdmf_view* views, std::size_t capacity);
  std::size_t receive_closely(Link& link, cdmf_view* views, std::size_t capacity);
  const std::byte* copy_of(const Link& link, const RecordView& record);
  static bool is_sound(const Link& link, const RecordView& record, const std::byte* bytes) noexcept;
  static void fill_view(const Link& link, const RecordView& record, const std::byte* bytes, cdmf_view& view) noexcept;
  void discard(Link& link, const RecordView& record);
  void begin_burst(Link& link, std::size_t records, std::size_t views);
  static void release(Link& link) noexcept;
  void finish_link(Link& link, cdmf_view& view);
  void break_link(Link& link, const char* what);

  // Waiting, as the receiver.
  bool has_input() const noexcept;
  bool announce_sleep(std::uint32_t how) noexcept;
  void sleep(std::uint64_t deadline, std::uint64_t began);
  std::uint64_t next_spin() noexcept;
  void take_bells(int timeout_ms);
  void hear(Link& link);
  void hush(Link& link) noexcept;
  bool can_poll_fd() const noexcept { return options_.may_sleep(); }

  const Options options_;
  const PluginHost host_;

  // Life. Changed by open() and close() only.
  // Changed under sleep_mutex_, as interrupt() and unhold() come from any thread.
  UniqueFd epoll_;   // The receiver sleeps here; its descriptor is poll_fd().
  UniqueFd kicker_;  // In that epoll: wakes the receiver for what is not a message.
  std::unique_ptr<Rendezvous> rendezvous_;
  bool is_open_ = false;

  LinkTable links_;
  MemoryBudget budget_of_memory_;
  std::atomic<std::uint64_t> attached_{CDMF_NO_PEER};  // A client's peer, until its end was received.

  // The sender's own.
  LinkSnapshot sender_links_;
  Link* last_put_ = nullptr;  // Of that snapshot: whom put() was last for; null: that, or a claim was made since.
  WallClock sending_clock_;
  std::vector<std::shared_ptr<Link>> claimed_;  // Links that left the table with an open claim.

  // The receiver's own.
  LinkSnapshot receiver_links_;
  PolledLinks polled_;           // Of the snapshot.
  bool bells_may_ring_ = false;  // Since arm() said ARMED.
  UniqueFd quiet_timer_;         // In the epoll: some links are quiet until then (wait/bell_watch.h).
  bool some_quiet_ = false;
  std::vector<Link*> burst_;  // Links with records in the current burst.
  Copies copies_;
  std::size_t copies_size_ = 0;  // Room that the copies of a burst need.
  AdaptiveBudget budget_;
  std::uint64_t wakes_before_ = 0;  // Of peers, counted at the wait before.
  bool spinning_helps_ = true;      // Some peer can run while we spin.
  std::uint64_t next_discard_log_ns_ = 0;

  // For observers. Counted where something rare happens, read by the thread of the rendezvous.
  const std::uint64_t started_us_ = wall_now_us();
  std::atomic<std::uint64_t> accepted_{0};
  std::atomic<std::uint64_t> refused_{0};
  std::atomic<std::uint64_t> ended_{0};
  std::atomic<std::int32_t> receiver_cpu_{kSeveralCpus};
  Troubles troubles_;

  // Shared with [any].
  LinkCalls calls_;
  Interrupt space_interrupt_;
  Interrupt message_interrupt_;
  std::mutex sleep_mutex_;
  Link* futex_sleeper_ = nullptr;  // The link whose word the receiver sleeps on; its snapshot keeps it alive.
  std::mutex held_mutex_;
  std::map<std::uint64_t, Held> held_;
  std::uint64_t last_held_ = 0;
  std::mutex describe_mutex_;
  std::string detail_;
  std::string address_;
};

}  // namespace cdmf::ipc::shm
