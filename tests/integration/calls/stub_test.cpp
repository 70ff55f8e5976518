// A stub in this process: what it refuses, how it ends, and what its handlers may do to it.
#include <atomic>
#include <latch>
#include <thread>

#include "calls/client.h"

namespace cdmf::ipc::calls {
namespace {

class Stub : public testing::Test {
 protected:
  Stub() {
    static std::atomic<int> count{0};
    endpoint_ = "/cdmf_stub_" + std::to_string(getpid()) + "_" + std::to_string(count++);
  }
  ~Stub() override {
    if (thread_.joinable()) {
      if (stub_ != nullptr) (void)stub_->stop(0s);
      thread_.join();
    }
  }

  void make(StubOptions options = {}, Senders senders = Senders::MANY) {
    stub_ = std::make_unique<ServiceStub>(make_transport(Role::SERVER, endpoint_, subject().receive, senders),
                                          std::move(options));
  }
  void start() {
    const auto started = stub_->start();
    ASSERT_TRUE(started.success()) << started.text();
    if (subject().receive == Receive::POLL) {
      thread_ = std::thread([stub = stub_.get()] { (void)stub->serve(); });
    }
  }
  std::unique_ptr<ServiceProxy> connect() {
    auto proxy = std::make_unique<ServiceProxy>(make_transport(Role::CLIENT, endpoint_, Receive::THREAD));
    const auto started = proxy->start();
    EXPECT_TRUE(started.success()) << started.text();
    return proxy;
  }

  std::string endpoint_;
  std::atomic<int> lost_{0};  // Answers. Before the stub, which may count until it is gone.
  std::unique_ptr<ServiceStub> stub_;
  std::thread thread_;
};

TEST_F(Stub, RefusesNamesThatCannotBeCalled) {
  make();
  const auto handler = [](IncomingCall& call) { (void)call.reply(); };
  EXPECT_TRUE(stub_->on("good", handler).success());
  EXPECT_TRUE(stub_->on(std::string(256, 'n'), handler).success());
  for (const std::string& bad : {std::string(), std::string(257, 'n'), std::string("good"), std::string("cdmf.own")}) {
    const auto named = stub_->on(bad, handler);
    EXPECT_EQ(named.error, TransportError::INVALID_ARGUMENT) << bad;
    EXPECT_NE(named.error_message.find("method '"), std::string::npos) << named.text();
  }
  EXPECT_EQ(stub_->on("empty", ServiceStub::Handler()).error, TransportError::INVALID_ARGUMENT);
  start();
  EXPECT_EQ(stub_->on("late", handler).error, TransportError::INVALID_ARGUMENT);
}

TEST_F(Stub, WithOneSenderHasNoPool) {
  make({}, Senders::ONE);
  ASSERT_TRUE(stub_
                  ->on(
                      "pooled", [](IncomingCall&) {}, RunOn::POOL)
                  .success());
  EXPECT_EQ(stub_->start().error, TransportError::INVALID_CONFIG);
}

TEST_F(Stub, OptionsOutOfRangeAreRefused) {
  StubOptions options;
  options.pool_threads = 0;
  make(options);
  ASSERT_TRUE(stub_
                  ->on(
                      "pooled", [](IncomingCall&) {}, RunOn::POOL)
                  .success());
  EXPECT_EQ(stub_->start().error, TransportError::INVALID_CONFIG);
  for (const std::size_t in_flight : {std::size_t{0}, (std::size_t{1} << 20) + 1}) {
    ProxyOptions wrong;
    wrong.max_in_flight = in_flight;
    ServiceProxy proxy(make_transport(Role::CLIENT, endpoint_, subject().receive), wrong);
    EXPECT_EQ(proxy.start().error, TransportError::INVALID_CONFIG) << in_flight;
  }
  ProxyOptions never;
  never.timeout = 0s;
  ServiceProxy proxy(make_transport(Role::CLIENT, endpoint_, subject().receive), never);
  EXPECT_EQ(proxy.start().error, TransportError::INVALID_CONFIG);
}

TEST_F(Stub, AProxyOverAServerIsRefused) {
  ServiceProxy proxy(make_transport(Role::SERVER, endpoint_, subject().receive));
  EXPECT_EQ(proxy.start().error, TransportError::INVALID_ARGUMENT);
}

TEST_F(Stub, StoppingWaitsForOpenCallsAndRefusesNewOnes) {
  make();
  std::latch entered(1);
  std::atomic<bool> leave{false};
  ASSERT_TRUE(stub_
                  ->on(
                      "slow",
                      [&](IncomingCall& call) {
                        entered.count_down();
                        while (!leave) std::this_thread::sleep_for(1ms);
                        (void)call.reply("done");
                      },
                      RunOn::POOL)
                  .success());
  ASSERT_TRUE(stub_->on("fast", [](IncomingCall& call) { (void)call.reply(); }).success());
  start();
  const auto client = connect();
  auto slow = client->callAsync("slow", "");
  entered.wait();
  std::thread stopper([&] { EXPECT_TRUE(stub_->stop(kWatchdog).success()); });
  CallResult<> refused;
  do refused = client->call("fast", "");
  while (refused.success());
  EXPECT_EQ(refused.status, CallStatus::NOT_SENT) << refused.text();
  EXPECT_EQ(refused.error, TransportError::CONNECTION_CLOSED) << refused.text();
  leave = true;
  stopper.join();
  const auto done = slow.get();
  EXPECT_TRUE(done.success()) << done.text();
}

TEST_F(Stub, AStuckHandlerIsLeftAloneAfterTheDrainTime) {
  make();
  std::latch entered(1);
  std::latch left(1);
  std::atomic<bool> leave{false};
  std::atomic<TransportError> told{TransportError::SUCCESS};
  ASSERT_TRUE(stub_
                  ->on(
                      "stuck",
                      [&](IncomingCall& call) {
                        entered.count_down();
                        while (!leave) std::this_thread::sleep_for(1ms);
                        told = call.reply("too late").error;
                        left.count_down();
                      },
                      RunOn::POOL)
                  .success());
  start();
  const auto client = connect();
  auto stuck = client->callAsync("stuck", "");
  entered.wait();
  const auto stopped = stub_->stop(30ms);
  EXPECT_EQ(stopped.error, TransportError::TIMEOUT);
  EXPECT_NE(stopped.error_message.find("1 calls"), std::string::npos) << stopped.text();
  EXPECT_EQ(stuck.get().status, CallStatus::UNKNOWN);
  if (thread_.joinable()) thread_.join();
  stub_.reset();
  leave = true;
  left.wait();
  EXPECT_EQ(told, TransportError::CONNECTION_CLOSED);
}

TEST_F(Stub, ADeferredCallOutlivesItsStub) {
  make();
  DeferredCall deferred;
  std::latch taken(1);
  ASSERT_TRUE(stub_
                  ->on("defer",
                       [&](IncomingCall& call) {
                         deferred = call.defer();
                         taken.count_down();
                       })
                  .success());
  start();
  const auto client = connect();
  auto answer = client->callAsync("defer", "");
  taken.wait();
  EXPECT_EQ(stub_->stop(0s).error, TransportError::TIMEOUT);
  if (thread_.joinable()) thread_.join();
  stub_.reset();
  EXPECT_EQ(deferred.reply("nobody hears").error, TransportError::CONNECTION_CLOSED);
  EXPECT_EQ(deferred.reply("again").error, TransportError::INVALID_ARGUMENT);
  EXPECT_EQ(answer.get().status, CallStatus::UNKNOWN);
}

TEST_F(Stub, AHandlerMayDestroyItsStub) {
  for (const RunOn run_on : {RunOn::RECEIVER, RunOn::POOL}) {
    endpoint_ += "_again";  // The one before is free when the handler that destroyed its stub has returned.
    make();
    std::atomic<bool> destroyed{false};
    ASSERT_TRUE(stub_
                    ->on(
                        "destroy",
                        [&](IncomingCall& call) {
                          stub_.reset();
                          (void)call.reply("gone");
                          destroyed = true;
                        },
                        run_on)
                    .success());
    ASSERT_TRUE(stub_->start().success());
    ServiceStub* const raw = stub_.get();
    if (subject().receive == Receive::POLL) thread_ = std::thread([raw] { (void)raw->serve(); });
    const auto client = connect();
    const auto gone = client->call("destroy", "", 20s);
    // On the receiver the answer leaves before the stub ends; a thread of the pool has no such hold on the receiver.
    if (run_on == RunOn::RECEIVER) {
      EXPECT_TRUE(gone.success()) << gone.text();
    }
    while (!destroyed) std::this_thread::sleep_for(1ms);
    if (thread_.joinable()) thread_.join();
  }
}

TEST_F(Stub, AHandlerMayDestroyItsStubWhileAnotherThreadStopsIt) {
  make();
  std::latch entered(1);
  std::atomic<bool> go_on{false};
  ASSERT_TRUE(stub_
                  ->on(
                      "destroy",
                      [&](IncomingCall& call) {
                        entered.count_down();
                        while (!go_on) std::this_thread::sleep_for(1ms);
                        stub_.reset();
                        (void)call.reply("gone");
                      },
                      RunOn::POOL)
                  .success());
  ASSERT_TRUE(stub_->on("fast", [](IncomingCall& call) { (void)call.reply(); }).success());
  start();
  const auto client = connect();
  auto answer = client->callAsync("destroy", "");
  entered.wait();
  std::thread stopper([raw = stub_.get()] { (void)raw->stop(kWatchdog); });
  while (client->call("fast", "").success()) continue;  // Until it stops.
  go_on = true;
  stopper.join();
  (void)answer.get();  // However it ended.
  if (thread_.joinable()) thread_.join();
}

TEST_F(Stub, AHandlerMayCallAnotherService) {
  Server other;
  other.start();
  make();
  ServiceProxy onward(make_transport(Role::CLIENT, other.endpoint(), Receive::THREAD));
  ASSERT_TRUE(onward.start().success());
  ASSERT_TRUE(stub_
                  ->on("forward",
                       [&](IncomingCall& call) {
                         const auto reply = onward.call("echo", call.payload());
                         (void)(reply ? call.reply(reply.value) : call.fail(1, reply.text()));
                       })
                  .success());
  start();
  const auto client = connect();
  for (int i = 0; i < 100; ++i) {
    const auto reply = client->call("forward", std::to_string(i));
    ASSERT_TRUE(reply.success()) << reply.text();
    ASSERT_EQ(reply.value.size(), std::to_string(i).size());
  }
}

TEST_F(Stub, AClientThatTakesNoAnswersIsDisconnectedAndOthersAreServed) {
  StubOptions options;
  options.reply_timeout = 20ms;
  options.on_error = [this](TransportError, const std::string&) { ++lost_; };
  make(std::move(options));
  ASSERT_TRUE(stub_->on("echo", [](IncomingCall& call) { (void)call.reply(call.payload()); }).success());
  start();
  const auto good = connect();
  const auto deaf = make_transport(Role::CLIENT, endpoint_, Receive::POLL);
  ASSERT_TRUE(deaf->start().success());
  ASSERT_TRUE(deaf->connect().success());
  Message request(MessageType::REQUEST);
  request.setSubject("echo");
  request.setPayload(std::string(60000, 'x'));
  const auto end = std::chrono::steady_clock::now() + kWatchdog;
  while (lost_ == 0 && std::chrono::steady_clock::now() < end) {
    (void)deaf->send(request, SendOptions{.timeout = 1ms});
  }
  EXPECT_GT(lost_, 0) << "it never stopped taking answers it does not look at";
  const auto reply = good->call("echo", "still here");
  EXPECT_TRUE(reply.success()) << reply.text();
  EXPECT_GT(stub_->getStats().answers_lost, 0u);
}

TEST_F(Stub, ForgedAndDuplicateRepliesAreCountedAndDropped) {
  // A server that lies, without a stub.
  const auto liar = make_transport(Role::SERVER, endpoint_, Receive::THREAD);
  liar->setMessageCallback([&](MessagePtr request) {
    for (const std::uint64_t id : {request->getId() ^ (std::uint64_t{1} << 40), request->getId(), request->getId(),
                                   std::uint64_t{0}, ~std::uint64_t{0}}) {
      Message answer(MessageType::RESPONSE);
      answer.setId(id);
      (void)liar->send(answer, SendOptions{.peer = request->getPeer()});
    }
    Message broken(MessageType::ERROR);  // Of an application, without its code.
    broken.setId(1);
    (void)liar->send(broken, SendOptions{.peer = request->getPeer()});
  });
  ASSERT_TRUE(liar->start().success());
  ASSERT_TRUE(liar->connect().success());
  const auto client = connect();
  EXPECT_TRUE(client->call("any", "").success());
  EXPECT_TRUE(Calls::wait_until(*client, [&] {
    const auto stats = client->getStats();
    return stats.late_replies + stats.forged_replies == 5;
  }));
  EXPECT_EQ(client->getStats().late_replies, 1u);
  EXPECT_EQ(client->getStats().replies, 1u);
}

}  // namespace
}  // namespace cdmf::ipc::calls
