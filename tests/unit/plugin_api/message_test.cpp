// Message and the texts of the enumerations.
#include "ipc/message.h"

#include <gtest/gtest.h>

#include <set>

#include "ipc/result.h"
#include "ipc/transport.h"

namespace cdmf::ipc {
namespace {

TEST(Message, OwnsACopyOfWhatItIsGiven) {
  std::string payload = "hello";
  Message message(MessageType::REQUEST);
  message.setId(7);
  message.setFlags(3);
  message.setSubject(payload);
  message.setPayload(payload);
  payload = "xxxxx";
  EXPECT_EQ(message.getType(), MessageType::REQUEST);
  EXPECT_EQ(message.getId(), 7u);
  EXPECT_EQ(message.getFlags(), 3);
  EXPECT_EQ(message.getSubject(), "hello");
  EXPECT_EQ(message.getPayloadText(), "hello");
  EXPECT_EQ(message.getPayloadSize(), 5u);
}

TEST(Message, MadeFromAViewEqualsItAndOutlivesIt) {
  Message copy;
  {
    Message original(MessageType::RESPONSE);
    original.setId(9);
    original.setPayload(std::string_view("a\0b", 3));
    original.setSubject("s");
    MessageView view = original.view();
    view.peer = 5;
    view.timestamp_us = 11;
    copy = Message(view);
  }
  EXPECT_EQ(copy.getType(), MessageType::RESPONSE);
  EXPECT_EQ(copy.getId(), 9u);
  EXPECT_EQ(copy.getPayloadText(), std::string_view("a\0b", 3));
  EXPECT_EQ(copy.getSubject(), "s");
  EXPECT_EQ(copy.getPeer(), 5u);
  EXPECT_EQ(copy.getTimestampMicroseconds(), 11u);
  EXPECT_EQ(copy.view().peer, 5u);
}

TEST(Message, WithoutPayloadIsFine) {
  Message message;
  message.setPayload(nullptr, 0);
  EXPECT_EQ(message.getPayloadSize(), 0u);
  EXPECT_TRUE(message.view().payload.empty());
  EXPECT_EQ(message.view().text(), "");
}

TEST(Result, EveryCodeOfTheBoundaryHasItsOwnNameAndDescription) {
  std::set<std::string> names;
  std::set<std::string> descriptions;
  for (cdmf_status status = CDMF_OK; status <= CDMF_INTERNAL_ERROR; ++status) {
    const auto error = static_cast<TransportError>(status);
    EXPECT_STRNE(to_string(error), "UNKNOWN") << status;
    EXPECT_STRNE(describe(error), "") << status;
    names.insert(to_string(error));
    descriptions.insert(describe(error));
    EXPECT_EQ(to_error(status), error);
  }
  EXPECT_EQ(names.size(), std::size_t{CDMF_INTERNAL_ERROR} + 1);
  EXPECT_EQ(descriptions.size(), names.size());
  EXPECT_STREQ(to_string(TransportError::BUFFER_FULL), "BUFFER_FULL");
}

TEST(Result, ACodeFromTheFutureIsAnInternalErrorAndHasATextAnyway) {
  for (const cdmf_status status : {-1, CDMF_INTERNAL_ERROR + 1, 4711}) {
    EXPECT_EQ(to_error(status), TransportError::INTERNAL_ERROR);
    EXPECT_STREQ(to_string(static_cast<TransportError>(status)), "UNKNOWN");
    EXPECT_STRNE(describe(static_cast<TransportError>(status)), "");
  }
}

TEST(Result, TextIsNeverEmpty) {
  EXPECT_TRUE(TransportResult<>().success());
  EXPECT_EQ(TransportResult<>(TransportError::TIMEOUT).text(),
            std::string("TIMEOUT: ") + describe(TransportError::TIMEOUT));
  EXPECT_EQ(TransportResult<int>(TransportError::TIMEOUT, "of \"x\"").text(), "TIMEOUT: of \"x\"");
  const TransportResult<int> seven(7);
  EXPECT_TRUE(seven.success());
  EXPECT_EQ(seven.value, 7);
  EXPECT_FALSE(TransportResult<int>(TransportError::TIMEOUT));
}

TEST(Names, OfTypesRolesAndStatesAreTheirOwn) {
  EXPECT_STREQ(to_string(MessageType::HEARTBEAT), "HEARTBEAT");
  EXPECT_STREQ(to_string(static_cast<MessageType>(200)), "UNKNOWN");
  EXPECT_STREQ(to_string(Role::SERVER), "server");
  EXPECT_STREQ(to_string(Role::CLIENT), "client");
  std::set<std::string> states;
  for (const auto state : {TransportState::UNINITIALIZED, TransportState::INITIALIZED, TransportState::STARTED,
                           TransportState::CONNECTED, TransportState::RECONNECTING}) {
    states.insert(to_string(state));
  }
  EXPECT_EQ(states.size(), 5u);
}

}  // namespace
}  // namespace cdmf::ipc
