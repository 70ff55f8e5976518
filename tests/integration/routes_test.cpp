// `cdmf run` with routes: real hosts between a client and a server of this process, killed, stopped and led in circles.
// CDMF_TEST_NAMESPACES: the hosts are in network namespaces of their own.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "ipc/host.h"
#include "ipc/router.h"
#include "ipc/service_proxy.h"
#include "ipc/service_stub.h"
#include "namespaces.h"
#include "program.h"
#include "support/eventually.h"

namespace cdmf::ipc::test {
namespace {

using namespace std::chrono_literals;
using ipc::testing::eventually;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void open(Transport& transport) {
  ASSERT_TRUE(transport.start().success());
  const auto connected = transport.connect();
  ASSERT_TRUE(connected.success()) << connected.text();
}

CallResult<std::string> routes_of(ServiceProxy& proxy) {
  return proxy.call<std::string>("cdmf.routes", std::string(), 60s);
}

class OneHost : public ::testing::Test {
 protected:
  std::string endpoint(const char* name) const { return "/cdmf_route_" + std::to_string(getpid()) + "_" + name; }
  std::string entry(const char* name, const char* type, const std::string& rest = {}) const {
    return std::string("  ") + name + ": { type: " + type + ", endpoint: " + endpoint(name) + rest + " }\n";
  }
  std::unique_ptr<Program> start(const char* name, const std::string& file) {
    auto host =
        std::make_unique<Program>(folder_, name + std::to_string(starts_++), std::vector<std::string>{"run", file});
    EXPECT_TRUE(host->wait_for_output("\nready\n")) << host->errors();
    return host;
  }
  std::unique_ptr<Transport> make(const std::string& file, const char* name, Role role) {
    const auto host = Host::load(file);
    EXPECT_TRUE(host.success()) << host.text();
    auto made = host.value->create(name, role);
    EXPECT_TRUE(made.success()) << made.text();
    return std::move(made.value);
  }
  static std::string stop(Program& host) {
    EXPECT_EQ(kill(host.pid(), SIGTERM), 0);
    EXPECT_EQ(host.wait(), 0) << host.errors();
    return host.output();
  }

  TestFolder folder_;
  int starts_ = 0;
};

/// shm -> host A -> middle -> host B -> unix_socket: what carries the middle differs.
class Routes : public OneHost, public ::testing::WithParamInterface<const char*> {
 protected:
  static void SetUpTestSuite() {
    if (std::getenv("CDMF_TEST_NAMESPACES") != nullptr) namespaces_ = std::make_unique<Namespaces>();
  }
  static void TearDownTestSuite() { namespaces_.reset(); }

  void SetUp() override {
    if (namespaces_ != nullptr && !namespaces_->exist())
      GTEST_SKIP() << "no network namespaces: needs root, `ip`, veth";
    if (std::string(GetParam()) != "grpc") return;
    const std::string command = std::string(std::getenv("CDMF_MAKE_CERTIFICATES")) + " '" + folder_.path("tls") + "'";
    EXPECT_EQ(std::system(command.c_str()), 0);
  }

  std::string middle(const char* side) const {
    if (std::string(GetParam()) != "grpc") return entry("middle", GetParam());
    const auto file = [&](const char* end) { return folder_.path(std::string("tls/") + side + end); };
    return entry("middle", "grpc",
                 ", grpc: { " + (namespaces_ == nullptr ? "" : between_machines(side)) + "tls_ca: " +
                     folder_.path("tls/ca.pem") + ", tls_cert: " + file(".pem") + ", tls_key: " + file(".key") + " }");
  }
  static std::string between_machines(const std::string& side) {
    const std::string address = "address: \"" + Namespaces::address(1) + ":7443\", ";
    return side == "client" ? address + "tls_server_name: localhost, " : address;
  }
  /// Host A is on one machine and host B on the other, if there are two.
  std::unique_ptr<Program> start(const char* name, const std::string& file) {
    if (namespaces_ == nullptr) return OneHost::start(name, file);
    const Namespaces::Visit there(*namespaces_, name[0] - 'a');
    EXPECT_TRUE(there.arrived());
    return OneHost::start(name, file);
  }
  std::string file_a(const std::string& options) const {
    return folder_.write("a.yaml", "version: 1\ntransports:\n" + entry("front", "shm") + middle("client") +
                                       "routes:\n  - { from: front, to: middle" + options + " }\n");
  }
  std::string file_b(const std::string& options) const {
    return folder_.write("b.yaml", "version: 1\ntransports:\n" + middle("server") + entry("back", "unix_socket") +
                                       "routes:\n  - { from: middle, to: back" + options + " }\n");
  }

  static inline std::unique_ptr<Namespaces> namespaces_;
};

TEST_P(Routes, CallsGoThereAndTheirAnswersFindBackOverTwoHosts) {
  const std::string a = file_a("");
  const std::string b = file_b("");
  ServiceStub stub(make(b, "back", Role::SERVER));
  ASSERT_TRUE(stub.on("echo", [](IncomingCall& call) { (void)call.reply(call.payload()); }).success());
  ASSERT_TRUE(stub.on("fail", [](IncomingCall& call) { (void)call.fail(7, "no"); }).success());
  ASSERT_TRUE(stub.start().success());
  const auto host_b = start("b", b);
  const auto host_a = start("a", a);
  std::vector<std::thread> callers;
  std::atomic<int> right{0};
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&, c] {
      ServiceProxy proxy(make(a, "front", Role::CLIENT));
      ASSERT_TRUE(proxy.start().success());
      for (int i = 0; i < 100; ++i) {
        const std::string text = std::to_string(c) + ":" + std::to_string(i);
        const auto reply = proxy.call("echo", text, 60s);
        ASSERT_TRUE(reply.success()) << reply.text();
        right += std::string(reinterpret_cast<const char*>(reply.value.data()), reply.value.size()) == text;
      }
      const auto failed = proxy.call("fail", "", 60s);
      EXPECT_EQ(failed.status, CallStatus::APPLICATION_ERROR);
      EXPECT_EQ(failed.code, 7u);
      EXPECT_EQ(proxy.call("ecko", "", 60s).status, CallStatus::NOT_SENT);
      // Of the service, not of the hosts on the way; their own state has a subject of its own.
      const auto methods = proxy.call<std::string>("cdmf.introspect", std::string(), 60s);
      EXPECT_TRUE(contains(methods.value, "\"name\":\"echo\"")) << methods.text() << methods.value;
      const auto routes = routes_of(proxy);
      EXPECT_TRUE(contains(routes.value, "\"from\":\"front\",\"to\":\"middle\"")) << routes.text() << routes.value;
    });
  }
  for (auto& each : callers) each.join();
  EXPECT_EQ(right, 300);
  const std::string report = stop(*host_a);
  EXPECT_TRUE(contains(report, "route front -> middle: 309 messages passed on, 0 back")) << report;
  EXPECT_TRUE(contains(report, " 309 answers; 0 dropped, 0 refused, 0 unanswered, 0 looped")) << report;
  EXPECT_TRUE(contains(stop(*host_b), "route middle -> back: 309 messages passed on"));
}

/// Notes the ids that arrive over `back`.
class Sink {
 public:
  explicit Sink(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {
    transport_->setViewCallback([this](const MessageView& message) {
      while (closed_) std::this_thread::sleep_for(1ms);
      const std::lock_guard lock(mutex_);
      ids_.push_back(message.id);
      hops_ = message.hops;
      if (message.text() != std::string(message.id % 700, 'x') || message.subject != "orders.new") wrong_ = true;
    });
    open(*transport_);
  }
  ~Sink() { close(false); }
  void close(bool yes) { closed_ = yes; }
  [[nodiscard]] std::size_t count() const {
    const std::lock_guard lock(mutex_);
    return ids_.size();
  }
  [[nodiscard]] std::uint64_t last() const {
    const std::lock_guard lock(mutex_);
    return ids_.empty() ? 0 : ids_.back();
  }
  [[nodiscard]] std::vector<std::uint64_t> ids() const {
    const std::lock_guard lock(mutex_);
    return ids_;
  }
  [[nodiscard]] int hops() const { return hops_; }
  [[nodiscard]] bool wrong() const { return wrong_; }

 private:
  mutable std::mutex mutex_;
  std::vector<std::uint64_t> ids_;
  std::atomic<int> hops_{0};
  std::atomic<bool> wrong_{false};
  std::atomic<bool> closed_{false};
  std::unique_ptr<Transport> transport_;  // Last: its callback uses what is above.
};

TransportResult<> send_order(Transport& client, std::uint64_t id, std::chrono::nanoseconds timeout = kWatchdog) {
  const std::string payload(id % 700, 'x');
  MessageView message;
  message.subject = "orders.new";
  message.id = id;
  message.payload = std::as_bytes(std::span(payload));
  return client.send(message, {.timeout = timeout});
}

TEST_P(Routes, EventsArriveInOrderAndAllAndBackPressureReachesTheSender) {
  const std::string a = file_a("");
  const std::string b = file_b("");
  Sink sink(make(b, "back", Role::SERVER));
  const auto host_b = start("b", b);
  const auto host_a = start("a", a);
  const auto client = make(a, "front", Role::CLIENT);
  open(*client);
  sink.close(true);
  std::uint64_t sent = 0;
  // Everything between here and there is bounded: at last the sender itself hears of the closed sink.
  for (auto last = std::chrono::steady_clock::now(); std::chrono::steady_clock::now() - last < 500ms;) {
    ASSERT_LT(sent, 1'000'000u) << "something on the way has no bound";
    const auto result = send_order(*client, sent + 1, 50ms);
    if (!result) {
      ASSERT_EQ(result.error, TransportError::TIMEOUT) << result.text();
      continue;
    }
    ++sent;
    last = std::chrono::steady_clock::now();
  }
  sink.close(false);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(send_order(*client, ++sent).success());
  ASSERT_TRUE(eventually([&] { return sink.count() == sent; })) << sink.count() << " of " << sent;
  const auto ids = sink.ids();
  for (std::uint64_t i = 0; i < ids.size(); ++i) ASSERT_EQ(ids[i], i + 1);
  EXPECT_FALSE(sink.wrong());
  EXPECT_EQ(sink.hops(), 2);
}

TEST_P(Routes, AHostThatIsKilledMidwayLosesOneStretchAndTheRestArrives) {
  const std::string a = file_a("");
  const std::string b = file_b("");
  Sink sink(make(b, "back", Role::SERVER));
  auto host_b = start("b", b);
  const auto host_a = start("a", a);
  const auto client = make(a, "front", Role::CLIENT);
  open(*client);
  std::uint64_t sent = 0;
  while (sent < 3000) ASSERT_TRUE(send_order(*client, ++sent).success());
  ASSERT_TRUE(eventually([&] { return sink.count() >= 1000; }));
  ServiceProxy asks(make(a, "front", Role::CLIENT));
  ASSERT_TRUE(asks.start().success());
  const auto counts = [](const std::string& json, const std::string& name) {
    const std::string key = "\"" + name + "\":";
    return std::stoull(json.substr(json.rfind(key) + key.size()));  // Of the last transport, the middle.
  };
  ASSERT_TRUE(eventually([&] { return counts(routes_of(asks).value, "hosts") == 1; }));
  std::thread killer([&] { kill(host_b->pid(), SIGKILL); });
  while (sent < 6000) ASSERT_TRUE(send_order(*client, ++sent).success());
  killer.join();
  host_b->wait();
  // Nobody takes anything now; host A keeps what it has, and the sender feels it when that is much.
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(send_order(*client, ++sent).success());
  host_b = start("b", b);
  while (sent < 9000) ASSERT_TRUE(send_order(*client, ++sent).success());
  ASSERT_TRUE(eventually([&] { return sink.last() == sent; })) << sink.last() << " of " << sent;
  const auto ids = sink.ids();
  std::uint64_t stretches = 0;
  std::uint64_t missing = 0;
  std::uint64_t before = 0;
  for (const std::uint64_t id : ids) {
    ASSERT_GT(id, before) << "out of order, or twice";
    stretches += id != before + 1;
    missing += id - before - 1;
    before = id;
  }
  EXPECT_LE(stretches, 1u);
  EXPECT_FALSE(sink.wrong());
  const auto stats = routes_of(asks);
  ASSERT_TRUE(stats.success()) << stats.text();
  EXPECT_TRUE(contains(stats.value, "\"forwarded\":" + std::to_string(sent))) << stats.value;
  // Host A counts all of it, though what host B had taken and not passed on is gone with host B.
  EXPECT_GE(counts(stats.value, "lost"), missing) << host_a->errors();
  std::printf("%llu of %llu messages lost at the kill, %llu counted\n", static_cast<unsigned long long>(missing),
              static_cast<unsigned long long>(sent), counts(stats.value, "lost"));
}

TEST_P(Routes, RequestsOnTheirWayThroughAKilledHostEndAsUnknownAndLaterOnesWait) {
  const std::string a = file_a("");
  const std::string b = file_b("");
  ServiceStub stub(make(b, "back", Role::SERVER));
  std::mutex mutex;
  std::vector<DeferredCall> kept;
  ASSERT_TRUE(stub.on("keep",
                      [&](IncomingCall& call) {
                        const std::lock_guard lock(mutex);
                        kept.push_back(call.defer());
                      })
                  .success());
  ASSERT_TRUE(stub.on("echo", [](IncomingCall& call) { (void)call.reply(call.payload()); }).success());
  ASSERT_TRUE(stub.start().success());
  auto host_b = start("b", b);
  const auto host_a = start("a", a);
  ServiceProxy proxy(make(a, "front", Role::CLIENT));
  ASSERT_TRUE(proxy.start().success());
  auto answer = proxy.callAsync("keep", "", kWatchdog);
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex);
    return kept.size() == 1;
  }));
  kill(host_b->pid(), SIGKILL);
  host_b->wait();
  const auto ended = answer.get();
  EXPECT_EQ(ended.status, CallStatus::UNKNOWN);
  EXPECT_TRUE(contains(ended.error_message, "whose link then ended")) << ended.text();
  const auto late = proxy.call("echo", "", 200ms);  // Waits in host A, as `block` says, longer than the caller does.
  EXPECT_EQ(late.status, CallStatus::UNKNOWN);
  EXPECT_EQ(late.error, TransportError::TIMEOUT);
  auto patient = proxy.callAsync("echo", "still there", kWatchdog);
  host_b = start("b", b);
  const auto reply = patient.get();
  EXPECT_TRUE(reply.success()) << reply.text();
}

TEST_P(Routes, FailTellsTheCallerAndEndsTheLinkOfWhoeverCannotBeTold) {
  const std::string a = file_a(", when_down: fail");
  const auto host_a = start("a", a);
  ServiceProxy proxy(make(a, "front", Role::CLIENT));
  ASSERT_TRUE(proxy.start().success());
  const auto refused = proxy.call("echo", "", 60s);
  EXPECT_EQ(refused.status, CallStatus::NOT_SENT);
  EXPECT_EQ(refused.error, TransportError::NOT_CONNECTED);
  EXPECT_TRUE(contains(refused.error_message, "'middle' is down")) << refused.text();
  const auto client = make(a, "front", Role::CLIENT);
  std::atomic<bool> gone{false};
  client->setPeerCallback([&](const PeerEvent& event) {
    if (event.kind == PeerEvent::Kind::DISCONNECTED) gone = true;
  });
  open(*client);
  ASSERT_TRUE(send_order(*client, 1).success());
  EXPECT_TRUE(eventually([&] { return gone.load(); }));
  const std::string report = stop(*host_a);
  EXPECT_TRUE(contains(report, "route front -> middle: 0 messages passed on")) << report;
  EXPECT_TRUE(contains(report, " 0 dropped, 2 refused")) << report;
}

TEST_P(Routes, DropNewestCountedCountsWhatItDropsAndHoldsNobodyUp) {
  const std::string a = file_a(", when_down: drop_newest_counted");
  const std::string b = file_b("");
  const auto host_a = start("a", a);
  const auto client = make(a, "front", Role::CLIENT);
  open(*client);
  for (std::uint64_t id = 1; id <= 5000; ++id) ASSERT_TRUE(send_order(*client, id).success());
  ServiceProxy asks(make(a, "front", Role::CLIENT));
  ASSERT_TRUE(asks.start().success());
  const auto stats = [&] { return routes_of(asks).value; };
  EXPECT_TRUE(eventually([&] { return contains(stats(), "\"dropped\":5000"); })) << stats();
  EXPECT_EQ(asks.call("echo", "", 60s).status, CallStatus::NOT_SENT);
  Sink sink(make(b, "back", Role::SERVER));
  const auto host_b = start("b", b);
  ASSERT_TRUE(eventually([&] { return contains(stats(), "\"name\":\"middle\",\"peers\":1"); })) << stats();
  ASSERT_TRUE(send_order(*client, 5001).success());
  EXPECT_TRUE(eventually([&] { return sink.last() == 5001; }));
}

TEST_P(Routes, BothWaysCarriesEventsBack) {
  const std::string a = file_a(", both_ways: true");
  const std::string b = file_b(", both_ways: true");
  const auto server = make(b, "back", Role::SERVER);
  open(*server);
  const auto host_b = start("b", b);
  const auto host_a = start("a", a);
  // A client that is connected may not be known to the host yet. From the first event that it hears on it hears all.
  struct Listener {
    std::atomic<std::uint64_t> first{0};
    std::atomic<std::uint64_t> last{0};
    std::atomic<bool> missed{false};
    std::unique_ptr<Transport> transport;
  };
  std::array<Listener, 2> listeners;
  for (Listener& each : listeners) {
    each.transport = make(a, "front", Role::CLIENT);
    each.transport->setViewCallback([&each](const MessageView& message) {
      if (each.first == 0) each.first = message.id;
      if (each.last.exchange(message.id) + 1 != message.id && each.first != message.id) each.missed = true;
    });
    open(*each.transport);
  }
  const auto all = [&](const auto& heard) { return std::all_of(listeners.begin(), listeners.end(), heard); };
  ASSERT_TRUE(eventually([&] { return server->getPeers().size() == 1; }));
  std::uint64_t sent = 0;
  ASSERT_TRUE(eventually([&] {
    return send_order(*server, ++sent).success() && all([](const Listener& each) { return each.first != 0; });
  }));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(send_order(*server, ++sent).success());
  EXPECT_TRUE(eventually([&] { return all([&](const Listener& each) { return each.last == sent; }); }))
      << listeners[0].last << " and " << listeners[1].last << " of " << sent;
  EXPECT_TRUE(all([](const Listener& each) { return !each.missed; }));
}

TEST_P(Routes, AClientThatDoesNotTakeItsEventsKeepsNothingBackThatOthersWereGivenBefore) {
  const std::string a = file_a(", both_ways: true");
  const std::string b = file_b(", both_ways: true");
  const auto server = make(b, "back", Role::SERVER);
  open(*server);
  const auto host_b = start("b", b);
  const auto host_a = start("a", a);
  std::atomic<std::uint64_t> quick_has{0};
  std::atomic<bool> slow_is_here{false};
  std::atomic<bool> go_on{false};
  const auto quick = make(a, "front", Role::CLIENT);
  quick->setViewCallback([&](const MessageView&) { ++quick_has; });
  open(*quick);
  ASSERT_TRUE(eventually([&] { return server->getPeers().size() == 1; }));
  ASSERT_TRUE(eventually([&] { return send_order(*server, 1).success() && quick_has != 0; }));
  const auto slow = make(a, "front", Role::CLIENT);  // Known to the host behind the other one.
  slow->setViewCallback([&](const MessageView&) {
    slow_is_here = true;
    while (!go_on) std::this_thread::sleep_for(1ms);
  });
  const std::unique_ptr<void, std::function<void(void*)>> in_the_end(&go_on, [&](void*) { go_on = true; });
  open(*slow);
  ASSERT_TRUE(eventually([&] { return send_order(*server, 1).success() && slow_is_here; }));
  while (send_order(*server, 699, 500ms).success()) continue;  // Everything on the way is full now.
  ServiceProxy asks(make(a, "front", Role::CLIENT));
  ASSERT_TRUE(asks.start().success());
  const std::string key = "\"forwarded_back\":";
  const std::string json = routes_of(asks).value;
  ASSERT_TRUE(contains(json, "\"waiting\":true")) << json;
  // All that were given to both, and the one that waits for the slow client.
  const std::uint64_t whole = std::stoull(json.substr(json.find(key) + key.size()));
  EXPECT_TRUE(eventually([&] { return quick_has == whole + 1; })) << quick_has << " of " << whole << " + 1";
}

TEST_P(Routes, WhatNoRouteMatchesIsCountedAndACallerIsTold) {
  const std::string a = file_a(", match: \"orders.*\"");
  const auto host_a = start("a", a);
  ServiceProxy proxy(make(a, "front", Role::CLIENT));
  ASSERT_TRUE(proxy.start().success());
  const auto refused = proxy.call("bills.new", "", 60s);
  EXPECT_EQ(refused.status, CallStatus::NOT_SENT);
  EXPECT_EQ(refused.error, TransportError::UNSUPPORTED);
  EXPECT_TRUE(contains(refused.error_message, "no route from here matches 'bills.new'")) << refused.text();
  ASSERT_TRUE(proxy.callOneWay("bills.new", "").success());
  EXPECT_TRUE(eventually([&] { return contains(routes_of(proxy).value, "\"unmatched\":2"); }));
  EXPECT_TRUE(contains(host_a->errors(), "no route matches subject 'bills.new'")) << host_a->errors();
}

#ifdef CDMF_TEST_GRPC
const auto kMiddles = ::testing::Values("unix_socket", "grpc");
#else
const auto kMiddles = ::testing::Values("unix_socket");
#endif
INSTANTIATE_TEST_SUITE_P(Over, Routes, kMiddles, [](const auto& parameter) { return std::string(parameter.param); });

TEST_F(OneHost, ThatLeadInACircleEndAndTellTheCaller) {
  // `loop` is a client of `middle` in the same host, and `middle` leads to `loop`.
  const std::string file = folder_.write(
      "circle.yaml", "version: 1\ntransports:\n" + entry("front", "shm") + entry("middle", "unix_socket") +
                         "  loop: { type: unix_socket, endpoint: " + endpoint("middle") +
                         ", role: client }\n"
                         "routes:\n"
                         "  - { from: front, to: loop }\n"
                         "  - { from: middle, to: loop }\n");
  const auto host = start("circle", file);
  ServiceProxy proxy(make(file, "front", Role::CLIENT));
  ASSERT_TRUE(proxy.start().success());
  const auto ended = proxy.call("echo", "round and round", 60s);
  EXPECT_EQ(ended.status, CallStatus::NOT_SENT) << ended.text();
  EXPECT_TRUE(contains(ended.error_message, "lead back")) << ended.text();
  ASSERT_TRUE(proxy.callOneWay("echo", "").success());
  EXPECT_TRUE(eventually([&] { return contains(routes_of(proxy).value, "\"looped\":2"); }));
  EXPECT_TRUE(contains(host->errors(), "lead back to where they come from")) << host->errors();
}

TEST_F(OneHost, WhatIsTooLargeForTheOtherSideIsRefused) {
  // The file says one size for both; the server behind the route allows less than that.
  const std::string small = folder_.write(
      "small.yaml", "version: 1\ntransports:\n" + entry("middle", "unix_socket", ", max_message_size: 1KiB"));
  ServiceStub stub(make(small, "middle", Role::SERVER));
  ASSERT_TRUE(stub.on("echo", [](IncomingCall& call) { (void)call.reply(call.payload()); }).success());
  ASSERT_TRUE(stub.start().success());
  const std::string file = folder_.write(
      "large.yaml", "version: 1\ntransports:\n" + entry("front", "unix_socket", ", max_message_size: 1KiB") +
                        entry("middle", "unix_socket", ", max_message_size: 1KiB") +
                        "routes:\n  - { from: front, to: middle, when_down: fail }\n");
  const auto host = start("large", file);
  ServiceProxy proxy(make(file, "front", Role::CLIENT));
  ASSERT_TRUE(proxy.start().success());
  ASSERT_TRUE(eventually([&] { return proxy.call("echo", std::string(1024, 'x'), 60s).success(); }));
  EXPECT_EQ(proxy.call("echo", std::string(1025, 'x'), 60s).error, TransportError::BUFFER_OVERFLOW);
}

TEST_F(OneHost, AreCheckedWithTheFile) {
  const std::string transports =
      "version: 1\ntransports:\n" + entry("front", "shm") + entry("middle", "unix_socket") + "routes:\n";
  const auto right =
      run(folder_,
          {"check", folder_.write("right.yaml", transports + "  - { from: front, to: middle, both_ways: true }\n")});
  EXPECT_EQ(right.code, 0) << right.errors;
  EXPECT_TRUE(contains(right.output, "ok: route front <-> middle for *")) << right.output;
  const auto wrong =
      run(folder_, {"check", folder_.write("wrong.yaml", transports + "  - { from: front, to: midle }\n")});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_TRUE(contains(wrong.errors, "wrong.yaml:6:24: routes[0].to: 'midle' is no transport of this file; did you"))
      << wrong.errors;
}

TEST_F(OneHost, OtherTransportsOfTheFileStillAnswerCalls) {
  const std::string file =
      folder_.write("mixed.yaml", "version: 1\ntransports:\n" + entry("front", "shm") + entry("middle", "unix_socket") +
                                      entry("own", "unix_socket") + "routes: [{ from: front, to: middle }]\n");
  const auto host = start("mixed", file);
  EXPECT_EQ(run(folder_, {"call", file, "echo", "hello", "--transport", "own"}).output, "hello");
  EXPECT_TRUE(contains(run(folder_, {"call", file, "cdmf.routes", "--transport", "front"}).output, "\"routes\":["));
  EXPECT_TRUE(contains(stop(*host), "own: received 1 messages"));
}

TEST_F(OneHost, RequestsTakeTurnsAndEventsGoToAllWhereSeveralAreConnected) {
  const std::string file = folder_.write("work.yaml", "version: 1\ntransports:\n" + entry("front", "shm") +
                                                          entry("middle", "unix_socket", ", role: server") +
                                                          "routes: [{ from: front, to: middle }]\n");
  const std::string workers_file =
      folder_.write("workers.yaml", "version: 1\ntransports:\n" + entry("middle", "unix_socket"));
  const auto host = start("work", file);
  std::vector<std::unique_ptr<Transport>> workers;
  std::atomic<int> requests[3] = {};
  std::atomic<int> events{0};
  for (int w = 0; w < 3; ++w) {
    workers.push_back(make(workers_file, "middle", Role::CLIENT));
    Transport& worker = *workers.back();
    worker.setViewCallback([&, w](const MessageView& message) {
      if (message.type != MessageType::REQUEST) return void(++events);
      ++requests[w];
      MessageView answer;
      answer.type = MessageType::RESPONSE;
      answer.payload = message.payload;
      (void)worker.reply(message, answer);
    });
    open(worker);
  }
  ServiceProxy proxy(make(file, "front", Role::CLIENT));
  ASSERT_TRUE(proxy.start().success());
  ASSERT_TRUE(eventually([&] { return contains(routes_of(proxy).value, "\"name\":\"middle\",\"peers\":3"); }));
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(proxy.call("work", "x", 60s).success());
  for (const auto& each : requests) EXPECT_EQ(each, 10);
  const auto client = make(file, "front", Role::CLIENT);
  open(*client);
  ASSERT_TRUE(send_order(*client, 1).success());
  EXPECT_TRUE(eventually([&] { return events == 3; }));
}

}  // namespace
}  // namespace cdmf::ipc::test
