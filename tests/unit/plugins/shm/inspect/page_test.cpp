// Pages of counters: what is written is read, and whatever a hostile server sends is refused or is just numbers.
#include "inspect/page.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>

namespace cdmf::ipc::shm {
namespace {

constexpr int kSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

Snapshot example() {
  Snapshot snapshot;
  snapshot.endpoint.struct_size = sizeof snapshot.endpoint;
  snapshot.endpoint.pid = 42;
  std::snprintf(snapshot.endpoint.detail, sizeof snapshot.endpoint.detail, "wait spin");
  for (std::uint64_t i = 1; i <= 3; ++i) {
    cdmf_link_report link{};
    link.struct_size = sizeof link;
    link.peer = i;
    snapshot.links.push_back(link);
    cdmf_ring_report ring{};
    ring.struct_size = sizeof ring;
    ring.link = i;
    ring.pushes = 1000 * i;
    snapshot.rings.push_back(ring);
  }
  return snapshot;
}

cdmf_status read(int fd, Snapshot& snapshot) {
  ErrorText none(nullptr);
  return read_page(fd, snapshot, none);
}

std::vector<std::byte> bytes_of(int fd) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(lseek(fd, 0, SEEK_END)));
  EXPECT_EQ(pread(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  return bytes;
}

UniqueFd file_of(const std::vector<std::byte>& bytes, int seals = kSeals) {
  UniqueFd fd(memfd_create("page_test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(write(fd.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}

class CounterPage : public testing::Test {
 protected:
  CounterPage() {
    ErrorText none(nullptr);
    EXPECT_EQ(write_page(example(), page_, none), CDMF_OK);
  }
  UniqueFd page_;
};

TEST_F(CounterPage, IsReadAsItWasWritten) {
  Snapshot got;
  ASSERT_EQ(read(page_.get(), got), CDMF_OK);
  EXPECT_EQ(got.endpoint.pid, 42);
  EXPECT_STREQ(got.endpoint.detail, "wait spin");
  ASSERT_EQ(got.links.size(), 3u);
  ASSERT_EQ(got.rings.size(), 3u);
  EXPECT_EQ(got.links[2].peer, 3u);
  EXPECT_EQ(got.rings[1].pushes, 2000u);
}

TEST_F(CounterPage, CanBeChangedByNobodyWhoGetsIt) {
  EXPECT_EQ(fcntl(page_.get(), F_GET_SEALS) & kSeals, kSeals);
  EXPECT_LT(pwrite(page_.get(), "x", 1, 0), 0);
  EXPECT_NE(ftruncate(page_.get(), 0), 0);
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, page_.get(), 0), MAP_FAILED);
}

TEST_F(CounterPage, OfALaterReleaseIsReadAsFarAsItIsKnown) {
  const std::vector<std::byte> before = bytes_of(page_.get());
  PageHeader header;
  std::memcpy(&header, before.data(), sizeof header);
  std::vector<std::byte> longer;
  const auto grow = [&](std::size_t from, std::size_t size) {
    longer.insert(longer.end(), before.begin() + static_cast<std::ptrdiff_t>(from),
                  before.begin() + static_cast<std::ptrdiff_t>(from + size));
    longer.resize(longer.size() + 16, std::byte{0xee});
  };
  longer.resize(sizeof header);
  std::size_t at = sizeof header;
  grow(at, header.endpoint_bytes);
  at += header.endpoint_bytes;
  for (int i = 0; i < 3; ++i, at += header.link_bytes) grow(at, header.link_bytes);
  for (int i = 0; i < 3; ++i, at += header.ring_bytes) grow(at, header.ring_bytes);
  header.endpoint_bytes += 16;
  header.link_bytes += 16;
  header.ring_bytes += 16;
  header.total_bytes = longer.size();
  std::memcpy(longer.data(), &header, sizeof header);
  Snapshot got;
  ASSERT_EQ(read(file_of(longer).get(), got), CDMF_OK);
  EXPECT_EQ(got.endpoint.pid, 42);
  EXPECT_EQ(got.rings[2].pushes, 3000u);
  EXPECT_EQ(got.rings[2].struct_size, sizeof(cdmf_ring_report));
}

TEST_F(CounterPage, WithoutAllItsSealsIsRefused) {
  const std::vector<std::byte> good = bytes_of(page_.get());
  Snapshot got;
  for (const int missing : {F_SEAL_WRITE, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL}) {
    EXPECT_EQ(read(file_of(good, kSeals & ~missing).get(), got), CDMF_PROTOCOL_ERROR) << missing;
  }
}

TEST_F(CounterPage, ThatIsNoMemoryFileIsRefused) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reading(ends[0]);
  const UniqueFd writing(ends[1]);
  const UniqueFd zeros(open("/dev/zero", O_RDONLY | O_CLOEXEC));
  Snapshot got;
  EXPECT_EQ(read(reading.get(), got), CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(read(zeros.get(), got), CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(read(-1, got), CDMF_PROTOCOL_ERROR);
}

TEST_F(CounterPage, WhosePartsDoNotAddUpIsRefused) {
  const std::vector<std::byte> good = bytes_of(page_.get());
  const auto status_with = [&](const std::function<void(PageHeader&)>& change) {
    std::vector<std::byte> bad = good;
    PageHeader header;
    std::memcpy(&header, bad.data(), sizeof header);
    change(header);
    std::memcpy(bad.data(), &header, sizeof header);
    Snapshot got;
    return read(file_of(bad).get(), got);
  };
  EXPECT_EQ(status_with([](PageHeader&) {}), CDMF_OK);
  EXPECT_EQ(status_with([](PageHeader& h) { h.magic = 0; }), CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(status_with([](PageHeader& h) { h.version = 2; }), CDMF_VERSION_MISMATCH);
  EXPECT_EQ(status_with([](PageHeader& h) { h.total_bytes += 8; }), CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(status_with([](PageHeader& h) { h.link_count = UINT64_MAX; }), CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(status_with([](PageHeader& h) { h.ring_count = UINT64_MAX / h.ring_bytes + 1; }), CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(status_with([](PageHeader& h) { h.ring_count = 4; }), CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(status_with([](PageHeader& h) { h.link_count = 2; }), CDMF_PROTOCOL_ERROR);
  for (std::uint32_t PageHeader::*size :
       {&PageHeader::endpoint_bytes, &PageHeader::link_bytes, &PageHeader::ring_bytes}) {
    for (const std::uint32_t value : {0u, 1u, 8u, 4097u, UINT32_MAX}) {
      EXPECT_EQ(status_with([&](PageHeader& h) { h.*size = value; }), CDMF_PROTOCOL_ERROR) << value;
    }
  }
  Snapshot got;
  EXPECT_EQ(read(file_of({}).get(), got), CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(read(file_of({good.begin(), good.begin() + 63}).get(), got), CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(read(file_of({good.begin(), good.end() - 1}).get(), got), CDMF_PROTOCOL_ERROR);
}

TEST_F(CounterPage, OfAnyBytesDoesNoHarm) {
  const std::vector<std::byte> good = bytes_of(page_.get());
  std::mt19937 random(20260101);
  int taken = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::byte> bad = good;
    for (int i = 0; i < 4; ++i) {
      // Half of the changes hit the header.
      const std::size_t at = random() % (random() % 2 == 0 ? sizeof(PageHeader) : bad.size());
      bad[at] = static_cast<std::byte>(random());
    }
    if (random() % 4 == 0) bad.resize(random() % (bad.size() + 1));
    Snapshot got;
    if (read(file_of(bad).get(), got) == CDMF_OK) {
      ++taken;
      EXPECT_LE(got.links.size(), 4u);
    }
  }
  EXPECT_GT(taken, 0);
}

}  // namespace
}  // namespace cdmf::ipc::shm
