// Looking into a pool: its object is read.
#include "inspect/pool_report.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#include "pool/pool_layout.h"
#include "seen.h"
#include "segment/unique_fd.h"
#include "shm_plugin.h"
#include "support/eventually.h"

namespace cdmf::ipc::shm::testing {
namespace {

using ipc::testing::eventually;

/// A member of a pool, through the plugin's own create().
class PoolMemberUnderTest {
 public:
  PoolMemberUnderTest(cdmf_role role, const std::string& endpoint) {
    Settings settings = make_settings(plugin(), {{"ring_type", "mpmc"}, {"ring_buffer_capacity", "16"}});
    cdmf_config config{};
    config.struct_size = sizeof config;
    config.role = role;
    config.endpoint = endpoint.c_str();
    config.max_message_size = 1000;
    config.frame_size_max = 1000 + CDMF_FRAME_OVERHEAD_MAX;
    config.settings = settings.rows.data();
    config.setting_count = settings.rows.size();
    error.struct_size = sizeof error;
    EXPECT_EQ(create_shm_driver(nullptr, &config, &driver, &error), CDMF_OK) << error.message;
    EXPECT_EQ(driver.ops->open(driver.self, &error), CDMF_OK) << error.message;
  }
  ~PoolMemberUnderTest() { driver.ops->destroy(driver.self); }
  PoolMemberUnderTest(const PoolMemberUnderTest&) = delete;
  PoolMemberUnderTest& operator=(const PoolMemberUnderTest&) = delete;

  cdmf_driver driver{};
  cdmf_error error{};
};

TEST(PoolReport, SeesAPoolByReadingItsObject) {
  const std::string endpoint = unique_endpoint();
  PoolMemberUnderTest consumer(CDMF_ROLE_SERVER, endpoint);
  PoolMemberUnderTest producer(CDMF_ROLE_CLIENT, endpoint);
  cdmf_peer peer = CDMF_NO_PEER;
  ASSERT_EQ(producer.driver.ops->attach(producer.driver.self, in_ms(kPatienceMs), &peer, &producer.error), CDMF_OK)
      << producer.error.message;
  for (int i = 0; i < 3; ++i) {
    cdmf_loan loan{};
    ASSERT_EQ(producer.driver.ops->claim(producer.driver.self, peer, 64, &loan), CDMF_OK);
    ASSERT_EQ(producer.driver.ops->commit(producer.driver.self, &loan, 64, 1), CDMF_OK);
  }
  const Seen seen = look(endpoint);
  ASSERT_EQ(seen.status, CDMF_OK) << seen.error;
  ASSERT_EQ(seen.rings.size(), 1u);
  EXPECT_EQ(seen.rings[0].pushes, 3u);
  EXPECT_EQ(seen.rings[0].pops, 0u);
  EXPECT_EQ(seen.rings[0].producers, 1u);
  EXPECT_EQ(seen.rings[0].consumers, 1u);
  EXPECT_EQ(seen.rings[0].used_bytes * 16, seen.rings[0].capacity_bytes * 3);
  EXPECT_EQ(seen.rings[0].failed_pushes, 0u);
  EXPECT_EQ(seen.rings[0].contentions, 0u);
  EXPECT_EQ(seen.links.size(), 2u);
  for (const cdmf_link_report& link : seen.links) EXPECT_EQ(link.pid, getpid());
}

TEST(PoolReport, CountsHowOftenProcessesOfAPoolLoseToEachOtherAndFindItFull) {
  const std::string endpoint = unique_endpoint();
  const Options options{{"ring_type", "mpmc"}, {"ring_buffer_capacity", "64"}};
  std::vector<pid_t> producers;
  for (int i = 0; i < 3; ++i) {
    producers.push_back(run_in_child([&] {
      DriverUnderTest producer(CDMF_ROLE_CLIENT, endpoint, options);
      if (producer.open() != CDMF_OK || producer.attach_when_listening() != CDMF_OK) return 1;
      for (;;) {
        const cdmf_status status = producer.send(producer.peer, "one of many");
        if (status == CDMF_BUFFER_FULL) sched_yield();
        if (status != CDMF_OK && status != CDMF_BUFFER_FULL) return 2;
      }
    }));
  }
  DriverUnderTest consumer(CDMF_ROLE_SERVER, endpoint, options);
  ASSERT_EQ(consumer.open(), CDMF_OK) << consumer.error.message;
  Seen seen;
  EXPECT_TRUE(eventually([&] {
    for (int i = 0; i < 1000; ++i) (void)consumer.take();
    seen = look(endpoint);
    return seen.rings.size() == 1 && seen.rings[0].producers == 3 && seen.rings[0].contentions > 0 &&
           seen.rings[0].failed_pushes > 0;
  }));
  ASSERT_EQ(seen.rings.size(), 1u) << seen.error;
  EXPECT_EQ(seen.rings[0].high_water_bytes, seen.rings[0].capacity_bytes) << "it was full";
  // The dead take no count along.
  for (const pid_t producer : producers) kill(producer, SIGKILL);
  for (const pid_t producer : producers) EXPECT_EQ(exit_code(producer), 128 + SIGKILL);
  EXPECT_TRUE(eventually([&] {
    (void)consumer.take();
    const Seen now = look(endpoint);
    return now.rings.size() == 1 && now.rings[0].producers == 0 &&
           now.rings[0].contentions >= seen.rings[0].contentions;
  }));
}

TEST(PoolReport, RefusesAnObjectThatIsNoPool) {
  const std::string endpoint = unique_endpoint();
  const std::string object = endpoint + kPoolSuffix;
  const UniqueFd fd(shm_open(object.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  ASSERT_TRUE(fd);
  Snapshot snapshot;
  ErrorText none(nullptr);
  EXPECT_EQ(report_pool(endpoint.c_str(), snapshot, none), CDMF_PROTOCOL_ERROR) << "empty";
  EXPECT_EQ(ftruncate(fd.get(), kPoolRingOffset + 4096), 0);
  EXPECT_EQ(report_pool(endpoint.c_str(), snapshot, none), CDMF_PROTOCOL_ERROR) << "zeros";
  PoolHeader header{};
  header.magic = kSegmentMagic;
  header.version = kPoolVersion;
  header.kind = kPoolKind;
  header.members_max = kPoolMembersMax;
  header.members_offset = kPoolMembersOffset;
  header.ring_offset = kPoolRingOffset;
  header.ring_capacity = 1u << 20;
  header.slot_size = 1u << 20;
  header.total_size = UINT64_MAX;
  EXPECT_EQ(pwrite(fd.get(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
  EXPECT_EQ(report_pool(endpoint.c_str(), snapshot, none), CDMF_PROTOCOL_ERROR) << "larger than it is";
  shm_unlink(object.c_str());
  EXPECT_TRUE(snapshot.links.empty());
}

}  // namespace
}  // namespace cdmf::ipc::shm::testing
