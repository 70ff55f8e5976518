// The sender's half of the driver. All on the one thread that sends at a time, but for await_space().
#include <algorithm>

#include "checksum.h"
#include "shm_driver.h"

namespace cdmf::ipc::shm {

void ShmDriver::renew_sender_links() {
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

cdmf_status ShmDriver::claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) {
  Link* const link = sending_link(peer);
  if (link == nullptr) return CDMF_NOT_CONNECTED;
  if (const cdmf_status ended = link->ended(); ended != CDMF_OK) [[unlikely]]
    return ended;
  if (!link->can_send()) return CDMF_UNSUPPORTED;
  if (link->claim_open) return CDMF_RESOURCE_EXHAUSTED;
  if (size > link->terms().plan.frame_size_max) return CDMF_BUFFER_OVERFLOW;
  if (size == 0) return CDMF_INVALID_ARGUMENT;
  switch (link->producer->claim(size)) {
    case ClaimOutcome::claimed:
      break;
    case ClaimOutcome::full:
      link->batch_time_us = 0;
      if (!link->notify()) break_bell(*link);  // What was committed has just been flushed.
      return CDMF_BUFFER_FULL;
    case ClaimOutcome::too_large:
      return CDMF_BUFFER_OVERFLOW;
    case ClaimOutcome::corrupt:
      break_link(*link, to_string(link->producer->fault()));
      return CDMF_PROTOCOL_ERROR;
  }
  link->claim_open = true;
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
  link.claim_open = false;
  const std::uint32_t checksum = link.terms().plan.checksum ? crc32_ieee(loan.memory, size) : 0;
  link.producer->commit(size, time_of_sending(link), checksum);
  if (flush && !link.flush()) break_bell(link);
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
