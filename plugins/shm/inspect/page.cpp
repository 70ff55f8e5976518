#include "inspect/page.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace cdmf::ipc::shm {
namespace {

constexpr int kSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

template <typename T>
void append(std::vector<std::byte>& bytes, const T* items, std::size_t count) {
  const auto* const first = reinterpret_cast<const std::byte*>(items);
  bytes.insert(bytes.end(), first, first + count * sizeof(T));
}

/// One structure, of which the writer knew `size` bytes: what it did not know is 0, what we do not know is left out.
template <typename T>
T take(const std::byte* from, std::size_t size) noexcept {
  T item{};
  std::memcpy(&item, from, std::min(size, sizeof item));
  item.struct_size = sizeof item;
  return item;
}

/// The least that a structure can have: what its first version had.
constexpr std::size_t kEndpointBytesMin = offsetof(cdmf_endpoint_report, links);
constexpr std::size_t kStructBytesMax = 4096;
template <typename T>
constexpr bool is_size_of(std::size_t size, std::size_t least) noexcept {
  return size >= least && size <= kStructBytesMax && size % alignof(T) == 0;
}

}  // namespace

cdmf_status write_page(const Snapshot& snapshot, UniqueFd& page, ErrorText& error) {
  PageHeader header;
  header.endpoint_bytes = sizeof snapshot.endpoint;
  header.link_bytes = sizeof(cdmf_link_report);
  header.ring_bytes = sizeof(cdmf_ring_report);
  header.link_count = snapshot.links.size();
  header.ring_count = snapshot.rings.size();
  header.total_bytes = sizeof header + header.endpoint_bytes + header.link_count * header.link_bytes +
                       header.ring_count * header.ring_bytes;
  std::vector<std::byte> bytes;
  bytes.reserve(header.total_bytes);
  append(bytes, &header, 1);
  cdmf_endpoint_report endpoint = snapshot.endpoint;
  endpoint.links = nullptr;  // Addresses of this process are nobody's business.
  endpoint.rings = nullptr;
  append(bytes, &endpoint, 1);
  append(bytes, snapshot.links.data(), snapshot.links.size());
  append(bytes, snapshot.rings.data(), snapshot.rings.size());

  UniqueFd made(memfd_create("cdmf-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!made) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: no descriptor for a page of counters");
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t written = ::write(made.get(), bytes.data() + done, bytes.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return error.fail(CDMF_RESOURCE_EXHAUSTED, errno, "shm: no memory for a page of counters");
    done += static_cast<std::size_t>(written);
  }
  if (fcntl(made.get(), F_ADD_SEALS, kSeals) != 0) {
    return error.fail(CDMF_INTERNAL_ERROR, errno, "shm: a page of counters cannot be sealed");
  }
  page = std::move(made);
  return CDMF_OK;
}

cdmf_status read_page(int page, Snapshot& snapshot, ErrorText& error) {
  const int seals = fcntl(page, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server's page of counters is not sealed (seals ", seals, ")");
  }
  struct stat info;
  if (fstat(page, &info) != 0 || info.st_size < static_cast<off_t>(sizeof(PageHeader)) ||
      info.st_size > static_cast<off_t>(kPageBytesMax)) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server's page of counters has ", info.st_size, " bytes");
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(info.st_size));
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t got = pread(page, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return error.fail(CDMF_PROTOCOL_ERROR, errno, "shm: the server's page of counters cannot be read");
    done += static_cast<std::size_t>(got);
  }
  PageHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != kPageMagic) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: what the server sent is no page of counters");
  }
  if (header.version != kPageVersion) {
    return error.fail(CDMF_VERSION_MISMATCH, 0, "shm: the server's counters have version ", header.version,
                      ", this side reads ", kPageVersion, "; use the same release on both sides");
  }
  // Counts before products: a wild one must not wrap round.
  const std::uint64_t size = bytes.size();
  if (!is_size_of<cdmf_endpoint_report>(header.endpoint_bytes, kEndpointBytesMin) ||
      !is_size_of<cdmf_link_report>(header.link_bytes, sizeof(cdmf_link_report)) ||
      !is_size_of<cdmf_ring_report>(header.ring_bytes, sizeof(cdmf_ring_report)) ||
      header.link_count > size / header.link_bytes || header.ring_count > size / header.ring_bytes ||
      header.total_bytes != size ||
      sizeof header + header.endpoint_bytes + header.link_count * header.link_bytes +
              header.ring_count * header.ring_bytes !=
          size) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the parts of the server's page of counters do not add up");
  }
  const std::byte* at = bytes.data() + sizeof header;
  snapshot.endpoint = take<cdmf_endpoint_report>(at, std::min<std::size_t>(header.endpoint_bytes, kEndpointBytesMin));
  at += header.endpoint_bytes;
  snapshot.links.clear();
  snapshot.links.reserve(header.link_count);
  for (std::uint64_t i = 0; i < header.link_count; ++i, at += header.link_bytes) {
    snapshot.links.push_back(take<cdmf_link_report>(at, header.link_bytes));
  }
  snapshot.rings.clear();
  snapshot.rings.reserve(header.ring_count);
  for (std::uint64_t i = 0; i < header.ring_count; ++i, at += header.ring_bytes) {
    snapshot.rings.push_back(take<cdmf_ring_report>(at, header.ring_bytes));
  }
  return CDMF_OK;
}

}  // namespace cdmf::ipc::shm
