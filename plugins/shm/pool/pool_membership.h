#pragma once
// pool/pool_membership.h: this process's place in a pool: the object, one line in it, and who else is there.
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ipc/driver.h"
#include "pool/pool_bell.h"
#include "pool/pool_options.h"
#include "pool/pool_watch.h"
#include "ring/mpmc_record_ring.h"
#include "segment/named_object.h"

namespace cdmf::ipc::shm {

/// A member lives while its process holds the lock of its line, which the kernel drops at its death: the proof that
/// survivors need before they settle what it left (ring/mpmc_record_recovery.h).
///
/// The memory stays mapped, and the line stays attached, until what was claimed, and all that is held, has been given
/// back, however long ago the driver was closed: nobody else may get that memory before.
class PoolMembership final : private PoolWatch::Owner {
 public:
  /// Joins the pool of that endpoint. A consumer makes it when there is none; a producer finds ENDPOINT_NOT_FOUND then,
  /// and also when no consumer is in it. INVALID_CONFIG: sizes do not agree. RESOURCE_EXHAUSTED: no memory, no
  /// descriptors, no line left.
  static cdmf_status join(const PoolOptions& options, PluginHost host, std::shared_ptr<PoolMembership>& joined,
                          ErrorText& error);
  ~PoolMembership() override;
  PoolMembership(const PoolMembership&) = delete;
  PoolMembership& operator=(const PoolMembership&) = delete;

  const PoolPlan& plan() const noexcept { return plan_; }
  std::string address() const { return "posix " + object_.name(); }
  /// Whether who joins now comes to this pool. False: somebody removed the object by hand, or the pool is broken.
  bool is_the_pool() const noexcept { return object_.has_its_name() && broken() == MpmcFault::none; }

  // ---- The ring

  /// The producer's sender's or the consumer's receiver's own. Its first fault breaks the pool: call give_up().
  MpmcRecordMember& ring() noexcept { return ring_; }
  PoolBell& messages() noexcept { return messages_; }  // Consumers sleep on it.
  PoolBell& room() noexcept { return room_; }          // Producers do.
  const MpmcRecordMemory& memory() const noexcept { return memory_.ring(); }
  /// Whether a consumer's receive may find something. [any]
  bool has_message() const noexcept;
  bool is_empty() const noexcept;  // [any]
  /// Whether a producer's claim may find a slot. [any]
  bool has_room() const noexcept;
  /// Messages in the ring, received ones excepted.
  std::uint64_t backlog() const noexcept;
  // For observers.
  void note_high_water(std::uint64_t used) const noexcept { memory_.ring().note_high_water(ring_.index(), used); }
  void count_space_wait() const noexcept {
    memory_.member(ring_.index()).space_waits.fetch_add(1, std::memory_order_relaxed);
  }
  /// The memory is corrupt: tells all members, once. [any]
  void give_up(MpmcFault fault) noexcept;
  MpmcFault broken() const noexcept;  // [any]

  // ---- Who is there. [any]

  /// Whether look() would see nothing new.
  bool is_current() const noexcept {
    return memory_.control().changes.load(std::memory_order_acquire) == seen_.load(std::memory_order_relaxed) &&
           !look_again_.load(std::memory_order_acquire);
  }
  /// Counts the members. What a counted producer sent before it left, or died, is visible to whoever sees it gone.
  void look() noexcept;
  /// As of the last look: living members of the other role, of the same (this one included), and how the last of the
  /// other role ended.
  std::uint32_t others() const noexcept { return others_.load(std::memory_order_relaxed); }
  std::uint32_t colleagues() const noexcept { return colleagues_.load(std::memory_order_relaxed); }
  cdmf_status last_end() const noexcept { return last_end_.load(std::memory_order_relaxed); }
  /// Messages that the pool lost by deaths of consumers since it was made, those of members included that are dead now
  /// and that nobody has settled yet. Looks at every slot after a death. The receiver's, or before there is one.
  std::uint64_t lost() noexcept;
  /// Producer: whether consumers count this member. One whose link has ended stays, so that the pool does; unseen.
  void show(bool visible) noexcept;
  /// Wakes those that wait in this process. [any]
  void kick() noexcept;

  /// Of a broken pool: gives up the locks, and the name with the last, so that the next consumer can make a new one.
  /// The memory stays. The receiver's, or whoever has the membership alone.
  void give_up_place() noexcept;

  // ---- What outlives the driver's use of it

  /// The driver is closed: nobody sends or receives any more. Ends the membership now, or with the last give_back().
  void retire() noexcept;
  bool retired() const noexcept { return retired_.load(std::memory_order_acquire); }
  bool claim_open = false;  // The sender's own. After retire(): set back by end_late_claim() alone.
  /// Gives back a claim that outlived the driver's use. The sender's.
  void end_late_claim() noexcept;
  /// Gives back a held message, by its position. [any]
  void unhold(std::uint64_t position);
  bool has_returned() const noexcept { return has_returned_.load(std::memory_order_acquire); }
  /// Gives back what unhold() left for the receiver, which calls this.
  void collect_returned() noexcept;

 private:
  PoolMembership(PluginHost host, PoolRole role, const PoolPlan& plan, NamedObject object,
                 std::uint32_t index) noexcept;

  static cdmf_status find(const PoolOptions& options, const std::string& name, NamedObject& object, PoolPlan& plan,
                          ErrorText& error);
  static cdmf_status take_line(const PoolPlan& plan, NamedObject& object, std::uint32_t& index, ErrorText& error);
  PoolRole other_role() const noexcept { return role_ == PoolRole::consumer ? PoolRole::producer : PoolRole::consumer; }
  void leave() noexcept;
  void announce_change() noexcept;

  // PoolWatch::Owner, on its thread.
  bool is_alive(std::uint32_t index) const noexcept override { return object_.is_locked_by_another(index); }
  bool bury_the_dead() override;
  void members_changed() noexcept override;

  const PluginHost host_;
  const PoolRole role_;
  const PoolPlan plan_;
  NamedObject object_;
  PoolMemory memory_;
  MpmcRecordMember ring_;
  PoolBell messages_;
  PoolBell room_;
  PoolWatch watch_;

  std::mutex census_mutex_;  // Guards `lines_` and the two counts below.
  struct Line {
    std::uint64_t state = 0;
    PoolRole role = PoolRole::none;
  };
  std::vector<Line> lines_;
  std::uint64_t deaths_counted_ = 0;
  std::uint64_t lost_counted_ = 0;
  std::atomic<std::uint32_t> seen_{0};
  std::atomic<bool> look_again_{true};
  std::atomic<std::uint32_t> others_{0};
  std::atomic<std::uint32_t> colleagues_{0};
  std::atomic<cdmf_status> last_end_{CDMF_CONNECTION_CLOSED};

  std::atomic<bool> has_returned_{false};
  std::mutex returned_mutex_;  // Guards the rest; after retire() also ring_.
  std::vector<std::uint64_t> returned_;
  std::atomic<bool> retired_{false};
  std::size_t kept_ = 0;  // After retire(): what is claimed or held.
  bool left_ = false;
  Mapping left_mapping_;  // After give_up_place(): a kick() may come until the very end.
};

}  // namespace cdmf::ipc::shm
