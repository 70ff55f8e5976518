#include "inspect/link_report.h"

#include <algorithm>
#include <cstdio>

namespace cdmf::ipc::shm {

void report_ring(const RecordRingControl& control, std::uint64_t capacity_bytes, cdmf_ring_report& ring) noexcept {
  RingPositions positions;
  positions.head_before = control.head.load(std::memory_order_acquire);
  positions.tail = control.tail.load(std::memory_order_acquire);
  positions.head_after = control.head.load(std::memory_order_relaxed);
  report_ring(control, positions, capacity_bytes, ring);
}

void report_ring(const RecordRingControl& control, const RingPositions& positions, std::uint64_t capacity_bytes,
                 cdmf_ring_report& ring) noexcept {
  const auto value = [](const std::atomic<std::uint64_t>& word) { return word.load(std::memory_order_relaxed); };
  const auto [head_before, tail, head_after] = positions;
  ring.capacity_bytes = capacity_bytes;
  ring.used_bytes = tail - head_before;
  if (ring.used_bytes > capacity_bytes) {
    if (head_before == head_after) ring.flags |= CDMF_RING_IMPLAUSIBLE;
    ring.used_bytes = tail - head_after <= capacity_bytes ? tail - head_after : capacity_bytes;
  }
  ring.bytes = tail;
  ring.pushes = value(control.records_flushed);
  ring.pops = value(control.records_taken);
  ring.failed_pushes = value(control.claims_refused);
  ring.high_water_bytes = value(control.high_water);
  if (ring.high_water_bytes > capacity_bytes) {
    ring.flags |= CDMF_RING_IMPLAUSIBLE;
    ring.high_water_bytes = capacity_bytes;
  }
  ring.high_water_bytes = std::max(ring.high_water_bytes, ring.used_bytes);
  ring.wakes = value(control.wakes);
  ring.space_waits = value(control.space_waits);
  ring.contentions = 0;  // One producer, one consumer.
  ring.producers = 1;
  ring.consumers = 1;
  if (control.armed.load(std::memory_order_relaxed) != kNotArmed) ring.flags |= CDMF_RING_RECEIVER_SLEEPS;
  if (space_wanted(control)) ring.flags |= CDMF_RING_SENDER_WAITS;
  if (reinterpret_cast<std::uintptr_t>(&control) % kSharedBlockBytes != 0) ring.flags |= CDMF_RING_NOT_ALIGNED;
}

void report_link(const Link& link, bool server_may_sleep, std::int32_t server_cpu, Snapshot& snapshot) {
  const LinkTerms& terms = link.terms();
  cdmf_link_report report{};
  report.struct_size = sizeof report;
  report.peer = terms.id;
  report.pid = terms.peer.pid;
  report.uid = terms.peer.uid;
  report.connected_us = link.connected_us();
  report.discarded = link.discarded.load(std::memory_order_relaxed);
  report.message_size_max = terms.plan.frame_size_max - CDMF_FRAME_OVERHEAD_MAX;
  report.only_cpu = terms.peer_only_cpu;
  report.reason = link.ended();
  if (report.reason != CDMF_OK) report.flags |= CDMF_LINK_ENDED;
  if (terms.hostile) report.flags |= CDMF_LINK_UNTRUSTED;
  if (terms.plan.checksum) report.flags |= CDMF_LINK_CHECKSUM;
  if (!can_run_together(server_cpu, terms.peer_only_cpu)) report.flags |= CDMF_LINK_SAME_CPU;
  snapshot.links.push_back(report);
  const auto add = [&](const RecordRingControl& control, const char* name, bool to_server) {
    cdmf_ring_report ring{};
    ring.struct_size = sizeof ring;
    ring.link = terms.id;
    std::snprintf(ring.name, sizeof ring.name, "%s", name);
    if (to_server) ring.flags |= CDMF_RING_TO_SERVER;
    if (!(to_server ? server_may_sleep : terms.peer_may_sleep)) ring.flags |= CDMF_RING_RECEIVER_NEVER_SLEEPS;
    if (to_server && link.parked.load(std::memory_order_relaxed)) ring.flags |= CDMF_RING_PARKED;
    report_ring(control, terms.plan.ring_bytes(), ring);
    snapshot.rings.push_back(ring);
  };
  if (link.can_receive()) add(link.in_control(), "TX", true);
  if (link.can_send()) add(link.out_control(), "RX", false);
}

}  // namespace cdmf::ipc::shm
