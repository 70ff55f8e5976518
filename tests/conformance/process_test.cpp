// Peers in other processes, and what remains when they are killed.
#include <algorithm>
#include <thread>

#include "conformance/harness.h"

namespace cdmf::ipc::conformance {
namespace {

class Processes : public ::testing::Test {
 protected:
  void SetUp() override { CDMF_NEEDS(CDMF_CAP_INTER_PROCESS); }
  const std::string endpoint = fresh_endpoint();
};

/// Sends count messages of many sizes and checks that each comes back.
void expect_echo(Transport& transport, const Record& record, const SendOptions& to, std::uint64_t count) {
  const std::size_t before = record.message_count();
  for (std::uint64_t i = 0; i < count; ++i) {
    ASSERT_TRUE(transport.send(text(pattern(fit(i * 131 % 9000), i), i), to).success()) << i;
    if (i % 16 != 15) continue;
    ASSERT_TRUE(record.wait_for_messages(before + i - 14));  // Both ways stay within the buffers.
  }
  ASSERT_TRUE(record.wait_for_messages(before + count));
  const auto got = record.messages();
  for (std::uint64_t i = 0; i < count; ++i) {
    ASSERT_EQ(got[before + i].getId(), i);
    ASSERT_EQ(got[before + i].getPayloadText(), pattern(fit(i * 131 % 9000), i)) << i;
  }
}

TEST_F(Processes, AClientElsewhereIsServed) {
  CDMF_NEEDS_NO(CDMF_CAP_ONE_WAY);
  Record record;
  Transport server(plugin());
  record.listen(server);
  bring_up(server, config_for(endpoint, Role::SERVER));
  PeerProcess peer("echo_client", endpoint);
  ASSERT_TRUE(peer.ready());
  ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 1; }));
  expect_echo(server, record, {}, 1000);
  server.stop();
  EXPECT_EQ(peer.wait_for_exit(), 0) << "the client was not told that the server closed";
}

TEST_F(Processes, AServerElsewhereServes) {
  CDMF_NEEDS_NO(CDMF_CAP_ONE_WAY);
  PeerProcess peer("echo_server", endpoint);
  ASSERT_TRUE(peer.ready());
  Record record;
  Transport client(plugin());
  record.listen(client);
  bring_up(client, config_for(endpoint, Role::CLIENT));
  expect_echo(client, record, {}, 1000);
  peer.kill_it();  // First, so that somebody is left who takes away what has a name.
  client.stop();
}

TEST_F(Processes, EachOfManyGetsItsOwnReplies) {
  CDMF_NEEDS(CDMF_CAP_MANY_PEERS);
  Transport server(plugin());
  server.setViewCallback([&](const MessageView& request) { EXPECT_TRUE(server.reply(request, request).success()); });
  bring_up(server, config_for(endpoint, Role::SERVER));
  std::vector<std::unique_ptr<PeerProcess>> peers;
  for (int i = 0; i < 8; ++i) peers.push_back(std::make_unique<PeerProcess>("ask", endpoint, "100"));
  for (const auto& each : peers) EXPECT_EQ(each->wait_for_exit(), 0) << "a reply did not come, or was another's";
  server.stop();
}

TEST_F(Processes, APeerThatLeavesSaysGoodbyeAndOneThatIsKilledIsMissed) {
  Record record;
  Transport server(plugin());
  record.listen(server);
  bring_up(server, config_for(endpoint, Role::SERVER));
  PeerProcess polite("leave", endpoint);
  ASSERT_TRUE(polite.ready());
  // A visit to a pool that is shorter than its members take to look is not noticed.
  ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 1; }));
  polite.ask_to_leave();
  EXPECT_EQ(polite.wait_for_exit(), 0);
  ASSERT_TRUE(record.wait_for_gone(1));
  EXPECT_EQ(record.gone()[0].reason, TransportError::CONNECTION_CLOSED);
  PeerProcess victim("idle", endpoint);
  ASSERT_TRUE(victim.ready());
  ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 1; }));
  victim.kill_it();
  ASSERT_TRUE(record.wait_for_gone(2));
  EXPECT_EQ(record.gone()[1].reason, TransportError::PEER_DIED);
  EXPECT_TRUE(server.isConnected());
  server.stop();
}

TEST_F(Processes, AKilledPeerHarmsNoOtherLink) {
  CDMF_NEEDS(CDMF_CAP_MANY_PEERS);
  Record record;
  Transport server(plugin());
  record.listen(server);
  bring_up(server, config_for(endpoint, Role::SERVER));
  PeerProcess survivor("echo_client", endpoint);
  ASSERT_TRUE(survivor.ready());
  ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 1; }));
  const PeerId to_survivor = server.getPeers()[0];
  for (std::size_t round = 1; round <= 5; ++round) {
    PeerProcess victim(round % 2 == 0 ? "idle" : "half_written", endpoint);
    ASSERT_TRUE(victim.ready());
    ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 2; }));
    victim.kill_it();
    ASSERT_TRUE(record.wait_for_gone(round));
    EXPECT_EQ(record.gone()[round - 1].reason, TransportError::PEER_DIED);
    if (round % 2 == 1) {
      // The whole message came, where what was flushed survives its sender; the half-written one did not.
      const auto got = record.messages();
      EXPECT_FALSE(std::any_of(got.begin(), got.end(), [](const Message& message) {
        return message.getPayloadText().substr(0, 9) == "hhhhhhhhh";
      }));
      if ((server.getInfo().capabilities & CDMF_CAP_SURVIVES_SENDER) != 0) {
        ASSERT_FALSE(got.empty());
        EXPECT_EQ(got.back().getPayloadText(), "whole");
      }
    }
    expect_echo(server, record, {.peer = to_survivor}, 50);
  }
  PeerProcess next("echo_client", endpoint);
  EXPECT_TRUE(next.ready()) << "the server accepts nobody any more";
  server.stop();
}

TEST_F(Processes, WhatWasFlushedSurvivesItsSender) {
  CDMF_NEEDS(CDMF_CAP_SURVIVES_SENDER);
  constexpr std::uint64_t kCount = 200;
  TransportConfig polled = config_for(endpoint, Role::SERVER);
  polled.receive = Receive::POLL;
  std::vector<PeerEvent> gone;
  Transport server(plugin());
  server.setPeerCallback([&](const PeerEvent& event) {
    if (event.kind == PeerEvent::Kind::DISCONNECTED) gone.push_back(event);
  });
  bring_up(server, polled);
  PeerProcess victim("flood", endpoint, std::to_string(kCount));
  ASSERT_TRUE(victim.ready());
  victim.kill_it();  // Before the first message is read.
  std::uint64_t next = 0;
  ASSERT_TRUE(eventually([&] {
    server.poll([&](const MessageView& view) {
      EXPECT_TRUE(gone.empty()) << "a message after the end";
      EXPECT_EQ(view.id, next);
      EXPECT_EQ(view.text(), pattern(100, next++));
    });
    return !gone.empty();
  }));
  EXPECT_EQ(next, kCount);
  EXPECT_EQ(gone[0].reason, TransportError::PEER_DIED);
  EXPECT_EQ(gone[0].messages_lost, 0u);
}

TEST_F(Processes, AClientWhoseServerIsKilledIsToldAndFindsTheNextOne) {
  CDMF_NEEDS_NO(CDMF_CAP_ONE_WAY);
  Record record;
  Transport client(plugin());
  record.listen(client);
  auto server = std::make_unique<PeerProcess>("echo_server", endpoint);
  ASSERT_TRUE(server->ready());
  bring_up(client, config_for(endpoint, Role::CLIENT));
  for (std::size_t round = 1; round <= 3; ++round) {
    expect_echo(client, record, {}, 50);
    server->kill_it();
    ASSERT_TRUE(record.wait_for_gone(round));
    EXPECT_EQ(record.gone()[round - 1].reason, TransportError::PEER_DIED);
    server = std::make_unique<PeerProcess>("echo_server", endpoint);  // What the dead one left must not be in the way.
    ASSERT_TRUE(server->ready());
    ASSERT_TRUE(eventually([&] { return client.isConnected(); }));
  }
  expect_echo(client, record, {}, 50);
  server->kill_it();  // As above.
  client.stop();
}

TEST_F(Processes, ASenderThatWaitsIsToldWhenItsReceiverIsKilled) {
  CDMF_NEEDS_NO(CDMF_CAP_ONE_WAY);
  Record record;
  Transport server(plugin());
  record.listen(server);
  bring_up(server, config_for(endpoint, Role::SERVER));
  PeerProcess victim("idle", endpoint);
  ASSERT_TRUE(victim.ready());
  ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 1; }));
  const std::string payload(fit(5000), 'x');
  while (server.send(text(payload), {.timeout = 20ms}).success()) {
  }
  std::thread killer([&] {
    std::this_thread::sleep_for(20ms);  // Only makes it likely that the sender waits; the outcome is the same.
    victim.kill_it();
  });
  TransportResult<> result;
  while ((result = server.send(text(payload), {.timeout = watchdog()})).success()) {
  }
  killer.join();
  EXPECT_TRUE(result.error == TransportError::PEER_DIED || result.error == TransportError::NOT_CONNECTED)
      << result.text();
  ASSERT_TRUE(record.wait_for_gone(1));
  EXPECT_EQ(record.gone()[0].reason, TransportError::PEER_DIED);
  server.stop();
}

}  // namespace
}  // namespace cdmf::ipc::conformance
