// Calls of many threads meeting each other. Under ThreadSanitizer this finds locks that are missing; everywhere it
// finds two threads on one side of a driver, a call into a closed driver, a thread that is never woken, and a freed
// driver.
#include <thread>

#include "support/fake_transport.h"

namespace cdmf::ipc::testing {
namespace {

using namespace std::chrono_literals;
using TransportStress = FakeTransportTest;

TEST_F(TransportStress, StopFromAnotherThreadAtAnyTime) {
  for (int round = 0; round < 300; ++round) {
    wire->set_room(round % 3 == 0 ? 5 : SIZE_MAX);
    Transport transport(fake_plugin());
    std::atomic<int> handled{0};
    transport.setViewCallback([&](const MessageView& view) {
      ++handled;
      (void)transport.send(view, {.timeout = 1min});
    });
    ASSERT_TRUE(transport.init(config(Role::CLIENT)).success());
    std::thread user([&] {
      (void)transport.start();
      (void)transport.connect();
      for (int i = 0; i < 20; ++i) {
        wire->deliver(wire->server(), "x");
        (void)transport.send(text("y"), {.timeout = 1min});
      }
      (void)transport.disconnect();
      (void)transport.connect();
    });
    // A moment and not a number of yields: on a busy machine each yield lasts as long as somebody else's time slice.
    const auto moment = std::chrono::steady_clock::now() + std::chrono::microseconds(round * 10);
    while (std::chrono::steady_clock::now() < moment) std::this_thread::yield();
    transport.stop();
    wire->set_room(SIZE_MAX);  // connect() may have come after stop(): then the user is still sending.
    user.join();
    transport.stop();
    EXPECT_EQ(transport.getState(), TransportState::INITIALIZED) << "round " << round;
  }
}

TEST_F(TransportStress, EverybodyCallsEverythingAtOnce) {
  const auto until = std::chrono::steady_clock::now() + 1500ms;
  const auto running = [&] { return std::chrono::steady_clock::now() < until; };
  Transport transport(fake_plugin());
  std::atomic<std::uint64_t> handled{0};
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    while (running()) {
      (void)transport.init(config(Role::SERVER));
      (void)transport.start();
      (void)transport.connect();
      std::this_thread::yield();
      if (handled % 3 == 0) (void)transport.disconnect();
      if (handled % 5 == 0) transport.cleanup();
    }
  });
  threads.emplace_back([&] {
    while (running()) transport.stop();
  });
  for (int sender = 0; sender < 2; ++sender) {
    threads.emplace_back([&, sender] {
      while (running()) {
        (void)transport.send(text("x"), {.timeout = 1ms, .flush = sender == 0});
        auto loan = transport.loan(32, {.send = {.timeout = 1ms}, .alignment = 64});
        if (loan.success() && sender == 0) (void)loan.value.commit(16);
        (void)transport.flush(kNoPeer, 1ms);
      }
    });
  }
  threads.emplace_back([&] {
    while (running()) {
      const PeerId peer = wire->connect_peer();
      for (int i = 0; i < 5; ++i) wire->deliver(peer, "x");
      if (peer % 4 == 0) wire->deliver_raw(peer, std::vector<std::byte>(7));
      wire->end_link(peer, CDMF_PEER_DIED, 1);
      wire->set_room(peer % 2 == 0 ? 1 : 100);
      std::this_thread::sleep_for(100us);
    }
  });
  threads.emplace_back([&] {
    while (running()) {
      transport.setViewCallback([&](const MessageView& view) {
        ++handled;
        auto held = transport.hold(view);
        (void)transport.send(view, {.peer = view.peer, .timeout = 0ms});
        if (handled % 64 == 0) transport.stop();
        if (handled % 7 == 0) throw std::runtime_error("now and then");
      });
      transport.setPeerCallback([&](const PeerEvent&) { ++handled; });
      transport.setErrorCallback([&](TransportError, const std::string&) { ++handled; });
      transport.setStateChangeCallback([&](TransportState, TransportState) { ++handled; });
      std::this_thread::yield();
      transport.setMessageCallback(nullptr);
    }
  });
  threads.emplace_back([&] {
    while (running()) {
      (void)transport.getStats();
      (void)transport.getInfo();
      const auto peers = transport.getPeers();
      (void)transport.disconnectPeer(peers.empty() ? 1 : peers.front());
      (void)transport.pollFd();
      transport.interrupt();
      transport.resetStats();
      (void)transport.await(0ms);
    }
  });
  for (auto& thread : threads) thread.join();
  transport.cleanup();
  EXPECT_EQ(wire->drivers_alive(), 0u);
  EXPECT_GT(handled, 0u);
}

TEST_F(TransportStress, ReconnectingUnderSenders) {
  Transport transport(fake_plugin());
  std::atomic<bool> done{false};
  bring_up(transport, Role::CLIENT);
  std::vector<std::thread> senders;
  std::atomic<std::uint64_t> accepted{0};
  for (int i = 0; i < 2; ++i) {
    senders.emplace_back([&] {
      while (!done) accepted += transport.send(text("x"), {.timeout = 1ms}).success() ? 1 : 0;
    });
  }
  for (int i = 0; i < 100; ++i) {
    const PeerId before = wire->server();
    if (i % 2 == 0) wire->answer_attach(CDMF_ENDPOINT_NOT_FOUND);
    wire->end_link(before, CDMF_PEER_DIED);
    ASSERT_TRUE(eventually([&] { return wire->server() != before && transport.isConnected(); }));
  }
  done = true;
  for (auto& sender : senders) sender.join();
  EXPECT_EQ(wire->sent().size(), accepted);
  EXPECT_EQ(transport.getStats().messages_sent, accepted);
}

}  // namespace
}  // namespace cdmf::ipc::testing
