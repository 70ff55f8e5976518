#pragma once
// pool/pool_watch.h: the one thread of a pool's member, which notices the deaths of the others, off the data path.
#include <array>
#include <cstdint>
#include <functional>
#include <thread>

#include "ipc/driver.h"
#include "pool/pool_layout.h"
#include "segment/unique_fd.h"

namespace cdmf::ipc::shm {

/// A pidfd says at once that a process ended, but a pid may be somebody else's (another PID namespace, a number used
/// again): it is only a hint to look. The proof is the owner's: the lock of the member's line. All locks are looked at
/// every kLookMs, too, for those that have no pidfd.
class PoolWatch {
 public:
  static constexpr int kLookMs = 100;

  struct Owner {
    virtual ~Owner() = default;
    /// Whether the user of an attached line lives.
    virtual bool is_alive(std::uint32_t index) const noexcept = 0;
    /// Settles what the dead left. False: not all of it can be settled now, ask again soon.
    virtual bool bury_the_dead() = 0;
    /// Members came, left or died: those who wait in this process look again.
    virtual void members_changed() noexcept = 0;
  };

  PoolWatch(Owner& owner, const PoolMemory& memory, std::uint32_t self) noexcept
      : owner_(owner), memory_(memory), self_(self) {}
  ~PoolWatch() { stop(); }
  PoolWatch(const PoolWatch&) = delete;
  PoolWatch& operator=(const PoolWatch&) = delete;

  cdmf_status start(ErrorText& error);
  /// Joins. Idempotent.
  void stop() noexcept;
  /// Makes it look now: somebody came. [any, from start() to stop()]
  void poke() noexcept;

 private:
  struct Watched {
    std::uint64_t state = 0;  // Of the line, when last looked at.
    UniqueFd process;
    unsigned suspicion = 0;  // Its process ended, its lock is still held: look again soon, so many times.
  };
  void run();
  bool look_at(std::uint32_t index, bool& dead) noexcept;

  Owner& owner_;
  PoolMemory memory_;
  std::uint32_t self_;
  UniqueFd wake_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
  std::array<Watched, kPoolMembersMax> watched_;  // The thread's own.
};

}  // namespace cdmf::ipc::shm
