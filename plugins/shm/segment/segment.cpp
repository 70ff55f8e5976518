#include "segment/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <new>
#include <utility>

namespace cdmf::ipc::shm {
namespace {

// Without these a peer could shrink the file under our feet (SIGBUS), or take the seals off again.
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

}  // namespace

Segment::~Segment() {
  if (memory_ != nullptr) munmap(memory_, size_);
}

void Segment::swap(Segment& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(size_, other.size_);
  std::swap(ring_bytes_, other.ring_bytes_);
}

bool Segment::map(int fd, const SegmentPlan& plan) noexcept {
  const std::uint64_t size = plan.total_size();
  // Populated: a page fault on the data path costs more than the message.
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (memory == MAP_FAILED) return false;
  // A child of fork() would keep the memory of every link alive without ever using it.
  madvise(memory, size, MADV_DONTFORK);
  memory_ = static_cast<std::byte*>(memory);
  size_ = size;
  ring_bytes_ = plan.ring_bytes();
  return true;
}

cdmf_status Segment::create(const SegmentPlan& plan, std::int32_t client_pid, Segment& segment, UniqueFd& fd,
                            ErrorText& error) {
  const std::uint64_t size = plan.total_size();
  UniqueFd made(memfd_create("cdmf-shm", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!made) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: no descriptor for a segment");
  // Allocated now: a lack of memory later would be a SIGBUS in the middle of a message.
  if (const int failure = posix_fallocate(made.get(), 0, static_cast<off_t>(size)); failure != 0) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, failure, "shm: no memory for a segment of ", size,
                      " bytes; lower 'ring_buffer_capacity' or 'slot_size'");
  }
  if (fcntl(made.get(), F_ADD_SEALS, kSeals) != 0) {
    return error.fail(CDMF_INTERNAL_ERROR, errno, "shm: a segment cannot be sealed");
  }
  Segment mapped;
  if (!mapped.map(made.get(), plan)) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: a segment of ", size, " bytes cannot be mapped");
  }
  auto* const control = new (mapped.memory_) SegmentControl{};
  SegmentHeader& header = control->header;
  header.magic = kSegmentMagic;
  header.version = kSegmentVersion;
  header.total_size = size;
  header.ring_capacity = plan.ring_capacity;
  header.slot_size = plan.slot_size;
  header.server_pid = getpid();
  header.client_pid = client_pid;
  header.frame_size_max = plan.frame_size_max;
  header.tx_offset = kRingsOffset;
  header.rx_offset = plan.bidirectional ? kRingsOffset + plan.ring_bytes() : 0;
  header.checksum = plan.checksum ? 1 : 0;
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
  Segment mapped;
  if (!mapped.map(fd, plan)) {
    return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: a segment of ", size, " bytes cannot be mapped");
  }
  const SegmentHeader& header = mapped.header();
  if (header.magic != kSegmentMagic || header.version != kSegmentVersion) {
    return error.fail(CDMF_VERSION_MISMATCH, 0, "shm: the segment has magic ", header.magic, " version ",
                      header.version, ", this side works with ", kSegmentMagic, " version ", kSegmentVersion);
  }
  const struct {
    const char* name;
    std::uint64_t found;
    std::uint64_t expected;
  } values[] = {
      {"total_size", header.total_size, size},
      {"ring_capacity", header.ring_capacity, plan.ring_capacity},
      {"slot_size", header.slot_size, plan.slot_size},
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
  segment = std::move(mapped);
  return CDMF_OK;
}

}  // namespace cdmf::ipc::shm
