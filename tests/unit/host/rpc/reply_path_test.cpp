// Calls need answers: over a pool they are refused, in words.
#include <gtest/gtest.h>
#include <unistd.h>

#include "ipc/service_proxy.h"
#include "ipc/service_stub.h"
#include "ipc/transport_registry.h"

namespace cdmf::ipc {
namespace {

std::unique_ptr<Transport> member(TransportRegistry& registry, Role role) {
  auto made = registry.create("shm");
  EXPECT_TRUE(made.success()) << made.text();
  if (!made.success()) return nullptr;
  TransportConfig config;
  config.endpoint = "/cdmf_reply_path_" + std::to_string(getpid());
  config.role = role;
  config.max_message_size = 1024;
  config.properties = {{"ring_type", "mpmc"}};
  const auto done = made.value->init(config);
  EXPECT_TRUE(done.success()) << done.text();
  return std::move(made.value);
}

TEST(ReplyPath, APoolHasNoneSoThatStubAndProxyAreUnsupported) {
  RegistryOptions options;
  options.security = PluginSecurity::WARN;
  TransportRegistry registry(options);
  ServiceStub stub(member(registry, Role::SERVER));
  const auto served = stub.start();
  EXPECT_EQ(served.error, TransportError::UNSUPPORTED) << served.text();
  EXPECT_NE(served.error_message.find("is a pool"), std::string::npos) << served.text();

  const auto consumer = member(registry, Role::SERVER);
  ASSERT_TRUE(consumer->start().success());
  ASSERT_TRUE(consumer->connect().success());
  ServiceProxy proxy(member(registry, Role::CLIENT));
  const auto called = proxy.start();
  EXPECT_EQ(called.error, TransportError::UNSUPPORTED) << called.text();
  EXPECT_NE(called.error_message.find("ring_type: spsc"), std::string::npos) << called.text();
  EXPECT_EQ(proxy.call("add", "x").status, CallStatus::NOT_SENT);
}

}  // namespace
}  // namespace cdmf::ipc
