// The receiver's half of the driver, waiting apart. All on the one thread that receives at a time, but for unhold().
#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "far_lines.h"
#include "shm_driver.h"

namespace cdmf::ipc::shm {
namespace {

constexpr unsigned kLooks = 16;
constexpr std::size_t kQuotaMin = 4;              // Views per link and burst, however many links there are.
constexpr std::size_t kCopiesBytes = 256 * 1024;  // Room for copies per burst, beside one largest frame.
constexpr std::uint32_t kDistrustMax = 64;        // See distrusted().
constexpr std::uint64_t kDiscardLogNs = 1'000'000'000;

constexpr std::size_t aligned(std::size_t size) noexcept {
  return (size + CDMF_FRAME_ALIGNMENT - 1) / CDMF_FRAME_ALIGNMENT * CDMF_FRAME_ALIGNMENT;
}

/// Lets a stream get some lines ahead (ring/record_pace.h). Some microseconds.
[[gnu::noinline]] void rest() noexcept {
  for (unsigned pause = 0; pause < RecordPace::kRestPauses; ++pause) cpu_relax();
}

/// Whether most of what a peer sends does not match its checksum. A bit that falls over happens once; a peer whose
/// every message is thrown away costs the others their time and has nothing from it. Counted where a record is
/// discarded alone: a line of others between two of those outweighs one.
[[gnu::cold]] bool distrusted(Link& link, const RecordView& record) noexcept {
  const std::uint64_t others = (record.begin - link.last_discarded_end) / kLineBytes;
  link.last_discarded_end = record.end;
  link.distrust = (link.distrust > others ? link.distrust - static_cast<std::uint32_t>(others) : 0) + 1;
  return link.distrust > kDistrustMax;
}

}  // namespace

/// What is not a record: links that came or went, calls, and bells that rang while the program slept on poll_fd().
[[gnu::noinline]] void ShmDriver::attend() {
  if (!receiver_links_.is_current(links_)) {
    renew_receiver_links();
    renew_copies();
  }
  if (calls_.any()) {
    for (const cdmf_peer id : calls_.take()) {
      if (Link* const link = receiver_links_.find(id)) polled_.unpark(*link);
    }
  }
  if (std::exchange(bells_may_ring_, false)) take_bells(0);
}

void ShmDriver::renew_receiver_links() {
  const auto before = receiver_links_.renew(links_);
  const auto& links = receiver_links_.links();
  polled_.renew(links);
  const std::int32_t own_cpu = only_cpu();
  receiver_cpu_.store(own_cpu, std::memory_order_relaxed);
  spinning_helps_ = false;
  copies_size_ = 0;
  std::size_t count = 0;
  for (const std::shared_ptr<Link>& link : links) {
    if (!link) continue;
    ++count;
    const LinkTerms& terms = link->terms();
    spinning_helps_ |= can_run_together(own_cpu, terms.peer_only_cpu);
    if (terms.hostile) copies_size_ = std::max(copies_size_, kCopiesBytes + aligned(terms.plan.frame_size_max));
  }
  burst_.reserve(count);
  if (!can_poll_fd()) return;
  for (const std::shared_ptr<Link>& link : before) {
    // Not left to the close(): the peer has the same eventfd open.
    if (link && receiver_links_.find(link->id()) == nullptr)
      epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link->own_bell(), nullptr);
  }
  for (const std::shared_ptr<Link>& link : links) {
    if (!link || link->announced) continue;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = link->id();
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, link->own_bell(), &event);
  }
}

/// Fresh room for the copies of a burst. What is held stays in the old memory.
void ShmDriver::renew_copies() {
  copies_.used = 0;
  if (copies_size_ == 0 || (copies_.memory && copies_.memory.use_count() == 1 && copies_.size >= copies_size_)) return;
  copies_.memory = std::make_shared<std::byte[]>(copies_size_);
  copies_.size = copies_size_;
}

std::size_t ShmDriver::receive_burst(cdmf_view* views, std::size_t capacity) {
  if (!receiver_links_.is_current(links_) || calls_.any() || bells_may_ring_) [[unlikely]]
    attend();
  if (copies_.used != 0) renew_copies();
  const std::vector<Link*>& hot = polled_.hot();
  if (hot.size() == 1) {
    Link& link = *hot[0];
    // A message that arrives while the caller's loop is between two calls waits for the next turn. Where the caller
    // does nothing but poll, a few looks in a row, each a load from the cache, spare most of that.
    if (options_.wait == WaitMode::spin) {
      for (unsigned look = 0; look < kLooks && !link.has_input(); ++look) {
      }
    }
    const std::size_t count = receive_from(link, views, capacity);
    if (count == 0 && link.plain) link.consumer->fetch_early();
    if (link.pace.after_poll(count)) rest();
    polled_.polled(link, count == 0);
    if (polled_.has_parked()) polled_.look_in_turn(count == 0);
    return count;
  }
  const std::size_t link_count = hot.size();
  if (link_count == 0) return 0;
  const std::size_t quota = std::max(capacity / link_count, kQuotaMin);
  std::size_t count = 0;
  std::size_t at = polled_.first;
  for (std::size_t i = 0; i < link_count && count < capacity; ++i) {
    const std::size_t got = receive_from(*hot[at], views + count, std::min(quota, capacity - count));
    polled_.polled(*hot[at], got == 0);
    count += got;
    if (++at == link_count) at = 0;
  }
  // The next burst starts with the link after the last one served; when all were served, with the second of them.
  if (count < capacity) at = polled_.first + 1 < link_count ? polled_.first + 1 : 0;
  polled_.first = at;
  polled_.park_idle();
  if (polled_.has_parked()) polled_.look_in_turn(count == 0);
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
    if (records != 0) consumer.fetch_ahead(record);
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
         (!plan.checksum || crc32_of_far(bytes, record.payload_bytes) == record.checksum);
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
  if (distrusted(link, record)) {
    break_link(link, "its messages do not match their checksums");
    link.drain_left = 0;
    return;
  }
  const std::uint64_t now = monotonic_now_ns();
  if (now < next_discard_log_ns_) return;
  next_discard_log_ns_ = now + kDiscardLogNs;
  troubles_.record(CDMF_CHECKSUM_MISMATCH, "a message of ", record.payload_bytes, " bytes from peer ", link.id(),
                   " (pid ", link.terms().peer.pid, ") does not match its checksum");
  rendezvous_->tell_observers();
  host_.log(CDMF_LOG_ERROR, "shm: a message of ", record.payload_bytes, " bytes from peer ", link.id(),
            " does not match its checksum and is discarded (", link.discarded, " from this peer so far)");
}

void ShmDriver::finish_link(Link& link, cdmf_view& view) {
  link.finished = true;
  ended_.fetch_add(1, std::memory_order_relaxed);
  if (link.ended() != CDMF_CONNECTION_CLOSED && link.ended() != CDMF_PROTOCOL_ERROR) {
    troubles_.record(link.ended(), "peer ", link.id(), " (pid ", link.terms().peer.pid, ") is gone without a goodbye");
  }
  rendezvous_->tell_observers();
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
  troubles_.record(CDMF_PROTOCOL_ERROR, "link to peer ", link.id(), " (pid ", link.terms().peer.pid,
                   ") is broken: ", what);
  link.hang_up(CDMF_PROTOCOL_ERROR);
  rendezvous_->tell_observers();
  kick(link.id());
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
  cdmf_peer peer = CDMF_NO_PEER;
  {
    const std::lock_guard lock(held_mutex_);
    const auto found = held_.find(held);
    if (found == held_.end()) return;
    link = std::move(found->second.link);
    if (link) link->give_back(found->second.begin);
    held_.erase(found);
    if (!link || link->ended() != CDMF_OK) return;
    peer = link->id();
  }
  // The space goes back when the receiver comes by; it may be asleep.
  kick(peer);
}

}  // namespace cdmf::ipc::shm
