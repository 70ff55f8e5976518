// Life of the driver, and what its rendezvous asks of it. Sending, receiving and waiting are in shm_driver_*.cpp.
#include "shm_driver.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "ipc/property.h"

namespace cdmf::ipc::shm {

ShmDriver::ShmDriver(const DriverConfig& config, PluginHost host)
    : options_(config), host_(host), budget_of_memory_(options_.memory_budget), budget_(options_.spin_budget_ns) {}

ShmDriver::~ShmDriver() { ShmDriver::close(); }

cdmf_status ShmDriver::open(ErrorText& error) {
  if (is_open_) return CDMF_ALREADY_INITIALIZED;
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  UniqueFd kicker(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  if (!epoll || !kicker || epoll_ctl(epoll.get(), EPOLL_CTL_ADD, kicker.get(), &event) != 0) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: no descriptors for endpoint \"", options_.endpoint, '"');
  }
  // The thread of the rendezvous may call kick() as soon as it runs.
  {
    const std::lock_guard lock(sleep_mutex_);
    epoll_ = std::move(epoll);
    kicker_ = std::move(kicker);
  }
  auto rendezvous = make_rendezvous(options_, *this, host_);
  if (const cdmf_status status = rendezvous->open(error); status != CDMF_OK) {
    close_descriptors();
    return status;
  }
  {
    const std::lock_guard lock(describe_mutex_);
    address_ = rendezvous->address();
  }
  rendezvous_ = std::move(rendezvous);
  is_open_ = true;
  return CDMF_OK;
}

cdmf_status ShmDriver::attach(std::uint64_t deadline, cdmf_peer& peer, ErrorText& error) {
  if (!is_open_) return error.fail(CDMF_NOT_INITIALIZED, 0, "shm: not open");
  if (options_.is_server) return error.fail(CDMF_UNSUPPORTED, 0, "shm: a server waits for clients, it does not attach");
  if (attached_.load(std::memory_order_relaxed) != CDMF_NO_PEER) {
    return error.fail(CDMF_ALREADY_INITIALIZED, 0, "shm: already attached");
  }
  Rendezvous::Attached made;
  if (const cdmf_status status = rendezvous_->attach(deadline, made, error); status != CDMF_OK) return status;
  const cdmf_peer id = links_.reserve();
  made.terms.id = id;
  made.terms.hostile = is_hostile(made.terms.peer);
  auto link = std::make_shared<Link>(made.terms, std::move(made.segment), std::move(made.channel),
                                     std::move(made.own_bell), std::move(made.peer_bell));
  links_.add(link);
  attached_.store(id, std::memory_order_relaxed);
  rendezvous_->watch(std::move(link));
  peer = id;
  return CDMF_OK;
}

cdmf_status ShmDriver::disconnect(cdmf_peer peer, cdmf_status reason) {
  const std::shared_ptr<Link> link = links_.find(peer);
  if (!link) return CDMF_NOT_CONNECTED;
  if (link->end(reason)) link->hang_up(reason);
  kick(peer);
  return CDMF_OK;
}

void ShmDriver::close() {
  if (!is_open_) return;
  is_open_ = false;
  rendezvous_->close();  // From here on no link comes or ends.
  rendezvous_.reset();
  for (const std::shared_ptr<Link>& link : links_.all()) {
    if (!link) continue;
    if (link->can_receive()) link->consumer->publish_head();  // The peer counts what was lost by it.
    if (link->end(CDMF_CONNECTION_CLOSED)) link->hang_up(CDMF_CONNECTION_CLOSED);
    links_.remove(link->id());
  }
  renew_sender_links();  // Keeps the links with open claims.
  polled_.clear();
  quiet_timer_.reset();
  some_quiet_ = false;
  burst_.clear();
  receiver_links_.renew(links_);
  copies_ = {};
  copies_size_ = 0;
  static_cast<void>(calls_.take());
  attached_.store(CDMF_NO_PEER, std::memory_order_relaxed);
  close_descriptors();
}

void ShmDriver::close_descriptors() noexcept {
  const std::lock_guard lock(sleep_mutex_);
  epoll_.reset();
  kicker_.reset();
}

void ShmDriver::describe(cdmf_info& info) {
  SegmentPlan plan = options_.plan;
  if (const auto link = links_.find(attached_.load(std::memory_order_relaxed))) plan = link->terms().plan;
  info.capabilities = kDescription.capabilities;
  if (!can_poll_fd()) info.capabilities &= ~std::uint64_t{CDMF_CAP_POLL_FD};
  if (options_.segment == SegmentKind::posix) info.capabilities &= ~std::uint64_t{CDMF_CAP_MANY_PEERS};
  if (!options_.timestamp) info.capabilities &= ~std::uint64_t{CDMF_CAP_TIMESTAMP};
  if (!plan.bidirectional) info.capabilities |= CDMF_CAP_ONE_WAY;
  info.frame_size_max = plan.frame_size_max;
  info.buffer_bytes = plan.ring_bytes();
  const std::lock_guard lock(describe_mutex_);
  detail_ = detail_of(plan);
  info.address = address_.c_str();
  info.detail = detail_.c_str();
}

std::string ShmDriver::detail_of(const SegmentPlan& plan) const {
  static constexpr const char* kTrustWords[] = {"auto", "cooperative", "hostile"};
  return std::string("wait ") + kWaitChoices[static_cast<std::size_t>(options_.wait)] + ", checksum " +
         (plan.checksum ? "crc32" : "none") + ", timestamp " + (options_.timestamp ? "on" : "off") + ", trust " +
         kTrustWords[static_cast<std::size_t>(options_.trust)] + ", rings of " + std::to_string(plan.ring_bytes()) +
         " bytes (" + std::to_string(plan.ring_capacity) + " x " + std::to_string(plan.slot_size) + ")" +
         (plan.bidirectional ? "" : ", client to server only");
}

// ---- What the rendezvous asks
// ---------------------------------------------------------------------------------------

bool ShmDriver::is_hostile(const PeerCredentials& peer) const noexcept {
  // Who may open a named object is trusted: its memory can be taken away from under us.
  if (options_.segment == SegmentKind::posix) return false;
  return options_.trust == Trust::hostile || (options_.trust == Trust::automatic && peer.uid != geteuid());
}

cdmf_status ShmDriver::admit(const LinkRequest& request, const PeerCredentials& peer, LinkTerms& terms,
                             ErrorText& error) {
  // Told when it connects, not by the first message that is too large.
  if (request.frame_size_max > options_.plan.frame_size_max) {
    return error.fail(CDMF_INVALID_CONFIG, 0, "shm: this client wants max_message_size ",
                      request.frame_size_max - CDMF_FRAME_OVERHEAD_MAX, ", the server allows ",
                      options_.plan.frame_size_max - CDMF_FRAME_OVERHEAD_MAX, "; lower the one or raise the other");
  }
  SegmentPlan plan = options_.plan;
  const auto halve = [&] {
    const bool possible = plan.ring_capacity > 1 && plan.suffices(plan.ring_capacity / 2);
    if (possible) plan.ring_capacity /= 2;
    return possible;
  };
  while (request.ring_bytes != 0 && request.ring_bytes <= plan.ring_bytes() / 2 && halve()) {
  }
  MemoryBudget::Share memory;
  while (!budget_of_memory_.take(plan.total_size(), memory)) {
    if (halve()) continue;
    return error.fail(CDMF_RESOURCE_EXHAUSTED, 0, "shm: of the server's memory_budget of ",
                      format_size(budget_of_memory_.limit()), " there are ", budget_of_memory_.left(),
                      " bytes left, and a link takes at least ", plan.total_size(),
                      "; raise it, or lower the server's max_message_size");
  }
  const cdmf_peer id = links_.reserve();
  if (id == CDMF_NO_PEER) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, 0, "shm: the server has ", LinkTable::kSlotsMax,
                      " clients, the most it can");
  }
  terms = {.id = id,
           .is_server = true,
           .peer_may_sleep = request.may_sleep,
           .peer_only_cpu = request.only_cpu,
           .hostile = is_hostile(peer),
           .plan = plan,
           .peer = peer,
           .memory = std::move(memory)};
  return CDMF_OK;
}

void ShmDriver::dismissed(cdmf_peer id) { links_.drop(id); }

void ShmDriver::connected(std::shared_ptr<Link> link) {
  const cdmf_peer id = link->id();
  accepted_.fetch_add(1, std::memory_order_relaxed);
  links_.add(std::move(link));
  kick(id);
}

/// link  CDMF_NO_PEER: none in particular.
void ShmDriver::kick(cdmf_peer link) {
  if (link != CDMF_NO_PEER) calls_.add(link);
  const std::lock_guard lock(sleep_mutex_);
  if (kicker_) signal_fd(kicker_.get());  // After close() there is nobody to wake.
  if (futex_sleeper_ != nullptr) futex_sleeper_->wake_own_receiver();
}

}  // namespace cdmf::ipc::shm
