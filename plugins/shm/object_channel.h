#pragma once
// object_channel.h: the channel of a link over a named object (segment: posix), and that object with what belongs to
// it. How the two sides use them is told in object_rendezvous.h.
#include <semaphore.h>

#include <memory>
#include <mutex>
#include <string>

#include "channel.h"
#include "segment/named_object.h"
#include "segment/segment.h"

namespace cdmf::ipc::shm {

/// The lock of the one client; the server holds the object present.
inline constexpr std::uint32_t kClientLock = 0;
// SegmentEnd::stage, of the client and of the server; see object_rendezvous.h.
inline constexpr std::uint32_t kAsks = 1;
inline constexpr std::uint32_t kStands = 1;
inline constexpr std::uint32_t kRefused = 2;

/// A segment under its name and, with wait: semaphore, the semaphores /name_tx and /name_rx beside it: each in an
/// object where sem_open() looks for it, made with the same care.
struct SharedObject {
  NamedObject segment;
  NamedObject tx_semaphore;  // Posted for the receiver of the TX ring, the server.
  NamedObject rx_semaphore;
  /// Of the segment. Valid while its mapping lives, wherever that has gone.
  SegmentControl* control = nullptr;

  /// Makes them all, in the places of `before`'s where there are any. The segment comes last: who finds it finds the
  /// rest.
  static cdmf_status create(const std::string& name, const Access& access, const SegmentPlan& plan,
                            const EndFacts& server, SharedObject* before, SharedObject& made, ErrorText& error);
  /// Opens the segment; of a server that lives.
  static cdmf_status open(const std::string& name, const Access& access, SharedObject& found, ErrorText& error);
  /// Whether the server lives, or has not yet let go of all of it.
  bool is_held_by_another() const noexcept {
    return segment.is_held_by_another() || (tx_semaphore && tx_semaphore.is_held_by_another()) ||
           (rx_semaphore && rx_semaphore.is_held_by_another());
  }
  /// The semaphores that the segment's server has made.
  cdmf_status open_semaphores(ErrorText& error);
};

class ObjectChannel final : public Channel {
 public:
  /// own_thread  an eventfd that has this side's rendezvous look at the link.
  /// Takes the semaphores' mappings: they live as long as the link, as somebody may sleep in one.
  ObjectChannel(std::shared_ptr<SharedObject> object, bool is_server, std::shared_ptr<UniqueFd> own_thread);

  void hang_up(cdmf_status reason) noexcept override;
  void ring(std::uint32_t armed) noexcept override;
  /// Also nullptr from when somebody has written into it what no semaphore of ours has.
  sem_t* own_semaphore() const noexcept override { return sound_semaphore(own_semaphore_); }

 private:
  static sem_t* sound_semaphore(const Mapping& mapping) noexcept;
  void ring_object() noexcept;

  const bool is_server_;
  std::shared_ptr<UniqueFd> own_thread_;
  Mapping own_semaphore_;
  Mapping peer_semaphore_;
  std::mutex mutex_;
  std::shared_ptr<SharedObject> object_;  // Until the channel is cut.
};

}  // namespace cdmf::ipc::shm
