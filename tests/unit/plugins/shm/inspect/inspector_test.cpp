// Looking into a running server: it is seen as it is, it counts no peer for it, and it can be looked at by hostile
// observers as it can be hostile to them.
#include "inspect/inspector.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <functional>
#include <thread>

#include "../driver_under_test.h"
#include "inspect/link_report.h"
#include "inspect/look.h"
#include "inspect/observer_notes.h"
#include "inspect/pool_report.h"
#include "pool/pool_layout.h"
#include "segment/endpoint.h"
#include "segment/named_object.h"
#include "shm_plugin.h"
#include "support/eventually.h"

namespace cdmf::ipc::shm::testing {
namespace {

using ipc::testing::eventually;

struct Seen {
  cdmf_status status = CDMF_OK;
  std::string error;
  cdmf_endpoint_report endpoint{};
  std::vector<cdmf_link_report> links;
  std::vector<cdmf_ring_report> rings;
};

Seen look(const std::string& endpoint, std::uint64_t patience_ms = kPatienceMs, const Options& options = {}) {
  Settings settings = make_settings(plugin(), options);
  cdmf_config config{};
  config.struct_size = sizeof config;
  config.role = CDMF_ROLE_SERVER;
  config.endpoint = endpoint.c_str();
  config.max_message_size = 4096;
  config.frame_size_max = 4096 + CDMF_FRAME_OVERHEAD_MAX;
  config.settings = settings.rows.data();
  config.setting_count = settings.rows.size();
  const auto* const inspect = static_cast<const cdmf_inspect*>(plugin().get_extension(CDMF_INSPECT_EXTENSION));
  Seen seen;
  cdmf_error error{};
  error.struct_size = sizeof error;
  seen.endpoint.struct_size = sizeof seen.endpoint;
  seen.status = inspect->look(&config, in_ms(patience_ms), &seen.endpoint, &error);
  seen.error = error.message;
  if (seen.status != CDMF_OK) return seen;
  seen.links.assign(seen.endpoint.links, seen.endpoint.links + seen.endpoint.link_count);
  seen.rings.assign(seen.endpoint.rings, seen.endpoint.rings + seen.endpoint.ring_count);
  inspect->release(&seen.endpoint);
  return seen;
}

TEST(Inspector, SeesTheServerItsLinksAndEveryCounter) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, {{"ring_buffer_capacity", "32"}});
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, {{"wait", "spin"}});
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
  const cdmf_peer peer = server.next_peer();
  for (int i = 0; i < 5; ++i) ASSERT_EQ(client.send(client.peer, "hello"), CDMF_OK);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(server.next().content, "hello");

  Seen seen = look(endpoint);
  ASSERT_EQ(seen.status, CDMF_OK) << seen.error;
  EXPECT_EQ(seen.endpoint.pid, getpid());
  EXPECT_EQ(seen.endpoint.uid, geteuid());
  EXPECT_EQ(seen.endpoint.wait, static_cast<std::uint32_t>(CDMF_WAIT_ADAPTIVE));
  EXPECT_EQ(seen.endpoint.accepted, 1u);
  EXPECT_EQ(seen.endpoint.error_count, 0u);
  ASSERT_EQ(seen.links.size(), 1u);
  EXPECT_EQ(seen.links[0].peer, peer);
  EXPECT_EQ(seen.links[0].pid, getpid());
  EXPECT_GT(seen.links[0].connected_us, 0u);
  EXPECT_EQ(seen.links[0].message_size_max, 4096u);
  EXPECT_NE(seen.links[0].flags & CDMF_LINK_CHECKSUM, 0u);
  ASSERT_EQ(seen.rings.size(), 2u);
  const cdmf_ring_report& tx = seen.rings[0];
  EXPECT_STREQ(tx.name, "TX");
  EXPECT_NE(tx.flags & CDMF_RING_TO_SERVER, 0u);
  EXPECT_EQ(tx.capacity_bytes, 32u * 512);
  EXPECT_EQ(tx.pushes, 5u);
  EXPECT_EQ(tx.pops, 5u) << "one burst";
  EXPECT_EQ(tx.failed_pushes, 0u);
  EXPECT_EQ(tx.flags & (CDMF_RING_IMPLAUSIBLE | CDMF_RING_NOT_ALIGNED), 0u);
  EXPECT_NE(seen.rings[1].flags & CDMF_RING_RECEIVER_NEVER_SLEEPS, 0u) << "this client spins";

  // Until it is full.
  while (client.send(client.peer, std::string(1000, 'x')) == CDMF_OK) {
  }
  seen = look(endpoint);
  ASSERT_EQ(seen.rings.size(), 2u);
  EXPECT_EQ(seen.rings[0].failed_pushes, 1u);
  EXPECT_GE(seen.rings[0].high_water_bytes, 32u * 512 - 2048);
  EXPECT_GE(seen.rings[0].used_bytes, 32u * 512 - 2048);

  client.close();
  for (Message message = server.next(); message.kind == CDMF_VIEW_MESSAGE; message = server.next()) {
  }
  seen = look(endpoint);
  EXPECT_EQ(seen.links.size(), 0u);
  EXPECT_EQ(seen.endpoint.ended, 1u);
}

TEST(Inspector, IsNoClient) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint);
  ASSERT_EQ(server.open(), CDMF_OK);
  for (int i = 0; i < 50; ++i) ASSERT_EQ(look(endpoint).status, CDMF_OK);
  const Seen seen = look(endpoint);
  EXPECT_EQ(seen.endpoint.accepted, 0u);
  EXPECT_EQ(seen.endpoint.refused, 0u);
  EXPECT_TRUE(server.take().empty());
}

TEST(Inspector, SeesASleepingReceiverParkedAndCountsItsWakes) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, {{"wait", "futex"}});
  ASSERT_EQ(server.open(), CDMF_OK);
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK);
  (void)server.next_peer();
  std::thread receiver([&] { EXPECT_EQ(server.next().content, "wake up"); });
  const std::uint64_t deadline = in_ms(kPatienceMs);
  Seen seen;
  do {
    seen = look(endpoint);
    ASSERT_EQ(seen.rings.size(), 2u);
  } while ((seen.rings[0].flags & CDMF_RING_RECEIVER_SLEEPS) == 0 && monotonic_now_ns() < deadline);
  EXPECT_NE(seen.rings[0].flags & CDMF_RING_RECEIVER_SLEEPS, 0u);
  EXPECT_EQ(seen.rings[0].wakes, 0u);
  ASSERT_EQ(client.send(client.peer, "wake up"), CDMF_OK);
  receiver.join();
  EXPECT_EQ(look(endpoint).rings[0].wakes, 1u);
}

TEST(Inspector, SeesWhoWasRefusedAndWhy) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, {}, 1000);
  ASSERT_EQ(server.open(), CDMF_OK);
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, {}, 5000);
  ASSERT_EQ(client.open(), CDMF_OK);
  EXPECT_EQ(client.attach(), CDMF_INVALID_CONFIG);
  const Seen seen = look(endpoint);
  EXPECT_EQ(seen.endpoint.refused, 1u);
  EXPECT_EQ(seen.endpoint.error_count, 1u);
  EXPECT_EQ(seen.endpoint.last_error, CDMF_INVALID_CONFIG);
  EXPECT_NE(std::string(seen.endpoint.last_error_text).find("max_message_size"), std::string::npos);
}

const Options kPosix{{"segment", "posix"}, {"ring_buffer_capacity", "32"}};

TEST(Inspector, SeesALinkOverANamedObjectWithoutAskingAnybody) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kPosix);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  Seen seen = look(endpoint);
  ASSERT_EQ(seen.status, CDMF_OK) << seen.error;
  EXPECT_TRUE(seen.links.empty());
  EXPECT_EQ(seen.endpoint.accepted, 0u);
  Options client_options = kPosix;
  client_options["wait"] = "spin";
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, client_options);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
  const cdmf_peer peer = server.next_peer();
  for (int i = 0; i < 5; ++i) ASSERT_EQ(client.send(client.peer, "hello"), CDMF_OK);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(server.next().content, "hello");
  // The server notes a client after its receiver was told.
  EXPECT_TRUE(eventually([&] { return look(endpoint).endpoint.accepted == 1; }));
  // By its name alone, and as its file describes it.
  for (const Options& options : {Options{}, kPosix}) {
    seen = look(endpoint, kPatienceMs, options);
    ASSERT_EQ(seen.status, CDMF_OK) << seen.error;
    EXPECT_EQ(seen.endpoint.pid, getpid());
    EXPECT_EQ(seen.endpoint.uid, geteuid());
    EXPECT_EQ(seen.endpoint.wait, static_cast<std::uint32_t>(CDMF_WAIT_ADAPTIVE));
    EXPECT_GT(seen.endpoint.started_us, 0u);
    EXPECT_EQ(seen.endpoint.accepted, 1u);
    EXPECT_EQ(seen.endpoint.error_count, 0u);
    EXPECT_NE(std::string(seen.endpoint.address).find(endpoint), std::string::npos);
    ASSERT_EQ(seen.links.size(), 1u);
    EXPECT_EQ(seen.links[0].peer, peer);
    EXPECT_EQ(seen.links[0].pid, getpid());
    EXPECT_EQ(seen.links[0].uid, geteuid());
    EXPECT_GT(seen.links[0].connected_us, 0u);
    EXPECT_EQ(seen.links[0].message_size_max, 4096u);
    EXPECT_EQ(seen.links[0].flags & CDMF_LINK_ENDED, 0u);
    EXPECT_NE(seen.links[0].flags & CDMF_LINK_CHECKSUM, 0u);
    EXPECT_NE(seen.links[0].flags & CDMF_LINK_TIMESTAMP, 0u);
    ASSERT_EQ(seen.rings.size(), 2u);
    EXPECT_STREQ(seen.rings[0].name, "TX");
    EXPECT_EQ(seen.rings[0].link, peer);
    EXPECT_EQ(seen.rings[0].capacity_bytes, 32u * 512);
    EXPECT_EQ(seen.rings[0].pushes, 5u);
    EXPECT_EQ(seen.rings[0].pops, 5u);
    EXPECT_EQ(seen.rings[0].failed_pushes, 0u);
    EXPECT_EQ(seen.rings[0].flags & (CDMF_RING_IMPLAUSIBLE | CDMF_RING_NOT_ALIGNED), 0u);
    EXPECT_NE(seen.rings[1].flags & CDMF_RING_RECEIVER_NEVER_SLEEPS, 0u) << "this client spins";
  }
  while (client.send(client.peer, std::string(1000, 'x')) == CDMF_OK) {
  }
  seen = look(endpoint);
  ASSERT_EQ(seen.rings.size(), 2u);
  EXPECT_EQ(seen.rings[0].failed_pushes, 1u);
  EXPECT_GE(seen.rings[0].high_water_bytes, 32u * 512 - 2048);
  EXPECT_GE(seen.rings[0].used_bytes, 32u * 512 - 2048);
  client.close();
  for (Message message = server.next(); message.kind == CDMF_VIEW_MESSAGE; message = server.next()) {
  }
  EXPECT_TRUE(eventually([&] {
    seen = look(endpoint);
    return seen.links.empty() && seen.endpoint.ended == 1;
  }));
  server.close();
  EXPECT_EQ(look(endpoint).status, CDMF_ENDPOINT_NOT_FOUND);
}

TEST(Inspector, SeesAServerOverANamedObjectThatIsStopped) {
  const std::string endpoint = unique_endpoint();
  const pid_t child = run_in_child([&] {
    DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kPosix);
    if (server.open() != CDMF_OK) return 1;
    (void)server.next_peer();
    pause();
    return 2;
  });
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kPosix);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach_when_listening(), CDMF_OK) << client.error.message;
  kill(child, SIGSTOP);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WSTOPPED | WNOWAIT), 0);
  ASSERT_EQ(client.send(client.peer, "anybody there?"), CDMF_OK);
  const Seen stopped = look(endpoint);
  kill(child, SIGKILL);
  EXPECT_EQ(exit_code(child), 128 + SIGKILL);
  ASSERT_EQ(stopped.status, CDMF_OK) << stopped.error;
  EXPECT_EQ(stopped.endpoint.pid, child);
  EXPECT_NE(std::string(stopped.endpoint.detail).find("stopped"), std::string::npos) << stopped.endpoint.detail;
  ASSERT_EQ(stopped.rings.size(), 2u);
  EXPECT_EQ(stopped.rings[0].pushes, 1u);
  EXPECT_GT(stopped.rings[0].used_bytes, 0u);
  // And one that is dead is none, also while its object is there.
  EXPECT_TRUE(eventually([&] { return look(endpoint).status == CDMF_ENDPOINT_NOT_FOUND; }));
}

TEST(Inspector, SeesWhatWentWrongOverANamedObject) {
  const std::string endpoint = unique_endpoint();
  int gate[2];
  ASSERT_EQ(pipe(gate), 0);
  const pid_t child = run_in_child([&] {
    char go;
    if (read(gate[0], &go, 1) != 1) return 1;
    DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kPosix);
    if (client.open() != CDMF_OK || client.attach() != CDMF_OK) return 2;
    pause();
    return 3;
  });
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kPosix);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  ASSERT_EQ(write(gate[1], "!", 1), 1);
  const cdmf_peer peer = server.next_peer();
  kill(child, SIGKILL);
  EXPECT_EQ(exit_code(child), 128 + SIGKILL);
  EXPECT_EQ(server.next().reason, CDMF_PEER_DIED);
  Seen seen;
  EXPECT_TRUE(eventually([&] {
    seen = look(endpoint);
    return seen.endpoint.ended == 1 && seen.endpoint.error_count == 1;
  }));
  EXPECT_EQ(seen.endpoint.last_error, CDMF_PEER_DIED);
  EXPECT_NE(std::string(seen.endpoint.last_error_text).find("peer " + std::to_string(peer)), std::string::npos);
  EXPECT_TRUE(seen.links.empty());
  ::close(gate[0]);
  ::close(gate[1]);
}

TEST(Inspector, IsNotNoticedByTheEndsOfANamedObject) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kPosix);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, kPosix);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
  (void)server.next_peer();
  (void)client.next_peer();
  for (int i = 0; i < 50; ++i) ASSERT_EQ(look(endpoint).status, CDMF_OK);
  EXPECT_TRUE(server.take().empty());
  EXPECT_TRUE(client.take().empty());
  ASSERT_EQ(client.send(client.peer, "still there"), CDMF_OK);
  EXPECT_EQ(server.next().content, "still there");
  EXPECT_TRUE(eventually([&] { return look(endpoint).endpoint.accepted == 1; }));
}

TEST(Inspector, ReadsANamedObjectWithAnyBytesInIt) {
  const SegmentPlan plan{.ring_capacity = 64, .slot_size = 512, .frame_size_max = 4096 + CDMF_FRAME_OVERHEAD_MAX};
  struct Case {
    const char* what;
    std::function<void(std::byte*)> spoil;
    cdmf_status status;
  };
  const auto header = [](auto change) {
    return [change](std::byte* memory) { change(*reinterpret_cast<SegmentHeader*>(memory)); };
  };
  const auto notes = [](auto change) {
    return [change](std::byte* memory) { change(*reinterpret_cast<ObserverNotes*>(memory + kNotesOffset)); };
  };
  const Case cases[] = {
      {"another magic", header([](SegmentHeader& it) { it.magic = 1; }), CDMF_PROTOCOL_ERROR},
      {"another version", header([](SegmentHeader& it) { it.version = 9; }), CDMF_VERSION_MISMATCH},
      {"another size", header([](SegmentHeader& it) { it.total_size = UINT64_MAX; }), CDMF_PROTOCOL_ERROR},
      {"huge rings", header([](SegmentHeader& it) { it.ring_capacity = it.slot_size = 1u << 31; }),
       CDMF_PROTOCOL_ERROR},
      {"frames of no bytes", header([](SegmentHeader& it) { it.frame_size_max = 0; }), CDMF_PROTOCOL_ERROR},
      {"notes never finished", notes([](ObserverNotes& it) { it.sequence = 7; }), CDMF_OK},
      {"notes without end", notes([](ObserverNotes& it) {
         it.endpoint_bytes = it.link_bytes = UINT32_MAX;
         std::memset(static_cast<void*>(&it.endpoint), 'x', sizeof it.endpoint);
         std::memset(static_cast<void*>(&it.link), 'x', sizeof it.link);
       }),
       CDMF_OK},
      {"every byte of the page behind the header set",
       [](std::byte* memory) { std::memset(memory + sizeof(SegmentHeader), 0xFF, 4096 - sizeof(SegmentHeader)); },
       CDMF_OK},
      {"a link of nobody",
       [](std::byte* memory) {
         auto& control = *reinterpret_cast<SegmentControl*>(memory);
         control.server.stage = control.client.stage = 1;
         control.client.facts.pid = INT32_MIN;
         control.client.facts.only_cpu = INT32_MIN;
         control.client.goodbye = INT32_MIN;
         control.tx.head = 64;
         control.rx.tail = UINT64_MAX;
       },
       CDMF_OK},
  };
  for (const Case& each : cases) {
    const std::string endpoint = unique_endpoint();
    cdmf_error text{};
    ErrorText error(&text);
    NamedObject object;
    ASSERT_EQ(NamedObject::create(
                  endpoint, plan.total_size(), {},
                  [&](std::byte* memory) {
                    Segment::lay_out(memory, plan, {}, {});
                    each.spoil(memory);
                  },
                  object, error),
              CDMF_OK)
        << text.message;
    const Seen seen = look(endpoint, kPatienceMs, kPosix);
    EXPECT_EQ(seen.status, each.status) << each.what << ": " << seen.error;
    if (seen.status != CDMF_OK) continue;
    EXPECT_LT(std::strlen(seen.endpoint.last_error_text), sizeof seen.endpoint.last_error_text) << each.what;
    EXPECT_LT(std::strlen(seen.endpoint.detail), sizeof seen.endpoint.detail) << each.what;
    for (const cdmf_ring_report& ring : seen.rings) {
      EXPECT_LE(ring.used_bytes, ring.capacity_bytes) << each.what;
      EXPECT_NE(ring.flags & CDMF_RING_IMPLAUSIBLE, 0u) << each.what;
    }
  }
  // Of another size than its header says, while its server lives.
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, kPosix);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  const std::string file = "/dev/shm" + endpoint;
  const auto size = static_cast<off_t>(plan.total_size());
  ASSERT_EQ(truncate(file.c_str(), size), 0);
  EXPECT_EQ(look(endpoint, kPatienceMs, kPosix).status, CDMF_PROTOCOL_ERROR);
}

TEST(Inspector, SaysThatNobodyListens) {
  const Seen seen = look(unique_endpoint());
  EXPECT_EQ(seen.status, CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_FALSE(seen.error.empty());
}

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

TEST(Inspector, SeesAPoolByReadingItsObject) {
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

TEST(Inspector, CountsHowOftenProcessesOfAPoolLoseToEachOtherAndFindItFull) {
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

TEST(Inspector, RefusesAnObjectThatIsNoPool) {
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

TEST(Inspector, CallsNumbersOfAHostilePeerImplausible) {
  RecordRingControl control;
  cdmf_ring_report ring{};
  control.tail = 64;
  control.head = 128;
  control.high_water = UINT64_MAX;
  report_ring(control, 4096, ring);
  EXPECT_NE(ring.flags & CDMF_RING_IMPLAUSIBLE, 0u);
  EXPECT_LE(ring.used_bytes, 4096u);
  EXPECT_LE(ring.high_water_bytes, 4096u);
}

/// A server that listens where one should be, and says what it likes.
class FalseServer {
 public:
  explicit FalseServer(const std::string& endpoint) {
    std::string path;
    ErrorText none(nullptr);
    EXPECT_EQ(socket_path(endpoint.c_str(), path, none), CDMF_OK);
    EXPECT_EQ(listener_.open(path, none), CDMF_OK);
  }
  /// Takes one observer's Look and does `answer` on its socket.
  template <typename Answer>
  void serve(Answer&& answer) {
    thread_ = std::thread([this, answer] {
      UniqueFd socket;
      while (!socket) socket.reset(accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
      Look look;
      (void)recv(socket.get(), &look, sizeof look, 0);
      answer(socket);
    });
  }
  ~FalseServer() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  ListeningEndpoint listener_;
  std::thread thread_;
};

template <typename Answer>
Seen look_at_false_server(Answer&& answer, std::uint64_t patience_ms = kPatienceMs) {
  const std::string endpoint = unique_endpoint();
  FalseServer server(endpoint);
  server.serve(std::forward<Answer>(answer));
  return look(endpoint, patience_ms);
}

TEST(Inspector, RefusesWhatAHostileServerSends) {
  EXPECT_EQ(look_at_false_server([](UniqueFd&) {}).status, CDMF_VERSION_MISMATCH) << "as an old server does";
  EXPECT_EQ(look_at_false_server([](UniqueFd& socket) { send(socket.get(), "hm", 2, MSG_NOSIGNAL); }).status,
            CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(look_at_false_server([](UniqueFd& socket) {
              Page page;
              send_packet(socket.get(), &page, sizeof page);
            }).status,
            CDMF_PROTOCOL_ERROR)
      << "no file";
  EXPECT_EQ(look_at_false_server([](UniqueFd& socket) {
              Page page;
              const int fd = 0;
              send_packet(socket.get(), &page, sizeof page, {&fd, 1});
            }).status,
            CDMF_PROTOCOL_ERROR)
      << "another file";
  EXPECT_EQ(look_at_false_server([](UniqueFd& socket) {
              Page page;
              page.header.major = 9;
              send_packet(socket.get(), &page, sizeof page);
            }).status,
            CDMF_VERSION_MISMATCH);
  const Seen refused = look_at_false_server([](UniqueFd& socket) {
    Page page;
    page.status = 4711;
    std::fill(std::begin(page.text), std::end(page.text), 'x');  // No NUL.
    send_packet(socket.get(), &page, sizeof page);
  });
  EXPECT_EQ(refused.status, CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(refused.error, std::string(sizeof(Page::text) - 1, 'x'));
}

TEST(Inspector, WaitsForASilentServerNoLongerThanItsPatienceAndNamesIt) {
  std::atomic<bool> done{false};
  const std::uint64_t began = monotonic_now_ns();
  const std::string endpoint = unique_endpoint();
  FalseServer server(endpoint);
  server.serve([&](UniqueFd&) { done.wait(false); });
  const Seen seen = look(endpoint, 50);
  EXPECT_GE(monotonic_now_ns() - began, 50'000'000u);
  done = true;
  done.notify_all();
  EXPECT_EQ(seen.status, CDMF_TIMEOUT);
  EXPECT_NE(seen.error.find("process " + std::to_string(getpid())), std::string::npos) << seen.error;
}

TEST(Inspector, AHostileObserverHarmsNobody) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint);
  ASSERT_EQ(server.open(), CDMF_OK);
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK);
  (void)server.next_peer();
  std::string path;
  ErrorText none(nullptr);
  ASSERT_EQ(socket_path(endpoint.c_str(), path, none), CDMF_OK);
  // Looks of every length and version, none of whose answers is read.
  for (std::size_t size = 0; size <= 128; ++size) {
    UniqueFd socket;
    ASSERT_EQ(connect_endpoint(path, in_ms(kPatienceMs), socket, none), CDMF_OK);
    std::array<std::byte, 128> bytes{};
    Look look;
    look.header.major = static_cast<std::uint16_t>(1 + size % 3);
    std::memcpy(bytes.data(), &look, sizeof look);
    send(socket.get(), bytes.data(), size, MSG_NOSIGNAL);
  }
  ASSERT_EQ(client.send(client.peer, "still there"), CDMF_OK);
  EXPECT_EQ(server.next().content, "still there");
  const Seen seen = look(endpoint);
  ASSERT_EQ(seen.status, CDMF_OK) << seen.error;
  EXPECT_EQ(seen.links.size(), 1u);
}

}  // namespace
}  // namespace cdmf::ipc::shm::testing
