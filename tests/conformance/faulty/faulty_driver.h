#pragma once
// faulty/faulty_driver.h: the loopback driver, broken on purpose in one way that `fault:` names. Each fault breaks one
// promise, as rarely as such faults do in life; negative_control_test.cpp says which test must notice, and that no
// other does. Never installed.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "ipc/plugin.h"
#include "loopback_driver.h"

namespace cdmf::ipc::conformance {

/// What each does is at its use in faulty_driver.cpp.
enum class Fault {
  none,
  reorders,
  duplicates,
  drops_one,
  tears,
  cuts_a_byte,
  refuses_the_largest,
  misaligned_claim,
  publishes_before_flush,
  delivers_aborted,
  ignores_shrink,
  drops_when_full,
  timeout_early,
  loses_a_wake_up,
  descriptor_always_ready,
  loses_an_early_interrupt,
  replies_to_the_wrong_peer,
  starves_peers,
  leaks_a_descriptor,
  leaks_a_thread,
  leaks_a_mapping,
  reuses_peer_ids,
  overwrites_what_is_held,
  announces_twice,
  ends_without_a_reason,
  no_timestamp,
  second_server_unnoticed,
  endpoints_are_one,
  crashes_on_close_with_a_claim,
  hangs_on_close_with_a_claim,
  aborts_after_fork,
};
inline constexpr const char* kFaultNames[] = {"none",
                                              "reorders",
                                              "duplicates",
                                              "drops_one",
                                              "tears",
                                              "cuts_a_byte",
                                              "refuses_the_largest",
                                              "misaligned_claim",
                                              "publishes_before_flush",
                                              "delivers_aborted",
                                              "ignores_shrink",
                                              "drops_when_full",
                                              "timeout_early",
                                              "loses_a_wake_up",
                                              "descriptor_always_ready",
                                              "loses_an_early_interrupt",
                                              "replies_to_the_wrong_peer",
                                              "starves_peers",
                                              "leaks_a_descriptor",
                                              "leaks_a_thread",
                                              "leaks_a_mapping",
                                              "reuses_peer_ids",
                                              "overwrites_what_is_held",
                                              "announces_twice",
                                              "ends_without_a_reason",
                                              "no_timestamp",
                                              "second_server_unnoticed",
                                              "endpoints_are_one",
                                              "crashes_on_close_with_a_claim",
                                              "hangs_on_close_with_a_claim",
                                              "aborts_after_fork",
                                              nullptr};
static_assert(std::size(kFaultNames) == static_cast<std::size_t>(Fault::aborts_after_fork) + 2);

inline constexpr cdmf_property kProperties[] = {
    loopback::kProperties[0],
    choice_property("fault", "none", kFaultNames, "What is broken."),
};
static_assert(std::size(loopback::kProperties) == 1);
inline constexpr TransportDescription kDescription{
    .type = "faulty",
    .vendor = "cdmf",
    .license = "Apache-2.0",
    .summary = "loopback, broken on purpose: the evidence that the conformance suite can fail",
    .capabilities = loopback::kDescription.capabilities,
    .max_message_size_limit = loopback::kDescription.max_message_size_limit,
    .properties = kProperties,
};

class FaultyDriver final : public Driver {
 public:
  FaultyDriver(const DriverConfig& config, PluginHost host);
  ~FaultyDriver() override;

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
  /// A received view with memory of its own.
  struct Copy {
    cdmf_view view;
    std::vector<std::max_align_t> memory;
  };
  [[nodiscard]] static Copy copy_of(const cdmf_view& view);
  [[nodiscard]] bool is(Fault fault) const noexcept { return fault_ == fault; }
  [[nodiscard]] std::size_t break_burst(cdmf_view* views, std::size_t count, std::size_t capacity);
  [[nodiscard]] std::size_t put_quiet_ones_off(cdmf_view* views, std::size_t count, std::size_t capacity);
  [[nodiscard]] cdmf_peer inner_id(cdmf_peer shown);
  [[nodiscard]] cdmf_peer shown_id(cdmf_peer inner);

  const Fault fault_;
  const bool server_;
  const std::size_t payload_bytes_max_;
  const std::unique_ptr<loopback::LoopbackDriver> inner_;

  // The receiver's.
  std::uint64_t messages_ = 0;
  bool done_once_ = false;
  std::deque<Copy> put_off_;   // Comes with a later burst.
  std::vector<Copy> handed_;   // Copies in the current burst.
  std::set<cdmf_peer> peers_;  // Announced, as the inner driver names them.
  std::vector<std::pair<void*, std::size_t>> burst_;
  std::vector<std::pair<void*, std::size_t>> held_;

  // Between sender and receiver.
  std::mutex mutex_;
  std::map<cdmf_peer, cdmf_peer> shown_;  // By inner id.
  std::set<cdmf_peer> ended_here_;

  // The sender's.
  std::uint64_t claims_ = 0;
  std::map<cdmf_peer, cdmf_loan> open_claims_;  // The inner driver's.
  std::vector<char> scratch_;
  bool drop_next_ = false;

  std::atomic<int> waiting_{0};
  int ready_fd_ = -1;
};

}  // namespace cdmf::ipc::conformance
