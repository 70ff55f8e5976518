// A transport in a program's own event loop, by pollFd() and arm(): epoll as it is, and Boost.Asio. What the README of
// the shm plugin shows, as code that runs: one thread that sleeps in its loop and serves two clients.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <string>
#include <thread>

#include "ipc/host.h"

namespace cdmf::ipc {
namespace {

using namespace std::chrono_literals;
constexpr int kMessages = 300;  // Of each client.
constexpr auto kWatchdog = 30s;

class EventLoop : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string text = "version: 1\ntransports: { main: { type: " + std::string(GetParam()) +
                             ", endpoint: /cdmf_event_loop_" + std::to_string(getpid()) + " } }\n";
    auto loaded = Host::from_text("event_loop_test", text);
    ASSERT_TRUE(loaded.success()) << loaded.text();
    host_ = std::move(loaded.value);
    server_ = open(Role::SERVER);
    ASSERT_NE(server_, nullptr);
    ASSERT_GE(server_->pollFd(), 0);
    for (auto& client : clients_) client = open(Role::CLIENT);
  }
  /// Clients that call, wait for the answer, and now and then let the server fall asleep.
  void start_clients() {
    for (std::size_t i = 0; i < clients_.size(); ++i) {
      threads_[i] = std::thread([&client = *clients_[i]] {
        for (int number = 0; number < kMessages; ++number) {
          Message message(MessageType::REQUEST);
          message.setId(static_cast<std::uint64_t>(number));
          ASSERT_TRUE(client.send(message).success());
          MessagePtr answer;
          while (!answer) {
            auto received = client.receive(kWatchdog);
            ASSERT_TRUE(received.success()) << received.text();
            answer = std::move(received.value);
          }
          ASSERT_EQ(answer->getId(), static_cast<std::uint64_t>(number));
          if (number % 50 == 0) std::this_thread::sleep_for(1ms);
        }
      });
    }
  }
  void TearDown() override {
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }
  /// Everything there is; then the server may sleep on pollFd(). False: all is done.
  bool serve() {
    const auto answer = [&](const MessageView& request) {
      ++served_;
      EXPECT_TRUE(server_->reply(request, MessageView{.type = MessageType::RESPONSE}).success());
    };
    while (server_->poll(answer) != 0 || server_->arm() == CDMF_READY) {
    }
    return served_ < kMessages * static_cast<int>(clients_.size());
  }

  std::unique_ptr<Transport> open(Role role) {
    auto made = host_->create("main", role, [](TransportConfig& config) { config.receive = Receive::POLL; });
    EXPECT_TRUE(made.success()) << made.text();
    if (!made.success()) return nullptr;
    EXPECT_TRUE(made.value->start().success());
    const auto connected = made.value->connect();
    EXPECT_TRUE(connected.success()) << connected.text();
    return std::move(made.value);
  }

  std::unique_ptr<Host> host_;
  std::unique_ptr<Transport> server_;
  std::array<std::unique_ptr<Transport>, 2> clients_;
  std::array<std::thread, 2> threads_;
  int served_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Transports, EventLoop, ::testing::Values("shm", "unix_socket"),
                         [](const auto& row) { return std::string(row.param); });

TEST_P(EventLoop, OfEpollServesAndSleeps) {
  start_clients();
  const int loop = epoll_create1(EPOLL_CLOEXEC);
  epoll_event interest{};
  interest.events = EPOLLIN;
  ASSERT_EQ(epoll_ctl(loop, EPOLL_CTL_ADD, server_->pollFd(), &interest), 0);
  while (serve()) {
    epoll_event event{};
    const int woken = epoll_wait(loop, &event, 1, static_cast<int>(std::chrono::milliseconds(kWatchdog).count()));
    if (woken == 0) FAIL() << "asleep, and " << served_ << " messages served";
  }
  close(loop);
}

TEST_P(EventLoop, OfAsioServesAndSleeps) {
  start_clients();
  boost::asio::io_context loop;
  // A copy, as Asio closes what it has been given; both mean the same thing.
  boost::asio::posix::stream_descriptor ready(loop, dup(server_->pollFd()));
  boost::asio::steady_timer watchdog(loop, kWatchdog);
  watchdog.async_wait([&](const boost::system::error_code& error) {
    if (error) return;
    ADD_FAILURE() << "asleep, and " << served_ << " messages served";
    loop.stop();
  });
  const std::function<void()> next = [&] {
    if (!serve()) return loop.stop();
    ready.async_wait(boost::asio::posix::stream_descriptor::wait_read, [&](const boost::system::error_code& error) {
      if (!error) next();
    });
  };
  next();
  loop.run();
}

}  // namespace
}  // namespace cdmf::ipc
