#pragma once
// tests/integration/calls/client.h: a server and a proxy that calls it, as the subject says.
#include <gtest/gtest.h>

#include "calls/service.h"

namespace cdmf::ipc::calls {

using namespace std::chrono_literals;

class Calls : public testing::Test {
 public:
  /// Receives where nobody else does.
  template <class Condition>
  static bool wait_until(ServiceProxy& proxy, Condition&& condition) {
    const auto end = std::chrono::steady_clock::now() + kWatchdog;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      if (proxy.poll() == 0) std::this_thread::sleep_for(100us);
    }
    return true;
  }

 protected:
  void SetUp() override {
    server_.start();
    proxy_ = connect();
  }

  std::unique_ptr<ServiceProxy> connect(ProxyOptions options = {}) {
    options.timeout = std::min<std::chrono::nanoseconds>(options.timeout, kWatchdog);
    auto proxy = std::make_unique<ServiceProxy>(make_transport(Role::CLIENT, server_.endpoint(), subject().receive),
                                                std::move(options));
    const auto started = proxy->start();
    EXPECT_TRUE(started.success()) << started.text();
    return proxy;
  }

  ServiceProxy& proxy() { return *proxy_; }

  template <class T>
  static T get(ServiceProxy& proxy, std::future<T> future) {
    EXPECT_TRUE(wait_until(proxy, [&] { return future.wait_for(0s) == std::future_status::ready; }));
    return future.get();
  }

  static std::string text(const CallResult<>& result) {
    return {reinterpret_cast<const char*>(result.value.data()), result.value.size()};
  }

  /// Until the restarted server is reached again.
  void expect_works_again(ServiceProxy& proxy) {
    const auto end = std::chrono::steady_clock::now() + kWatchdog;
    for (;;) {
      const auto reply = proxy.call("echo", "again", 2s);
      if (reply) {
        EXPECT_EQ(text(reply), "again");
        return;
      }
      ASSERT_LT(std::chrono::steady_clock::now(), end) << reply.text();
      proxy.poll();
      std::this_thread::sleep_for(1ms);
    }
  }

  Server server_;
  std::unique_ptr<ServiceProxy> proxy_;
};

}  // namespace cdmf::ipc::calls
