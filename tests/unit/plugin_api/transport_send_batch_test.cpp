// Many messages in one call, over drivers that take frames step by step, one at a time, or many at once.
#include <cstring>
#include <thread>

#include "ipc/put_abi.h"
#include "support/fake_transport.h"

namespace cdmf::ipc::testing {
namespace {

using namespace std::chrono_literals;

enum class Offer { nothing, put, put_of_an_older_plugin, put_burst };

// ---- The fake driver, which offers one of these. One test runs at a time. ------------------------------------------

const cdmf_driver_ops* fake_ops = nullptr;
const cdmf_put* offered = nullptr;
std::size_t puts = 0;
std::size_t bursts = 0;
std::size_t largest_burst = 0;

cdmf_status put_steps(void* self, cdmf_peer peer, const cdmf_pieces* frame, std::uint32_t flush) {
  const std::size_t size = sizeof frame->head + frame->body_size + frame->tail_size;
  cdmf_loan loan{};
  if (const cdmf_status status = fake_ops->claim(self, peer, size, &loan); status != CDMF_OK) return status;
  auto* to = static_cast<std::byte*>(loan.memory);
  std::memcpy(to, frame->head, sizeof frame->head);
  to += sizeof frame->head;
  if (frame->body_size != 0) std::memcpy(to, frame->body, frame->body_size);
  if (frame->tail_size != 0) std::memcpy(to + frame->body_size, frame->tail, frame->tail_size);
  return fake_ops->commit(self, &loan, size, flush);
}
cdmf_status put(void* self, cdmf_peer peer, const cdmf_pieces* frame, std::uint32_t flush) {
  ++puts;
  return put_steps(self, peer, frame, flush);
}
std::size_t put_burst(void* self, cdmf_peer peer, const cdmf_pieces* frames, std::size_t count, std::uint32_t flush) {
  ++bursts;
  largest_burst = std::max(largest_burst, count);
  std::size_t sent = 0;
  while (sent < count && put_steps(self, peer, &frames[sent], 0) == CDMF_OK) ++sent;
  if (flush != 0) (void)fake_ops->flush(self, peer, 0);
  return sent;
}
std::size_t poison(void*, cdmf_peer, const cdmf_pieces*, std::size_t, std::uint32_t) {
  ADD_FAILURE() << "called, though it lies behind what the plugin said that it has";
  return 0;
}

constexpr std::uint32_t kOldSize = offsetof(cdmf_put, put_burst);
constexpr cdmf_put kPut{sizeof(cdmf_put), 0, put, nullptr};
constexpr cdmf_put kOldPut{kOldSize, 0, put, poison};
constexpr cdmf_put kPutBurst{sizeof(cdmf_put), 0, put, put_burst};

cdmf_status create(const cdmf_host* host, const cdmf_config* config, cdmf_driver* driver, cdmf_error* error) {
  const cdmf_status status = fake_plugin().create(host, config, driver, error);
  if (status != CDMF_OK) return status;
  fake_ops = driver->ops;
  static cdmf_driver_ops ops;
  ops = *driver->ops;
  ops.get_extension = [](void*, const char* name) -> const void* {
    return std::strcmp(name, CDMF_PUT_EXTENSION) == 0 ? offered : nullptr;
  };
  driver->ops = &ops;
  return CDMF_OK;
}

class SendBatch : public FakeTransportTest, public ::testing::WithParamInterface<Offer> {
 protected:
  SendBatch() {
    puts = bursts = largest_burst = 0;
    offered = nullptr;
    if (GetParam() == Offer::put) offered = &kPut;
    if (GetParam() == Offer::put_of_an_older_plugin) offered = &kOldPut;
    if (GetParam() == Offer::put_burst) offered = &kPutBurst;
    plugin_.create = create;
  }
  /// Numbered from 0.
  static std::vector<MessageView> numbered(std::size_t count) {
    std::vector<MessageView> messages(count, text("payload"));
    for (std::size_t i = 0; i < count; ++i) messages[i].id = i;
    return messages;
  }
  void expect_sent(std::size_t count) {
    const auto sent = wire->sent();
    ASSERT_EQ(sent.size(), count);
    for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(sent[i].message.getId(), i);
  }
  cdmf_plugin plugin_ = fake_plugin();
  Transport transport{plugin_};
};

TEST_P(SendBatch, SendsAllInOrderWithEveryField) {
  bring_up(transport, Role::CLIENT);
  std::vector<MessageView> messages = numbered(100);
  messages[40].subject = "subject";
  messages[41].flags = 7;
  messages[42].hops = 3;
  messages[99].payload = {};
  const auto result = transport.sendBatch(messages);
  ASSERT_TRUE(result.success()) << result.text();
  EXPECT_EQ(result.value, 100u);
  expect_sent(100);
  const auto sent = wire->sent();
  EXPECT_EQ(sent[40].message.getSubject(), "subject");
  EXPECT_EQ(sent[41].message.getFlags(), 7);
  EXPECT_EQ(sent[42].message.getHops(), 3);
  EXPECT_EQ(sent[98].message.getPayloadText(), "payload");
  EXPECT_EQ(sent[99].message.getPayloadSize(), 0u);
  EXPECT_EQ(transport.getStats().messages_sent, 100u);
  EXPECT_EQ(transport.getStats().bytes_sent, 99u * 7);
  EXPECT_EQ(transport.getStats().send_errors, 0u);
}

TEST_P(SendBatch, AsksTheDriverAsRarelyAsItAllows) {
  bring_up(transport, Role::CLIENT);
  ASSERT_TRUE(transport.sendBatch(numbered(64)).success());
  const bool many = GetParam() == Offer::put_burst;
  EXPECT_EQ(bursts, many ? 2u : 0u);
  EXPECT_EQ(largest_burst, many ? Transport::kBurstMax : 0u);
  EXPECT_EQ(puts, many || GetParam() == Offer::nothing ? 0u : 64u);
}

TEST_P(SendBatch, FlushesAtTheEndOrNotAtAll) {
  bring_up(transport, Role::CLIENT);
  ASSERT_TRUE(transport.sendBatch(numbered(40), {.flush = false}).success());
  EXPECT_EQ(wire->queued(), 40u);
  EXPECT_TRUE(wire->sent().empty());
  ASSERT_TRUE(transport.flush().success());
  expect_sent(40);
  std::size_t seen = 0;
  wire->on(Call::CLAIM, [&] { seen = std::max(seen, wire->sent().size()); });
  ASSERT_TRUE(transport.sendBatch(numbered(40)).success());
  EXPECT_EQ(seen, 40u) << "a part of the second batch was flushed before its end";
  EXPECT_EQ(wire->sent().size(), 80u);
  wire->on(Call::CLAIM, {});
}

TEST_P(SendBatch, EndsAtTheFirstThatCannotBeSentAndFlushesThoseBefore) {
  bring_up(transport, Role::CLIENT);
  std::vector<MessageView> messages = numbered(5);
  const std::string subject(kSubjectBytesMax + 1, 's');
  messages[3].subject = subject;
  const auto result = transport.sendBatch(messages);
  EXPECT_EQ(result.error, TransportError::INVALID_MESSAGE);
  EXPECT_NE(result.error_message.find("257"), std::string::npos) << result.error_message;
  EXPECT_EQ(result.value, 3u);
  expect_sent(3);
  EXPECT_EQ(wire->queued(), 0u);
  EXPECT_EQ(transport.getStats().messages_sent, 3u);
  EXPECT_EQ(transport.getStats().send_errors, 1u);
}

TEST_P(SendBatch, SaysHowManyFoundRoom) {
  wire->set_room(37);
  bring_up(transport, Role::CLIENT);
  auto result = transport.sendBatch(numbered(50), {.timeout = 0ms});
  EXPECT_EQ(result.error, TransportError::BUFFER_FULL);
  EXPECT_EQ(result.value, 37u);
  expect_sent(37);
  EXPECT_EQ(wire->calls(Call::AWAIT_SPACE), 0u);
  result = transport.sendBatch(numbered(50), {.timeout = 20ms});
  EXPECT_EQ(result.error, TransportError::TIMEOUT);
  EXPECT_EQ(result.value, 0u);
}

TEST_P(SendBatch, GoesOnWhenThereIsRoomAgain) {
  wire->set_room(20);
  bring_up(transport, Role::CLIENT);
  std::thread reader([&] {
    EXPECT_TRUE(eventually([&] { return wire->sender_waits(); }));
    wire->set_room(SIZE_MAX);
  });
  const auto result = transport.sendBatch(numbered(50), {.timeout = 20s});
  reader.join();
  EXPECT_TRUE(result.success()) << result.text();
  EXPECT_EQ(result.value, 50u);
  expect_sent(50);
}

TEST_P(SendBatch, OfNothingIsASuccessEvenWithoutALink) {
  bring_up(transport, Role::SERVER);
  EXPECT_TRUE(transport.sendBatch({}).success());
  const auto result = transport.sendBatch(numbered(2));
  EXPECT_EQ(result.error, TransportError::NOT_CONNECTED);
  EXPECT_EQ(result.value, 0u);
}

TEST_P(SendBatch, TellsTheEndOfTheLink) {
  bring_up(transport, Role::CLIENT);
  ASSERT_TRUE(transport.sendBatch(numbered(2)).success());
  transport.stop();
  const auto result = transport.sendBatch(numbered(2));
  EXPECT_FALSE(result.success());
  EXPECT_EQ(result.value, 0u);
  EXPECT_EQ(wire->sent().size(), 2u);
}

INSTANTIATE_TEST_SUITE_P(Drivers, SendBatch,
                         ::testing::Values(Offer::nothing, Offer::put, Offer::put_of_an_older_plugin,
                                           Offer::put_burst));

}  // namespace
}  // namespace cdmf::ipc::testing
