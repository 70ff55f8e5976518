// Sending: waiting for room, deadlines, many senders, loans, flush.
#include <thread>

#include "support/fake_transport.h"

namespace cdmf::ipc::testing {
namespace {

using namespace std::chrono_literals;
using TransportSend = FakeTransportTest;
using Clock = std::chrono::steady_clock;

TEST_F(TransportSend, CarriesEveryFieldOfTheMessage) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  Message message(MessageType::RESPONSE);
  message.setId(0xfedcba9876543210u);
  message.setFlags(0x5a);
  message.setSubject("orders/new");
  message.setPayload("payload");
  ASSERT_TRUE(transport.send(message).success());
  const auto sent = wire->sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].message.getType(), MessageType::RESPONSE);
  EXPECT_EQ(sent[0].message.getId(), 0xfedcba9876543210u);
  EXPECT_EQ(sent[0].message.getFlags(), 0x5a);
  EXPECT_EQ(sent[0].message.getSubject(), "orders/new");
  EXPECT_EQ(sent[0].message.getPayloadText(), "payload");
  EXPECT_EQ(sent[0].frame_bytes, 16u + 7 + 10);
}

TEST_F(TransportSend, TakesEverySizeUpToTheMaximumAndNoLargerOne) {
  TransportConfig small = config(Role::CLIENT);
  small.max_message_size = 1000;
  Transport transport(fake_plugin());
  bring_up(transport, small);
  for (const std::size_t size : {0u, 1u, 999u, 1000u}) {
    EXPECT_TRUE(transport.send(text(std::string(size, 'x'))).success()) << size;
    EXPECT_EQ(wire->sent().back().message.getPayloadSize(), size);
  }
  const auto result = transport.send(text(std::string(1001, 'x')));
  EXPECT_EQ(result.error, TransportError::BUFFER_OVERFLOW);
  EXPECT_NE(result.error_message.find("1001"), std::string::npos) << result.error_message;
  EXPECT_EQ(transport.loan(1001).error, TransportError::BUFFER_OVERFLOW);
  EXPECT_EQ(wire->sent().size(), 4u);
  EXPECT_EQ(wire->calls(Call::CLAIM), 4u) << "the driver was asked for what cannot work";
  EXPECT_EQ(transport.getStats().send_errors, 2u);
}

TEST_F(TransportSend, ASubjectMayHave256Bytes) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  const std::string subject(257, 's');
  MessageView message = text("p");
  message.subject = std::string_view(subject).substr(0, 256);
  EXPECT_TRUE(transport.send(message).success());
  EXPECT_EQ(wire->sent().back().message.getSubject().size(), 256u);
  message.subject = subject;
  EXPECT_EQ(transport.send(message).error, TransportError::INVALID_MESSAGE);
}

TEST_F(TransportSend, WithoutAPeerMeansTheOnlyOne) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::SERVER);
  EXPECT_EQ(transport.send(text("x")).error, TransportError::NOT_CONNECTED);
  const PeerId a = wire->connect_peer();
  ASSERT_TRUE(eventually([&] { return transport.getPeers().size() == 1; }));
  EXPECT_TRUE(transport.send(text("to a")).success());
  EXPECT_EQ(wire->sent().back().peer, a);
  const PeerId b = wire->connect_peer();
  ASSERT_TRUE(eventually([&] { return transport.getPeers().size() == 2; }));
  const auto ambiguous = transport.send(text("to whom"));
  EXPECT_EQ(ambiguous.error, TransportError::INVALID_ARGUMENT);
  EXPECT_NE(ambiguous.error_message.find("2 peers"), std::string::npos) << ambiguous.error_message;
  EXPECT_TRUE(transport.send(text("to b"), {.peer = b}).success());
  EXPECT_EQ(wire->sent().back().peer, b);
  EXPECT_EQ(transport.send(text("to nobody"), {.peer = 99}).error, TransportError::NOT_CONNECTED);
  const auto all = transport.send(text("to all"), {.peer = kAllPeers});
  EXPECT_EQ(all.error, TransportError::UNSUPPORTED);
  EXPECT_NE(all.error_message.find("reserved"), std::string::npos);
  EXPECT_EQ(wire->sent().size(), 2u);
}

TEST_F(TransportSend, AReplyGoesToThePeerOfTheRequestWithItsId) {
  Transport transport(fake_plugin());
  transport.setViewCallback([&](const MessageView& request) {
    MessageView response = request;
    response.type = MessageType::RESPONSE;
    response.id = 1;
    EXPECT_TRUE(transport.reply(request, response).success());
  });
  bring_up(transport, Role::SERVER);
  wire->connect_peer();
  const PeerId asker = wire->connect_peer();
  MessageView request = text("ping");
  request.type = MessageType::REQUEST;
  request.id = 4711;
  wire->deliver(asker, request);
  ASSERT_TRUE(eventually([&] { return wire->sent().size() == 1; }));
  EXPECT_EQ(wire->sent()[0].peer, asker);
  EXPECT_EQ(wire->sent()[0].message.getId(), 4711u);
  EXPECT_EQ(wire->sent()[0].message.getPayloadText(), "ping");
}

// ---- No room --------------------------------------------------------------------------------------------------------

TEST_F(TransportSend, WithoutTimeAFullBufferIsToldAtOnceAndNothingWaits) {
  wire->set_room(1);
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  EXPECT_TRUE(transport.send(text("fits"), {.timeout = 0ms}).success());
  EXPECT_EQ(transport.send(text("does not"), {.timeout = 0ms}).error, TransportError::BUFFER_FULL);
  EXPECT_EQ(transport.loan(1, {.send = {.timeout = 0ms}}).error, TransportError::BUFFER_FULL);
  EXPECT_EQ(transport.send(text("does not"), {.timeout = -1s}).error, TransportError::BUFFER_FULL);
  EXPECT_EQ(wire->calls(Call::AWAIT_SPACE), 0u);
  EXPECT_EQ(wire->sent().size(), 1u);
  EXPECT_EQ(transport.getStats().send_errors, 3u);
}

TEST_F(TransportSend, WaitsForRoomNoShorterThanItsTimeout) {
  wire->set_room(0);
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  const auto before = Clock::now();
  EXPECT_EQ(transport.send(text("x"), {.timeout = 80ms}).error, TransportError::TIMEOUT);
  EXPECT_GE(Clock::now() - before, 80ms);
}

TEST_F(TransportSend, UsesTheTimeoutOfTheConfigUnlessToldOtherwise) {
  wire->set_room(0);
  TransportConfig patient = config(Role::CLIENT);
  patient.properties = {{"send_timeout", "60ms"}};
  Transport transport(fake_plugin());
  bring_up(transport, patient);
  const auto before = Clock::now();
  EXPECT_EQ(transport.send(text("x")).error, TransportError::TIMEOUT);
  EXPECT_GE(Clock::now() - before, 60ms);
}

TEST_F(TransportSend, IsNeverEarlyThoughTheDriversClockIs) {
  wire->set_room(0);
  wire->answer_await_space(CDMF_TIMEOUT, 3);  // At once.
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  const auto before = Clock::now();
  EXPECT_EQ(transport.send(text("x"), {.timeout = 50ms}).error, TransportError::TIMEOUT);
  EXPECT_GE(Clock::now() - before, 50ms);
}

TEST_F(TransportSend, GoesOnAsSoonAsThereIsRoom) {
  wire->set_room(0);
  wire->answer_await_space(CDMF_OK, 2);           // Early: there is none yet.
  wire->answer_await_space(CDMF_INTERRUPTED, 2);  // Meant for somebody else.
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  std::thread reader([&] {
    ASSERT_TRUE(eventually([&] { return wire->sender_waits(); }));
    wire->set_room(1);
  });
  EXPECT_TRUE(transport.send(text("x"), {.timeout = 10min}).success());
  reader.join();
  EXPECT_EQ(wire->sent().size(), 1u);
}

TEST_F(TransportSend, AWaitEndsWithTheLinkAndSaysHow) {
  wire->set_room(0);
  TransportConfig once = config(Role::CLIENT);
  once.auto_reconnect = false;
  Transport transport(fake_plugin());
  bring_up(transport, once);
  std::thread killer([&] {
    ASSERT_TRUE(eventually([&] { return wire->sender_waits(); }));
    wire->end_link(wire->server(), CDMF_PEER_DIED);
  });
  const auto result = transport.send(text("x"), {.timeout = 10min});
  EXPECT_TRUE(result.error == TransportError::PEER_DIED || result.error == TransportError::NOT_CONNECTED)
      << result.text();
  killer.join();
}

TEST_F(TransportSend, AWaitEndsWithStop) {
  wire->set_room(0);
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  std::thread stopper([&] {
    ASSERT_TRUE(eventually([&] { return wire->sender_waits(); }));
    transport.stop();
  });
  EXPECT_EQ(transport.send(text("x"), {.timeout = 10min}).error, TransportError::NOT_CONNECTED);
  stopper.join();
}

TEST_F(TransportSend, ASendWaitsForRoomWithoutStoppingOtherPeersSenders) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::SERVER);
  wire->connect_peer();
  wire->connect_peer();
  ASSERT_TRUE(eventually([&] { return transport.getPeers().size() == 2; }));
  wire->set_room(0);
  std::thread slow([&] { EXPECT_TRUE(transport.send(text("slow"), {.peer = 1, .timeout = 10min}).success()); });
  ASSERT_TRUE(eventually([&] { return wire->sender_waits(); }));
  // The lock is free: this one is answered although the other still waits.
  EXPECT_EQ(transport.send(text("fast"), {.peer = 2, .timeout = 0ms}).error, TransportError::BUFFER_FULL);
  wire->set_room(2);
  slow.join();
}

TEST_F(TransportSend, ErrorsOfTheDriverAreTheErrorsOfSend) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  for (const cdmf_status status : {CDMF_CONNECTION_CLOSED, CDMF_PEER_DIED, CDMF_UNSUPPORTED, CDMF_BUFFER_OVERFLOW,
                                   CDMF_RESOURCE_EXHAUSTED, CDMF_INTERNAL_ERROR}) {
    wire->answer_claim(status);
    const auto result = transport.send(text("x"));
    EXPECT_EQ(result.error, to_error(status));
    EXPECT_NE(result.error_message, "") << result.text();
  }
  wire->answer_commit(CDMF_PEER_DIED);
  EXPECT_EQ(transport.send(text("x")).error, TransportError::PEER_DIED);
  wire->answer_claim(4711);
  EXPECT_EQ(transport.send(text("x")).error, TransportError::INTERNAL_ERROR);
  EXPECT_EQ(transport.getStats().messages_sent, 0u);
  EXPECT_EQ(wire->sent().size(), 0u);
  EXPECT_TRUE(transport.send(text("x")).success()) << "none of these may block the next one";
}

// ---- flush
// ------------------------------------------------------------------------------------------------------------

TEST_F(TransportSend, ABatchLeavesWithFlushOrWithTheNextSendThatFlushes) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(transport.send(text("b"), {.flush = false}).success());
  EXPECT_EQ(wire->sent().size(), 0u);
  EXPECT_TRUE(transport.flush().success());
  EXPECT_EQ(wire->sent().size(), 3u);
  ASSERT_TRUE(transport.send(text("1"), {.flush = false}).success());
  ASSERT_TRUE(transport.send(text("2")).success());
  const auto sent = wire->sent();
  ASSERT_EQ(sent.size(), 5u);
  EXPECT_EQ(sent[3].message.getPayloadText(), "1");
  EXPECT_EQ(sent[4].message.getPayloadText(), "2");
  EXPECT_EQ(transport.flush(99).error, TransportError::NOT_CONNECTED);
}

TEST_F(TransportSend, FlushWaitsItsTimeAndNoShorter) {
  TransportConfig hasty = config(Role::CLIENT);
  hasty.send_timeout = 10ms;  // Of the flush in stop(), which waits in vain too.
  Transport transport(fake_plugin());
  bring_up(transport, hasty);
  wire->answer_flush(CDMF_TIMEOUT, 1000);
  const auto before = Clock::now();
  EXPECT_EQ(transport.flush(kNoPeer, 60ms).error, TransportError::TIMEOUT);
  EXPECT_GE(Clock::now() - before, 60ms);
  EXPECT_EQ(transport.flush(kNoPeer, 0ms).error, TransportError::BUFFER_FULL);
}

TEST_F(TransportSend, AFlushThatWaitsLetsOtherSendersThrough) {
  TransportConfig hasty = config(Role::CLIENT);
  hasty.send_timeout = 10ms;  // Of the flush in stop(), which waits in vain too.
  Transport transport(fake_plugin());
  bring_up(transport, hasty);
  wire->answer_flush(CDMF_TIMEOUT, 1'000'000);
  std::atomic<bool> done{false};
  std::thread flusher([&] {
    (void)transport.flush(kNoPeer, 10min);
    done = true;
  });
  ASSERT_TRUE(eventually([&] { return wire->calls(Call::FLUSH) > 1; }));
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(transport.send(text("x"), {.timeout = 1min}).success());
  EXPECT_FALSE(done) << "the senders got through only after the flush";
  transport.stop();
  flusher.join();
}

// ---- Loans
// ------------------------------------------------------------------------------------------------------------

TEST_F(TransportSend, ALoanIsAlignedAsAskedAndCarriesItsMessage) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  for (const std::size_t alignment : {1u, 2u, 4u, 8u, 16u, 32u, 64u, 128u, 256u}) {
    for (const std::size_t size : {0u, 1u, 100u, 65536u}) {
      auto loan = transport.loan(
          size, {.alignment = alignment, .type = MessageType::REQUEST, .flags = 3, .id = 9, .subject = "subject"});
      ASSERT_TRUE(loan.success()) << loan.text();
      ASSERT_EQ(loan.value.payload().size(), size);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(loan.value.payload().data()) % alignment, 0u) << alignment;
      std::fill(loan.value.payload().begin(), loan.value.payload().end(), std::byte{'z'});
      ASSERT_TRUE(loan.value.commit().success());
      EXPECT_FALSE(loan.value);
      const auto sent = wire->sent().back();
      EXPECT_EQ(sent.message.getPayloadText(), std::string(size, 'z'));
      EXPECT_EQ(sent.message.getSubject(), "subject");
      EXPECT_EQ(sent.message.getType(), MessageType::REQUEST);
      EXPECT_EQ(sent.message.getFlags(), 3);
      EXPECT_EQ(sent.message.getId(), 9u);
      EXPECT_TRUE(sent.padding_is_clean) << "old memory travels to the peer in the padding";
    }
  }
  for (const std::size_t alignment : {0u, 3u, 24u, 512u}) {
    EXPECT_EQ(transport.loan(8, {.alignment = alignment}).error, TransportError::INVALID_ARGUMENT) << alignment;
  }
}

TEST_F(TransportSend, AShrunkLoanSendsItsFrontAndItsWholeSubject) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  for (const std::size_t size : {0u, 1u, 5u, 9u, 10u}) {
    for (const std::size_t alignment : {16u, 256u}) {
      auto loan = transport.loan(10, {.alignment = alignment, .subject = "a long subject"});
      ASSERT_TRUE(loan.success());
      std::memcpy(loan.value.payload().data(), "0123456789", 10);
      ASSERT_TRUE(loan.value.commit(size).success());
      EXPECT_EQ(wire->sent().back().message.getPayloadText(), std::string("0123456789").substr(0, size));
      EXPECT_EQ(wire->sent().back().message.getSubject(), "a long subject");
    }
  }
  auto loan = transport.loan(10);
  ASSERT_TRUE(loan.success());
  EXPECT_EQ(loan.value.commit(11).error, TransportError::INVALID_ARGUMENT);
  EXPECT_TRUE(loan.value) << "a wrong size must not lose the loan";
  EXPECT_TRUE(loan.value.commit(10).success());
  EXPECT_EQ(loan.value.commit().error, TransportError::INVALID_ARGUMENT) << "an empty Loan";
}

TEST_F(TransportSend, ALoanThatIsNotCommittedIsNeverSent) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  { auto dropped = transport.loan(10); }
  auto aborted = transport.loan(10);
  aborted.value.abort();
  aborted.value.abort();
  EXPECT_FALSE(aborted.value);
  auto replaced = transport.loan(10);
  replaced.value = Loan();
  auto moved = transport.loan(10);
  { const Loan here = std::move(moved.value); }
  EXPECT_EQ(wire->open_claims(), 0u);
  EXPECT_EQ(wire->calls(Call::ABORT), 4u);
  EXPECT_EQ(wire->sent().size(), 0u);
  EXPECT_EQ(transport.getStats().messages_sent, 0u);
  EXPECT_TRUE(transport.send(text("x")).success());
}

TEST_F(TransportSend, AThreadThatHoldsALoanIsToldInsteadOfWaitingForItself) {
  for (const Senders senders : {Senders::MANY, Senders::ONE}) {
    TransportConfig with = config(Role::CLIENT);
    with.senders = senders;
    Transport transport(fake_plugin());
    bring_up(transport, with);
    auto loan = transport.loan(10);
    ASSERT_TRUE(loan.success());
    const auto result = transport.send(text("x"), {.timeout = 10min});
    EXPECT_EQ(result.error, TransportError::RESOURCE_EXHAUSTED);
    EXPECT_NE(result.error_message.find("Loan"), std::string::npos);
    ASSERT_TRUE(loan.value.commit().success());
    EXPECT_TRUE(transport.send(text("x")).success());
  }
}

TEST_F(TransportSend, AnotherThreadWaitsForTheLoanToEnd) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  auto loan = transport.loan(10);
  ASSERT_TRUE(loan.success());
  const std::size_t claims = wire->calls(Call::CLAIM);
  std::thread other([&] {
    EXPECT_EQ(transport.send(text("now"), {.timeout = 0ms}).error, TransportError::BUFFER_FULL);
    const auto before = Clock::now();
    EXPECT_EQ(transport.send(text("soon"), {.timeout = 50ms}).error, TransportError::TIMEOUT);
    EXPECT_GE(Clock::now() - before, 50ms);
    EXPECT_TRUE(transport.send(text("later"), {.timeout = 10min}).success());
  });
  EXPECT_TRUE(eventually([&] { return wire->calls(Call::CLAIM) >= claims + 3; }));
  EXPECT_TRUE(loan.value.commit().success());
  other.join();
  EXPECT_EQ(wire->sent().size(), 2u);
}

TEST_F(TransportSend, AThreadThatWaitsForALoanIsFreedByStop) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  auto loan = transport.loan(10);
  std::thread other(
      [&] { EXPECT_EQ(transport.send(text("x"), {.timeout = 10min}).error, TransportError::NOT_CONNECTED); });
  ASSERT_TRUE(eventually([&] { return wire->calls(Call::CLAIM) >= 2; }));
  transport.stop();
  other.join();
}

TEST_F(TransportSend, LoansToTwoPeersDoNotMeet) {
  Transport transport(fake_plugin());
  bring_up(transport, Role::SERVER);
  wire->connect_peer();
  wire->connect_peer();
  ASSERT_TRUE(eventually([&] { return transport.getPeers().size() == 2; }));
  auto a = transport.loan(4, {.send = {.peer = 1}});
  auto b = transport.loan(4, {.send = {.peer = 2}});
  ASSERT_TRUE(a.success() && b.success());
  std::memcpy(a.value.payload().data(), "aaaa", 4);
  std::memcpy(b.value.payload().data(), "bbbb", 4);
  ASSERT_TRUE(b.value.commit().success());
  ASSERT_TRUE(a.value.commit().success());
  EXPECT_EQ(wire->sent()[0].message.getPayloadText(), "bbbb");
  EXPECT_EQ(wire->sent()[1].peer, 1u);
}

TEST_F(TransportSend, ALoanOutlivesStopAndCleanupAndTheTransport) {
  const auto other = FakeWire::make("/fake/another");
  Loan loan;
  {
    Transport transport(fake_plugin());
    bring_up(transport, Role::CLIENT);
    auto taken = transport.loan(16);
    ASSERT_TRUE(taken.success());
    loan = std::move(taken.value);
    transport.stop();
    std::memset(loan.payload().data(), 1, 16);
    transport.cleanup();
    std::memset(loan.payload().data(), 2, 16);
    EXPECT_EQ(wire->drivers_alive(), 1u);
    // A new driver counts its peers anew: the old loan stands in nobody's way.
    TransportConfig second = config(Role::CLIENT);
    second.endpoint = other->endpoint();
    bring_up(transport, second);
    EXPECT_TRUE(transport.send(text("x"), {.timeout = 0ms}).success());
    EXPECT_EQ(other->sent().size(), 1u);
  }
  std::memset(loan.payload().data(), 3, 16);
  EXPECT_EQ(loan.commit().error, TransportError::CONNECTION_CLOSED);
  EXPECT_EQ(wire->drivers_alive(), 0u) << "the last reference frees the driver";
  EXPECT_EQ(wire->sent().size(), 0u);
}

TEST_F(TransportSend, ManyThreadsMaySendAndNothingIsLostOrTorn) {
  constexpr int kThreads = 4;
  constexpr int kEach = 500;
  Transport transport(fake_plugin());
  bring_up(transport, Role::CLIENT);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const std::string payload = std::to_string(t) + ':' + std::to_string(i);
        if (i % 3 == 0) {
          auto loan = transport.loan(payload.size());
          ASSERT_TRUE(loan.success()) << loan.text();
          std::memcpy(loan.value.payload().data(), payload.data(), payload.size());
          ASSERT_TRUE(loan.value.commit().success());
        } else {
          ASSERT_TRUE(transport.send(text(payload), {.flush = i % 2 == 0}).success());
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  ASSERT_TRUE(transport.flush().success());
  const auto sent = wire->sent();
  ASSERT_EQ(sent.size(), std::size_t{kThreads} * kEach);
  int next[kThreads] = {};
  for (const auto& each : sent) {
    const std::string payload(each.message.getPayloadText());
    const int t = payload[0] - '0';
    EXPECT_EQ(payload, std::to_string(t) + ':' + std::to_string(next[t]++)) << "not in the order of its thread";
  }
  EXPECT_EQ(transport.getStats().messages_sent, std::uint64_t{kThreads} * kEach);
}

}  // namespace
}  // namespace cdmf::ipc::testing
