// Receiving by the transport's own thread: callbacks and everything they may do, holding, bad frames. For a program
// that polls: transport_poll_test.cpp.
#include <condition_variable>
#include <thread>

#include "support/fake_transport.h"

namespace cdmf::ipc::testing {
namespace {

using namespace std::chrono_literals;
using TransportReceive = FakeTransportTest;
using Clock = std::chrono::steady_clock;

/// A gate that a callback waits in until the test opens it.
class Latch {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kWatchdog, [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

// The sending half of a driver keeps a link until its next call, which may never come.
TEST_F(TransportReceive, APeersEndMakesTheSendingHalfOfTheDriverLookOnce) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::SERVER);
  const cdmf_peer peer = wire->connect_peer();
  wire->connect_peer();
  ASSERT_TRUE(eventually([&] { return transport.getPeers().size() == 2; }));
  EXPECT_EQ(wire->calls(Call::FLUSH), 0u);
  wire->end_link(peer, CDMF_PEER_DIED);
  ASSERT_TRUE(eventually([&] { return transport.getPeers().size() == 1; }));
  EXPECT_TRUE(eventually([&] { return wire->calls(Call::FLUSH) == 1; }));
}

TEST_F(TransportReceive, WithOneSenderAPeersEndLeavesTheSendingHalfToIt) {
  Transport transport(fake_plugin());
  TransportConfig one_sender = config(Role::SERVER);
  one_sender.senders = Senders::ONE;
  bring_up(transport, one_sender);
  const cdmf_peer peer = wire->connect_peer();
  ASSERT_TRUE(eventually([&] { return transport.getPeers().size() == 1; }));
  wire->end_link(peer, CDMF_PEER_DIED);
  ASSERT_TRUE(eventually([&] { return transport.getPeers().empty(); }));
  EXPECT_EQ(wire->calls(Call::FLUSH), 0u);
}

TEST_F(TransportReceive, MessagesComeInOrderWithEverythingThatWasSent) {
  Record record;
  Transport transport(fake_plugin());
  std::mutex mutex;
  std::vector<Message> got;
  transport.setMessageCallback([&](MessagePtr message) {
    const std::lock_guard lock(mutex);
    got.push_back(std::move(*message));
  });
  bring_up(transport, Role::SERVER);
  const PeerId peer = wire->connect_peer();
  for (int i = 0; i < 100; ++i) {
    MessageView message = text("payload");
    message.id = static_cast<std::uint64_t>(i);
    message.subject = "subject";
    message.flags = 7;
    message.type = MessageType::REQUEST;
    wire->deliver(peer, message);
  }
  const auto size = [&] {
    const std::lock_guard lock(mutex);
    return got.size();
  };
  ASSERT_TRUE(eventually([&] { return size() == 100; }));
  for (std::size_t i = 0; i < 100; ++i) {
    EXPECT_EQ(got[i].getId(), i);
    EXPECT_EQ(got[i].getPayloadText(), "payload");
    EXPECT_EQ(got[i].getSubject(), "subject");
    EXPECT_EQ(got[i].getFlags(), 7);
    EXPECT_EQ(got[i].getType(), MessageType::REQUEST);
    EXPECT_EQ(got[i].getPeer(), peer);
    EXPECT_EQ(got[i].getTimestampMicroseconds(), 42u);
  }
  EXPECT_TRUE(eventually([&] { return transport.getStats().messages_received == 100; }));
  EXPECT_EQ(transport.getStats().bytes_received, 700u);
}

TEST_F(TransportReceive, MessagesBeforeTheFirstCallbackWaitForIt) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::SERVER);
  const PeerId peer = wire->connect_peer();
  for (int i = 0; i < 100; ++i) wire->deliver(peer, std::to_string(i));
  ASSERT_TRUE(eventually([&] { return wire->undelivered() < 101; }));  // The thread has the first of them.
  EXPECT_EQ(transport.getStats().messages_received, 0u);
  Record record;
  record_messages(transport, record);
  ASSERT_TRUE(eventually([&] { return record.count("message") == 100; }));
  const auto all = record.all();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(all[static_cast<std::size_t>(i)], "message " + std::to_string(i));
  transport.stop();
}

TEST_F(TransportReceive, PeersAreToldThoughNoMessageCallbackIsSet) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  bring_up(transport, Role::SERVER);
  wire->connect_peer();
  ASSERT_TRUE(eventually([&] { return record.has("peer 1 came"); }));
}

TEST_F(TransportReceive, MessagesThatWaitForACallbackDoNotKeepStopOrDisconnectWaiting) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::SERVER);
  const PeerId peer = wire->connect_peer();
  wire->deliver(peer, "never read");
  ASSERT_TRUE(eventually([&] { return wire->undelivered() == 0; }));
  EXPECT_TRUE(transport.disconnect().success());
  EXPECT_TRUE(transport.connect().success());
  const PeerId again = wire->connect_peer();
  wire->deliver(again, "never read either");
  ASSERT_TRUE(eventually([&] { return wire->undelivered() == 0; }));
  transport.stop();
}

TEST_F(TransportReceive, TheViewCallbackSeesTheBytesInPlaceAndTheOneSetLastIsInForce) {
  Record record;
  Transport transport(fake_plugin());
  record_messages(transport, record);
  transport.setViewCallback([&](const MessageView& view) { record.add("view " + std::string(view.text())); });
  bring_up(transport, Role::SERVER);
  const PeerId peer = wire->connect_peer();
  wire->deliver(peer, "a");
  ASSERT_TRUE(eventually([&] { return record.has("view a"); }));
  record_messages(transport, record);
  wire->deliver(peer, "b");
  ASSERT_TRUE(eventually([&] { return record.has("message b"); }));
  EXPECT_EQ(record.count("view") + record.count("message"), 2u);
}

TEST_F(TransportReceive, ACallbackThatThrowsIsCountedAndToldAndTheNextMessageComes) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  transport.setViewCallback([&](const MessageView& view) {
    if (view.text() == "std") throw std::runtime_error("bad luck");
    if (view.text() == "int") throw 7;
    record.add("message " + std::string(view.text()));
  });
  bring_up(transport, Role::SERVER);
  const PeerId peer = wire->connect_peer();
  for (const char* each : {"std", "int", "good"}) wire->deliver(peer, each);
  ASSERT_TRUE(eventually([&] { return record.has("message good"); }));
  EXPECT_EQ(record.count("error INTERNAL_ERROR"), 2u);
  EXPECT_TRUE(eventually([&] { return transport.getStats().recv_errors == 2; }));
  EXPECT_NE(transport.getStats().last_error.find("no std::exception"), std::string::npos);
}

TEST_F(TransportReceive, EveryOtherCallbackMayThrowToo) {
  Transport transport(fake_plugin());
  Record record;
  record_messages(transport, record);
  transport.setStateChangeCallback([](TransportState, TransportState) { throw 1; });
  transport.setPeerCallback([](const PeerEvent&) { throw 2; });
  transport.setErrorCallback([](TransportError, const std::string&) { throw 3; });
  bring_up(transport, Role::SERVER);
  wire->deliver(wire->connect_peer(), "through");
  ASSERT_TRUE(eventually([&] { return record.has("message through"); }));
  EXPECT_TRUE(transport.disconnect().success());
}

TEST_F(TransportReceive, ACallbackMayReplaceItself) {
  Record record;
  Transport transport(fake_plugin());
  transport.setViewCallback([&](const MessageView& first) {
    record.add("first " + std::string(first.text()));
    transport.setMessageCallback(
        [&](MessagePtr second) { record.add("second " + std::string(second->getPayloadText())); });
    record.add("still the first");  // Its captures are alive although it is no longer set.
  });
  bring_up(transport, Role::SERVER);
  const PeerId peer = wire->connect_peer();
  for (const char* each : {"1", "2", "3"}) wire->deliver(peer, each);
  ASSERT_TRUE(eventually([&] { return record.count("second") == 2; }));
  EXPECT_EQ(record.all(), (std::vector<std::string>{"first 1", "still the first", "second 2", "second 3"}));
}

TEST_F(TransportReceive, ACallbackMayRemoveItselfAndTheRestWaits) {
  Record record;
  Transport transport(fake_plugin());
  transport.setViewCallback([&](const MessageView& view) {
    record.add("message " + std::string(view.text()));
    transport.setViewCallback(nullptr);
  });
  bring_up(transport, Role::SERVER);
  const PeerId peer = wire->connect_peer();
  for (const char* each : {"1", "2", "3"}) wire->deliver(peer, each);
  ASSERT_TRUE(eventually([&] { return record.has("message 1"); }));  // The others may have come with it, or later.
  EXPECT_EQ(record.count("message"), 1u);
  record_messages(transport, record);
  ASSERT_TRUE(eventually([&] { return record.count("message") == 3; }));
}

TEST_F(TransportReceive, RemovingACallbackWaitsForTheOneThatRuns) {
  Latch inside;
  Latch go_on;
  std::atomic<bool> returned{false};
  Transport transport(fake_plugin());
  transport.setViewCallback([&](const MessageView&) {
    inside.open();
    go_on.wait();
    returned = true;
  });
  bring_up(transport, Role::SERVER);
  wire->deliver(wire->connect_peer(), "x");
  inside.wait();
  std::atomic<bool> removed{false};
  std::thread remover([&] {
    transport.setMessageCallback(nullptr);
    EXPECT_TRUE(returned) << "what the callback uses may be freed now, and it still runs";
    removed = true;
  });
  std::this_thread::yield();
  EXPECT_FALSE(removed);
  go_on.open();
  remover.join();
}

TEST_F(TransportReceive, ACallbackMaySendAndAsk) {
  Record record;
  Transport transport(fake_plugin());
  transport.setMessageCallback([&](MessagePtr message) {
    record.add(transport.send(*message).text());
    record.add(to_string(transport.getState()));
    record.add(std::to_string(transport.getPeers().size()));
    (void)transport.getInfo();
    (void)transport.getStats();
    record.add(to_string(transport.connect().error));
    record.add(to_string(transport.disconnect().error));
    record.add(to_string(transport.start().error));
    record.add(to_string(transport.init(config(Role::CLIENT)).error));
    record.add("end");
  });
  bring_up(transport, Role::CLIENT);
  wire->deliver(wire->server(), "x");
  ASSERT_TRUE(eventually([&] { return record.has("end"); }));
  EXPECT_EQ(record.all(), (std::vector<std::string>{"SUCCESS: done", "CONNECTED", "1", "UNSUPPORTED", "UNSUPPORTED",
                                                    "UNSUPPORTED", "UNSUPPORTED", "end"}));
  EXPECT_EQ(wire->sent().size(), 1u);
}

// ---- stop() and destruction inside callbacks ----------------------------------------------------------------------

TEST_F(TransportReceive, StopInsideACallbackReturnsAtOnceAndNoFurtherCallbackStarts) {
  Record record;
  Transport transport(fake_plugin());
  transport.setViewCallback([&](const MessageView& view) {
    record.add("message " + std::string(view.text()));
    ASSERT_TRUE(transport.send(text("unflushed"), {.flush = false}).success());
    transport.stop();
    transport.stop();
    record.add("stop returned");
  });
  transport.setStateChangeCallback([&](TransportState, TransportState to) { record.add(to_string(to)); });
  transport.setPeerCallback([&](const PeerEvent&) { record.add("peer"); });
  bring_up(transport, Role::SERVER);
  const PeerId peer = wire->connect_peer();
  for (const char* each : {"1", "2", "3"}) wire->deliver(peer, each);
  ASSERT_TRUE(eventually([&] { return transport.getState() == TransportState::INITIALIZED; }));
  EXPECT_EQ(record.all(),
            (std::vector<std::string>{"INITIALIZED", "STARTED", "CONNECTED", "peer", "message 1", "stop returned"}));
  EXPECT_EQ(wire->sent().size(), 1u) << "what was queued before stop() leaves";
  transport.stop();
  ASSERT_TRUE(transport.start().success()) << "and it can be started again";
  ASSERT_TRUE(transport.connect().success());
}

TEST_F(TransportReceive, CleanupInsideACallbackStops) {
  Transport transport(fake_plugin());
  transport.setViewCallback([&](const MessageView&) { transport.cleanup(); });
  bring_up(transport, Role::SERVER);
  wire->deliver(wire->connect_peer(), "x");
  ASSERT_TRUE(eventually([&] { return transport.getState() == TransportState::INITIALIZED; }));
  transport.cleanup();
  EXPECT_EQ(transport.getState(), TransportState::UNINITIALIZED);
}

TEST_F(TransportReceive, ATransportMayBeDestroyedInItsMessageCallback) {
  for (int round = 0; round < 50; ++round) {
    auto transport = std::make_unique<Transport>(fake_plugin());
    std::atomic<bool> returned{false};
    transport->setViewCallback([&](const MessageView& view) {
      transport.reset();
      EXPECT_EQ(view.text(), "x") << "the view is valid until the callback returns";
      returned = true;
    });
    bring_up(*transport, Role::SERVER);
    const PeerId peer = wire->connect_peer();
    wire->deliver(peer, "x");
    wire->deliver(peer, "y");
    ASSERT_TRUE(eventually([&] { return returned.load() && wire->drivers_alive() == 0; }));
  }
}

TEST_F(TransportReceive, ATransportMayBeDestroyedInAnyStateCallback) {
  for (const TransportState when : {TransportState::INITIALIZED, TransportState::STARTED, TransportState::CONNECTED}) {
    auto transport = std::make_unique<Transport>(fake_plugin());
    transport->setStateChangeCallback([&](TransportState, TransportState to) {
      if (to == when) transport.reset();
    });
    (void)transport->init(config(Role::SERVER));
    if (transport) (void)transport->start();
    if (transport) (void)transport->connect();
    EXPECT_EQ(transport, nullptr);
    ASSERT_TRUE(eventually([&] { return wire->drivers_alive() == 0; })) << to_string(when);
  }
  for (const TransportState when : {TransportState::STARTED, TransportState::INITIALIZED}) {  // On the way down.
    auto transport = std::make_unique<Transport>(fake_plugin());
    bring_up(*transport, Role::SERVER);
    transport->setStateChangeCallback([&](TransportState, TransportState to) {
      if (to == when) transport.reset();
    });
    if (when == TransportState::STARTED) {
      (void)transport->disconnect();
    } else {
      transport->stop();
    }
    EXPECT_EQ(transport, nullptr);
    ASSERT_TRUE(eventually([&] { return wire->drivers_alive() == 0; })) << to_string(when);
  }
}

TEST_F(TransportReceive, ATransportMayBeDestroyedWhenItsPeerCallbackRuns) {
  for (int round = 0; round < 20; ++round) {
    auto transport = std::make_unique<Transport>(fake_plugin());
    transport->setPeerCallback([&](const PeerEvent&) { transport.reset(); });
    bring_up(*transport, Role::SERVER);
    wire->connect_peer();
    ASSERT_TRUE(eventually([&] { return wire->drivers_alive() == 0; }));
  }
}

TEST_F(TransportReceive, StopInsideTheStateCallbackOfConnectTakesEffectWhenConnectReturns) {
  Transport transport(fake_plugin());
  transport.setStateChangeCallback([&](TransportState, TransportState to) {
    if (to == TransportState::CONNECTED) transport.stop();
  });
  ASSERT_TRUE(transport.init(config(Role::SERVER)).success());
  ASSERT_TRUE(transport.start().success());
  (void)transport.connect();
  EXPECT_EQ(transport.getState(), TransportState::INITIALIZED);
  EXPECT_EQ(wire->calls(Call::CLOSE), 1u);
}

TEST_F(TransportReceive, AfterStopNoCallbackRuns) {
  for (int round = 0; round < 50; ++round) {
    std::atomic<bool> stopped{false};
    std::atomic<int> late{0};
    Transport transport(fake_plugin());
    transport.setViewCallback([&](const MessageView&) { late += stopped ? 1 : 0; });
    transport.setPeerCallback([&](const PeerEvent&) { late += stopped ? 1 : 0; });
    transport.setStateChangeCallback([&](TransportState, TransportState) { late += stopped ? 1 : 0; });
    bring_up(transport, Role::SERVER);
    const PeerId peer = wire->connect_peer();
    for (int i = 0; i < 100; ++i) wire->deliver(peer, "x");
    transport.stop();
    stopped = true;
    wire->deliver(peer, "too late");
    std::this_thread::yield();
    EXPECT_EQ(late, 0);
    stopped = false;  // cleanup() reports its own state change.
  }
}

TEST_F(TransportReceive, StopFromOutsideFlushesAndTellsEverything) {
  // Whoever is faster, the I/O thread or the caller of stop(): the same is flushed and told.
  for (int round = 0; round < 200; ++round) {
    Record record;
    Transport transport(fake_plugin());
    record_events(transport, record);
    bring_up(transport, Role::SERVER);
    const PeerId peer = wire->connect_peer();
    const std::string came = "peer " + std::to_string(peer) + " came";
    ASSERT_TRUE(eventually([&] { return record.has(came); }));
    ASSERT_TRUE(transport.send(text("queued"), {.peer = peer, .flush = false}).success());
    transport.stop();
    ASSERT_EQ(wire->sent().size(), static_cast<std::size_t>(round) + 1);
    ASSERT_TRUE(record.has("peer " + std::to_string(peer) + " left CONNECTION_CLOSED"));
    ASSERT_TRUE(record.has("CONNECTED>INITIALIZED"));
  }
}

// ---- Bad frames and bad drivers -------------------------------------------------------------------------------------

TEST_F(TransportReceive, AMalformedFrameEndsItsLinkAndOnlyThat) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  record_messages(transport, record);
  bring_up(transport, Role::SERVER);
  const PeerId bad = wire->connect_peer();
  const PeerId good = wire->connect_peer();
  wire->deliver_raw(bad, std::vector<std::byte>(20, std::byte{0xff}));
  wire->deliver(good, "unharmed");
  ASSERT_TRUE(eventually([&] { return record.has("message unharmed") && record.has("peer 1 left PROTOCOL_ERROR"); }));
  EXPECT_TRUE(record.has("error PROTOCOL_ERROR"));
  ASSERT_EQ(wire->disconnects().size(), 1u);
  EXPECT_EQ(wire->disconnects()[0], (std::pair<cdmf_peer, cdmf_status>{bad, CDMF_PROTOCOL_ERROR}));
  EXPECT_EQ(transport.getPeers(), std::vector<PeerId>{good});
  EXPECT_EQ(transport.getStats().recv_errors, 1u);
}

TEST_F(TransportReceive, AnEmptyFrameAndAViewOfAnUnknownKindAreSurvived) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  record_messages(transport, record);
  bring_up(transport, Role::SERVER);
  const PeerId peer = wire->connect_peer();
  wire->deliver_kind(peer, 77);
  wire->deliver(peer, "after the unknown");
  wire->deliver_raw(peer, {});
  ASSERT_TRUE(eventually([&] { return record.has("peer 1 left PROTOCOL_ERROR"); }));
  EXPECT_TRUE(record.has("message after the unknown"));
}

TEST_F(TransportReceive, ADriverThatCannotWaitIsToldOnceAndDoesNotMakeTheThreadSpin) {
  Record record;
  Transport transport(fake_plugin());
  record_events(transport, record);
  record_messages(transport, record);
  wire->answer_await_messages(CDMF_INTERNAL_ERROR, 5);
  const auto before = Clock::now();
  bring_up(transport, Role::SERVER);
  ASSERT_TRUE(eventually([&] { return wire->calls(Call::AWAIT_MESSAGES) >= 6; }));
  EXPECT_GE(Clock::now() - before, 40ms);
  EXPECT_EQ(record.count("error INTERNAL_ERROR"), 1u);
  wire->deliver(wire->connect_peer(), "works again");
  ASSERT_TRUE(eventually([&] { return record.has("message works again"); }));
}

// ---- Holding --------------------------------------------------------------------------------------------------------

TEST_F(TransportReceive, AHeldMessageKeepsItsBytesBeyondItsHandlerAndTheTransport) {
  std::vector<HeldMessage> kept;
  std::atomic<int> handled{0};
  {
    Transport transport(fake_plugin());
    transport.setViewCallback([&](const MessageView& view) {
      if (view.text() == "keep") {
        auto held = transport.hold(view);
        ASSERT_TRUE(held.success()) << held.text();
        kept.push_back(std::move(held.value));
      }
      ++handled;
    });
    bring_up(transport, Role::SERVER);
    const PeerId peer = wire->connect_peer();
    for (const char* each : {"keep", "drop", "keep"}) wire->deliver(peer, each);
    ASSERT_TRUE(eventually([&] { return handled == 3 && wire->calls(Call::RELEASE_BURST) > 0; }));
    transport.stop();
  }
  ASSERT_EQ(kept.size(), 2u);
  for (const HeldMessage& each : kept) {
    EXPECT_TRUE(each);
    EXPECT_EQ(each.view().text(), "keep");
  }
  EXPECT_EQ(wire->held(), 2u);
  EXPECT_EQ(wire->drivers_alive(), 1u);
  kept[0] = std::move(kept[1]);
  EXPECT_EQ(wire->held(), 1u);
  std::thread([&] { kept.clear(); }).join();
  EXPECT_EQ(wire->held(), 0u);
  EXPECT_EQ(wire->drivers_alive(), 0u);
}

TEST_F(TransportReceive, HoldSaysWhenTheQuotaIsUsedUpAndWhenItCannot) {
  Record record;
  Transport transport(fake_plugin());
  wire->answer_hold(CDMF_RESOURCE_EXHAUSTED);
  wire->answer_hold(CDMF_UNSUPPORTED);
  transport.setViewCallback([&](const MessageView& view) { record.add(to_string(transport.hold(view).error)); });
  bring_up(transport, Role::SERVER);
  const PeerId peer = wire->connect_peer();
  wire->deliver(peer, "1");
  wire->deliver(peer, "2");
  ASSERT_TRUE(eventually([&] { return record.all().size() == 2; }));
  EXPECT_EQ(record.all(), (std::vector<std::string>{"RESOURCE_EXHAUSTED", "UNSUPPORTED"}));
}

}  // namespace
}  // namespace cdmf::ipc::testing
