#include "inspect/pool_report.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "pool/pool_layout.h"
#include "segment/named_object.h"

namespace cdmf::ipc::shm {
namespace {

/// The bytes of a structure of atomics, which cannot be copied as a whole.
template <typename T>
struct Image {
  alignas(T) std::byte bytes[sizeof(T)] = {};
  const T& value() const noexcept { return *reinterpret_cast<const T*>(bytes); }
  bool read(int fd, std::uint64_t offset) noexcept {
    return pread(fd, bytes, sizeof bytes, static_cast<off_t>(offset)) == static_cast<ssize_t>(sizeof bytes);
  }
};

cdmf_status open_object(const std::string& name, UniqueFd& fd, std::uint64_t& size, ErrorText& error) {
  UniqueFd file(shm_open(name.c_str(), O_RDONLY | O_CLOEXEC, 0));
  if (!file) {
    if (errno == ENOENT) {
      return error.fail(CDMF_ENDPOINT_NOT_FOUND, 0, "shm: nobody has made a pool ", name,
                        "; start a consumer or check 'endpoint'");
    }
    return error.fail(CDMF_PERMISSION_DENIED, errno, "shm: the object ", name, " cannot be read");
  }
  struct stat info;
  if (fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode) ||
      (info.st_uid != geteuid() && info.st_uid != 0 && geteuid() != 0)) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, "shm: the object ", name, " belongs to user ", info.st_uid,
                      "; only the same user or root may look into it");
  }
  size = static_cast<std::uint64_t>(info.st_size);
  fd = std::move(file);
  return CDMF_OK;
}

bool is_sound(const PoolHeader& header, std::uint64_t size) noexcept {
  if (header.version != kPoolVersion || header.kind != kPoolKind || header.members_max != kPoolMembersMax ||
      header.members_offset != kPoolMembersOffset || header.ring_offset != kPoolRingOffset ||
      !MpmcRecordMemory::is_valid(header.ring_capacity, header.slot_size, kPoolMembersMax)) {
    return false;
  }
  PoolPlan plan;
  plan.ring_capacity = header.ring_capacity;
  plan.slot_size = header.slot_size;
  return header.total_size == plan.total_size() && header.total_size <= size;
}

}  // namespace

cdmf_status report_pool(const char* endpoint, Snapshot& snapshot, ErrorText& error) {
  std::string name;
  UniqueFd fd;
  std::uint64_t size = 0;
  if (const cdmf_status status = object_name(endpoint, std::strlen(kPoolSuffix), name, error); status != CDMF_OK) {
    return status;
  }
  name += kPoolSuffix;
  if (const cdmf_status status = open_object(name, fd, size, error); status != CDMF_OK) return status;
  Image<PoolControl> control;
  Image<MpmcRecordControl> positions;
  if (!control.read(fd.get(), 0) || control.value().header.magic != kSegmentMagic ||
      !is_sound(control.value().header, size) || !positions.read(fd.get(), kPoolRingOffset)) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the object ", name, " is no pool of this release");
  }
  const PoolHeader& header = control.value().header;
  cdmf_endpoint_report& seen = snapshot.endpoint;
  seen.struct_size = sizeof seen;
  seen.pid = header.creator_pid;
  struct stat info;
  if (fstat(fd.get(), &info) == 0) seen.uid = info.st_uid;
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
  // Members contend for two words already; counting would be a third.
  ring.high_water_bytes = ring.failed_pushes = ring.wakes = ring.space_waits = ring.contentions = CDMF_UNKNOWN;

  for (std::uint32_t i = 0; i < kPoolMembersMax; ++i) {
    Image<PoolMember> member;
    Image<MpmcParticipant> line;
    const std::uint64_t line_offset = kPoolRingOffset + sizeof(MpmcRecordControl) + i * sizeof(MpmcParticipant);
    if (!member.read(fd.get(), kPoolMembersOffset + i * sizeof(PoolMember)) || !line.read(fd.get(), line_offset)) break;
    if (!mpmc_attached(line.value().state.load(std::memory_order_relaxed))) continue;
    const auto role = static_cast<PoolRole>(member.value().role.load(std::memory_order_relaxed));
    if (role != PoolRole::producer && role != PoolRole::consumer) continue;
    (role == PoolRole::producer ? ring.producers : ring.consumers) += 1;
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
  snapshot.rings.push_back(ring);
  seen.taken_ns = monotonic_now_ns();
  return CDMF_OK;
}

}  // namespace cdmf::ipc::shm
