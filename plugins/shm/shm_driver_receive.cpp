// The receiver's half of the driver, waiting apart. All on the one thread that receives at a time, but for unhold().
#include <sys/epoll.h>

#include <algorithm>
#include <cstring>

#include "checksum.h"
#include "shm_driver.h"

namespace cdmf::ipc::shm {
namespace {

constexpr unsigned kLooks = 16;
constexpr std::size_t kQuotaMin = 4;              // Views per link and burst, however many links there are.
constexpr std::size_t kCopiesBytes = 256 * 1024;  // Room for copies per burst, beside one largest frame.
constexpr std::uint64_t kDiscardLogNs = 1'000'000'000;

constexpr std::size_t aligned(std::size_t size) noexcept {
  return (size + CDMF_FRAME_ALIGNMENT - 1) / CDMF_FRAME_ALIGNMENT * CDMF_FRAME_ALIGNMENT;
}

/// Lets a stream get some lines ahead (ring/record_pace.h). Some microseconds.
[[gnu::noinline]] void rest() noexcept {
  for (unsigned pause = 0; pause < RecordPace::kRestPauses; ++pause) cpu_relax();
}

}  // namespace

void ShmDriver::renew_receiver_links() {
  const auto before = receiver_links_.renew(links_);
  polled_.clear();
  for (const std::shared_ptr<Link>& link : receiver_links_.links()) {
    if (link) polled_.push_back(link.get());
  }
  first_polled_ = 0;
  burst_.reserve(polled_.size());
  const std::int32_t own_cpu = only_cpu();
  spinning_helps_ = std::any_of(polled_.begin(), polled_.end(), [&](const Link* link) {
    return can_run_together(own_cpu, link->terms().peer_only_cpu);
  });
  if (!can_poll_fd()) return;
  for (const std::shared_ptr<Link>& link : before) {
    // Not left to the close(): the peer has the same eventfd open.
    if (link && receiver_links_.find(link->id()) == nullptr)
      epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link->own_bell(), nullptr);
  }
  for (Link* const link : polled_) {
    if (link->announced) continue;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, link->own_bell(), &event);
  }
}

/// Fresh room for the copies of a burst. What is held stays in the old memory.
void ShmDriver::renew_copies() {
  std::size_t size = 0;
  for (const Link* const link : polled_) {
    if (link->terms().hostile) size = std::max(size, kCopiesBytes + aligned(link->terms().plan.frame_size_max));
  }
  copies_.used = 0;
  if (size == 0 || (copies_.memory && copies_.memory.use_count() == 1 && copies_.size >= size)) return;
  copies_.memory = std::make_shared<std::byte[]>(size);
  copies_.size = size;
}

std::size_t ShmDriver::receive_burst(cdmf_view* views, std::size_t capacity) {
  if (!receiver_links_.is_current(links_)) [[unlikely]] {
    renew_receiver_links();
    renew_copies();
  }
  if (copies_.used != 0) renew_copies();
  const std::size_t link_count = polled_.size();
  if (link_count == 0) return 0;
  if (link_count == 1) {
    Link& link = *polled_[0];
    // A message that arrives while the caller's loop is between two calls waits for the next turn. Where the caller
    // does nothing but poll, a few looks in a row, each a load from the cache, spare most of that.
    if (options_.wait == WaitMode::spin) {
      for (unsigned look = 0; look < kLooks && !link.has_input(); ++look) {
      }
    }
    const std::size_t count = receive_from(link, views, capacity);
    if (link.pace.after_poll(count)) rest();
    return count;
  }
  const std::size_t quota = std::max(capacity / link_count, kQuotaMin);
  std::size_t count = 0;
  std::size_t at = first_polled_;
  for (std::size_t i = 0; i < link_count && count < capacity; ++i) {
    count += receive_from(*polled_[at], views + count, std::min(quota, capacity - count));
    if (++at == link_count) at = 0;
  }
  // The next burst starts with the link after the last one served; when all were served, with the second of them.
  if (count < capacity) at = first_polled_ + 1 < link_count ? first_polled_ + 1 : 0;
  first_polled_ = at;
  return count;
}

/// The plain case first: a peer that is trusted and was announced, and nothing that ends. The rest is for
/// receive_closely().
std::size_t ShmDriver::receive_from(Link& link, cdmf_view* views, std::size_t capacity) {
  if (!link.plain || link.has_returned()) [[unlikely]]
    return receive_closely(link, views, capacity);
  RecordConsumer& consumer = *link.consumer;
  RecordView record;
  std::size_t count = 0;
  std::size_t records = 0;  // Taken from the ring, discarded ones included: those use up the link's turn as well.
  for (; records < capacity && consumer.receive(record); ++records) {
    if (is_sound(link, record, record.payload)) [[likely]] {
      fill_view(link, record, record.payload, views[count++]);
    } else {
      discard(link, record);
    }
  }
  if (records != 0) {
    link.burst_end = record.end;
    begin_burst(link, records, count);
  } else {
    link.offer_space();
  }
  if (records == capacity || (consumer.fault() == RingFault::none && link.ended() == CDMF_OK)) [[likely]]
    return count;
  return count + receive_closely(link, views + count, capacity - count);
}

[[gnu::noinline]] std::size_t ShmDriver::receive_closely(Link& link, cdmf_view* views, std::size_t capacity) {
  if (link.finished) return 0;
  std::size_t count = 0;
  if (!link.announced) {
    link.announced = true;
    link.plain = link.can_receive() && !link.terms().hostile;
    views[count] = {};
    views[count].kind = CDMF_VIEW_PEER_CONNECTED;
    views[count++].peer = link.id();
  }
  link.collect_returned();
  RecordView record;
  std::size_t records = 0;
  std::size_t discarded = 0;  // They use up the link's turn as well.
  for (;;) {
    const std::size_t room = link.terms().hostile ? aligned(link.terms().plan.frame_size_max) : 0;
    while (count + discarded < capacity && copies_.size - copies_.used >= room && link.can_receive() &&
           link.consumer->receive(record)) {
      ++records;
      link.burst_end = record.end;
      if (link.ending) link.drain_left -= std::min(link.drain_left, record.end - record.begin);
      const std::byte* const bytes = link.terms().hostile ? copy_of(link, record) : record.payload;
      if (is_sound(link, record, bytes)) {
        fill_view(link, record, bytes, views[count++]);
      } else {
        discard(link, record);
        ++discarded;
      }
      if (link.ending && link.drain_left == 0) break;
    }
    if (count + discarded == capacity || copies_.size - copies_.used < room) break;
    if (link.can_receive() && link.consumer->fault() != RingFault::none) {
      break_link(link, to_string(link.consumer->fault()));
    }
    if (link.ended() == CDMF_OK) break;
    link.plain = false;
    if (link.ending) {
      finish_link(link, views[count++]);
      break;
    }
    link.ending = true;  // Once more: what was flushed before the end is visible by now.
  }
  if (records != 0) {
    begin_burst(link, records, count);
  } else if (link.can_receive()) {
    link.offer_space();
  }
  return count;
}

/// After records were taken from a link, of which so many views are handed out.
inline void ShmDriver::begin_burst(Link& link, std::size_t records, std::size_t views) {
  link.consumer->count_taken(records);
  if (options_.may_sleep()) link.disarm();
  if (link.in_burst) return;
  if (views != 0) [[likely]] {
    link.in_burst = true;
    burst_.push_back(&link);
  } else {
    release(link);  // All discarded: no release_burst() need follow.
  }
}

/// Before anything of a record of an untrusted peer is checked: the peer may change the original at any time.
const std::byte* ShmDriver::copy_of(const Link& link, const RecordView& record) {
  // A size over the largest is refused by is_sound(); there is no room to copy it.
  if (record.payload_bytes > link.terms().plan.frame_size_max) return record.payload;
  std::byte* const copy = copies_.memory.get() + copies_.used;
  std::memcpy(copy, record.payload, record.payload_bytes);
  copies_.used += aligned(record.payload_bytes);
  return copy;
}

inline bool ShmDriver::is_sound(const Link& link, const RecordView& record, const std::byte* bytes) noexcept {
  const SegmentPlan& plan = link.terms().plan;
  // One comparison for both limits: 0 wraps round.
  return std::uint64_t{record.payload_bytes} - 1 < plan.frame_size_max &&
         (!plan.checksum || crc32_ieee(bytes, record.payload_bytes) == record.checksum);
}

inline void ShmDriver::fill_view(const Link& link, const RecordView& record, const std::byte* bytes,
                                 cdmf_view& view) noexcept {
  view.frame = bytes;
  view.size = record.payload_bytes;
  view.peer = link.id();
  view.token = record.begin;
  view.timestamp_us = record.timestamp_us;
  view.kind = CDMF_VIEW_MESSAGE;
  view.reason = CDMF_OK;
  view.lost = 0;
}

/// A record that is not sound: of a size that no correct peer sends, which ends the link, or not what its checksum
/// says.
[[gnu::noinline]] void ShmDriver::discard(Link& link, const RecordView& record) {
  if (std::uint64_t{record.payload_bytes} - 1 >= link.terms().plan.frame_size_max) {
    break_link(link, "a frame is empty or larger than the largest");
    link.drain_left = 0;
    return;
  }
  ++link.discarded;
  const std::uint64_t now = monotonic_now_ns();
  if (now < next_discard_log_ns_) return;
  next_discard_log_ns_ = now + kDiscardLogNs;
  host_.log(CDMF_LOG_ERROR, "shm: a message of ", record.payload_bytes, " bytes from peer ", link.id(),
            " does not match its checksum and is discarded (", link.discarded, " from this peer so far)");
}

void ShmDriver::finish_link(Link& link, cdmf_view& view) {
  link.finished = true;
  view = {};
  view.kind = CDMF_VIEW_PEER_DISCONNECTED;
  view.peer = link.id();
  view.reason = link.ended();
  view.lost = link.discarded + link.count_undelivered();
  cdmf_peer own = link.id();
  attached_.compare_exchange_strong(own, CDMF_NO_PEER, std::memory_order_relaxed);
  links_.remove(link.id());  // The snapshot keeps it for the rest of the burst.
}

/// The peer broke the rules: its link is over, and only its.
[[gnu::cold]] void ShmDriver::break_link(Link& link, const char* what) {
  if (!link.end(CDMF_PROTOCOL_ERROR)) return;
  host_.log(CDMF_LOG_ERROR, "shm: link to peer ", link.id(), " (pid ", link.terms().peer.pid, ") is broken: ", what);
  link.hang_up(CDMF_PROTOCOL_ERROR);
  kick();
}

void ShmDriver::release_burst() {
  for (Link* const link : burst_) {
    link->in_burst = false;
    release(*link);
  }
  burst_.clear();
}

inline void ShmDriver::release(Link& link) noexcept {
  link.consumer->release_until(link.burst_end);
  link.offer_space();
}

cdmf_status ShmDriver::hold(cdmf_peer peer, std::uint64_t token, std::uint64_t& held) {
  Link* const link = receiver_links_.find(peer);
  if (link == nullptr) return CDMF_NOT_CONNECTED;
  const std::lock_guard lock(held_mutex_);
  if (link->terms().hostile) {
    if (held_.size() >= RecordConsumer::kHeldMax) return CDMF_RESOURCE_EXHAUSTED;
    held_[++last_held_] = {nullptr, 0, copies_.memory};
  } else {
    if (!link->consumer->hold(token)) return CDMF_RESOURCE_EXHAUSTED;
    held_[++last_held_] = {receiver_links_.links()[LinkTable::slot_of(peer)], token, nullptr};
  }
  held = last_held_;
  return CDMF_OK;
}

void ShmDriver::unhold(std::uint64_t held) {
  std::shared_ptr<Link> link;
  {
    const std::lock_guard lock(held_mutex_);
    const auto found = held_.find(held);
    if (found == held_.end()) return;
    link = std::move(found->second.link);
    if (link) link->give_back(found->second.begin);
    held_.erase(found);
    if (!link || link->ended() != CDMF_OK) return;
  }
  // The space goes back when the receiver comes by; it may be asleep.
  kick();
}

}  // namespace cdmf::ipc::shm
