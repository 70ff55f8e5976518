// Two hundred clients that misbehave by being slow, each in its own way, beside one that does not. What this would
// catch: a server that waits for one peer, looks at all of them for every message, or buffers for them without bound.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "endpoint_path.h"
#include "unit/plugins/c_driver.h"
#include "unit/plugins/unix_socket/child.h"
#include "unit/plugins/unix_socket/raw_peer.h"
#include "unit/plugins/unix_socket/runtime_directory.h"
#include "unix_socket_driver.h"

namespace cdmf::ipc::unix_socket {
namespace {

using ipc::test::CDriver;
using ipc::test::Event;
using ipc::test::in;
using ipc::test::kWatchdog;
using ipc::test::pattern;
using test::Child;
using test::Gate;
using test::raw_record;
using test::RawPeer;
using namespace std::chrono_literals;

const cdmf_plugin kPlugin = make_plugin<UnixSocketDriver>(kDescription);
constexpr const char* kEndpoint = "/stalled";
constexpr int kStalled = 200;
constexpr int kRoundTrips = 2000;
constexpr std::size_t kMessageBytes = 1024;
constexpr std::size_t kQueueBytes = 64 * 1024;
constexpr std::size_t kReadBytes = 64 * 1024;
using Options = std::map<std::string, std::string>;

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  statm >> total >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// Nanoseconds of the median round trip; 0 when something went wrong.
std::uint64_t ping_pong(CDriver& client) {
  std::vector<std::uint64_t> times;
  for (std::uint64_t i = 0; i < kRoundTrips; ++i) {
    const std::string text = pattern(kMessageBytes, i);
    const std::uint64_t begun = monotonic_now_ns();
    if (client.send(client.server, text) != CDMF_OK || !client.next().is_message(text)) return 0;
    times.push_back(monotonic_now_ns() - begun);
  }
  std::nth_element(times.begin(), times.begin() + kRoundTrips / 2, times.end());
  return times[kRoundTrips / 2];
}

/// Says that it is there with a first message, so that the server knows when all of them are.
bool misbehave(int number, std::vector<std::unique_ptr<RawPeer>>& peers) {
  peers.push_back(std::make_unique<RawPeer>(endpoint_path(kEndpoint).socket, SOCK_STREAM));
  const RawPeer& peer = *peers.back();
  if (!peer.connected() || !peer.shake_hands(kMessageBytes)) return false;
  switch (number % 4) {
    case 0:  // Silent for ever.
      return peer.say(raw_record(2, "in"));
    case 1:  // Stops within a header.
      return peer.say(raw_record(2, "in") + raw_record(500, "").substr(0, 5));
    case 2:  // Stops within a frame.
      return peer.say(raw_record(2, "in") + raw_record(1000, std::string(300, 'x')));
    default:  // Asks a lot and reads no answer.
      return peer.say(raw_record(4, "deaf"));
  }
}

TEST(StalledClients, DoNotSlowAGoodOneAndCostBoundedMemory) {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 4096);
  setrlimit(RLIMIT_NOFILE, &files);
  const test::RuntimeDirectory runtime;
  const Gate start_good;
  const Gate start_stalled;
  const Gate finish;
  Child good([&] {
    start_good.pass();
    CDriver client(kPlugin, CDMF_ROLE_CLIENT, kEndpoint, {}, kMessageBytes);
    if (client.open() != CDMF_OK || client.attach() != CDMF_OK) return 1;
    if (!client.next().is(CDMF_VIEW_PEER_CONNECTED)) return 2;
    const std::uint64_t alone = ping_pong(client);
    start_stalled.open();
    start_good.pass();
    const std::uint64_t together = ping_pong(client);
    if (alone == 0 || together == 0) return 3;
    std::printf("round trip of %zu bytes: %.1f us alone, %.1f us beside %d stalled clients, ratio %.2f\n",
                kMessageBytes, static_cast<double>(alone) / 1e3, static_cast<double>(together) / 1e3, kStalled,
                static_cast<double>(together) / static_cast<double>(alone));
    std::fflush(stdout);
    return client.send(client.server, "goodbye") == CDMF_OK && client.flush(client.server, in(kWatchdog)) == CDMF_OK
               ? 0
               : 4;
  });
  Child stalled([&] {
    start_stalled.pass();
    std::vector<std::unique_ptr<RawPeer>> peers;
    for (int i = 0; i < kStalled; ++i) {
      if (!misbehave(i, peers)) return 1;
    }
    finish.pass();
    return 0;
  });

  CDriver server(kPlugin, CDMF_ROLE_SERVER, kEndpoint,
                 Options{{"queue_size", std::to_string(kQueueBytes)},
                         {"receive_buffer", std::to_string(kReadBytes)},
                         {"send_buffer", "32KiB"},
                         {"frame_timeout", "10min"}},
                 kMessageBytes);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  start_good.open();
  std::size_t before = 0;
  std::size_t in = 0;
  std::size_t full = 0;
  bool finished = false;
  while (!finished) {
    const Event event = server.next();
    ASSERT_FALSE(event.is(UINT32_MAX)) << "nothing came for too long";
    if (event.is(CDMF_VIEW_PEER_DISCONNECTED)) break;
    if (!event.is(CDMF_VIEW_MESSAGE)) continue;
    if (event.content == "in" || event.content == "deaf") {
      if (before == 0) before = resident_bytes();
      while (event.content == "deaf") {  // Everything that fits, and then no more.
        const cdmf_status status = server.put(event.peer, pattern(kMessageBytes, 1));
        if (status == CDMF_BUFFER_FULL) break;
        ASSERT_EQ(status, CDMF_OK);
      }
      full += event.content == "deaf" ? 1 : 0;
      if (++in == kStalled) start_good.open();
    } else if (event.content == "goodbye") {
      finished = true;
    } else {
      ASSERT_EQ(server.send(event.peer, event.content), CDMF_OK);
    }
  }
  EXPECT_TRUE(finished);
  EXPECT_EQ(in, static_cast<std::size_t>(kStalled));
  EXPECT_EQ(full, static_cast<std::size_t>(kStalled / 4));
  const std::size_t after = resident_bytes();
  const std::size_t each = after > before ? (after - before) / kStalled : 0;
  std::printf("memory of a stalled client: %zu bytes\n", each);
  // The queue, two blocks and what the allocator and a sanitizer add.
  EXPECT_LT(each, kQueueBytes + 2 * kReadBytes + 32 * 1024);
  EXPECT_EQ(good.wait(), 0);
  finish.open();
  EXPECT_EQ(stalled.wait(), 0);
}

}  // namespace
}  // namespace cdmf::ipc::unix_socket
