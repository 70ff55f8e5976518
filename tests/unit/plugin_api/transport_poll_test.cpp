// Receive::POLL: the program asks for messages, waits for them, or has its event loop wait.
#include <thread>

#include "support/fake_transport.h"

namespace cdmf::ipc::testing {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class TransportPoll : public FakeTransportTest {
 protected:
  [[nodiscard]] TransportConfig polled(Role role) const {
    TransportConfig with = config(role);
    with.receive = Receive::POLL;
    return with;
  }
};

TEST_F(TransportPoll, HandsOutUpToItsLimitAndTellsPeersInBetween) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  bring_up(transport, polled(Role::SERVER));
  const PeerId peer = wire->connect_peer();
  for (int i = 0; i < 50; ++i) wire->deliver(peer, std::to_string(i));
  wire->end_link(peer, CDMF_CONNECTION_CLOSED);
  const auto add = [&](const MessageView& view) { record.add("message " + std::string(view.text())); };
  EXPECT_EQ(transport.poll(add, 1), 0u);  // The arrival of the peer is not a message.
  EXPECT_TRUE(record.has("peer 1 came"));
  EXPECT_EQ(transport.poll(add, 3), 3u);
  EXPECT_EQ(transport.poll(add, 0), 0u);
  EXPECT_EQ(transport.poll(add), 32u);
  EXPECT_EQ(transport.poll(add), 15u);
  EXPECT_EQ(transport.poll(add), 0u);
  EXPECT_EQ(record.count("message"), 50u);
  EXPECT_EQ(record.all().back(), "peer 1 left CONNECTION_CLOSED lost 0");
  EXPECT_EQ(transport.getStats().messages_received, 50u);
}

TEST_F(TransportPoll, AnExceptionOfTheHandlerReachesTheCallerAndTheBurstIsGivenBack) {
  Transport transport(fake_plugin());
  bring_up(transport, polled(Role::CLIENT));
  wire->deliver(wire->server(), "bad");
  EXPECT_THROW(transport.poll([](const MessageView&) { throw std::runtime_error("x"); }), std::runtime_error);
  EXPECT_EQ(transport.getStats().messages_received, 1u);
  wire->deliver(wire->server(), "good");
  EXPECT_EQ(transport.poll([](const MessageView&) {}), 1u);
}

TEST_F(TransportPoll, ReceiveWaitsForAMessageNoShorterThanItsTimeout) {
  Transport transport(fake_plugin());
  bring_up(transport, polled(Role::CLIENT));
  EXPECT_EQ(transport.receive(0ms).error, TransportError::TIMEOUT);
  const auto before = Clock::now();
  EXPECT_EQ(transport.receive(60ms).error, TransportError::TIMEOUT);
  EXPECT_GE(Clock::now() - before, 60ms);
  wire->deliver(wire->server(), "now");
  auto got = transport.receive(0ms);
  ASSERT_TRUE(got.success()) << got.text();
  EXPECT_EQ(got.value->getPayloadText(), "now");
  std::thread sender([&] {
    ASSERT_TRUE(eventually([&] { return wire->receiver_waits(); }));
    wire->deliver(wire->server(), "later");
  });
  got = transport.receive(10min);
  ASSERT_TRUE(got.success()) << got.text();
  EXPECT_EQ(got.value->getPayloadText(), "later");
  sender.join();
}

TEST_F(TransportPoll, ReceiveWithoutTimeFindsAMessageBehindTheArrivalOfItsPeer) {
  Transport transport(fake_plugin());
  bring_up(transport, polled(Role::SERVER));
  wire->deliver(wire->connect_peer(), "first");
  const auto got = transport.receive(0ms);
  ASSERT_TRUE(got.success()) << got.text();
  EXPECT_EQ(got.value->getPayloadText(), "first");
}

TEST_F(TransportPoll, OneInterruptEndsExactlyOneWait) {
  Transport transport(fake_plugin());
  bring_up(transport, polled(Role::CLIENT));
  transport.poll([](const MessageView&) {});  // The arrival of the server.
  transport.interrupt();                      // Ends the next wait.
  EXPECT_EQ(transport.await(10min).error, TransportError::INTERRUPTED);
  EXPECT_EQ(transport.await(20ms).error, TransportError::TIMEOUT);
  std::thread interrupter([&] {
    ASSERT_TRUE(eventually([&] { return wire->receiver_waits(); }));
    transport.interrupt();  // Ends a running one.
  });
  EXPECT_EQ(transport.receive(10min).error, TransportError::INTERRUPTED);
  interrupter.join();
  EXPECT_EQ(transport.await(20ms).error, TransportError::TIMEOUT);
}

TEST_F(TransportPoll, InterruptEndsAWaitBetweenTwoAttemptsToReconnect) {
  Transport transport(fake_plugin());
  bring_up(transport, polled(Role::CLIENT));
  wire->answer_attach(CDMF_ENDPOINT_NOT_FOUND, 1'000'000);
  wire->end_link(wire->server(), CDMF_CONNECTION_CLOSED);
  std::thread interrupter([&] {
    ASSERT_TRUE(eventually([&] { return wire->calls(Call::ATTACH) >= 4; }));
    transport.interrupt();
  });
  EXPECT_EQ(transport.receive(10min).error, TransportError::INTERRUPTED);
  interrupter.join();
  EXPECT_EQ(transport.getState(), TransportState::RECONNECTING);
}

TEST_F(TransportPoll, ReconnectsWhilePolled) {
  Transport transport(fake_plugin());
  bring_up(transport, polled(Role::CLIENT));
  wire->answer_attach(CDMF_ENDPOINT_NOT_FOUND, 2);
  wire->end_link(wire->server(), CDMF_PEER_DIED);
  ASSERT_TRUE(eventually([&] {
    transport.poll([](const MessageView&) {});
    return wire->calls(Call::ATTACH) == 4;
  }));
  EXPECT_TRUE(transport.isConnected());
  wire->deliver(wire->server(), "again");
  const auto got = transport.receive(10min);
  ASSERT_TRUE(got.success()) << got.text();
}

TEST_F(TransportPoll, ReceiveSaysHowTheLinkEndedWhenItWillNotComeBack) {
  TransportConfig once = polled(Role::CLIENT);
  once.auto_reconnect = false;
  Transport transport(fake_plugin());
  bring_up(transport, once);
  wire->deliver(wire->server(), "last");
  wire->end_link(wire->server(), CDMF_PEER_DIED);
  EXPECT_TRUE(transport.receive(10min).success());
  EXPECT_EQ(transport.receive(10min).error, TransportError::PEER_DIED);
  EXPECT_EQ(transport.receive(10min).error, TransportError::PEER_DIED);
  EXPECT_EQ(transport.getState(), TransportState::STARTED);
}

TEST_F(TransportPoll, AMalformedFrameEndsItsLink) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  bring_up(transport, polled(Role::SERVER));
  wire->deliver_raw(wire->connect_peer(), std::vector<std::byte>(3));
  EXPECT_EQ(transport.poll([](const MessageView&) {}), 0u);
  EXPECT_EQ(transport.poll([](const MessageView&) {}), 0u);
  EXPECT_TRUE(record.has("peer 1 left PROTOCOL_ERROR"));
}

TEST_F(TransportPoll, StopInsideAPeerCallbackTakesEffectWhenPollReturns) {
  Transport transport(fake_plugin());
  transport.setPeerCallback([&](const PeerEvent&) { transport.stop(); });
  bring_up(transport, polled(Role::SERVER));
  const PeerId peer = wire->connect_peer();
  wire->deliver(peer, "not handed out any more");
  EXPECT_EQ(transport.poll([](const MessageView&) { FAIL() << "a message after stop()"; }), 0u);
  EXPECT_EQ(transport.getState(), TransportState::INITIALIZED);
  EXPECT_EQ(wire->calls(Call::CLOSE), 1u);
  EXPECT_EQ(transport.receive(10min).error, TransportError::INTERRUPTED);
}

TEST_F(TransportPoll, ATransportMayBeDestroyedInAPeerCallbackOfPollAndOfReceive) {
  for (const bool with_receive : {false, true}) {
    auto transport = std::make_unique<Transport>(fake_plugin());
    transport->setPeerCallback([&](const PeerEvent&) { transport.reset(); });
    bring_up(*transport, polled(Role::SERVER));
    Transport& alive = *transport;
    wire->deliver(wire->connect_peer(), "x");
    if (with_receive) {
      EXPECT_EQ(alive.receive(10min).error, TransportError::INTERRUPTED);
    } else {
      EXPECT_EQ(alive.poll([](const MessageView&) {}), 0u);
    }
    EXPECT_EQ(transport, nullptr);
    EXPECT_EQ(wire->drivers_alive(), 0u);
  }
}

TEST_F(TransportPoll, IsRefusedWhereTheTransportsOwnThreadReceives) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::SERVER);
  EXPECT_EQ(transport.poll([](const MessageView&) {}), 0u);
  EXPECT_EQ(transport.receive(10min).error, TransportError::UNSUPPORTED);
  EXPECT_EQ(transport.await(10min).error, TransportError::UNSUPPORTED);
}

TEST_F(TransportPoll, ArmSaysWhetherToSleep) {
  Transport transport(fake_plugin());
  bring_up(transport, polled(Role::SERVER));
  EXPECT_EQ(transport.arm(), CDMF_ARMED);
  wire->connect_peer();
  EXPECT_EQ(transport.arm(), CDMF_READY);
}

}  // namespace
}  // namespace cdmf::ipc::testing
