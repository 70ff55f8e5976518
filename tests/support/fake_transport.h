#pragma once
// support/fake_transport.h: a Transport over FakeDriver, and a recorder of its callbacks, for tests of Transport
// itself.
#include <gtest/gtest.h>

#include <mutex>
#include <string>
#include <vector>

#include "ipc/transport.h"
#include "support/eventually.h"
#include "support/fake_driver.h"

namespace cdmf::ipc::testing {

/// Everything that the callbacks of one Transport were told, in order, as short texts:
/// "STARTED>CONNECTED", "peer 1 came", "peer 1 left PEER_DIED lost 3", "error PROTOCOL_ERROR", "message hello".
class Record {
 public:
  void add(std::string text) {
    const std::lock_guard lock(mutex_);
    entries_.push_back(std::move(text));
  }
  [[nodiscard]] std::vector<std::string> all() const {
    const std::lock_guard lock(mutex_);
    return entries_;
  }
  [[nodiscard]] std::size_t count(const std::string& prefix) const {
    const std::lock_guard lock(mutex_);
    std::size_t n = 0;
    for (const std::string& each : entries_) n += each.starts_with(prefix) ? 1 : 0;
    return n;
  }
  [[nodiscard]] bool has(const std::string& prefix) const { return count(prefix) != 0; }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> entries_;
};

inline void record_events(Transport& transport, Record& record) {
  transport.setStateChangeCallback([&record](TransportState from, TransportState to) {
    record.add(std::string(to_string(from)) + '>' + to_string(to));
  });
  transport.setPeerCallback([&record](const PeerEvent& event) {
    std::string text = "peer " + std::to_string(event.peer);
    if (event.kind == PeerEvent::Kind::CONNECTED) {
      text += " came";
    } else {
      text += std::string(" left ") + to_string(event.reason) + " lost " + std::to_string(event.messages_lost);
    }
    record.add(std::move(text));
  });
  transport.setErrorCallback([&record](TransportError error, const std::string& text) {
    record.add(std::string("error ") + to_string(error) + ' ' + text);
  });
}
inline void record_messages(Transport& transport, Record& record) {
  transport.setMessageCallback(
      [&record](MessagePtr message) { record.add("message " + std::string(message->getPayloadText())); });
}

/// A wire of its own per test, and at the end the proof that the driver's contract was kept and nothing was left over.
class FakeTransportTest : public ::testing::Test {
 protected:
  FakeTransportTest()
      : wire(FakeWire::make(std::string("/fake/") + ::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  void TearDown() override {
    for (const std::string& violation : wire->violations()) ADD_FAILURE() << "contract of the driver: " << violation;
  }
  [[nodiscard]] TransportConfig config(Role role) const {
    TransportConfig config;
    config.endpoint = wire->endpoint();
    config.role = role;
    return config;
  }
  [[nodiscard]] static MessageView text(std::string_view payload) {
    MessageView message;
    message.payload = std::as_bytes(std::span(payload));
    return message;
  }
  void bring_up(Transport& transport, const TransportConfig& with) {
    ASSERT_TRUE(transport.init(with).success());
    ASSERT_TRUE(transport.start().success());
    ASSERT_TRUE(transport.connect().success());
  }
  void bring_up(Transport& transport, Role role) { bring_up(transport, config(role)); }

  std::shared_ptr<FakeWire> wire;
};

}  // namespace cdmf::ipc::testing
