// An orderly end: whoever closes waits until its peer has read what was sent, and says goodbye.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "ipc/transport.h"
#include "support/eventually.h"
#include "unit/plugins/grpc/plugin.h"

namespace cdmf::ipc {
namespace {

using namespace std::chrono_literals;
using testing::kWatchdog;

void bring_up(Transport& transport, Role role, const std::string& endpoint) {
  TransportConfig config;
  config.endpoint = endpoint;
  config.role = role;
  config.receive = Receive::POLL;
  config.auto_reconnect = false;
  config.properties = {{"insecure", "true"}, {"linger", "20s"}};
  ASSERT_TRUE(transport.init(config).success());
  ASSERT_TRUE(transport.start().success());
  const auto connected = transport.connect();
  ASSERT_TRUE(connected.success()) << connected.text();
}

// What a connection still holds is lost to a client whose next write finds it closed.
TEST(GrpcClosing, AClientThatKeepsSendingGetsWhatWasSentToItAndTheGoodbye) {
  for (int i = 0; i < 40; ++i) {
    const std::string endpoint = "/grpc_closing_busy_" + std::to_string(getpid());
    Transport server(plugin());
    Transport client(plugin());
    bring_up(server, Role::SERVER, endpoint);
    bring_up(client, Role::CLIENT, endpoint);
    std::thread sending([&] {
      MessageView message;
      const std::vector<std::byte> payload(1000);
      message.payload = payload;
      while (client.send(message)) {
      }
    });
    std::size_t got = 0;
    ASSERT_TRUE(testing::eventually([&] {
      got += server.poll([](const MessageView&) {});
      return got > 100;
    }));
    const bool has_last_words = i % 2 != 0;
    Message last;
    last.setPayload("last");
    if (has_last_words) {
      EXPECT_TRUE(server.send(last).success());
    }
    std::thread closing([&] { server.stop(); });
    if (has_last_words) {
      const auto received = client.receive(kWatchdog);
      EXPECT_EQ(received ? received.value->getPayloadText() : received.text(), "last");
    }
    EXPECT_EQ(client.receive(kWatchdog).error, TransportError::CONNECTION_CLOSED);
    closing.join();
    sending.join();
  }
}

// Each waits for the other's goodbye, which both send at once. Where that is not noticed, each of these takes the whole
// linger, and the test never ends in its time.
TEST(GrpcClosing, EndsThatCloseAtTheSameTimeDoNotWaitForEachOther) {
  for (int i = 0; i < 20; ++i) {
    const std::string endpoint = "/grpc_closing_both_" + std::to_string(getpid());
    Transport server(plugin());
    Transport client(plugin());
    bring_up(server, Role::SERVER, endpoint);
    bring_up(client, Role::CLIENT, endpoint);
    std::thread closing([&] { server.stop(); });
    client.stop();
    closing.join();
  }
}

}  // namespace
}  // namespace cdmf::ipc
