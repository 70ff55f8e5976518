// Peers: who came, who left and why, who gets what; and callbacks that end what they run in.
#include <algorithm>
#include <functional>
#include <set>
#include <thread>

#include "conformance/harness.h"

namespace cdmf::ipc::conformance {
namespace {

TEST(Peers, ArriveBeforeTheirFirstAndLeaveAfterTheirLastMessage) {
  CDMF_NEEDS_NO(CDMF_CAP_POOL);  // Clients that overlap are one peer.
  const std::string endpoint = fresh_endpoint();
  Record record;
  Transport server(plugin());
  record.listen(server);
  bring_up(server, config_for(endpoint, Role::SERVER));
  constexpr std::size_t kRounds = 20;
  for (std::size_t round = 0; round < kRounds; ++round) {
    Transport client(plugin());
    bring_up(client, config_for(endpoint, Role::CLIENT));
    for (std::uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(client.send(text("x", i), {.flush = i % 3 == 0}).success());
  }
  ASSERT_TRUE(record.wait_for_gone(kRounds));
  std::vector<std::string> expected;
  const auto events = record.events();
  for (const PeerEvent& event : events) {
    if (event.kind != PeerEvent::Kind::CONNECTED) {
      EXPECT_EQ(event.reason, TransportError::CONNECTION_CLOSED);
      EXPECT_EQ(event.messages_lost, 0u);
      continue;
    }
    const std::string id = std::to_string(event.peer);
    expected.push_back("came " + id);
    expected.insert(expected.end(), 10, "message " + id);
    expected.push_back("gone " + id);
  }
  // A client may come before the server has read the end of the one before: order holds per peer.
  auto order = record.order();
  const auto by_peer = [](const std::string& a, const std::string& b) {
    return std::stoull(a.substr(a.find(' '))) < std::stoull(b.substr(b.find(' ')));
  };
  std::stable_sort(order.begin(), order.end(), by_peer);
  std::stable_sort(expected.begin(), expected.end(), by_peer);
  EXPECT_EQ(order, expected);
  server.stop();
}

TEST(Peers, EachGetsItsOwnReplies) {
  CDMF_NEEDS(CDMF_CAP_MANY_PEERS);
  for (const std::size_t count : {1u, 2u, 5u, 64u}) {
    const std::string endpoint = fresh_endpoint();
    Transport server(plugin());
    server.setViewCallback([&](const MessageView& request) {
      MessageView response = request;
      response.type = MessageType::RESPONSE;
      EXPECT_TRUE(server.reply(request, response).success());
    });
    bring_up(server, config_for(endpoint, Role::SERVER));
    // Without a descriptor to sleep on threads may spin: so many of them would only keep each other from running.
    if (count > 16 && (server.getInfo().capabilities & CDMF_CAP_POLL_FD) == 0) break;
    std::vector<std::unique_ptr<Transport>> clients;
    std::vector<std::unique_ptr<Record>> records;
    for (std::size_t c = 0; c < count; ++c) {
      records.push_back(std::make_unique<Record>());
      clients.push_back(std::make_unique<Transport>(plugin()));
      records[c]->listen(*clients[c]);
      bring_up(*clients[c], config_for(endpoint, Role::CLIENT));
    }
    ASSERT_TRUE(eventually([&] { return server.getPeers().size() == count; }));
    const std::uint64_t kEach = count == 64 ? 20 : 100;
    for (std::uint64_t i = 0; i < kEach; ++i) {
      for (std::size_t c = 0; c < count; ++c) {
        ASSERT_TRUE(clients[c]->send(text(pattern(200, c), c << 32 | i)).success());
      }
    }
    for (std::size_t c = 0; c < count; ++c) {
      ASSERT_TRUE(records[c]->wait_for_messages(kEach));
      const auto got = records[c]->messages();
      ASSERT_EQ(got.size(), kEach);
      for (std::uint64_t i = 0; i < kEach; ++i) {
        EXPECT_EQ(got[i].getId(), std::uint64_t{c} << 32 | i);
        EXPECT_EQ(got[i].getPayloadText(), pattern(200, c));
      }
    }
    const auto to_whom = server.send(text("to whom")).error;
    EXPECT_EQ(to_whom, count == 1 ? TransportError::SUCCESS : TransportError::INVALID_ARGUMENT);
    clients.clear();
  }
}

TEST(Peers, OneThatDoesNotReadDoesNotStopTheOthers) {
  CDMF_NEEDS(CDMF_CAP_MANY_PEERS);
  const auto in_time = [until = Clock::now() + watchdog()] { return Clock::now() < until; };
  const std::string endpoint = fresh_endpoint();
  Transport server(plugin());
  bring_up(server, config_for(endpoint, Role::SERVER));
  Transport lazy(plugin());
  TransportConfig polled = config_for(endpoint, Role::CLIENT);
  polled.receive = Receive::POLL;
  bring_up(lazy, polled);
  ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 1; }));
  const PeerId to_lazy = server.getPeers()[0];
  Record record;
  Transport eager(plugin());
  record.listen(eager);
  bring_up(eager, config_for(endpoint, Role::CLIENT));
  ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 2; }));
  const PeerId to_eager = server.getPeers()[1];
  const std::string payload(fit(5000), 'x');
  int queued = 0;
  while (server.send(text(payload), {.peer = to_lazy, .timeout = 20ms}).success()) {
    ASSERT_LT(++queued, 1'000'000) << "the buffer has no bound";
    ASSERT_TRUE(in_time());
  }
  for (std::uint64_t i = 0; i < 500; ++i) {
    ASSERT_TRUE(server.send(text(payload, i), {.peer = to_eager}).success());
    EXPECT_NE(server.send(text(payload, i), {.peer = to_lazy, .timeout = 0ms}).error, TransportError::NOT_CONNECTED);
  }
  EXPECT_TRUE(record.wait_for_messages(500));
  lazy.stop();  // Else the flush of the server's stop() waits for it.
  eager.stop();
}

TEST(Peers, ABusyOneDoesNotStarveTheQuietOnes) {
  CDMF_NEEDS(CDMF_CAP_MANY_PEERS);
  for (const bool busy_first : {true, false}) {
    TransportConfig polled = config_for(fresh_endpoint(), Role::SERVER);
    polled.receive = Receive::POLL;
    std::vector<std::unique_ptr<Transport>> clients;
    Transport server(plugin());  // Goes first: the busy client's stop() would wait until everything is read.
    bring_up(server, polled);
    for (std::size_t c = 0; c < 4; ++c) {
      clients.push_back(std::make_unique<Transport>(plugin()));
      bring_up(*clients[c], config_for(polled.endpoint, Role::CLIENT));
      ASSERT_TRUE(eventually([&] {
        server.poll([](const MessageView&) {});
        return server.getPeers().size() == c + 1;
      }));
    }
    Transport& busy = *clients[busy_first ? 0 : 3];
    const std::string payload(100, 'x');
    std::uint64_t queued = 0;
    while (busy.send(text(payload, 1), {.timeout = 0ms}).success()) ASSERT_LT(++queued, 10'000'000u);
    for (const auto& each : clients) {
      if (each.get() == &busy) continue;
      ASSERT_TRUE(each->send(text(payload, 2)).success());
    }
    std::uint64_t loud = 0;
    std::uint64_t quiet = 0;
    ASSERT_TRUE(eventually([&] {
      server.poll([&](const MessageView& view) {
        if (quiet < 3) ++(view.id == 1 ? loud : quiet);
      });
      return quiet == 3;
    }));
    EXPECT_LT(loud, std::max<std::uint64_t>(queued / 2, 100)) << "of " << queued << " before the last quiet one";
  }
}

TEST(Peers, HaveIdsThatAreNeverUsedAgain) {
  const std::string endpoint = fresh_endpoint();
  Record record;
  Transport server(plugin());
  record.listen(server);
  bring_up(server, config_for(endpoint, Role::SERVER));
  for (std::size_t round = 1; round <= 8; ++round) {
    Transport client(plugin());
    bring_up(client, config_for(endpoint, Role::CLIENT));
    ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 1; }));
    client.stop();
    ASSERT_TRUE(record.wait_for_gone(round));
    if (round != 4) continue;
    ASSERT_TRUE(server.disconnect().success());  // A new life of the endpoint is no new numbering.
    ASSERT_TRUE(server.connect().success());
  }
  std::set<PeerId> ids;
  for (const PeerEvent& event : record.gone()) EXPECT_TRUE(ids.insert(event.peer).second) << event.peer << " twice";
  EXPECT_EQ(ids.count(kNoPeer), 0u);
  server.stop();
}

TEST(Peers, AServerMayEndOneLinkAndKeepTheOthers) {
  CDMF_NEEDS(CDMF_CAP_MANY_PEERS);
  const std::string endpoint = fresh_endpoint();
  Record record;
  Transport server(plugin());
  record.listen(server);
  bring_up(server, config_for(endpoint, Role::SERVER));
  TransportConfig once = config_for(endpoint, Role::CLIENT);
  once.auto_reconnect = false;
  Record unwanted_record;
  Transport unwanted(plugin());
  Transport welcome(plugin());
  unwanted_record.listen(unwanted);
  bring_up(unwanted, once);
  ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 1; }));
  const PeerId to_unwanted = server.getPeers()[0];
  bring_up(welcome, once);
  ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 2; }));
  EXPECT_TRUE(server.disconnectPeer(to_unwanted).success());
  ASSERT_TRUE(unwanted_record.wait_for_gone(1));
  EXPECT_EQ(unwanted_record.gone()[0].reason, TransportError::CONNECTION_CLOSED);
  ASSERT_TRUE(eventually([&] { return unwanted.getState() == TransportState::STARTED; }));
  ASSERT_TRUE(record.wait_for_gone(1));
  EXPECT_EQ(record.gone()[0].peer, to_unwanted);
  EXPECT_EQ(server.disconnectPeer(to_unwanted).error, TransportError::NOT_CONNECTED);
  EXPECT_EQ(server.send(text("x"), {.peer = to_unwanted}).error, TransportError::NOT_CONNECTED);
  ASSERT_TRUE(welcome.send(text("still here")).success());
  EXPECT_TRUE(record.wait_for_messages(1));
  unwanted.stop();
  server.stop();
}

TEST(Peers, WhenTheServerStopsItsClientsAreTold) {
  CDMF_NEEDS_NO(CDMF_CAP_ONE_WAY);
  const std::string endpoint = fresh_endpoint();
  TransportConfig once = config_for(endpoint, Role::CLIENT);
  once.auto_reconnect = false;
  Record record;
  Transport client(plugin());
  record.listen(client);
  {
    Transport server(plugin());
    bring_up(server, config_for(endpoint, Role::SERVER));
    bring_up(client, once);
    ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 1; }));
    ASSERT_TRUE(server.send(text("goodbye"), {.flush = false}).success());  // stop() flushes.
  }
  ASSERT_TRUE(record.wait_for_gone(1));
  EXPECT_EQ(record.gone()[0].reason, TransportError::CONNECTION_CLOSED);
  ASSERT_EQ(record.message_count(), 1u);
  ASSERT_TRUE(eventually([&] { return client.getState() == TransportState::STARTED; }));
  EXPECT_EQ(client.send(text("x")).error, TransportError::NOT_CONNECTED);
  client.stop();
}

// ---- Callbacks ------------------------------------------------------------------------------------------------------

TEST(Callbacks, MayStopTheirTransport) {
  for (int round = 0; round < 20; ++round) {
    const std::string endpoint = fresh_endpoint();
    std::atomic<int> calls{0};
    Transport server(plugin());
    server.setViewCallback([&](const MessageView&) {
      ++calls;
      server.stop();
    });
    bring_up(server, config_for(endpoint, Role::SERVER));
    Transport client(plugin());
    bring_up(client, config_for(endpoint, Role::CLIENT));
    for (int i = 0; i < 5; ++i) (void)client.send(text("x"), {.timeout = 0ms});
    ASSERT_TRUE(eventually([&] { return server.getState() == TransportState::INITIALIZED; }));
    EXPECT_EQ(calls, 1);
    ASSERT_TRUE(server.start().success());
    ASSERT_TRUE(server.connect().success());
  }
}

TEST(Callbacks, MayDestroyTheirTransport) {
  for (int round = 0; round < 20; ++round) {
    const std::string endpoint = fresh_endpoint();
    std::atomic<bool> done{false};
    auto server = std::make_unique<Transport>(plugin());
    server->setMessageCallback([&](MessagePtr) {
      server.reset();
      done = true;
    });
    bring_up(*server, config_for(endpoint, Role::SERVER));
    TransportConfig once = config_for(endpoint, Role::CLIENT);
    once.auto_reconnect = false;
    Transport client(plugin());
    bring_up(client, once);
    ASSERT_TRUE(client.send(text("x")).success());
    ASSERT_TRUE(eventually([&] { return done.load() && client.getState() == TransportState::STARTED; }));
    // The endpoint is free again.
    Transport next(plugin());
    bring_up(next, config_for(endpoint, Role::SERVER));
  }
}

TEST(Callbacks, MayThrowAndTheNextMessageComes) {
  const std::string endpoint = fresh_endpoint();
  std::atomic<int> calls{0};
  Transport server(plugin());
  server.setViewCallback([&](const MessageView& view) {
    ++calls;
    if (view.id % 2 == 0) throw std::runtime_error("x");
  });
  bring_up(server, config_for(endpoint, Role::SERVER));
  Transport client(plugin());
  bring_up(client, config_for(endpoint, Role::CLIENT));
  for (std::uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(client.send(text("x", i)).success());
  ASSERT_TRUE(eventually([&] { return calls == 10; }));
  EXPECT_TRUE(eventually([&] { return server.getStats().recv_errors == 5; }));
}

TEST(Callbacks, MayReplaceThemselvesAndSend) {
  CDMF_NEEDS_NO(CDMF_CAP_ONE_WAY);
  const std::string endpoint = fresh_endpoint();
  Record answers;
  Transport server(plugin());
  std::function<void(const MessageView&)> step = [&, turn = 0](const MessageView& view) mutable {
    EXPECT_TRUE(server.reply(view, text("answer")).success());
    ++turn;
    server.setViewCallback([&, turn](const MessageView& next) {  // Frees what runs now.
      EXPECT_TRUE(server.reply(next, text("other " + std::to_string(turn))).success());
      server.setViewCallback(step);
    });
  };
  server.setViewCallback(step);
  bring_up(server, config_for(endpoint, Role::SERVER));
  Transport client(plugin());
  answers.listen(client);
  bring_up(client, config_for(endpoint, Role::CLIENT));
  for (std::uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(client.send(text("x", i)).success());
  ASSERT_TRUE(answers.wait_for_messages(100));
  const auto got = answers.messages();
  for (std::uint64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(got[i].getId(), i);
    EXPECT_EQ(got[i].getPayloadText(), i % 2 == 0 ? "answer" : "other 1");
  }
  client.stop();
  server.stop();
}

TEST(Callbacks, MessagesWaitForTheFirstOne) {
  const std::string endpoint = fresh_endpoint();
  Transport server(plugin());
  bring_up(server, config_for(endpoint, Role::SERVER));
  Transport client(plugin());
  bring_up(client, config_for(endpoint, Role::CLIENT));
  for (std::uint64_t i = 0; i < 20; ++i) ASSERT_TRUE(client.send(text("x", i)).success());
  ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 1; }));
  Record record;
  record.listen(server);
  ASSERT_TRUE(record.wait_for_messages(20));
  for (std::uint64_t i = 0; i < 20; ++i) EXPECT_EQ(record.messages()[i].getId(), i);
  server.stop();
}

TEST(Callbacks, DoNotRunAfterStop) {
  for (int round = 0; round < 30; ++round) {
    const std::string endpoint = fresh_endpoint();
    std::atomic<bool> stopped{false};
    std::atomic<int> late{0};
    std::atomic<bool> enough{false};
    Transport server(plugin());
    server.setViewCallback([&](const MessageView&) { late += stopped ? 1 : 0; });
    server.setPeerCallback([&](const PeerEvent&) { late += stopped ? 1 : 0; });
    bring_up(server, config_for(endpoint, Role::SERVER));
    Transport client(plugin());
    TransportConfig once = config_for(endpoint, Role::CLIENT);
    once.auto_reconnect = false;
    bring_up(client, once);
    std::thread sender([&] {
      while (!enough) (void)client.send(text("x"), {.timeout = 0ms});
    });
    ASSERT_TRUE(eventually([&] { return server.getStats().messages_received > 10; }));
    server.stop();
    stopped = true;
    std::this_thread::yield();
    enough = true;
    sender.join();
    EXPECT_EQ(late, 0);
    server.setPeerCallback(nullptr);
  }
}

}  // namespace
}  // namespace cdmf::ipc::conformance
