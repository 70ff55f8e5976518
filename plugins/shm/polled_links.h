#pragma once
// polled_links.h: which links the receiver looks at in every burst, and which only in turn.
//
// A hot link is polled in every burst. One that stayed empty for a while, when there are others, is parked. What comes
// in over a parked link is noticed
//   - while the receiver is awake, by looking at the parked links in turn: a few at a time, for a fixed small share of
//     the time that passes, so that neither a thousand idle clients slow down a busy one nor a slow handler makes an
//     idle one wait for many bursts. With nothing else to do the turn goes on at full speed.
//   - while it sleeps, by the link's eventfd, as for any other (wait/bell.h): whoever sleeps has announced it on every
//     link. A parked link is announced once, not at each sleep, so that going to sleep costs what the hot ones cost.
//   - by a call (link_calls.h), for what is not a message: the link has ended, a held record came back.
//
// Why no shared doorbell. A word that all clients of a server set would spare the turn, but each sender would need a
// fence between its commit and its look at "am I parked", which those whose receiver spins do without; and a hostile
// client could ring all the time and have everybody wait for looks at all links. The turn is read-only, asks nothing of
// senders, and its cost is ours to bound.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "link.h"

namespace cdmf::ipc::shm {

/// The receiver's own. Refers to links; the receiver's snapshot of the table keeps them alive.
class PolledLinks {
 public:
  /// The links there are now; null ones are skipped. Those that were parked stay so; a link that is alone is hot.
  void renew(std::span<const std::shared_ptr<Link>> links);
  void clear() noexcept;

  bool empty() const noexcept { return hot_.empty() && parked_.empty(); }
  const std::vector<Link*>& hot() const noexcept { return hot_; }
  bool has_parked() const noexcept { return !parked_.empty(); }
  /// Links that may not be announced as asleep: the hot ones, and those parked since the last announced(). The visitor
  /// may unpark the link it visits.
  template <typename Visit>
  void visit_unannounced(Visit&& visit) {
    for (Link* const link : hot_) visit(*link);
    for (std::size_t i = fresh_.size(); i-- != 0;) visit(*fresh_[i]);
  }
  /// All of these are announced now, and were looked at after it, but for those that are to be quiet.
  void announced() noexcept {
    std::erase_if(fresh_, [](const Link* link) { return !link->bell_watch.quiet; });
  }
  /// Every link may be announced again.
  void end_quiet() noexcept {
    for (const std::vector<Link*>* const list : {&hot_, &parked_}) {
      for (Link* const link : *list) link->bell_watch.quiet = false;
    }
  }

  /// A poll of a hot link brought nothing, or something.
  void polled(Link& link, bool nothing) noexcept {
    if (!nothing) [[likely]] {
      link.empty_polls = 0;
    } else if (++link.empty_polls >= park_after_) {
      some_idle_ = true;
    }
  }
  /// After a burst: parks the hot links that were empty long enough, the last one excepted.
  void park_idle() {
    if (some_idle_) [[unlikely]]
      park_idle_slowly();
  }
  void unpark(Link& link) noexcept;

  /// After each burst: looks at as many parked links as are due, and unparks those that have something. Some bursts
  /// late while all bring something: whoever waits for an answer has just had an empty one, and time.
  void look_in_turn(bool nothing) noexcept {
    if (nothing || ++full_bursts_ >= kFullBurstsMax) look_at_due();
  }
  /// The same at each turn of a wait, counted from 0. True: a link had something, and is hot.
  bool look_while_waiting(unsigned turn) noexcept {
    return !parked_.empty() && (turn % kTurnsPerLook == kTurnsPerLook - 1 || turn >= kEagerTurns) && look_at_next();
  }
  /// Looks at the next one.
  bool look_at_next() noexcept;

  /// Where a burst over several hot links starts, so that it is not always the same one.
  std::size_t first = 0;

 private:
  // While traffic flows, waits end within these, and looks would make them longer.
  static constexpr unsigned kEagerTurns = 256;
  static constexpr unsigned kTurnsPerLook = 8;

  static constexpr unsigned kFullBurstsMax = 8;

  void look_at_due() noexcept;
  void park_idle_slowly();
  void set_park_after() noexcept;

  std::vector<Link*> hot_;
  std::vector<Link*> parked_;
  std::vector<Link*> fresh_;  // Of parked_.
  std::size_t next_ = 0;      // Of parked_: the next in turn.
  std::uint64_t last_look_ = 0;
  unsigned full_bursts_ = 0;      // Since then.
  std::uint32_t park_after_ = 0;  // Empty polls.
  bool some_idle_ = false;
};

}  // namespace cdmf::ipc::shm
