#include "inspect/pool_report.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "inspect/object_file.h"
#include "pool/pool_bell.h"
#include "pool/pool_layout.h"
#include "segment/named_object.h"

namespace cdmf::ipc::shm {
cdmf_status report_pool(const char* endpoint, Snapshot& snapshot, ErrorText& error) {
  std::string name;
  ObjectFile file;
  if (const cdmf_status status = object_name(endpoint, std::strlen(kPoolSuffix), name, error); status != CDMF_OK) {
    return status;
  }
  name += kPoolSuffix;
  const std::string missing = "a pool " + name + "; start a consumer or check 'endpoint'";
  if (const cdmf_status status = ObjectFile::open(name, missing.c_str(), file, error); status != CDMF_OK) return status;
  Image<PoolControl> control;
  Image<MpmcRecordControl> positions;
  PoolPlan plan;
  if (!control.read(file, 0) || control.value().header.magic != kSegmentMagic ||
      control.value().header.kind != kPoolKind || control.value().header.version != kPoolVersion ||
      !read_pool_plan(control.value().header, file.size, plan) || !positions.read(file, kPoolRingOffset)) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the object ", name, " is no pool of this release");
  }
  const PoolHeader& header = control.value().header;
  cdmf_endpoint_report& seen = snapshot.endpoint;
  seen.struct_size = sizeof seen;
  seen.pid = header.creator_pid;
  seen.uid = file.owner;
  seen.only_cpu = -1;
  seen.accepted = seen.refused = seen.ended = CDMF_UNKNOWN;
  if (const std::uint32_t broken = control.value().broken.load(std::memory_order_relaxed); broken != 0) {
    seen.error_count = 1;
    seen.last_error = CDMF_PROTOCOL_ERROR;
    std::snprintf(seen.last_error_text, sizeof seen.last_error_text, "the pool is broken, fault %u", broken - 1);
  }
  std::snprintf(seen.address, sizeof seen.address, "posix %s", name.c_str());
  std::snprintf(seen.detail, sizeof seen.detail, "a pool: %u slots of %u bytes, checksum %s; made by process %d",
                header.ring_capacity, header.slot_size, header.checksum != 0 ? "crc32" : "none", header.creator_pid);

  cdmf_ring_report ring{};
  ring.struct_size = sizeof ring;
  ring.flags = CDMF_RING_TO_SERVER;
  ring.link = CDMF_NO_PEER;
  std::snprintf(ring.name, sizeof ring.name, "pool");
  ring.capacity_bytes = std::uint64_t{header.ring_capacity} * header.slot_size;
  // Read one after the other while others go on: the difference may be a little off, and is kept within the ring.
  ring.pushes = positions.value().tail.load(std::memory_order_relaxed);
  ring.pops = positions.value().head.load(std::memory_order_relaxed);
  const std::uint64_t waiting = ring.pushes >= ring.pops ? ring.pushes - ring.pops : 0;
  ring.used_bytes = std::min<std::uint64_t>(waiting, header.ring_capacity) * header.slot_size;
  ring.bytes = ring.pushes * header.slot_size;
  ring.failed_pushes = ring.wakes = ring.space_waits = ring.contentions = 0;
  std::uint64_t most_slots = 0;
  bool all_sleep = true;
  for (std::uint32_t i = 0; i < kPoolMembersMax; ++i) {
    Image<PoolMember> member;
    Image<MpmcParticipant> line;
    const std::uint64_t line_offset = kPoolRingOffset + sizeof(MpmcRecordControl) + i * sizeof(MpmcParticipant);
    if (!member.read(file, kPoolMembersOffset + i * sizeof(PoolMember)) || !line.read(file, line_offset)) break;
    // Of everybody who ever had the line.
    ring.contentions += line.value().retries.load(std::memory_order_relaxed);
    ring.failed_pushes += line.value().refused.load(std::memory_order_relaxed);
    ring.wakes += member.value().wakes.load(std::memory_order_relaxed);
    ring.space_waits += member.value().space_waits.load(std::memory_order_relaxed);
    most_slots = std::max(most_slots, line.value().high_water.load(std::memory_order_relaxed));
    if (!mpmc_attached(line.value().state.load(std::memory_order_relaxed))) continue;
    const auto role = static_cast<PoolRole>(member.value().role.load(std::memory_order_relaxed));
    if (role != PoolRole::producer && role != PoolRole::consumer) continue;
    (role == PoolRole::producer ? ring.producers : ring.consumers) += 1;
    const bool sends = role == PoolRole::producer;
    const std::uint32_t how = (sends ? member.value().sender : member.value().receiver).load(std::memory_order_relaxed);
    if (sends && how == kPoolAsleep) ring.flags |= CDMF_RING_SENDER_WAITS;
    if (!sends) all_sleep = all_sleep && how == kPoolAsleep;
    cdmf_link_report link{};
    link.struct_size = sizeof link;
    link.peer = i + 1;
    link.pid = member.value().pid.load(std::memory_order_relaxed);
    link.uid = seen.uid;
    link.message_size_max = header.frame_size_max - CDMF_FRAME_OVERHEAD_MAX;
    link.only_cpu = -1;
    if (header.checksum != 0) link.flags |= CDMF_LINK_CHECKSUM;
    snapshot.links.push_back(link);
  }
  if (ring.consumers != 0 && all_sleep) ring.flags |= CDMF_RING_RECEIVER_SLEEPS;
  // Who found it full saw all slots in use, whatever consumers saw.
  if (ring.failed_pushes != 0) most_slots = header.ring_capacity;
  if (most_slots > header.ring_capacity) ring.flags |= CDMF_RING_IMPLAUSIBLE;
  ring.high_water_bytes =
      std::max(ring.used_bytes, std::min<std::uint64_t>(most_slots, header.ring_capacity) * header.slot_size);
  snapshot.rings.push_back(ring);
  seen.taken_ns = monotonic_now_ns();
  return CDMF_OK;
}

}  // namespace cdmf::ipc::shm
