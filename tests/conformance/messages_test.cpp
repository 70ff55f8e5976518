// Messages: order, integrity, sizes, loans. Where the test must decide when they are read: polled_test.cpp.
#include <thread>

#include "conformance/harness.h"

namespace cdmf::ipc::conformance {
namespace {

/// A server that records, and a client.
class Messages : public ::testing::Test {
 protected:
  void SetUp() override {
    record.listen(server);
    bring_up(server, config_for(endpoint, Role::SERVER));
    bring_up(client, config_for(endpoint, Role::CLIENT));
  }
  void TearDown() override {
    client.stop();
    server.stop();
  }
  const std::string endpoint = fresh_endpoint();
  Record record;
  Transport server{plugin()};
  Transport client{plugin()};
};

TEST_F(Messages, ArriveWholeAndInOrder) {
  constexpr std::uint64_t kCount = 6000;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const std::string payload = pattern(fit(i * 37 % 3000), i);
    const std::string subject = pattern(i % 40, i + 1);
    MessageView message = text(payload, i);
    message.subject = subject;
    message.flags = static_cast<std::uint8_t>(i);
    message.type = i % 2 == 0 ? MessageType::EVENT : MessageType::REQUEST;
    ASSERT_TRUE(client.send(message, {.flush = i % 5 != 0}).success()) << i;
  }
  ASSERT_TRUE(client.flush().success());
  ASSERT_TRUE(record.wait_for_messages(kCount));
  const auto got = record.messages();
  for (std::uint64_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(got[i].getId(), i);
    ASSERT_EQ(got[i].getPayloadText(), pattern(fit(i * 37 % 3000), i)) << i;
    ASSERT_EQ(got[i].getSubject(), pattern(i % 40, i + 1)) << i;
    ASSERT_EQ(got[i].getFlags(), static_cast<std::uint8_t>(i));
    ASSERT_EQ(got[i].getType(), i % 2 == 0 ? MessageType::EVENT : MessageType::REQUEST);
  }
  EXPECT_EQ(client.getStats().messages_sent, kCount);
  EXPECT_TRUE(eventually([&] { return server.getStats().messages_received == kCount; }));
  EXPECT_EQ(server.getStats().bytes_received, client.getStats().bytes_sent);
  EXPECT_EQ(server.getStats().recv_errors, 0u);
}

TEST_F(Messages, SentInBatchesArriveWholeAndInOrder) {
  constexpr std::uint64_t kCount = 6000;
  std::vector<std::string> payloads(kCount);
  std::vector<MessageView> messages(kCount);
  for (std::uint64_t i = 0; i < kCount; ++i) {
    payloads[i] = pattern(fit(i % 7 == 0 ? i * 37 % 3000 : i % 300), i);
    messages[i] = text(payloads[i], i);
    messages[i].subject = std::string_view(payloads[i]).substr(0, i % 40);
    messages[i].hops = static_cast<std::uint8_t>(i % 100 == 99);
  }
  std::span<const MessageView> rest = messages;
  for (std::size_t size = 0; !rest.empty(); size = (size * 3 + 1) % 400) {
    const auto batch = rest.first(std::min(size, rest.size()));
    const auto result = client.sendBatch(batch, {.flush = size % 2 == 0});
    ASSERT_TRUE(result.success()) << result.text();
    ASSERT_EQ(result.value, batch.size());
    rest = rest.subspan(batch.size());
  }
  ASSERT_TRUE(client.flush().success());
  ASSERT_TRUE(record.wait_for_messages(kCount));
  const auto got = record.messages();
  for (std::uint64_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(got[i].getId(), i);
    ASSERT_EQ(got[i].getPayloadText(), payloads[i]) << i;
    ASSERT_EQ(got[i].getSubject(), messages[i].subject) << i;
    ASSERT_EQ(got[i].getHops(), messages[i].hops) << i;
  }
  EXPECT_EQ(client.getStats().messages_sent, kCount);
  EXPECT_TRUE(eventually([&] { return server.getStats().bytes_received == client.getStats().bytes_sent; }));
}

TEST_F(Messages, GoBothWaysAtOnce) {
  CDMF_NEEDS_NO(CDMF_CAP_ONE_WAY);
  constexpr std::uint64_t kCount = 2000;
  Record back;
  back.listen(client);
  ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 1; }));
  std::thread other([&] {
    for (std::uint64_t i = 0; i < kCount; ++i) ASSERT_TRUE(server.send(text(pattern(i % 999, i), i)).success());
  });
  for (std::uint64_t i = 0; i < kCount; ++i) ASSERT_TRUE(client.send(text(pattern(i % 777, i), i)).success());
  other.join();
  ASSERT_TRUE(record.wait_for_messages(kCount));
  ASSERT_TRUE(back.wait_for_messages(kCount));
  const auto there = record.messages();
  const auto here = back.messages();
  for (std::uint64_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(there[i].getPayloadText(), pattern(i % 777, i)) << i;
    ASSERT_EQ(here[i].getPayloadText(), pattern(i % 999, i)) << i;
  }
  client.stop();  // Before `back` goes.
}

TEST_F(Messages, OfEverySizeUpToTheMaximumArriveAndALargerOneIsRefused) {
  const std::size_t max = client.getInfo().max_message_size;
  const std::string subject(kSubjectBytesMax, 's');
  std::vector<std::size_t> sizes{0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 4095, 4096, 4097, max - 1, max};
  std::erase_if(sizes, [&](std::size_t size) { return size > max; });
  for (const std::size_t size : sizes) {
    const std::string payload = pattern(size, size);
    MessageView message = text(payload, size);
    ASSERT_TRUE(client.send(message).success()) << size;
    message.subject = subject;
    ASSERT_TRUE(client.send(message).success()) << size << " with the longest subject";
  }
  const std::string large(max + 1, 'x');
  EXPECT_EQ(client.send(text(large)).error, TransportError::BUFFER_OVERFLOW);
  EXPECT_EQ(client.loan(max + 1).error, TransportError::BUFFER_OVERFLOW);
  ASSERT_TRUE(client.send(text("last")).success());
  ASSERT_TRUE(record.wait_for_messages(2 * sizes.size() + 1));
  const auto got = record.messages();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    EXPECT_EQ(got[2 * i].getPayloadText(), pattern(sizes[i], sizes[i])) << sizes[i];
    EXPECT_EQ(got[2 * i].getSubject(), "");
    EXPECT_EQ(got[2 * i + 1].getPayloadText(), pattern(sizes[i], sizes[i])) << sizes[i];
    EXPECT_EQ(got[2 * i + 1].getSubject(), subject);
  }
  EXPECT_EQ(got.back().getPayloadText(), "last");
  EXPECT_EQ(got.size(), 2 * sizes.size() + 1);
}

TEST_F(Messages, OfManyThreadsKeepTheOrderOfEachThread) {
  constexpr std::uint64_t kThreads = 4;
  constexpr std::uint64_t kEach = 1000;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < kEach; ++i) {
        ASSERT_TRUE(client.send(text(pattern(i % 300, t), t << 32 | i)).success());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  ASSERT_TRUE(record.wait_for_messages(kThreads * kEach));
  std::uint64_t next[kThreads] = {};
  for (const Message& each : record.messages()) {
    const std::uint64_t t = each.getId() >> 32;
    ASSERT_LT(t, kThreads);
    ASSERT_EQ(each.getId() & 0xffffffffu, next[t]++);
    ASSERT_EQ(each.getPayloadText(), pattern((each.getId() & 0xffffffffu) % 300, t));
  }
}

TEST_F(Messages, WrittenInPlaceArriveLikeOthers) {
  const std::size_t most = client.getInfo().max_message_size;
  std::size_t sent = 0;
  for (std::size_t alignment = 1; alignment <= 256; alignment *= 2) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{64}, std::size_t{1000}, most}) {
      auto loan = client.loan(size, {.alignment = alignment, .id = size, .subject = "in place"});
      ASSERT_TRUE(loan.success()) << loan.text();
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(loan.value.payload().data()) % alignment, 0u);
      const std::string payload = pattern(size, alignment);
      std::memcpy(loan.value.payload().data(), payload.data(), size);
      ASSERT_TRUE(loan.value.commit().success());
      ++sent;
    }
  }
  ASSERT_TRUE(record.wait_for_messages(sent));
  std::size_t at = 0;
  const auto got = record.messages();
  for (std::size_t alignment = 1; alignment <= 256; alignment *= 2) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{64}, std::size_t{1000}, most}) {
      EXPECT_EQ(got[at].getPayloadText(), pattern(size, alignment));
      EXPECT_EQ(got[at++].getSubject(), "in place");
    }
  }
}

TEST_F(Messages, AShrunkLoanSendsItsFrontAndAnAbortedOneNothing) {
  for (const std::size_t kept : {1000u, 999u, 500u, 64u, 1u, 0u}) {
    auto aborted = client.loan(1000);
    ASSERT_TRUE(aborted.success());
    std::memset(aborted.value.payload().data(), 'a', 1000);
    aborted.value.abort();
    auto loan = client.loan(1000, {.subject = "subject"});
    ASSERT_TRUE(loan.success()) << loan.text();
    std::memcpy(loan.value.payload().data(), pattern(1000, kept).data(), 1000);
    ASSERT_TRUE(loan.value.commit(kept).success());
    ASSERT_TRUE(client.send(text("between")).success());
  }
  ASSERT_TRUE(record.wait_for_messages(12));
  std::size_t at = 0;
  const auto got = record.messages();
  for (const std::size_t kept : {1000u, 999u, 500u, 64u, 1u, 0u}) {
    EXPECT_EQ(got[at].getPayloadText(), pattern(1000, kept).substr(0, kept));
    EXPECT_EQ(got[at].getSubject(), "subject");
    EXPECT_EQ(got[at + 1].getPayloadText(), "between");
    at += 2;
  }
  EXPECT_EQ(got.size(), 12u);
}

TEST_F(Messages, CarryTheTimeOfSending) {
  CDMF_NEEDS(CDMF_CAP_TIMESTAMP);
  const auto now_us = [] {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
  };
  const std::uint64_t before = now_us();
  ASSERT_TRUE(client.send(text("x")).success());
  const std::uint64_t after = now_us();
  ASSERT_TRUE(record.wait_for_messages(1));
  EXPECT_GE(record.messages()[0].getTimestampMicroseconds(), before);
  EXPECT_LE(record.messages()[0].getTimestampMicroseconds(), after);
}

TEST_F(Messages, ALoanOutlivesStopAndItsPeer) {
  auto loan = client.loan(1000);
  ASSERT_TRUE(loan.success());
  server.cleanup();
  std::memset(loan.value.payload().data(), 1, 1000);
  client.cleanup();
  std::memset(loan.value.payload().data(), 2, 1000);
  const auto result = loan.value.commit();
  EXPECT_EQ(result.error, TransportError::CONNECTION_CLOSED) << result.text();
}

}  // namespace
}  // namespace cdmf::ipc::conformance
