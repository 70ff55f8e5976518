// What the driver tells observers. On the thread of the rendezvous.
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "inspect/link_report.h"
#include "shm_driver.h"

namespace cdmf::ipc::shm {

cdmf_status ShmDriver::report(UniqueFd& page, ErrorText& error) {
  Snapshot snapshot;
  observe(snapshot);
  return write_page(snapshot, page, error);
}

void ShmDriver::observe(Snapshot& snapshot) {
  cdmf_endpoint_report& endpoint = snapshot.endpoint;
  endpoint.struct_size = sizeof endpoint;
  endpoint.pid = getpid();
  endpoint.uid = geteuid();
  endpoint.wait = std::min<std::uint32_t>(static_cast<std::uint32_t>(options_.wait) + CDMF_WAIT_SPIN, CDMF_WAIT_SLEEP);
  endpoint.only_cpu = receiver_cpu_.load(std::memory_order_relaxed);
  endpoint.started_us = started_us_;
  endpoint.accepted = accepted_.load(std::memory_order_relaxed);
  endpoint.refused = refused_.load(std::memory_order_relaxed);
  endpoint.ended = ended_.load(std::memory_order_relaxed);
  troubles_.report(endpoint);
  {
    const std::lock_guard lock(describe_mutex_);
    std::snprintf(endpoint.address, sizeof endpoint.address, "%s", address_.c_str());
  }
  std::snprintf(endpoint.detail, sizeof endpoint.detail, "%s", detail_of(options_.plan).c_str());
  for (const std::shared_ptr<Link>& link : links_.all()) {
    if (!link) continue;
    report_link(*link, options_.may_sleep(), endpoint.only_cpu, snapshot);
    if (options_.timestamp) snapshot.links.back().flags |= CDMF_LINK_TIMESTAMP;
  }
  endpoint.taken_ns = monotonic_now_ns();
}

void ShmDriver::refused(cdmf_status reason, const char* text) noexcept {
  refused_.fetch_add(1, std::memory_order_relaxed);
  troubles_.record(reason, text);
}

}  // namespace cdmf::ipc::shm
