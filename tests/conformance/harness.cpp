#include "conformance/harness.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "ipc/property.h"

namespace cdmf::ipc::conformance {
std::string fresh_endpoint() {
  static std::atomic<int> count{0};
  return "/conformance_" + std::to_string(getpid()) + '_' + std::to_string(++count);
}

TransportConfig config_for(const std::string& endpoint, Role role) {
  TransportConfig config;
  config.endpoint = endpoint;
  config.role = role;
  config.properties = subject().properties;
  EXPECT_GE(payload_bytes_max(), 1000u) << "the suite needs a max_message_size of 1000 or more";
  config.connect_timeout = watchdog();
  config.send_timeout = watchdog();
  return config;
}

std::size_t payload_bytes_max() {
  const auto given = subject().properties.find("max_message_size");
  if (given == subject().properties.end()) return TransportConfig{}.max_message_size;
  return static_cast<std::size_t>(parse_size(given->second).number);
}

std::string pattern(std::size_t size, std::uint64_t seed) {
  std::string bytes(size, '\0');
  std::uint64_t state = seed * 0x9e3779b97f4a7c15u + size + 1;
  for (char& byte : bytes) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    byte = static_cast<char>(state);
  }
  return bytes;
}

MessageView text(std::string_view payload, std::uint64_t id) {
  MessageView message;
  message.payload = std::as_bytes(std::span(payload));
  message.id = id;
  return message;
}

void bring_up(Transport& transport, const TransportConfig& config) {
  auto result = transport.init(config);
  ASSERT_TRUE(result.success()) << result.text();
  result = transport.start();
  ASSERT_TRUE(result.success()) << result.text();
  result = transport.connect();
  ASSERT_TRUE(result.success()) << result.text();
}

std::uint64_t capabilities() {
  static const std::uint64_t claimed = [] {
    Transport server(plugin());
    TransportConfig config = config_for(fresh_endpoint(), Role::SERVER);
    config.receive = Receive::POLL;
    const bool up = server.init(config).success() && server.start().success() && server.connect().success();
    return up ? server.getInfo().capabilities : plugin().capabilities;
  }();
  return claimed;
}

// ---- Record ---------------------------------------------------------------------------------------------------------

void Record::listen(Transport& transport) {
  transport.setPeerCallback([entries = entries_](const PeerEvent& event) {
    const std::lock_guard lock(entries->mutex);
    entries->events.push_back(event);
    entries->order.push_back((event.kind == PeerEvent::Kind::CONNECTED ? "came " : "gone ") +
                             std::to_string(event.peer));
  });
  transport.setStateChangeCallback([entries = entries_](TransportState, TransportState to) {
    const std::lock_guard lock(entries->mutex);
    entries->states.push_back(to);
  });
  transport.setMessageCallback([entries = entries_](MessagePtr message) {
    const std::lock_guard lock(entries->mutex);
    entries->order.push_back("message " + std::to_string(message->getPeer()));
    entries->messages.push_back(std::move(*message));
  });
}

std::vector<Message> Record::messages() const {
  const std::lock_guard lock(entries_->mutex);
  return entries_->messages;
}
std::vector<PeerEvent> Record::events() const {
  const std::lock_guard lock(entries_->mutex);
  return entries_->events;
}
std::vector<TransportState> Record::states() const {
  const std::lock_guard lock(entries_->mutex);
  return entries_->states;
}
std::vector<std::string> Record::order() const {
  const std::lock_guard lock(entries_->mutex);
  return entries_->order;
}
std::size_t Record::message_count() const {
  const std::lock_guard lock(entries_->mutex);
  return entries_->messages.size();
}
bool Record::wait_for_messages(std::size_t count) const {
  return eventually([&] { return message_count() >= count; });
}
std::vector<PeerEvent> Record::gone() const {
  std::vector<PeerEvent> result;
  for (const PeerEvent& event : events()) {
    if (event.kind == PeerEvent::Kind::DISCONNECTED) result.push_back(event);
  }
  return result;
}
bool Record::wait_for_gone(std::size_t count) const {
  return eventually([&] { return gone().size() >= count; });
}

// ---- PeerProcess ----------------------------------------------------------------------------------------------------

PeerProcess::PeerProcess(const std::string& role, const std::string& endpoint, const std::string& argument) {
  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC) != 0) return;
  output_ = pipe_ends[0];
  const pid_t parent = getpid();
  std::vector<std::string> words{"peer", "--peer", role, endpoint, argument};
  for (auto& word : subject().words()) words.push_back(std::move(word));
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // A test that crashes leaves nobody behind.
    if (getppid() != parent) _exit(1);
    dup2(pipe_ends[1], STDOUT_FILENO);
    execv("/proc/self/exe", arguments.data());
    _exit(127);
  }
  close(pipe_ends[1]);
  pollfd readable{output_, POLLIN, 0};
  char byte = 0;
  const auto patience = std::chrono::duration_cast<std::chrono::milliseconds>(watchdog());
  ready_ = poll(&readable, 1, static_cast<int>(patience.count())) == 1 && read(output_, &byte, 1) == 1 && byte == '!';
}

PeerProcess::~PeerProcess() {
  kill_it();
  if (output_ >= 0) close(output_);
}

void PeerProcess::kill_it() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void PeerProcess::ask_to_leave() {
  if (pid_ > 0) kill(pid_, SIGTERM);
}

int PeerProcess::wait_for_exit() {
  int status = 0;
  const bool ended = pid_ > 0 && eventually([&] { return waitpid(pid_, &status, WNOHANG) == pid_; });
  if (!ended) return -1;
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace cdmf::ipc::conformance
