#include "segment/segment.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

namespace cdmf::ipc::shm {
namespace {

// Without these a peer could shrink the file under our feet (SIGBUS), or take the seals off again.
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

/// Whether the header is what the other side, in the handshake, said it would be.
cdmf_status check_header(const SegmentHeader& header, const SegmentPlan& plan, ErrorText& error) {
  if (header.magic != kSegmentMagic || header.version != kVersionMajor) {
    return error.fail(CDMF_VERSION_MISMATCH, 0, "shm: the segment has magic ", header.magic, " version ",
                      header.version, ", this side works with ", kSegmentMagic, " version ", kVersionMajor,
                      "; use the same release on both sides");
  }
  const struct {
    const char* name;
    std::uint64_t found;
    std::uint64_t expected;
  } values[] = {
      {"total_size", header.total_size, plan.total_size()},
      {"ring_capacity", header.ring_capacity, plan.ring_capacity},
      {"slot_size", header.slot_size, plan.slot_size},
      {"minor", header.minor, plan.minor},
      {"features", header.features, plan.features},
      {"frame_size_max", header.frame_size_max, plan.frame_size_max},
      {"tx_offset", header.tx_offset, kRingsOffset},
      {"rx_offset", header.rx_offset, plan.bidirectional ? kRingsOffset + plan.ring_bytes() : 0},
      {"checksum", header.checksum, plan.checksum ? 1u : 0u},
  };
  for (const auto& value : values) {
    if (value.found != value.expected) {
      return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the segment says ", value.name, " ", value.found,
                        ", the handshake said ", value.expected);
    }
  }
  return CDMF_OK;
}

}  // namespace

void Segment::lay_out(std::byte* memory, const SegmentPlan& plan, const EndFacts& server, const EndFacts& client) {
  auto* const control = new (memory) SegmentControl{};
  SegmentHeader& header = control->header;
  header.magic = kSegmentMagic;
  header.version = kVersionMajor;
  header.total_size = plan.total_size();
  header.ring_capacity = plan.ring_capacity;
  header.slot_size = plan.slot_size;
  header.minor = plan.minor;
  header.features = plan.features;
  header.frame_size_max = plan.frame_size_max;
  header.tx_offset = kRingsOffset;
  header.rx_offset = plan.bidirectional ? kRingsOffset + plan.ring_bytes() : 0;
  header.checksum = plan.checksum ? 1 : 0;
  header.generation = plan.generation;
  control->server.facts = server;
  control->client.facts = client;
}

bool Segment::read_plan(const SegmentHeader& header, std::uint64_t size, SegmentPlan& plan) noexcept {
  plan = {.ring_capacity = header.ring_capacity,
          .slot_size = header.slot_size,
          .frame_size_max = header.frame_size_max,
          .bidirectional = header.rx_offset != 0,
          .checksum = header.checksum != 0,
          .minor = std::min(header.minor, kVersionMinor),
          .features = header.features & kFeaturesKnown,
          .generation = header.generation};
  return is_valid_capacity(plan.ring_bytes()) && plan.total_size() == size && header.total_size == size &&
         header.tx_offset == kRingsOffset && header.checksum <= 1 &&
         (!plan.bidirectional || header.rx_offset == kRingsOffset + plan.ring_bytes()) && plan.frame_size_max != 0 &&
         plan.frame_size_max <= payload_bytes_max(plan.ring_bytes());
}

Segment Segment::adopt(Mapping mapping, const SegmentPlan& plan) noexcept {
  Segment adopted;
  adopted.mapping_ = std::move(mapping);
  adopted.ring_bytes_ = plan.ring_bytes();
  return adopted;
}

cdmf_status Segment::create(const SegmentPlan& plan, const EndFacts& server, const EndFacts& client, Segment& segment,
                            UniqueFd& fd, ErrorText& error) {
  const std::uint64_t size = plan.total_size();
  UniqueFd made(memfd_create("cdmf-shm", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!made) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: no descriptor for a segment");
  if (const int failure = allocate_bytes(made.get(), size); failure != 0) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, failure, "shm: no memory for a segment of ", size,
                      " bytes; lower 'ring_buffer_capacity' or 'slot_size'");
  }
  if (fcntl(made.get(), F_ADD_SEALS, kSeals) != 0) {
    return error.fail(CDMF_INTERNAL_ERROR, errno, "shm: a segment cannot be sealed");
  }
  Segment mapped;
  if (!mapped.mapping_.map(made.get(), size)) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: a segment of ", size, " bytes cannot be mapped");
  }
  lay_out(mapped.mapping_.memory(), plan, server, client);
  mapped.ring_bytes_ = plan.ring_bytes();
  segment = std::move(mapped);
  fd = std::move(made);
  return CDMF_OK;
}

cdmf_status Segment::attach(int fd, const SegmentPlan& plan, Segment& segment, ErrorText& error) {
  const std::uint64_t size = plan.total_size();
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server's segment is not a sealed memory file (seals ", seals,
                      ")");
  }
  struct stat info;
  if (fstat(fd, &info) != 0 || info.st_size < 0 || static_cast<std::uint64_t>(info.st_size) != size) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server's segment has ", info.st_size, " bytes instead of ",
                      size);
  }
  // Pages that are not there yet would be taken from us: as many as the server likes.
  if (static_cast<std::uint64_t>(info.st_blocks) * 512 < size) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server's segment of ", size, " bytes is not allocated");
  }
  // Huge pages are sealed and allocated as well, but punched out and not to be had again they are a SIGBUS.
  struct statfs filesystem;
  if (fstatfs(fd, &filesystem) != 0 || filesystem.f_type != TMPFS_MAGIC) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server's segment is not of ordinary pages");
  }
  Segment mapped;
  if (!mapped.mapping_.map(fd, size)) {
    const int failure = errno;
    const bool forbidden = failure == EPERM || failure == EACCES;
    return error.fail(forbidden ? CDMF_PROTOCOL_ERROR : CDMF_RESOURCE_EXHAUSTED, failure, "shm: a segment of ", size,
                      " bytes cannot be mapped", forbidden ? ", as the server does not let us write to it" : "");
  }
  if (const cdmf_status status = check_header(mapped.header(), plan, error); status != CDMF_OK) return status;
  mapped.ring_bytes_ = plan.ring_bytes();
  segment = std::move(mapped);
  return CDMF_OK;
}

}  // namespace cdmf::ipc::shm
