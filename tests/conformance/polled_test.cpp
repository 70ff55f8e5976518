// Messages to a receiver that polls, so that the test decides when it reads: room, batches, waiting, holding.
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "conformance/harness.h"

namespace cdmf::ipc::conformance {
namespace {

class Polled : public ::testing::Test {
 protected:
  void SetUp() override {
    TransportConfig polled = config_for(endpoint, Role::SERVER);
    polled.receive = Receive::POLL;
    bring_up(server, polled);
    bring_up(client, config_for(endpoint, Role::CLIENT));
    ASSERT_TRUE(eventually([&] {
      server.poll([](const MessageView&) {});
      return server.getPeers().size() == 1;
    }));
  }
  const std::string endpoint = fresh_endpoint();
  Transport server{plugin()};
  Transport client{plugin()};
};

TEST_F(Polled, ABatchIsInvisibleBeforeItsFlushAndWholeAfterIt) {
  CDMF_NEEDS_NO(CDMF_CAP_POOL);
  for (std::uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(client.send(text("batch", i), {.flush = false}).success());
  EXPECT_EQ(server.receive(20ms).error, TransportError::TIMEOUT);
  ASSERT_TRUE(client.flush().success());
  for (std::uint64_t i = 0; i < 10; ++i) {
    const auto got = server.receive(watchdog());
    ASSERT_TRUE(got.success()) << got.text();
    EXPECT_EQ(got.value->getId(), i);
  }
  EXPECT_EQ(server.receive(0ms).error, TransportError::TIMEOUT);
}

TEST_F(Polled, FullIsToldAtOnceOrAfterTheTimeoutAndWhatWasAcceptedArrives) {
  std::uint64_t accepted = 0;
  TransportResult<> result;
  while ((result = client.send(text(pattern(fit(5000), accepted), accepted), {.timeout = 0ms})).success()) {
    ASSERT_LT(++accepted, 1'000'000u) << "the buffer has no bound";
  }
  EXPECT_EQ(result.error, TransportError::BUFFER_FULL) << result.text();
  EXPECT_GT(accepted, 0u);
  const auto before = Clock::now();
  // What the kernel still takes meanwhile is accepted, too; sooner or later time runs out.
  while ((result = client.send(text(pattern(fit(5000), accepted), accepted), {.timeout = 60ms})).success()) {
    ++accepted;
    ASSERT_LT(Clock::now() - before, watchdog()) << "it is never full for long";
  }
  EXPECT_EQ(result.error, TransportError::TIMEOUT) << result.text();
  EXPECT_GE(Clock::now() - before, 60ms);
  for (std::uint64_t i = 0; i < accepted; ++i) {
    const auto got = server.receive(watchdog());
    ASSERT_TRUE(got.success()) << got.text() << " at " << i << " of " << accepted;
    ASSERT_EQ(got.value->getId(), i);
    ASSERT_EQ(got.value->getPayloadText(), pattern(fit(5000), i));
  }
  EXPECT_EQ(server.receive(20ms).error, TransportError::TIMEOUT) << "a refused message arrived";
  EXPECT_TRUE(client.send(text("room again"), {.timeout = 0ms}).success());
  EXPECT_TRUE(server.receive(watchdog()).success()) << "accepted after a refusal, and lost";
}

TEST_F(Polled, ABatchSaysHowManyWereSentAndExactlyThoseArrive) {
  const std::string small = pattern(64, 1);
  const std::string large(client.getInfo().max_message_size + 1, 'x');
  std::vector<MessageView> messages(50, text(small));
  std::uint64_t accepted = 0;
  const auto send = [&] {
    for (std::size_t i = 0; i < messages.size(); ++i) messages[i].id = accepted + i;
    const auto result = client.sendBatch(messages, {.timeout = 0ms});
    accepted += result.value;
    return result.error;
  };
  messages[21] = text(large);
  EXPECT_EQ(send(), TransportError::BUFFER_OVERFLOW);
  EXPECT_EQ(accepted, 21u);
  messages[21] = text(small);
  TransportError error;
  while ((error = send()) == TransportError::SUCCESS) ASSERT_LT(accepted, 10'000'000u) << "the buffer has no bound";
  EXPECT_EQ(error, TransportError::BUFFER_FULL);
  for (std::uint64_t i = 0; i < accepted; ++i) {
    const auto got = server.receive(watchdog());
    ASSERT_TRUE(got.success()) << got.text() << " at " << i << " of " << accepted;
    ASSERT_EQ(got.value->getId(), i);
    ASSERT_EQ(got.value->getPayloadText(), small);
  }
  EXPECT_EQ(server.receive(20ms).error, TransportError::TIMEOUT) << "a refused message arrived";
  EXPECT_EQ(client.getStats().messages_sent, accepted);
}

TEST_F(Polled, BurstsOfAnyLimitHandOutEverythingOnceAndAligned) {
  constexpr std::uint64_t kCount = 1000;
  std::thread sender([&] {
    for (std::uint64_t i = 0; i < kCount; ++i) {
      EXPECT_TRUE(client.send(text(pattern(i % 200, i), i), {.flush = i % 50 == 49}).success());
    }
  });
  std::uint64_t next = 0;
  std::size_t limit = 1;
  EXPECT_TRUE(eventually([&] {
    const std::size_t got = server.poll(
        [&](const MessageView& view) {
          EXPECT_EQ(view.id, next);
          EXPECT_EQ(view.text(), pattern(next % 200, next));
          EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.payload.data()) % CDMF_FRAME_ALIGNMENT, 0u);
          ++next;
        },
        limit);
    EXPECT_LE(got, limit);
    limit = limit % Transport::kBurstMax + 1;
    return next >= kCount;
  })) << "stopped after "
      << next;
  sender.join();
  EXPECT_EQ(server.receive(10ms).error, TransportError::TIMEOUT) << "more arrived than was sent";
}

TEST_F(Polled, AnUnflushedBatchLargerThanTheBufferDoesNotBlockItself) {
  std::thread reader([&] {
    for (std::uint64_t i = 0; i < 5000; ++i) {
      const auto got = server.receive(watchdog());
      ASSERT_TRUE(got.success()) << got.text();
      ASSERT_EQ(got.value->getId(), i);
    }
  });
  for (std::uint64_t i = 0; i < 5000; ++i) {
    const auto result = client.send(text(pattern(fit(4000), i), i), {.flush = false});
    EXPECT_TRUE(result.success()) << result.text();
    if (!result) break;
  }
  EXPECT_TRUE(client.flush().success());
  reader.join();
}

TEST_F(Polled, ASenderThatWaitsGoesOnWhenTheReceiverReads) {
  std::atomic<std::uint64_t> sent{0};
  constexpr std::uint64_t kCount = 3000;
  std::thread sender([&] {
    for (std::uint64_t i = 0; i < kCount; ++i) {
      const auto result = client.send(text(pattern(fit(5000), i), i));
      EXPECT_TRUE(result.success()) << result.text();
      ++sent;
    }
  });
  for (std::uint64_t i = 0; i < kCount; ++i) {
    if (i == 0 || i == kCount / 2) {
      // Let it run against the wall: no progress in 20 ms although there is more to send.
      ASSERT_TRUE(eventually([&] {
        const std::uint64_t before = sent;
        std::this_thread::sleep_for(20ms);
        return sent == before;
      }));
    }
    const auto got = server.receive(watchdog());
    ASSERT_TRUE(got.success()) << got.text();
    ASSERT_EQ(got.value->getId(), i);
  }
  sender.join();
}

TEST_F(Polled, StopFreesASenderThatWaits) {
  std::thread sender([&] {
    TransportResult<> result;
    const std::string payload(fit(5000), 'x');
    while ((result = client.send(text(payload), {.timeout = 1h})).success()) {
    }
    EXPECT_TRUE(result.error == TransportError::NOT_CONNECTED || result.error == TransportError::CONNECTION_CLOSED)
        << result.text();
  });
  std::uint64_t before = 0;
  EXPECT_TRUE(eventually([&] {
    const std::uint64_t now = client.getStats().messages_sent;
    std::this_thread::sleep_for(10ms);
    return now != 0 && now == std::exchange(before, now);
  }));
  std::thread stopper([&] { client.stop(); });
  server.stop();  // Ends the wait of the flush that stop() does.
  stopper.join();
  sender.join();
}

TEST_F(Polled, WaitsNoShorterThanItsTimeout) {
  for (const auto timeout : {1ms, 20ms, 70ms}) {
    const auto before = Clock::now();
    EXPECT_EQ(server.receive(timeout).error, TransportError::TIMEOUT);
    EXPECT_GE(Clock::now() - before, timeout);
  }
}

TEST_F(Polled, AnInterruptEndsOneWait) {
  server.interrupt();
  EXPECT_EQ(server.await(watchdog()).error, TransportError::INTERRUPTED);
  for (int i = 0; i < 50; ++i) {
    std::thread interrupter([&] { server.interrupt(); });
    EXPECT_EQ(server.receive(watchdog()).error, TransportError::INTERRUPTED);
    interrupter.join();
  }
  ASSERT_TRUE(client.send(text("x")).success());
  EXPECT_TRUE(server.receive(watchdog()).success());
}

TEST_F(Polled, AnEventLoopOverTheDescriptorMissesNothing) {
  CDMF_NEEDS(CDMF_CAP_POLL_FD);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  ASSERT_GE(epoll, 0);
  epoll_event wanted{};
  wanted.events = EPOLLIN;
  ASSERT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, server.pollFd(), &wanted), 0);
  constexpr std::uint64_t kCount = 3000;
  std::atomic<std::uint64_t> asleep_after{0};  // so many messages had come when the receiver last went to sleep
  std::atomic<bool> stuck{false};
  std::thread sender([&] {
    for (std::uint64_t i = 0; i < kCount; ++i) {
      ASSERT_TRUE(client.send(text("x", i)).success());
      // Some messages find a receiver that is about to sleep, these for certain one that sleeps.
      while (i % 7 == 0 && asleep_after <= i && !stuck) std::this_thread::yield();
    }
  });
  std::uint64_t next = 0;
  const auto patience = static_cast<int>(std::chrono::milliseconds(watchdog()).count());
  while (next < kCount && !stuck) {
    const std::size_t got = server.poll([&](const MessageView& view) { EXPECT_EQ(view.id, next++); });
    if (got != 0 || server.arm() == CDMF_READY) continue;
    asleep_after = next;
    epoll_event event{};
    stuck = epoll_wait(epoll, &event, 1, patience) != 1;
  }
  EXPECT_FALSE(stuck) << "armed, a message was there, and the descriptor did not say so";
  sender.join();
  close(epoll);
}

TEST_F(Polled, AnArmedDescriptorIsQuietWhenNothingComes) {
  CDMF_NEEDS(CDMF_CAP_POLL_FD);
  ASSERT_TRUE(client.send(text("x")).success());
  ASSERT_TRUE(server.receive(watchdog()).success());
  // It may wake up early now and then, but not for ever: that would be a busy loop.
  int woken = 0;
  for (bool quiet = false; !quiet; ++woken) {
    ASSERT_LT(woken, 1000) << "armed and ready again and again, though nothing comes";
    EXPECT_EQ(server.poll([](const MessageView&) {}), 0u);
    if (server.arm() == CDMF_READY) continue;
    pollfd readable{server.pollFd(), POLLIN, 0};
    quiet = poll(&readable, 1, 30) == 0;
  }
}

TEST_F(Polled, HeldMessagesKeepTheirBytesWhileTheLinkGoesOnAndAfterItsEnd) {
  CDMF_NEEDS(CDMF_CAP_HOLD);
  std::vector<HeldMessage> kept;
  std::uint64_t sent = 0;
  std::uint64_t next = 0;
  std::uint64_t refused = 0;
  const auto payload = [](std::uint64_t id) { return pattern(fit(3000), id); };
  const auto check = [&] {
    for (const HeldMessage& each : kept) EXPECT_EQ(each.view().text(), payload(each.view().id));
  };
  const auto hold_all = [&](const MessageView& view) {
    EXPECT_EQ(view.id, next++);
    EXPECT_EQ(view.text(), payload(view.id));
    auto held = server.hold(view);
    if (held.success()) {
      kept.push_back(std::move(held.value));
    } else {
      ++refused;
      EXPECT_EQ(held.error, TransportError::RESOURCE_EXHAUSTED) << held.text();
    }
  };
  const auto nothing_comes = [&] { return server.await(20ms).error == TransportError::TIMEOUT; };
  // Nobody may keep everything: either the quota is reached, or what is held uses up the room and stops the link.
  EXPECT_TRUE(eventually([&] {
    bool full = false;
    for (int i = 0; i < 8 && !full; ++i) {
      full = !client.send(text(payload(sent), sent), {.timeout = 0ms}).success();
      sent += full ? 0 : 1;
    }
    const std::size_t got = server.poll(hold_all);
    return refused != 0 || HasFailure() || (full && got == 0 && nothing_comes());
  })) << "neither a quota nor an end of the room after "
      << kept.size();
  EXPECT_GT(kept.size(), 0u);
  check();
  // Half of it is given back, and the link goes on behind the rest, which stays whole: until that uses up the room, in
  // a ring for instance. Then it goes on when the rest is given back.
  for (std::size_t i = 0; i < kept.size(); ++i) kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(i));
  const std::uint64_t until = sent + 1500;
  std::thread sender([&] {
    for (; sent < until; ++sent) {
      const auto result = client.send(text(payload(sent), sent));
      EXPECT_TRUE(result.success()) << result.text();
      if (!result) return;
    }
  });
  EXPECT_TRUE(eventually([&] {
    const std::size_t got = server.poll([&](const MessageView& view) {
      EXPECT_EQ(view.id, next++);
      EXPECT_EQ(view.text(), payload(view.id));
    });
    if (got == 0 && next < until && nothing_comes()) {
      check();
      kept.clear();
    }
    return next == until;
  })) << "stopped after "
      << next;
  sender.join();
  check();
  kept.clear();
  ASSERT_TRUE(client.send(text(payload(next), next)).success());
  ASSERT_TRUE(eventually([&] {
    server.poll(hold_all);
    return !kept.empty();
  }));
  client.cleanup();
  server.cleanup();
  EXPECT_TRUE(kept[0]);
  check();
}

}  // namespace
}  // namespace cdmf::ipc::conformance
