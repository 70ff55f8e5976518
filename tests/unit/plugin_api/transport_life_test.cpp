// The life of a Transport: every order of calls, connecting and reconnecting, fork.
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "support/fake_transport.h"

namespace cdmf::ipc::testing {
namespace {

using namespace std::chrono_literals;
using TransportLife = FakeTransportTest;
using Clock = std::chrono::steady_clock;

TEST_F(TransportLife, GoesThroughItsStatesInOrderAndTellsEach) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  EXPECT_EQ(transport.getState(), TransportState::UNINITIALIZED);
  bring_up(transport, Role::SERVER);
  EXPECT_TRUE(transport.isConnected());
  EXPECT_TRUE(transport.disconnect().success());
  EXPECT_EQ(transport.getState(), TransportState::STARTED);
  EXPECT_TRUE(transport.connect().success());
  transport.stop();
  EXPECT_EQ(transport.getState(), TransportState::INITIALIZED);
  transport.cleanup();
  EXPECT_EQ(transport.getState(), TransportState::UNINITIALIZED);
  EXPECT_EQ(record.all(), (std::vector<std::string>{"UNINITIALIZED>INITIALIZED", "INITIALIZED>STARTED",
                                                    "STARTED>CONNECTED", "CONNECTED>STARTED", "STARTED>CONNECTED",
                                                    "CONNECTED>INITIALIZED", "INITIALIZED>UNINITIALIZED"}));
  EXPECT_EQ(wire->drivers_alive(), 0u);
  EXPECT_EQ(wire->calls(Call::OPEN), 2u);
  EXPECT_EQ(wire->calls(Call::CLOSE), 2u);
}

TEST_F(TransportLife, CallsInAWrongOrderAreRefusedAndChangeNothing) {
  Transport transport(fake_plugin());
  EXPECT_EQ(transport.start().error, TransportError::NOT_INITIALIZED);
  EXPECT_EQ(transport.connect().error, TransportError::NOT_INITIALIZED);
  EXPECT_TRUE(transport.disconnect().success());
  EXPECT_EQ(transport.send(text("x")).error, TransportError::NOT_CONNECTED);
  EXPECT_EQ(transport.loan(1).error, TransportError::NOT_CONNECTED);
  EXPECT_EQ(transport.flush().error, TransportError::NOT_CONNECTED);
  EXPECT_EQ(transport.disconnectPeer(1).error, TransportError::NOT_CONNECTED);
  EXPECT_EQ(transport.pollFd(), -1);
  EXPECT_TRUE(transport.getPeers().empty());
  transport.stop();
  transport.cleanup();
  transport.interrupt();
  EXPECT_EQ(transport.getState(), TransportState::UNINITIALIZED);

  ASSERT_TRUE(transport.init(config(Role::SERVER)).success());
  EXPECT_EQ(transport.init(config(Role::SERVER)).error, TransportError::ALREADY_INITIALIZED);
  EXPECT_EQ(transport.connect().error, TransportError::NOT_INITIALIZED);
  EXPECT_EQ(transport.send(text("x")).error, TransportError::NOT_CONNECTED);
  ASSERT_TRUE(transport.start().success());
  EXPECT_EQ(transport.start().error, TransportError::ALREADY_INITIALIZED);
  EXPECT_EQ(transport.init(config(Role::SERVER)).error, TransportError::ALREADY_INITIALIZED);
  EXPECT_EQ(transport.send(text("x")).error, TransportError::NOT_CONNECTED);
  ASSERT_TRUE(transport.connect().success());
  EXPECT_TRUE(transport.connect().success()) << "connected already is what was asked for";
  EXPECT_EQ(wire->calls(Call::OPEN), 1u);
  EXPECT_EQ(transport.start().error, TransportError::ALREADY_INITIALIZED);
  transport.stop();
  transport.stop();
  EXPECT_TRUE(transport.disconnect().success());
  EXPECT_EQ(transport.connect().error, TransportError::NOT_INITIALIZED);
  ASSERT_TRUE(transport.start().success());
  ASSERT_TRUE(transport.connect().success());
}

TEST_F(TransportLife, CanBeUsedAgainAfterCleanupWithAnotherConfig) {
  const auto other = FakeWire::make("/fake/another");
  Transport transport(fake_plugin());
  bring_up(transport, Role::SERVER);
  transport.cleanup();
  TransportConfig second = config(Role::CLIENT);
  second.endpoint = other->endpoint();
  bring_up(transport, second);
  EXPECT_TRUE(transport.send(text("x")).success());
  EXPECT_EQ(other->sent().size(), 1u);
  EXPECT_EQ(transport.getInfo().endpoint, "/fake/another");
}

TEST_F(TransportLife, InitTellsEveryProblemAtOnceAndMakesNoDriver) {
  Transport transport(fake_plugin());
  TransportConfig bad;
  bad.max_message_size = 0;
  bad.properties = {{"depth", "17"}, {"deepth", "1"}, {"send_timeout", "3"}};
  const auto result = transport.init(bad);
  EXPECT_EQ(result.error, TransportError::INVALID_CONFIG);
  for (const char* part : {"endpoint: required", "max_message_size", "depth: 17 is above the maximum 16",
                           "deepth: unknown property of type fake", "send_timeout", "no unit"}) {
    EXPECT_NE(result.error_message.find(part), std::string::npos) << part << " is missing in: " << result.error_message;
  }
  EXPECT_EQ(transport.getState(), TransportState::UNINITIALIZED);
  EXPECT_EQ(wire->calls(Call::CREATE), 0u);
  EXPECT_TRUE(transport.init(config(Role::CLIENT)).success());
}

TEST_F(TransportLife, InitRefusesAnEndpointWithANul) {
  Transport transport(fake_plugin());
  TransportConfig bad = config(Role::CLIENT);
  bad.endpoint = std::string("/a\0b", 4);
  EXPECT_EQ(transport.init(bad).error, TransportError::INVALID_CONFIG);
}

TEST_F(TransportLife, ADriverThatCannotBeMadeLeavesItsReasonAndAnUninitializedTransport) {
  wire->answer_create(CDMF_INVALID_CONFIG);
  Transport transport(fake_plugin());
  const auto result = transport.init(config(Role::CLIENT));
  EXPECT_EQ(result.error, TransportError::INVALID_CONFIG);
  EXPECT_NE(result.error_message.find("scripted refusal"), std::string::npos) << result.error_message;
  EXPECT_EQ(transport.getState(), TransportState::UNINITIALIZED);
  EXPECT_TRUE(transport.init(config(Role::CLIENT)).success());
}

TEST_F(TransportLife, ThePropertyOverridesTheRoleOfTheProgram) {
  Transport transport(fake_plugin());
  TransportConfig said = config(Role::CLIENT);
  said.properties = {{"create_shm", "true"}};
  ASSERT_TRUE(transport.init(said).success());
  EXPECT_EQ(transport.getInfo().role, Role::SERVER);
  transport.cleanup();
  said.properties = {{"role", "server"}};
  ASSERT_TRUE(transport.init(said).success());
  EXPECT_EQ(transport.getInfo().role, Role::SERVER);
  transport.cleanup();
  said.properties = {{"role", "server"}, {"create_shm", "false"}};
  EXPECT_EQ(transport.init(said).error, TransportError::INVALID_CONFIG);
  said.properties = {{"role", "server"}, {"create_shm", "true"}};
  EXPECT_TRUE(transport.init(said).success());
}

TEST_F(TransportLife, AFailedOpenLeavesItStartedAndConnectMayBeTriedAgain) {
  wire->answer_open(CDMF_ENDPOINT_IN_USE);
  Transport transport(fake_plugin());
  ASSERT_TRUE(transport.init(config(Role::SERVER)).success());
  ASSERT_TRUE(transport.start().success());
  const auto result = transport.connect();
  EXPECT_EQ(result.error, TransportError::ENDPOINT_IN_USE);
  EXPECT_NE(result.error_message.find("scripted answer of open()"), std::string::npos);
  EXPECT_EQ(transport.getState(), TransportState::STARTED);
  EXPECT_TRUE(transport.connect().success());
}

// ---- Connecting -------------------------------------------------------------------------------------------------

TEST_F(TransportLife, AClientTriesAgainUntilItsServerIsThere) {
  wire->answer_attach(CDMF_ENDPOINT_NOT_FOUND, 3);
  wire->answer_attach(CDMF_CONNECTION_FAILED);
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  EXPECT_EQ(wire->calls(Call::ATTACH), 5u);
  EXPECT_EQ(transport.getPeers(), std::vector<PeerId>{wire->server()});
}

TEST_F(TransportLife, AClientGivesUpAfterItsTimeoutAndNotBefore) {
  wire->answer_attach(CDMF_ENDPOINT_NOT_FOUND, 100'000);
  Transport transport(fake_plugin());
  ASSERT_TRUE(transport.init(config(Role::CLIENT)).success());
  ASSERT_TRUE(transport.start().success());
  const auto before = Clock::now();
  const auto result = transport.connect(120ms);
  EXPECT_GE(Clock::now() - before, 120ms);
  EXPECT_EQ(result.error, TransportError::ENDPOINT_NOT_FOUND);
  EXPECT_NE(result.error_message.find("connect_timeout"), std::string::npos) << result.error_message;
  EXPECT_GT(wire->calls(Call::ATTACH), 1u);
  EXPECT_EQ(transport.getState(), TransportState::STARTED);
}

TEST_F(TransportLife, ConnectWithoutTimeTriesOnce) {
  wire->answer_attach(CDMF_ENDPOINT_NOT_FOUND);
  Transport transport(fake_plugin());
  ASSERT_TRUE(transport.init(config(Role::CLIENT)).success());
  ASSERT_TRUE(transport.start().success());
  EXPECT_EQ(transport.connect(0ms).error, TransportError::ENDPOINT_NOT_FOUND);
  EXPECT_EQ(wire->calls(Call::ATTACH), 1u);
}

TEST_F(TransportLife, WhatWaitingCannotCureIsToldAtOnce) {
  for (const cdmf_status status : {CDMF_PERMISSION_DENIED, CDMF_VERSION_MISMATCH, CDMF_INVALID_CONFIG,
                                   CDMF_PROTOCOL_ERROR, CDMF_UNSUPPORTED, CDMF_INTERNAL_ERROR}) {
    wire->answer_attach(status);
    const std::size_t before = wire->calls(Call::ATTACH);
    Transport transport(fake_plugin());
    ASSERT_TRUE(transport.init(config(Role::CLIENT)).success());
    ASSERT_TRUE(transport.start().success());
    EXPECT_EQ(transport.connect(30s).error, to_error(status));
    EXPECT_EQ(wire->calls(Call::ATTACH), before + 1);
  }
}

TEST_F(TransportLife, StopEndsAConnectThatWaits) {
  wire->answer_attach(CDMF_ENDPOINT_NOT_FOUND, 1'000'000);
  Transport transport(fake_plugin());
  ASSERT_TRUE(transport.init(config(Role::CLIENT)).success());
  ASSERT_TRUE(transport.start().success());
  std::thread stopper([&] {
    ASSERT_TRUE(eventually([&] { return wire->calls(Call::ATTACH) >= 2; }));
    transport.stop();
  });
  EXPECT_EQ(transport.connect(10min).error, TransportError::INTERRUPTED);
  stopper.join();
  EXPECT_EQ(transport.getState(), TransportState::INITIALIZED);
}

TEST_F(TransportLife, TheClientMaySendWhatTheServerAllows) {
  wire->agree_on_frame_size(200 * 1024 + CDMF_FRAME_OVERHEAD_MAX);
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  EXPECT_EQ(transport.getInfo().max_message_size, 200u * 1024);
  EXPECT_TRUE(transport.send(text(std::string(200 * 1024, 'x'))).success());
  EXPECT_EQ(transport.send(text(std::string(200 * 1024 + 1, 'x'))).error, TransportError::BUFFER_OVERFLOW);
}

// ---- The end of a link ------------------------------------------------------------------------------------------

TEST_F(TransportLife, AClientReconnectsByItselfWithANewPeerId) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  record_messages(transport, record);
  bring_up(transport, Role::CLIENT);
  const PeerId first = wire->server();
  wire->answer_attach(CDMF_ENDPOINT_NOT_FOUND, 2);
  wire->deliver(first, "last words");
  wire->end_link(first, CDMF_PEER_DIED, 3);
  ASSERT_TRUE(eventually([&] { return record.has("RECONNECTING>CONNECTED"); }));
  EXPECT_NE(wire->server(), first);
  EXPECT_EQ(transport.getPeers(), std::vector<PeerId>{wire->server()});
  EXPECT_TRUE(transport.send(text("again")).success());
  ASSERT_TRUE(eventually([&] { return record.count("peer 2 came") == 1; }));
  const auto all = record.all();
  const auto at = [&](const std::string& what) {
    return std::find_if(all.begin(), all.end(), [&](const std::string& each) { return each.starts_with(what); }) -
           all.begin();
  };
  EXPECT_LT(at("peer 1 came"), at("message last words"));
  EXPECT_LT(at("message last words"), at("peer 1 left PEER_DIED lost 3"));
  EXPECT_LT(at("peer 1 left PEER_DIED lost 3"), at("CONNECTED>RECONNECTING"));
  EXPECT_LT(at("CONNECTED>RECONNECTING"), at("RECONNECTING>CONNECTED"));
  EXPECT_TRUE(record.has("error PEER_DIED"));
  EXPECT_EQ(transport.getStats().recv_errors, 3u);
}

TEST_F(TransportLife, ALinkThatEndsWhileConnectReturnsIsNoticed) {
  // The first link is over before connect() has returned; whatever the threads do, the client ends up on the second.
  for (int round = 0; round < 50; ++round) {
    std::atomic<bool> first{true};
    Transport transport(fake_plugin());
    wire->on(Call::RECEIVE_BURST, [&] {
      if (!first.exchange(false)) return;
      // Not back at once: a CONNECTED that comes too late would then stand for ever, without a link.
      wire->answer_attach(CDMF_ENDPOINT_NOT_FOUND, 3);
      wire->end_link(wire->server(), CDMF_CONNECTION_CLOSED);
    });
    bring_up(transport, Role::CLIENT);
    ASSERT_TRUE(eventually([&] { return !first && transport.isConnected() && transport.getPeers().size() == 1; }));
    ASSERT_TRUE(eventually([&] { return transport.send(text("x")).success(); })) << "round " << round;
    wire->on(Call::RECEIVE_BURST, {});
  }
}

TEST_F(TransportLife, WithoutAutoReconnectTheClientIsBackInStartedAndMayConnectAgain) {
  TransportConfig once = config(Role::CLIENT);
  once.auto_reconnect = false;
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  bring_up(transport, once);
  wire->end_link(wire->server(), CDMF_CONNECTION_CLOSED);
  ASSERT_TRUE(eventually([&] { return transport.getState() == TransportState::STARTED; }));
  EXPECT_EQ(transport.send(text("x")).error, TransportError::NOT_CONNECTED);
  EXPECT_EQ(wire->calls(Call::ATTACH), 1u);
  EXPECT_TRUE(transport.connect().success());
  EXPECT_TRUE(transport.send(text("x")).success());
  EXPECT_FALSE(record.has("error")) << "a goodbye is no fault";
}

TEST_F(TransportLife, AServerStaysConnectedWhenItsPeersLeave) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  bring_up(transport, Role::SERVER);
  const PeerId a = wire->connect_peer();
  const PeerId b = wire->connect_peer();
  ASSERT_TRUE(eventually([&] { return transport.getPeers() == std::vector<PeerId>{a, b}; }));
  EXPECT_EQ(transport.getStats().active_connections, 2u);
  wire->end_link(a, CDMF_CONNECTION_CLOSED);
  wire->end_link(b, CDMF_PEER_DIED);
  ASSERT_TRUE(eventually([&] { return record.count("peer") == 4; }));
  EXPECT_TRUE(transport.getPeers().empty());
  EXPECT_TRUE(transport.isConnected());
  EXPECT_EQ(transport.send(text("x")).error, TransportError::NOT_CONNECTED);
}

TEST_F(TransportLife, StopWhileReconnectingEndsTheAttempts) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  wire->answer_attach(CDMF_ENDPOINT_NOT_FOUND, 1'000'000);
  wire->end_link(wire->server(), CDMF_CONNECTION_CLOSED);
  ASSERT_TRUE(eventually([&] { return wire->calls(Call::ATTACH) >= 3; }));
  EXPECT_EQ(transport.getState(), TransportState::RECONNECTING);
  EXPECT_NE(transport.send(text("x")).error_message.find("reconnecting"), std::string::npos);
  transport.stop();
  EXPECT_EQ(transport.getState(), TransportState::INITIALIZED);
  const std::size_t attempts = wire->calls(Call::ATTACH);
  ASSERT_TRUE(transport.start().success());
  EXPECT_EQ(wire->calls(Call::ATTACH), attempts);
}

TEST_F(TransportLife, AttemptsToReconnectComeEverMoreRarely) {
  std::mutex mutex;
  std::vector<std::chrono::steady_clock::time_point> attempts;
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  wire->on(Call::ATTACH, [&] {
    const std::lock_guard lock(mutex);
    attempts.push_back(std::chrono::steady_clock::now());
  });
  constexpr std::size_t kRefused = 8;
  wire->answer_attach(CDMF_ENDPOINT_NOT_FOUND, kRefused);
  wire->end_link(wire->server(), CDMF_CONNECTION_CLOSED);
  ASSERT_TRUE(eventually(
      [&] { return transport.getState() == TransportState::CONNECTED && wire->calls(Call::ATTACH) > kRefused; }));
  transport.stop();
  ASSERT_EQ(attempts.size(), kRefused + 1);
  // After the n-th refusal at least half of 2^n ms, from n = 0; the other half is chance, so that many clients of a
  // restarted server do not come at once.
  for (std::size_t n = 0; n < kRefused; ++n) {
    EXPECT_GE(attempts[n + 1] - attempts[n], std::chrono::microseconds(500) * (1 << n)) << n;
  }
}

TEST_F(TransportLife, AReconnectionThatCannotWorkIsToldOnce) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  bring_up(transport, Role::CLIENT);
  wire->answer_attach(CDMF_PERMISSION_DENIED, 4);
  wire->end_link(wire->server(), CDMF_CONNECTION_CLOSED);
  ASSERT_TRUE(eventually([&] { return record.has("RECONNECTING>CONNECTED"); }));
  EXPECT_EQ(record.count("error PERMISSION_DENIED"), 1u);
}

TEST_F(TransportLife, DisconnectFlushesSaysGoodbyeAndTellsOfEveryPeerThatWasTold) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  bring_up(transport, Role::SERVER);
  const PeerId peer = wire->connect_peer();
  ASSERT_TRUE(eventually([&] { return record.has("peer 1 came"); }));
  ASSERT_TRUE(transport.send(text("queued"), {.peer = peer, .flush = false}).success());
  EXPECT_EQ(wire->queued(), 1u);
  EXPECT_TRUE(transport.disconnect().success());
  EXPECT_EQ(wire->queued(), 0u);
  EXPECT_EQ(wire->sent().size(), 1u);
  EXPECT_TRUE(record.has("peer 1 left CONNECTION_CLOSED"));
  EXPECT_TRUE(transport.getPeers().empty());
  EXPECT_EQ(transport.getStats().active_connections, 0u);
}

TEST_F(TransportLife, APeerThatNobodyWasToldOfDoesNotLeave) {
  for (int round = 0; round < 50; ++round) {
    Record record;
    Transport transport(fake_plugin());
    record_events(transport, record);
    bring_up(transport, Role::CLIENT);
    transport.stop();
    for (const auto& entry : record.all()) {
      if (!entry.starts_with("peer") || entry.find("left") == std::string::npos) continue;
      EXPECT_TRUE(record.has(entry.substr(0, entry.find(" left")) + " came")) << entry;
    }
  }
}

TEST_F(TransportLife, DisconnectSaysWhenNotEverythingLeft) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  wire->answer_flush(CDMF_CONNECTION_CLOSED);
  const auto result = transport.disconnect();
  EXPECT_EQ(result.error, TransportError::CONNECTION_CLOSED);
  EXPECT_NE(result.error_message.find("not everything left"), std::string::npos);
  EXPECT_EQ(transport.getState(), TransportState::STARTED);
}

TEST_F(TransportLife, DisconnectPeerEndsOneLink) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  bring_up(transport, Role::SERVER);
  const PeerId a = wire->connect_peer();
  const PeerId b = wire->connect_peer();
  ASSERT_TRUE(eventually([&] { return transport.getPeers().size() == 2; }));
  EXPECT_TRUE(transport.disconnectPeer(a).success());
  EXPECT_EQ(transport.disconnectPeer(77).error, TransportError::NOT_CONNECTED);
  ASSERT_TRUE(eventually([&] { return transport.getPeers() == std::vector<PeerId>{b}; }));
  EXPECT_TRUE(transport.send(text("to b")).success());
}

TEST_F(TransportLife, MovingKeepsItAlive) {
  Record record;
  Transport transport(fake_plugin());
  record_messages(transport, record);
  bring_up(transport, Role::SERVER);
  Transport moved = std::move(transport);
  Transport other(fake_plugin());
  other = std::move(moved);
  const PeerId peer = wire->connect_peer();
  wire->deliver(peer, "still here");
  ASSERT_TRUE(eventually([&] { return record.has("message still here"); }));
  other = Transport(fake_plugin());
  EXPECT_EQ(wire->drivers_alive(), 0u);
}

TEST_F(TransportLife, StatisticsCountAndStartAnew) {
  Record record;
  Transport transport(fake_plugin());
  record_messages(transport, record);
  bring_up(transport, Role::CLIENT);
  ASSERT_TRUE(transport.send(text("12345")).success());
  ASSERT_TRUE(transport.send(text("67")).success());
  EXPECT_FALSE(transport.send(text(std::string(1 << 20, 'x'))).success());
  wire->deliver(wire->server(), "abc");
  ASSERT_TRUE(eventually([&] { return transport.getStats().messages_received == 1; }));
  TransportStats stats = transport.getStats();
  EXPECT_EQ(stats.messages_sent, 2u);
  EXPECT_EQ(stats.bytes_sent, 7u);
  EXPECT_EQ(stats.bytes_received, 3u);
  EXPECT_EQ(stats.send_errors, 1u);
  EXPECT_EQ(stats.recv_errors, 0u);
  EXPECT_EQ(stats.active_connections, 1u);
  EXPECT_TRUE(stats.last_error.starts_with("BUFFER_OVERFLOW: ")) << stats.last_error;
  EXPECT_GT(stats.last_error_time.time_since_epoch().count(), 0);
  transport.resetStats();
  stats = transport.getStats();
  EXPECT_EQ(stats.messages_sent + stats.bytes_sent + stats.messages_received + stats.bytes_received + stats.send_errors,
            0u);
  EXPECT_EQ(stats.active_connections, 1u) << "connections are a state, not a count of events";
  EXPECT_EQ(stats.last_error, "");
  EXPECT_EQ(stats.last_error_time.time_since_epoch().count(), 0);
  ASSERT_TRUE(transport.send(text("1")).success());
  EXPECT_EQ(transport.getStats().messages_sent, 1u);
}

TEST_F(TransportLife, InfoTellsWhatTheDriverSays) {
  Transport transport(fake_plugin());
  EXPECT_EQ(transport.getInfo().type, "fake");
  bring_up(transport, Role::SERVER);
  const TransportInfo info = transport.getInfo();
  EXPECT_EQ(info.endpoint, wire->endpoint());
  EXPECT_EQ(info.address, wire->endpoint());
  EXPECT_EQ(info.detail, "scripted");
  EXPECT_EQ(info.buffer_bytes, 4096u);
  EXPECT_EQ(info.role, Role::SERVER);
  EXPECT_TRUE(info.capabilities & CDMF_CAP_HOLD);
  EXPECT_EQ(transport.pollFd(), 1000);
}

// ---- A plugin that is not whole -----------------------------------------------------------------------------------

int destroyed = 0;

TEST_F(TransportLife, AnIncompleteFunctionTableIsRefusedAndItsDriverFreed) {
  static cdmf_driver_ops ops;
  cdmf_plugin plugin = fake_plugin();
  plugin.create = [](const cdmf_host*, const cdmf_config*, cdmf_driver* driver, cdmf_error*) -> cdmf_status {
    driver->self = &ops;
    driver->ops = &ops;
    return CDMF_OK;
  };
  ops = {};
  ops.struct_size = sizeof ops;
  destroyed = 0;
  ops.destroy = [](void*) { ++destroyed; };
  Transport transport(plugin);
  EXPECT_EQ(transport.init(config(Role::CLIENT)).error, TransportError::PLUGIN_ERROR);
  EXPECT_EQ(destroyed, 1);
  ops.struct_size = offsetof(cdmf_driver_ops, claim);  // Of an older header: what lies behind must not be read.
  EXPECT_EQ(transport.init(config(Role::CLIENT)).error, TransportError::PLUGIN_ERROR);
  EXPECT_EQ(destroyed, 1);
}

TEST_F(TransportLife, AnErrorTextWithoutEndOrOfAnUnknownCodeIsSurvived) {
  cdmf_plugin plugin = fake_plugin();
  plugin.create = [](const cdmf_host*, const cdmf_config*, cdmf_driver*, cdmf_error* error) -> cdmf_status {
    std::memset(error->message, 'e', sizeof error->message);
    return 4711;
  };
  Transport transport(plugin);
  const auto result = transport.init(config(Role::CLIENT));
  EXPECT_EQ(result.error, TransportError::INTERNAL_ERROR);
  EXPECT_LT(result.error_message.size(), sizeof(cdmf_error) + 100);
}

// ---- fork ---------------------------------------------------------------------------------------------------------

TEST_F(TransportLife, AForkedChildIsRefusedAndMayEndWithoutTouchingTheParentsLinks) {
  auto transport = std::make_unique<Transport>(fake_plugin());
  bring_up(*transport, Role::CLIENT);
  auto loan = transport->loan(8);
  ASSERT_TRUE(loan.success());
  const std::size_t closes = wire->calls(Call::CLOSE);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    int wrong = 0;
    const auto refused = [](const auto& result) { return result.error == TransportError::UNSUPPORTED ? 0 : 1; };
    wrong += refused(transport->send(text("x")));
    wrong += refused(transport->flush());
    wrong += refused(transport->loan(1));
    wrong += refused(transport->connect());
    wrong += refused(transport->disconnect());
    wrong += refused(transport->disconnectPeer(1));
    wrong += refused(transport->start());
    wrong += refused(transport->await(1ms));
    wrong += refused(loan.value.commit());
    wrong += transport->pollFd() == -1 ? 0 : 1;
    wrong += transport->getPeers().empty() ? 0 : 1;
    (void)transport->getStats();
    (void)transport->getInfo();
    transport->interrupt();
    transport->stop();
    transport->cleanup();
    { Loan mine = std::move(loan.value); }
    transport.reset();
    wrong += wire->calls(Call::CLOSE) == closes && wire->open_claims() == 1 ? 0 : 1;
    _exit(wrong);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "exit " << WEXITSTATUS(status);
  EXPECT_TRUE(loan.value.commit().success()) << "the parent goes on";
}

}  // namespace
}  // namespace cdmf::ipc::testing
