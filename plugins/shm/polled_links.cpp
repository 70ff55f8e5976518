#include "polled_links.h"

#include <algorithm>

namespace cdmf::ipc::shm {
namespace {

// So many looks at empty links, all hot ones together, until one of them is parked: some 10 us.
constexpr std::uint32_t kEmptyLooks = 1024;
constexpr std::uint32_t kEmptyPollsMin = 8;
// A look at one of many parked links misses the caches: some 40 ns. One in so many ticks (1 to 2 us): some 2 to 4 % of
// the time.
constexpr std::uint64_t kTicksPerLook = 4096;
constexpr std::uint64_t kLooksMax = 256;  // Per burst, after a long handler.
constexpr unsigned kIdleLooks = 8;        // Per burst while nothing is going on: a hot link waits for these.

/// Moves on with time, at 1 to 5 ticks per nanosecond where that is cheap. To share out time by, not to tell it.
std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return monotonic_now_ns();
#endif
}

}  // namespace

void PolledLinks::renew(std::span<const std::shared_ptr<Link>> links) {
  clear();
  // unpark() allocates nothing.
  for (std::vector<Link*>* const list : {&hot_, &parked_, &fresh_}) list->reserve(links.size());
  for (const std::shared_ptr<Link>& link : links) {
    if (!link) continue;
    if (link->parked) {
      parked_.push_back(link.get());
      // One that says it sleeps on its word, left from a time when it was alone, does not ring its eventfd.
      if (link->can_receive() && link->armed() != kArmedFd) fresh_.push_back(link.get());
    } else {
      hot_.push_back(link.get());
    }
  }
  if (hot_.empty() && !parked_.empty()) unpark(*parked_.back());
  set_park_after();
}

void PolledLinks::clear() noexcept {
  hot_.clear();
  parked_.clear();
  fresh_.clear();
  next_ = 0;
  first = 0;
  some_idle_ = false;
}

void PolledLinks::set_park_after() noexcept {
  park_after_ =
      std::max(kEmptyLooks / static_cast<std::uint32_t>(std::max<std::size_t>(hot_.size(), 1)), kEmptyPollsMin);
}

void PolledLinks::park_idle_slowly() {
  some_idle_ = false;
  for (std::size_t i = hot_.size(); i-- != 0 && hot_.size() > 1;) {
    Link& link = *hot_[i];
    if (link.empty_polls < park_after_) continue;
    link.empty_polls = 0;
    if (!link.announced || link.has_input()) continue;
    link.parked.store(true, std::memory_order_relaxed);
    parked_.push_back(&link);
    fresh_.push_back(&link);
    hot_[i] = hot_.back();
    hot_.pop_back();
  }
  if (first >= hot_.size()) first = 0;
  set_park_after();
}

void PolledLinks::unpark(Link& link) noexcept {
  if (!link.parked) return;
  link.parked.store(false, std::memory_order_relaxed);
  link.empty_polls = 0;
  std::erase(fresh_, &link);
  const auto place = std::find(parked_.begin(), parked_.end(), &link);
  *place = parked_.back();
  parked_.pop_back();
  hot_.push_back(&link);
  set_park_after();
}

void PolledLinks::look_at_due() noexcept {
  full_bursts_ = 0;
  const std::uint64_t now = ticks();
  const bool idle =
      std::all_of(hot_.begin(), hot_.end(), [&](const Link* link) { return link->empty_polls >= park_after_; });
  std::uint64_t looks = idle ? kIdleLooks : std::min((now - last_look_) / kTicksPerLook, kLooksMax);
  if (looks == 0) return;
  last_look_ = now;
  for (looks = std::min<std::uint64_t>(looks, parked_.size()); looks != 0; --looks) look_at_next();
}

bool PolledLinks::look_at_next() noexcept {
  if (parked_.empty()) return false;
  if (next_ >= parked_.size()) next_ = 0;
  Link& link = *parked_[next_];
  if (!link.has_record()) [[likely]] {
    ++next_;
    return false;
  }
  unpark(link);
  return true;
}

}  // namespace cdmf::ipc::shm
