#include "faulty/faulty_driver.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "ipc/frame.h"

namespace cdmf::ipc::conformance {
namespace {

/// Which message of a driver is the unlucky one: only a test that sends many meets it.
constexpr std::uint64_t kUnlucky = 5500;

[[noreturn]] void sleep_for_ever() {
  for (;;) pause();
}

}  // namespace

FaultyDriver::FaultyDriver(const DriverConfig& config, PluginHost host)
    : fault_(static_cast<Fault>(config.number("fault"))),
      server_(config.is_server()),
      payload_bytes_max_(config.max_message_size()),
      inner_([&] {
        if (!is(Fault::endpoints_are_one)) return std::make_unique<loopback::LoopbackDriver>(config, host);
        const cdmf_setting settings[] = {config.setting("queue_size"), config.setting("fault")};
        cdmf_config other{};
        other.struct_size = sizeof other;
        other.role = server_ ? CDMF_ROLE_SERVER : CDMF_ROLE_CLIENT;
        other.endpoint = "the only one";
        other.max_message_size = config.max_message_size();
        other.frame_size_max = config.frame_size_max();
        other.settings = settings;
        other.setting_count = std::size(settings);
        return std::make_unique<loopback::LoopbackDriver>(DriverConfig(other), host);
      }()) {
  if (is(Fault::aborts_after_fork)) pthread_atfork(nullptr, nullptr, [] { std::abort(); });
}

FaultyDriver::~FaultyDriver() {
  if (ready_fd_ >= 0) ::close(ready_fd_);
}

// ---- Life -----------------------------------------------------------------------------------------------------------

cdmf_status FaultyDriver::open(ErrorText& error) {
  if (is(Fault::leaks_a_descriptor)) (void)::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (is(Fault::leaks_a_thread)) std::thread(sleep_for_ever).detach();
  if (is(Fault::leaks_a_mapping)) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    void* const pages = mmap(nullptr, 2 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages, page, PROT_NONE);  // Else the kernel joins neighbours into one.
  }
  const cdmf_status status = inner_->open(error);
  if (is(Fault::second_server_unnoticed) && status == CDMF_ENDPOINT_IN_USE) return CDMF_OK;
  return status;
}

cdmf_status FaultyDriver::attach(std::uint64_t deadline, cdmf_peer& peer, ErrorText& error) {
  const cdmf_status status = inner_->attach(deadline, peer, error);
  if (status == CDMF_OK) peer = shown_id(peer);
  return status;
}

cdmf_status FaultyDriver::disconnect(cdmf_peer peer, cdmf_status reason) {
  const cdmf_status status = inner_->disconnect(inner_id(peer), reason);
  const std::lock_guard lock(mutex_);
  if (status == CDMF_OK) ended_here_.insert(peer);
  return status;
}

void FaultyDriver::close() {
  if (is(Fault::crashes_on_close_with_a_claim) && !open_claims_.empty()) raise(SIGSEGV);
  if (is(Fault::hangs_on_close_with_a_claim) && !open_claims_.empty()) sleep_for_ever();
  inner_->close();
  peers_.clear();
  put_off_.clear();
  const std::lock_guard lock(mutex_);
  shown_.clear();
}

void FaultyDriver::describe(cdmf_info& info) { inner_->describe(info); }

// ---- Names of peers: reuses_peer_ids shows the lowest number that is free
// -----------------------------------------------

cdmf_peer FaultyDriver::shown_id(cdmf_peer inner) {
  if (!is(Fault::reuses_peer_ids)) return inner;
  const std::lock_guard lock(mutex_);
  const auto known = shown_.find(inner);
  if (known != shown_.end()) return known->second;
  cdmf_peer lowest = 1;
  while (std::any_of(shown_.begin(), shown_.end(), [&](const auto& each) { return each.second == lowest; })) ++lowest;
  return shown_[inner] = lowest;
}

cdmf_peer FaultyDriver::inner_id(cdmf_peer shown) {
  if (!is(Fault::reuses_peer_ids) || shown == CDMF_NO_PEER) return shown;
  const std::lock_guard lock(mutex_);
  for (const auto& [inner, other] : shown_) {
    if (other == shown) return inner;
  }
  return CDMF_ALL_PEERS;  // Nobody.
}

// ---- Sending --------------------------------------------------------------------------------------------------------

cdmf_status FaultyDriver::claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) {
  if (is(Fault::refuses_the_largest) && size >= payload_bytes_max_ + kFrameHeaderBytes + kSubjectBytesMax) {
    return CDMF_BUFFER_OVERFLOW;
  }
  cdmf_peer to = inner_id(peer);
  {
    const std::lock_guard lock(mutex_);
    if (is(Fault::replies_to_the_wrong_peer) && peers_.size() > 8 && ++claims_ % 100 == 0) to = *peers_.begin();
  }
  if (std::exchange(drop_next_, false)) {
    scratch_.resize(size + 16);
    loan = {reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(scratch_.data()) + 15) & ~std::uintptr_t{15}),
            size, peer, 1};
    return CDMF_OK;
  }
  const cdmf_status status = inner_->claim(to, size, loan);
  if (status != CDMF_OK) return status;
  open_claims_[to] = loan;
  if (is(Fault::reuses_peer_ids)) loan.peer = peer;
  if (is(Fault::misaligned_claim) && size < kFrameHeaderBytes) {
    scratch_.resize(size + 32);
    loan.memory =
        reinterpret_cast<void*>(((reinterpret_cast<std::uintptr_t>(scratch_.data()) + 15) & ~std::uintptr_t{15}) + 8);
  }
  return CDMF_OK;
}

cdmf_status FaultyDriver::commit(const cdmf_loan& loan, std::size_t size, bool flush) {
  if (is(Fault::drops_when_full) && loan.token == 1) return CDMF_OK;
  const auto found = open_claims_.find(inner_id(loan.peer));
  // After close() the names are gone; the inner driver knows what to say.
  cdmf_loan real = found != open_claims_.end() ? found->second
                   : !open_claims_.empty()     ? open_claims_.begin()->second
                                               : loan;
  open_claims_.erase(real.peer);
  if (is(Fault::misaligned_claim) && loan.size < kFrameHeaderBytes) std::memcpy(real.memory, loan.memory, size);
  if (is(Fault::ignores_shrink)) size = loan.size;
  return inner_->commit(real, size, flush || is(Fault::publishes_before_flush));
}

void FaultyDriver::abort(const cdmf_loan& loan) {
  const auto found = open_claims_.find(inner_id(loan.peer));
  const cdmf_loan real = found != open_claims_.end() ? found->second : loan;
  open_claims_.erase(real.peer);
  if (!is(Fault::delivers_aborted)) return inner_->abort(real);
  write_frame_header(real.memory, {}, 0, 0);
  (void)inner_->commit(real, real.size, true);
}

cdmf_status FaultyDriver::flush(cdmf_peer peer, std::uint64_t deadline) {
  return inner_->flush(inner_id(peer), deadline);
}

cdmf_status FaultyDriver::await_space(cdmf_peer peer, std::size_t size, std::uint64_t deadline) {
  ++waiting_;
  const cdmf_status status = inner_->await_space(inner_id(peer), size, deadline);
  --waiting_;
  if (is(Fault::drops_when_full) && status == CDMF_TIMEOUT) {
    drop_next_ = true;
    return CDMF_OK;
  }
  return status;
}

// ---- Receiving ------------------------------------------------------------------------------------------------------

FaultyDriver::Copy FaultyDriver::copy_of(const cdmf_view& view) {
  Copy copy{view, std::vector<std::max_align_t>(view.size / sizeof(std::max_align_t) + 1)};
  if (view.frame != nullptr) {
    std::memcpy(copy.memory.data(), view.frame, view.size);
    copy.view.frame = copy.memory.data();
  }
  return copy;
}

std::size_t FaultyDriver::receive_burst(cdmf_view* views, std::size_t capacity) {
  std::size_t count = inner_->receive_burst(views, capacity);
  const bool taken = count != 0;
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < count; ++i) {
      if (views[i].kind == CDMF_VIEW_PEER_CONNECTED) peers_.insert(views[i].peer);
      if (views[i].kind == CDMF_VIEW_PEER_DISCONNECTED) peers_.erase(views[i].peer);
    }
  }
  if (is(Fault::overwrites_what_is_held)) {
    burst_.clear();  // By token: the inner driver numbers the messages of a burst.
    for (std::size_t i = 0; i < count; ++i) {
      if (views[i].kind == CDMF_VIEW_MESSAGE) burst_.emplace_back(const_cast<void*>(views[i].frame), views[i].size);
    }
  }
  if (fault_ != Fault::none) count = break_burst(views, count, capacity);
  for (std::size_t i = 0; i < count; ++i) {
    const cdmf_peer inner = views[i].peer;
    views[i].peer = shown_id(inner);
    if (!is(Fault::reuses_peer_ids) || views[i].kind != CDMF_VIEW_PEER_DISCONNECTED) continue;
    const std::lock_guard lock(mutex_);
    shown_.erase(inner);
  }
  if (taken && count == 0) release_burst();  // Nobody else will.
  return count;
}

std::size_t FaultyDriver::break_burst(cdmf_view* views, std::size_t count, std::size_t capacity) {
  if (is(Fault::starves_peers)) return put_quiet_ones_off(views, count, capacity);
  if (!put_off_.empty() && count < capacity) {
    handed_.push_back(std::move(put_off_.front()));
    put_off_.pop_front();
    views[count++] = handed_.back().view;
  }
  for (std::size_t i = 0; i < count; ++i) {
    cdmf_view& view = views[i];
    if (view.kind == CDMF_VIEW_PEER_DISCONNECTED && is(Fault::ends_without_a_reason)) {
      const std::lock_guard lock(mutex_);
      if (ended_here_.erase(view.peer) != 0) view.reason = CDMF_OK;
    }
    if (view.kind != CDMF_VIEW_MESSAGE) continue;
    auto* const bytes = static_cast<char*>(const_cast<void*>(view.frame));
    if (is(Fault::no_timestamp)) view.timestamp_us = 0;
    if (is(Fault::tears) && view.size >= payload_bytes_max_ + kFrameHeaderBytes + kSubjectBytesMax) {
      bytes[view.size / 2] = static_cast<char>(bytes[view.size / 2] + 1);
    }
    if (is(Fault::cuts_a_byte) && view.size == kFrameHeaderBytes + 4097) --view.size;
    ++messages_;
    if (is(Fault::announces_twice) && messages_ == 30) {
      cdmf_view again{};
      again.kind = CDMF_VIEW_PEER_CONNECTED;
      again.peer = view.peer;
      put_off_.push_back(copy_of(again));
    }
    if (messages_ < kUnlucky || done_once_) continue;
    if (is(Fault::reorders) && i + 1 < count && views[i + 1].kind == CDMF_VIEW_MESSAGE) {
      std::swap(views[i], views[i + 1]);
      done_once_ = true;
    }
    if (is(Fault::duplicates)) {
      put_off_.push_back(copy_of(view));
      done_once_ = true;
    }
    if (is(Fault::drops_one)) {
      std::copy(views + i + 1, views + count, views + i);
      done_once_ = true;
      return count - 1;
    }
  }
  return count;
}

/// While the oldest peer has anything to say, everybody else waits. Each one's own order stays as it was.
std::size_t FaultyDriver::put_quiet_ones_off(cdmf_view* views, std::size_t count, std::size_t capacity) {
  if (peers_.size() < 3 && put_off_.empty()) return count;
  const cdmf_peer favourite = peers_.empty() ? CDMF_NO_PEER : *peers_.begin();
  const auto waits = [&](cdmf_peer peer) {
    return peer != favourite ||
           std::any_of(put_off_.begin(), put_off_.end(), [&](const Copy& each) { return each.view.peer == peer; });
  };
  std::size_t kept = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (!waits(views[i].peer)) {
      views[kept++] = views[i];
    } else {
      put_off_.push_back(copy_of(views[i]));
    }
  }
  if (kept != 0) return kept;
  for (; kept < capacity && !put_off_.empty(); put_off_.pop_front()) {
    handed_.push_back(std::move(put_off_.front()));
    views[kept++] = handed_.back().view;
  }
  return kept;
}

void FaultyDriver::release_burst() {
  for (const auto& [memory, size] : held_) std::memset(static_cast<char*>(memory) + size / 2, 0, 1);
  held_.clear();
  handed_.clear();
  inner_->release_burst();
}

cdmf_status FaultyDriver::await_messages(std::uint64_t deadline) {
  if (!put_off_.empty()) return CDMF_OK;
  const std::uint64_t now = monotonic_now_ns();
  if (is(Fault::timeout_early) && deadline != kForever && deadline > now) deadline = now + (deadline - now) / 2;
  ++waiting_;
  const cdmf_status status = inner_->await_messages(deadline);
  --waiting_;
  return status;
}

cdmf_status FaultyDriver::hold(cdmf_peer peer, std::uint64_t token, std::uint64_t& held) {
  const cdmf_status status = inner_->hold(inner_id(peer), token, held);
  if (is(Fault::overwrites_what_is_held) && status == CDMF_OK && token < burst_.size()) held_.push_back(burst_[token]);
  return status;
}

void FaultyDriver::unhold(std::uint64_t held) { inner_->unhold(held); }

int FaultyDriver::poll_fd() {
  if (ready_fd_ >= 0) return ready_fd_;
  if (is(Fault::descriptor_always_ready)) return ready_fd_ = eventfd(1, EFD_CLOEXEC);
  if (!is(Fault::loses_a_wake_up)) return inner_->poll_fd();
  ready_fd_ = epoll_create1(EPOLL_CLOEXEC);
  epoll_event wanted{};
  wanted.events = EPOLLIN;
  epoll_ctl(ready_fd_, EPOLL_CTL_ADD, inner_->poll_fd(), &wanted);
  return ready_fd_;
}

cdmf_arm_result FaultyDriver::arm() {
  if (!put_off_.empty()) return CDMF_READY;
  // From here on nothing tells the sleeper.
  if (ready_fd_ >= 0 && is(Fault::loses_a_wake_up) && messages_ > 1000) {
    epoll_ctl(ready_fd_, EPOLL_CTL_DEL, inner_->poll_fd(), nullptr);
  }
  return inner_->arm();
}

void FaultyDriver::interrupt() {
  if (is(Fault::loses_an_early_interrupt) && waiting_ == 0) return;
  inner_->interrupt();
}

}  // namespace cdmf::ipc::conformance

CDMF_EXPORT_TRANSPORT(cdmf::ipc::conformance::FaultyDriver, cdmf::ipc::conformance::kDescription)
