// Looking into a link over a named object: nobody is asked, so it is seen whatever state its server is in, and whatever
// somebody wrote there.
#include "inspect/object_report.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstring>
#include <functional>

#include "../object_by_hand.h"
#include "inspect/observer_notes.h"
#include "seen.h"
#include "support/eventually.h"

namespace cdmf::ipc::shm::testing {
namespace {

using ipc::testing::eventually;

const Options kPosix{{"segment", "posix"}, {"ring_buffer_capacity", "32"}};

TEST(ObjectReport, SeesALinkOverANamedObjectWithoutAskingAnybody) {
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
    EXPECT_EQ(seen.rings[0].link, peer);
    expect_five_received(seen);
  }
  expect_full_ring_seen(client, endpoint);
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

TEST(ObjectReport, SeesAServerOverANamedObjectThatIsStopped) {
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

TEST(ObjectReport, SeesWhatWentWrongOverANamedObject) {
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

TEST(ObjectReport, IsNotNoticedByTheEndsOfANamedObject) {
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

TEST(ObjectReport, ReadsANamedObjectWithAnyBytesInIt) {
  const SegmentPlan plan{.ring_capacity = 64, .slot_size = 512, .frame_size_max = 4096 + CDMF_FRAME_OVERHEAD_MAX};
  struct Case {
    const char* what;
    std::function<void(SegmentControl&)> spoil;
    cdmf_status status;
  };
  const auto header = [](auto change) { return [change](SegmentControl& control) { change(control.header); }; };
  const auto notes = [](auto change) {
    return [change](SegmentControl& control) {
      change(*reinterpret_cast<ObserverNotes*>(reinterpret_cast<std::byte*>(&control) + kNotesOffset));
    };
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
       [](SegmentControl& control) {
         std::memset(reinterpret_cast<std::byte*>(&control) + sizeof(SegmentHeader), 0xFF,
                     4096 - sizeof(SegmentHeader));
       },
       CDMF_OK},
      {"a link of nobody",
       [](SegmentControl& control) {
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
    const ObjectByHand made(endpoint, plan, each.spoil);
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

}  // namespace
}  // namespace cdmf::ipc::shm::testing
