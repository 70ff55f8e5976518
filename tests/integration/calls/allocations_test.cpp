// What calls take from the allocator: nothing each, and nothing for good.
#include <malloc.h>

#include <cstdlib>
#include <filesystem>
#include <new>
#include <thread>

#include "calls/client.h"

namespace {
thread_local std::uint64_t allocations = 0;
}

void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace cdmf::ipc::calls {
namespace {

TEST_F(Calls, AWaitingCallAllocatesNothing) {
  const auto call = [&](int i) {
    const auto sum = proxy().call<AddReply>("add", AddRequest{i, 1});
    ASSERT_TRUE(sum.success()) << sum.text();
  };
  for (int i = 0; i < 2000; ++i) call(i);
  const std::uint64_t before = allocations;
  for (int i = 0; i < 10000; ++i) call(i);
  if (subject().type != "shm") GTEST_SKIP() << subject().type << " itself allocates for messages";
  EXPECT_EQ(allocations - before, 0u);
}

TEST_F(Calls, AnAnswerOnTheReceiverAllocatesNothing) {
  if (subject().type != "shm") GTEST_SKIP() << subject().type << " itself allocates for messages";
  const std::string endpoint = server_.endpoint() + "_counting";
  ServiceStub stub(make_transport(Role::SERVER, endpoint, subject().receive));
  ASSERT_TRUE((stub.on<AddRequest, AddReply>(
                       "add", [](const AddRequest& request) { return AddReply{std::int64_t{request.a} + request.b}; })
                   .success()));
  ASSERT_TRUE(stub.on("allocations", [](IncomingCall& call) { (void)call.reply(allocations); }).success());
  ASSERT_TRUE(stub.start().success());
  std::thread serving;
  if (subject().receive == Receive::POLL) serving = std::thread([&] { (void)stub.serve(); });
  {
    ServiceProxy client(make_transport(Role::CLIENT, endpoint, subject().receive));
    ASSERT_TRUE(client.start().success());
    const auto count = [&] { return client.call<std::uint64_t>("allocations", std::string_view()).value; };
    const auto some_calls = [&](int calls) {
      for (int i = 0; i < calls; ++i) ASSERT_TRUE(client.call<AddReply>("add", AddRequest{i, 1}).success());
    };
    some_calls(2000);
    const std::uint64_t before = count();
    some_calls(10000);
    EXPECT_EQ(count() - before, 0u);
  }
  EXPECT_TRUE(stub.stop().success());
  if (serving.joinable()) serving.join();
}

TEST_F(Calls, ManyCallsOfEveryKindLeaveNothingBehind) {
  const auto used = [] { return static_cast<std::int64_t>(mallinfo2().uordblks); };
  const auto files = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator{});
  };
  const auto tasks = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator{});
  };
  const auto some_calls = [&](int count) {
    for (int i = 0; i < count; i += 5) {
      ASSERT_TRUE(proxy().call("echo", "payload").success());
      ASSERT_EQ(proxy().call("fail", "").code, 42u);
      ASSERT_EQ(proxy().call("no such method", "").error, TransportError::UNSUPPORTED);
      ASSERT_TRUE(proxy().callOneWay("count", "").success());
      ASSERT_TRUE(get(proxy(), proxy().callAsync("greet", "you")).success());
    }
  };
  some_calls(5000);
  const auto used_before = used();
  const auto files_before = files();
  const auto tasks_before = tasks();
  some_calls(std::getenv("CDMF_CALLS_MILLION") != nullptr ? 100000 : 5000);
  EXPECT_LT(used() - used_before, 256 * 1024);
  EXPECT_EQ(files(), files_before);
  EXPECT_EQ(tasks(), tasks_before);
}

}  // namespace
}  // namespace cdmf::ipc::calls
