// The sender's half of the driver. All on the one thread that sends at a time, but for await_space().
#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "checksum.h"
#include "far_lines.h"
#include "large_frame.h"
#include "shm_driver.h"

namespace cdmf::ipc::shm {
namespace {

constexpr std::size_t kShortBytes = 256;  // Up to here words are faster than a call of memcpy().

/// Loads word by word. A program has mostly written its message a moment ago, word by word. A wider load, such as those
/// of memcpy(), cannot be served from several stores that are under way: it waits until they have left the core's store
/// buffer, behind those of the message before, which wait for lines from the receiver's core. Stores two words at a
/// time, so that the buffer holds more messages.
inline void copy_short(std::byte* to, const void* from_bytes, std::size_t size) noexcept {
  const auto* const from = static_cast<const std::byte*>(from_bytes);
  const auto copy_words = [&](std::size_t at) {
#if defined(__x86_64__)
    double low;
    std::memcpy(&low, from + at, sizeof low);
    __m128d words = _mm_set_sd(low);
    asm("" : "+x"(words));  // Or the compiler makes one load of the two.
    words = _mm_loadh_pd(words, reinterpret_cast<const double*>(from + at + 8));
    _mm_storeu_pd(reinterpret_cast<double*>(to + at), words);
#else
    std::memcpy(to + at, from + at, 16);
#endif
  };
  const auto copy_word = [&](std::size_t at) { std::memcpy(to + at, from + at, 8); };
  if (size < 8) [[unlikely]] {
#pragma GCC unroll 1
    for (std::size_t i = 0; i < size; ++i) to[i] = from[i];
    return;
  }
  std::size_t at = 0;
#pragma GCC unroll 1
  for (; at + 32 <= size; at += 32) {
    copy_words(at);
    copy_words(at + 16);
  }
  if (at == size) return;
  if (at + 16 <= size) {
    copy_words(at);
    at += 16;
    if (at == size) return;
  }
  if (at + 8 < size) copy_word(at);
  copy_word(size - 8);
}

inline void write_short(std::byte* memory, const cdmf_pieces& frame) noexcept {
  copy_short(memory, frame.head, sizeof frame.head);
  memory += sizeof frame.head;
  copy_short(memory, frame.body, frame.body_size);
  if (frame.tail_size != 0) copy_short(memory + frame.body_size, frame.tail, frame.tail_size);
}

[[gnu::noinline]] std::uint32_t write_long(std::byte* memory, const cdmf_pieces& frame, bool checksum) noexcept {
  std::uint32_t sum = checksum ? crc32_ieee(frame.head, sizeof frame.head) : 0;
  std::memcpy(memory, frame.head, sizeof frame.head);
  memory += sizeof frame.head;
  copy_to_far(memory, static_cast<const std::byte*>(frame.body), frame.body_size, frame.body_size + frame.tail_size,
              checksum ? &sum : nullptr);
  if (frame.tail_size != 0) {
    if (checksum) sum = crc32_ieee_after(sum, frame.tail, frame.tail_size);
    std::memcpy(memory + frame.body_size, frame.tail, frame.tail_size);
  }
  return sum;
}

/// Returns the checksum, 0 when none is wanted.
inline std::uint32_t write_frame(RecordProducer& producer, std::byte* memory, const cdmf_pieces& frame,
                                 std::size_t size, bool checksum) noexcept {
  if (size >= kLargeFrameBytes) return write_large_frame(producer, memory, frame, checksum);
  if (size > kShortBytes) return write_long(memory, frame, checksum);
  write_short(memory, frame);
  return checksum ? crc32_ieee(memory, size) : 0;
}

}  // namespace

void ShmDriver::renew_sender_links() {
  last_put_ = nullptr;
  for (std::shared_ptr<Link>& link : sender_links_.renew(links_)) {
    // A claim outlives its link: the memory stays until the commit.
    if (link && link->claim_open && sender_links_.find(link->id()) == nullptr) claimed_.push_back(std::move(link));
  }
}

inline Link* ShmDriver::sending_link(cdmf_peer peer) {
  if (!sender_links_.is_current(links_)) [[unlikely]]
    renew_sender_links();
  return sender_links_.find(peer);
}

inline std::uint64_t ShmDriver::time_of_sending(Link& link) noexcept {
  if (!options_.timestamp) return 0;
  if (link.batch_time_us == 0) link.batch_time_us = sending_clock_.now_us();
  return link.batch_time_us;
}

[[gnu::cold]] void ShmDriver::break_bell(Link& link) { break_link(link, "its eventfd was made to block"); }

[[gnu::noinline]] cdmf_status ShmDriver::claim_failed(Link& link, ClaimOutcome outcome) {
  switch (outcome) {
    case ClaimOutcome::claimed:
      return CDMF_OK;
    case ClaimOutcome::full:
      link.batch_time_us = 0;
      if (!link.notify()) break_bell(link);  // What was committed has just been flushed.
      return CDMF_BUFFER_FULL;
    case ClaimOutcome::too_large:
      return CDMF_BUFFER_OVERFLOW;
    case ClaimOutcome::corrupt:
      break;
  }
  break_link(link, to_string(link.producer->fault()));
  return CDMF_PROTOCOL_ERROR;
}

cdmf_status ShmDriver::claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) {
  Link* const link = sending_link(peer);
  if (link == nullptr) return CDMF_NOT_CONNECTED;
  if (const cdmf_status ended = link->ended(); ended != CDMF_OK) [[unlikely]]
    return ended;
  if (!link->can_send()) return CDMF_UNSUPPORTED;
  if (link->claim_open) return CDMF_RESOURCE_EXHAUSTED;
  if (size > link->terms().plan.frame_size_max) return CDMF_BUFFER_OVERFLOW;
  if (size == 0) return CDMF_INVALID_ARGUMENT;
  const ClaimOutcome outcome = link->producer->claim(size);
  if (outcome != ClaimOutcome::claimed) [[unlikely]]
    return claim_failed(*link, outcome);
  link->claim_open = true;
  last_put_ = nullptr;  // Until it ends, put() goes step by step.
  loan.memory = link->producer->payload().data();
  loan.size = size;
  loan.peer = peer;
  loan.token = reinterpret_cast<std::uintptr_t>(link);
  return CDMF_OK;
}

cdmf_status ShmDriver::commit(const cdmf_loan& loan, std::size_t size, bool flush) {
  Link& link = *reinterpret_cast<Link*>(static_cast<std::uintptr_t>(loan.token));
  const cdmf_status ended = link.ended();
  if (ended != CDMF_OK || size == 0 || size > loan.size) [[unlikely]] {
    ShmDriver::abort(loan);
    return ended != CDMF_OK ? ended : CDMF_INVALID_ARGUMENT;
  }
  return finish(link, size, link.terms().plan.checksum ? crc32_ieee(loan.memory, size) : 0, flush);
}

cdmf_status ShmDriver::finish(Link& link, std::size_t size, std::uint32_t checksum, bool flush) {
  link.claim_open = false;
  link.producer->commit(size, time_of_sending(link), checksum);
  if (flush && !link.flush()) break_bell(link);
  return CDMF_OK;
}

/// The plain case: the peer of the last call, no claim open, and room in its ring. Calls no function but at its end,
/// and so keeps everything in registers: what a short message costs a sender is the instructions.
cdmf_status ShmDriver::put(cdmf_peer peer, const cdmf_pieces& frame, bool flush) noexcept {
  const std::size_t size = sizeof frame.head + frame.body_size + frame.tail_size;
  Link* const link = last_put_;
  if (link == nullptr || link->id() != peer || !sender_links_.is_current(links_) || size > link->put_size_max())
      [[unlikely]] {
    return put_slowly(peer, frame, flush);
  }
  if (size > kShortBytes || link->terms().plan.checksum) return put_long(*link, frame, flush);
  if (options_.timestamp && link->batch_time_us == 0) return put_timed(*link, frame, flush);
  const auto write = [&](std::byte* memory) {
    write_short(memory, frame);
    return std::uint32_t{0};
  };
  if (!link->producer->put(size, link->batch_time_us, write)) [[unlikely]]
    return put_slowly(peer, frame, flush);
  return flush ? flush_put(*link) : CDMF_OK;
}

/// The first one goes by itself, and through every check; the others to the same peer, as long as there is room.
std::size_t ShmDriver::put_burst(cdmf_peer peer, std::span<const cdmf_pieces> frames, bool flush) noexcept {
  if (frames.empty() || put(peer, frames[0], false) != CDMF_OK) return 0;
  Link& link = *last_put_;  // Set by it.
  RecordProducer& producer = *link.producer;
  const bool checksum = link.terms().plan.checksum;
  std::size_t count = 1;
  for (; count != frames.size(); ++count) {
    const cdmf_pieces& frame = frames[count];
    const std::size_t size = sizeof frame.head + frame.body_size + frame.tail_size;
    if (size > link.put_size_max()) break;
    const auto write = [&](std::byte* memory) { return write_frame(producer, memory, frame, size, checksum); };
    if (!producer.put(size, link.batch_time_us, write)) break;
  }
  if (flush) (void)flush_put(link);  // A broken bell ends the link, as the next call says.
  return count;
}

/// The first of a batch says when it was sent.
[[gnu::noinline]] cdmf_status ShmDriver::put_timed(Link& link, const cdmf_pieces& frame, bool flush) noexcept {
  time_of_sending(link);
  return put(link.id(), frame, flush);
}

[[gnu::noinline]] cdmf_status ShmDriver::put_long(Link& link, const cdmf_pieces& frame, bool flush) noexcept {
  const std::size_t size = sizeof frame.head + frame.body_size + frame.tail_size;
  const auto write = [&](std::byte* memory) {
    return write_frame(*link.producer, memory, frame, size, link.terms().plan.checksum);
  };
  if (!link.producer->put(size, time_of_sending(link), write)) [[unlikely]]
    return put_slowly(link.id(), frame, flush);
  return flush ? flush_put(link) : CDMF_OK;
}

[[gnu::noinline]] cdmf_status ShmDriver::flush_put(Link& link) noexcept {
  return link.flush() ? CDMF_OK : put_failed(link);
}

/// Step by step, so that every outcome is that of claim() and commit().
[[gnu::noinline]] cdmf_status ShmDriver::put_slowly(cdmf_peer peer, const cdmf_pieces& frame, bool flush) noexcept try {
  const std::size_t size = sizeof frame.head + frame.body_size + frame.tail_size;
  cdmf_loan loan{};
  if (const cdmf_status status = ShmDriver::claim(peer, size, loan); status != CDMF_OK) return status;
  last_put_ = reinterpret_cast<Link*>(static_cast<std::uintptr_t>(loan.token));
  Link& link = *last_put_;
  const std::uint32_t checksum =
      write_frame(*link.producer, static_cast<std::byte*>(loan.memory), frame, size, link.terms().plan.checksum);
  return finish(link, size, checksum, flush);
} catch (const std::exception& problem) {  // A lack of memory.
  host_.log(CDMF_LOG_ERROR, "shm: cannot send: ", problem.what());
  return CDMF_RESOURCE_EXHAUSTED;
}

[[gnu::cold]] cdmf_status ShmDriver::put_failed(Link& link) noexcept try {
  break_bell(link);
  return CDMF_OK;  // The frame is in the ring; that the link is over, the next call says.
} catch (const std::exception&) {
  return CDMF_OK;
}

void ShmDriver::abort(const cdmf_loan& loan) {
  Link* const link = reinterpret_cast<Link*>(static_cast<std::uintptr_t>(loan.token));
  link->producer->abort();
  link->claim_open = false;
  std::erase_if(claimed_, [&](const std::shared_ptr<Link>& kept) { return kept.get() == link; });
}

cdmf_status ShmDriver::flush(cdmf_peer peer, std::uint64_t /*deadline: nothing to wait for*/) {
  if (peer != CDMF_NO_PEER) {
    Link* const link = sending_link(peer);
    if (link == nullptr) return CDMF_NOT_CONNECTED;
    if (const cdmf_status ended = link->ended(); ended != CDMF_OK) return ended;
    if (link->can_send() && !link->flush()) break_bell(*link);
    return CDMF_OK;
  }
  if (!sender_links_.is_current(links_)) renew_sender_links();
  for (const std::shared_ptr<Link>& link : sender_links_.links()) {
    if (link && link->can_send() && link->ended() == CDMF_OK && !link->flush()) break_bell(*link);
  }
  return CDMF_OK;
}

cdmf_status ShmDriver::await_space(cdmf_peer peer, std::size_t size, std::uint64_t deadline) {
  const std::uint64_t began = space_interrupt_.count();
  if (space_interrupt_.take(began)) return CDMF_INTERRUPTED;
  const std::shared_ptr<Link> link = links_.find(peer);
  if (!link) return CDMF_NOT_CONNECTED;
  if (!link->can_send()) return CDMF_UNSUPPORTED;
  if (size > link->terms().plan.frame_size_max) return CDMF_BUFFER_OVERFLOW;
  std::uint64_t spin_ns = options_.may_sleep() ? 0 : kForever;
  if (options_.wait == WaitMode::adaptive && can_run_together(only_cpu(), link->terms().peer_only_cpu)) {
    spin_ns = options_.spin_budget_ns;
  }
  const cdmf_status waited = link->await_space(size, deadline, spin_ns, options_.wait == WaitMode::yield,
                                               [&] { return space_interrupt_.raised(began); });
  if (waited == CDMF_INTERRUPTED) space_interrupt_.take(began);
  return waited == CDMF_OK ? link->ended() : waited;
}

}  // namespace cdmf::ipc::shm
