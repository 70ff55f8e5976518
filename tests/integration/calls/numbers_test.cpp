// Methods by number, against a server and a client that speak the messages of rpc/wire.h themselves.
#include <condition_variable>
#include <deque>
#include <mutex>
#include <vector>

#include "calls/client.h"

namespace cdmf::ipc::calls {
namespace {

constexpr std::uint8_t kOneWay = 1;
constexpr std::uint8_t kTellNumber = 2;

std::string telling(char number) { return std::string("cdmf.number=") + number; }

/// One end of a link, without a proxy or a stub.
class Bare {
 public:
  Bare(Role role, const std::string& endpoint) : transport_(make_transport(role, endpoint, Receive::THREAD)) {
    transport_->setMessageCallback([this](MessagePtr message) {
      const std::lock_guard lock(mutex_);
      came_.push_back(std::move(*message));
      changed_.notify_all();
    });
    EXPECT_TRUE(transport_->start().success());
    const auto connected = transport_->connect();
    EXPECT_TRUE(connected.success()) << connected.text();
  }
  ~Bare() { transport_->stop(); }

  /// The next message; one of id 0 when none comes.
  Message next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kWatchdog, [this] { return !came_.empty(); })) return Message();
    Message message = std::move(came_.front());
    came_.pop_front();
    return message;
  }
  /// Whether there is a next message, once those of this peer are dropped.
  bool came_from_another_than(PeerId peer) {
    const std::lock_guard lock(mutex_);
    std::erase_if(came_, [&](const Message& message) { return message.getPeer() == peer; });
    return !came_.empty();
  }
  void answer(const Message& request, std::string_view subject) {
    Message reply(MessageType::RESPONSE);
    reply.setId(request.getId());
    reply.setSubject(subject);
    EXPECT_TRUE(transport_->send(reply, {.peer = request.getPeer()}).success());
  }
  Message ask(std::string_view method, std::uint8_t flags, std::uint8_t hops = 0) {
    MessageView request{.type = MessageType::REQUEST, .flags = flags, .hops = hops, .id = ++last_id_};
    request.subject = method;
    EXPECT_TRUE(transport_->send(request).success());
    Message answer = next();
    EXPECT_EQ(answer.getId(), last_id_);
    return answer;
  }
  Transport& transport() { return *transport_; }

 private:
  std::unique_ptr<Transport> transport_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Message> came_;
  std::uint64_t last_id_ = 0;
};

class Numbers : public testing::Test {
 protected:
  Numbers() {
    static int count = 0;
    endpoint_ = "/cdmf_numbers_" + std::to_string(getpid()) + "_" + std::to_string(count++);
  }
  /// A proxy whose server is a Bare.
  void connect(Bare& server) {
    ProxyOptions options;
    options.timeout = kWatchdog;
    proxy_ = std::make_unique<ServiceProxy>(make_transport(Role::CLIENT, endpoint_, subject().receive), options);
    const auto started = proxy_->start();
    ASSERT_TRUE(started.success()) << started.text();
    server_ = &server;
  }
  /// Calls, and answers with that subject. returns  the request.
  Message call(std::string_view method, std::string_view subject_of_reply) {
    auto end = proxy_->callAsync(method, "");
    Message request = server_->next();
    server_->answer(request, subject_of_reply);
    EXPECT_TRUE(Calls::wait_until(*proxy_, [&] { return end.wait_for(0s) == std::future_status::ready; }));
    const auto reply = end.get();
    EXPECT_TRUE(reply.success()) << reply.text();
    return request;
  }
  void expect_by_name(const Message& request, std::string_view name) {
    EXPECT_EQ(request.getSubject(), name);
    EXPECT_EQ(request.getFlags(), kTellNumber);
  }
  void expect_by_number(const Message& request, int number) {
    EXPECT_EQ(request.getSubject(), "");
    EXPECT_EQ(request.getFlags(), number << 1);
  }

  std::string endpoint_;
  Bare* server_ = nullptr;
  std::unique_ptr<ServiceProxy> proxy_;
};

TEST_F(Numbers, AProxyUsesTheNumberThatItWasTold) {
  Bare server(Role::SERVER, endpoint_);
  connect(server);
  expect_by_name(call("first", telling(5)), "first");
  expect_by_number(call("first", ""), 5);
  expect_by_name(call("second", telling(127)), "second");
  expect_by_number(call("second", ""), 127);
  expect_by_number(call("first", ""), 5);
  ASSERT_TRUE(proxy_->callOneWay("first", "").success());
  EXPECT_EQ(server.next().getFlags(), 5 << 1 | kOneWay);
}

TEST_F(Numbers, AServerThatTellsNoneIsCalledByName) {
  Bare server(Role::SERVER, endpoint_);
  connect(server);
  for (const std::string& nothing : {std::string(), std::string("echo"), telling(0), telling('\x80'),
                                     std::string("cdmf.number="), telling(5) + "5"}) {
    expect_by_name(call("echo", nothing), "echo");
  }
  expect_by_name(call("echo", ""), "echo");
}

TEST_F(Numbers, ANumberIsForgottenWithItsLink) {
  Bare server(Role::SERVER, endpoint_);
  connect(server);
  const Message old = call("first", telling(1));
  expect_by_number(call("first", ""), 1);
  ASSERT_TRUE(server.transport().disconnectPeer(old.getPeer()).success());
  // Until the link is there again, calls are not sent, or end with the old one.
  const auto end = std::chrono::steady_clock::now() + kWatchdog;
  std::vector<std::future<CallResult<>>> calls;
  while (!server.came_from_another_than(old.getPeer()) && std::chrono::steady_clock::now() < end) {
    calls.push_back(proxy_->callAsync("first", ""));
    Calls::wait_until(*proxy_, [&] {
      return calls.back().wait_for(0s) == std::future_status::ready || server.came_from_another_than(old.getPeer());
    });
  }
  expect_by_name(server.next(), "first");
}

class StubNumbers : public Numbers {
 protected:
  ~StubNumbers() override { stop(); }
  void make() {
    transport_ = make_transport(Role::SERVER, endpoint_, subject().receive);
    renew();
  }
  /// Another stub on the same Transport and its links.
  void renew() {
    stop();
    stub_ = std::make_unique<ServiceStub>(*transport_);
  }
  void on(const std::string& name) {
    ASSERT_TRUE(stub_->on(name, [](IncomingCall& call) { (void)call.reply(call.method()); }).success());
  }
  void start() {
    const auto started = stub_->start();
    ASSERT_TRUE(started.success()) << started.text();
    if (subject().receive == Receive::POLL) {
      thread_ = std::thread([stub = stub_.get()] { (void)stub->serve(); });
    }
  }
  void stop() {
    if (stub_ != nullptr) {
      EXPECT_TRUE(stub_->stop().success());
    }
    if (thread_.joinable()) {
      transport_->interrupt();
      thread_.join();
    }
    stub_.reset();
  }
  static int number_in(const Message& reply) {
    const std::string& told = reply.getSubject();
    return told.size() == telling(1).size() && told.starts_with("cdmf.number=") ? told.back() : 0;
  }
  static std::uint8_t by(int number) { return static_cast<std::uint8_t>(number << 1); }

  std::unique_ptr<Transport> transport_;
  std::unique_ptr<ServiceStub> stub_;
  std::thread thread_;
};

TEST_F(StubNumbers, AStubTellsThemWhenAskedAndTakesThem) {
  make();
  on("a");
  on("b");
  start();
  Bare client(Role::CLIENT, endpoint_);
  EXPECT_EQ(client.ask("a", 0).getSubject(), "") << "told without being asked";
  const int a = number_in(client.ask("a", kTellNumber));
  const int b = number_in(client.ask("b", kTellNumber));
  ASSERT_NE(a, 0);
  ASSERT_NE(b, 0);
  EXPECT_NE(a, b);
  EXPECT_EQ(client.ask("", by(a)).getPayloadText(), "a");
  EXPECT_EQ(client.ask("", by(b)).getPayloadText(), "b");
  EXPECT_EQ(client.ask("", by(b)).getSubject(), "");
}

TEST_F(StubNumbers, ANumberThatWasGivenToNobodyIsRefused) {
  make();
  on("a");
  start();
  Bare client(Role::CLIENT, endpoint_);
  const Message refused = client.ask("", by(126));
  EXPECT_EQ(refused.getType(), MessageType::ERROR);
  EXPECT_EQ(refused.getPayloadText(), "no method has number 126 here");
  EXPECT_EQ(client.ask("a", 0).getPayloadText(), "a");
}

TEST_F(StubNumbers, RequestsThatCameByARouteAreToldNoneAndMayUseNone) {
  make();
  on("a");
  start();
  Bare client(Role::CLIENT, endpoint_);
  EXPECT_EQ(client.ask("a", kTellNumber, 1).getSubject(), "");
  const int a = number_in(client.ask("a", kTellNumber));
  ASSERT_NE(a, 0);
  EXPECT_EQ(client.ask("", by(a), 1).getType(), MessageType::ERROR);
}

TEST_F(StubNumbers, ANumberMeansTheSameMethodToTheNextStub) {
  make();
  on("a");
  start();
  Bare client(Role::CLIENT, endpoint_);
  const int a = number_in(client.ask("a", kTellNumber));
  ASSERT_NE(a, 0);
  renew();
  on("another");
  start();
  ASSERT_NE(number_in(client.ask("another", kTellNumber)), a);
  EXPECT_EQ(client.ask("", by(a)).getType(), MessageType::ERROR) << "this stub has no method a";
  renew();
  on("another");
  on("a");
  start();
  EXPECT_EQ(client.ask("", by(a)).getPayloadText(), "a");
}

}  // namespace
}  // namespace cdmf::ipc::calls
