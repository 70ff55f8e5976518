// What a peer in another process plays.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "conformance/harness.h"

namespace cdmf::ipc::conformance {
namespace {

void say_ready() {
  const char ready = '!';
  [[maybe_unused]] const auto written = write(STDOUT_FILENO, &ready, 1);
}

[[noreturn]] void sleep_until_killed() {
  for (;;) pause();
}

int complain(const std::string& why, int code) {
  std::fprintf(stderr, "the peer process: %s\n", why.c_str());
  return code;
}

/// Sends every message back until the link is over; 0 when it was closed in an orderly way.
int echo(Transport& transport) {
  for (;;) {
    auto message = transport.receive(1h);
    if (message.error == TransportError::CONNECTION_CLOSED) return 0;
    if (!message.success()) return complain(message.text(), 10);
    MessageView answer = message.value->view();
    answer.type = MessageType::RESPONSE;
    if (const auto sent = transport.reply(message.value->view(), answer); !sent) return complain(sent.text(), 11);
  }
}

}  // namespace

int play_peer(const std::string& role, const std::string& endpoint, const std::string& argument) {
  sigset_t ask_to_leave;
  sigemptyset(&ask_to_leave);
  sigaddset(&ask_to_leave, SIGTERM);
  if (role == "leave") pthread_sigmask(SIG_BLOCK, &ask_to_leave, nullptr);  // Before there are threads.
  const bool server = role == "echo_server";
  TransportConfig config = config_for(endpoint, server ? Role::SERVER : Role::CLIENT);
  config.receive = Receive::POLL;
  config.auto_reconnect = false;
  Transport transport(plugin());
  if (!transport.init(config) || !transport.start() || !transport.connect()) return 20;
  if (role == "echo_client" || role == "echo_server") {
    say_ready();
    return echo(transport);
  }
  if (role == "flood") {  // `argument` messages, flushed, and then nothing but waiting for the end.
    const auto count = static_cast<std::uint64_t>(std::stoul(argument));
    for (std::uint64_t i = 0; i < count; ++i) {
      if (!transport.send(text(pattern(100, i), i), {.flush = i % 8 == 7}).success()) return 21;
    }
    if (!transport.flush().success()) return 22;
    say_ready();
    sleep_until_killed();
  }
  if (role == "half_written") {  // Dies between claim and commit.
    if (!transport.send(text("whole")).success()) return 23;
    auto loan = transport.loan(1000);
    if (!loan.success()) return 24;
    std::memset(loan.value.payload().data(), 'h', 500);
    say_ready();
    sleep_until_killed();
  }
  if (role == "ask") {  // `argument` questions; 0 when each got its own answer.
    say_ready();
    const auto count = static_cast<std::uint64_t>(std::stoul(argument));
    const auto own = static_cast<std::uint64_t>(getpid()) << 32;
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::string question = pattern(200, own | i);
      if (!transport.send(text(question, own | i)).success()) return 25;
      const auto answer = transport.receive(watchdog());
      if (!answer.success()) return 26;
      if (answer.value->getId() != (own | i) || answer.value->getPayloadText() != question) return 27;
    }
    return 0;
  }
  if (role == "idle") {
    say_ready();
    sleep_until_killed();
  }
  if (role == "leave") {  // When it is asked to, with a goodbye, in the destructor.
    say_ready();
    int signal = 0;
    sigwait(&ask_to_leave, &signal);
    return 0;
  }
  return 29;
}

}  // namespace cdmf::ipc::conformance
