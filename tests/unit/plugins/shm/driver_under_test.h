#pragma once
// A shm driver as a host sees it: through the C table. For tests of the driver, in one process or several.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "ipc/plugin.h"
#include "ipc/property.h"
#include "shm_driver.h"
#include "shm_plugin.h"

namespace cdmf::ipc::shm::testing {

using Options = std::map<std::string, std::string>;

inline const cdmf_plugin& plugin() {
  static const cdmf_plugin kPlugin = make_plugin(kDescription, &create_shm_driver);
  return kPlugin;
}

/// An endpoint that no other test, and no other run, uses.
inline std::string unique_endpoint() {
  static int count = 0;
  return "/cdmf_test_shm_" + std::to_string(getpid()) + "_" + std::to_string(++count);
}

inline std::uint64_t in_ms(std::uint64_t milliseconds) { return monotonic_now_ns() + milliseconds * 1'000'000; }
constexpr std::uint64_t kPatienceMs = 20'000;  // Longer than any machine is slow; only a failure waits so long.

constexpr std::uint32_t kNothing = 99;  // No kind of view.

struct Message {
  std::uint32_t kind = CDMF_VIEW_MESSAGE;
  cdmf_peer peer = CDMF_NO_PEER;
  std::string content;
  cdmf_status reason = CDMF_OK;
  std::uint64_t lost = 0;
  std::uint64_t timestamp_us = 0;
};

class DriverUnderTest {
 public:
  /// Options that are wrong leave create_status; others make a driver.
  DriverUnderTest(cdmf_role role, const std::string& endpoint, const Options& options = {},
                  std::uint64_t max_message_size = 4096, const cdmf_host* host = nullptr)
      : endpoint_(endpoint) {
    Settings settings = make_settings(plugin(), options);
    for (const std::string& problem : settings.problems) ADD_FAILURE() << problem;
    cdmf_config config{};
    config.struct_size = sizeof config;
    config.role = role;
    config.endpoint = endpoint_.c_str();
    config.max_message_size = max_message_size;
    config.frame_size_max = max_message_size + CDMF_FRAME_OVERHEAD_MAX;
    config.settings = settings.rows.data();
    config.setting_count = settings.rows.size();
    error.struct_size = sizeof error;
    create_status = plugin().create(host, &config, &driver_, &error);
  }
  ~DriverUnderTest() {
    if (driver_.ops != nullptr) driver_.ops->destroy(driver_.self);
  }
  DriverUnderTest(const DriverUnderTest&) = delete;
  DriverUnderTest& operator=(const DriverUnderTest&) = delete;

  const cdmf_driver_ops* operator->() const { return driver_.ops; }
  void* self() const { return driver_.self; }

  cdmf_status open() { return driver_.ops->open(driver_.self, &error); }
  cdmf_status attach(std::uint64_t timeout_ms = kPatienceMs) {
    return driver_.ops->attach(driver_.self, in_ms(timeout_ms), &peer, &error);
  }
  /// attach(), also when the server is yet to come.
  cdmf_status attach_when_listening() {
    const std::uint64_t deadline = in_ms(kPatienceMs);
    for (;;) {
      const cdmf_status status = attach();
      if (status != CDMF_ENDPOINT_NOT_FOUND || monotonic_now_ns() >= deadline) return status;
      usleep(1000);
    }
  }
  void close() { driver_.ops->close(driver_.self); }

  cdmf_status send(cdmf_peer to, const std::string& content, bool flush = true) {
    cdmf_loan loan{};
    const cdmf_status status = driver_.ops->claim(driver_.self, to, content.size(), &loan);
    if (status != CDMF_OK) return status;
    std::memcpy(loan.memory, content.data(), content.size());
    return driver_.ops->commit(driver_.self, &loan, content.size(), flush ? 1 : 0);
  }
  /// Waits for room as long as it takes.
  cdmf_status send_waiting(cdmf_peer to, const std::string& content) {
    for (;;) {
      cdmf_status status = send(to, content);
      if (status != CDMF_BUFFER_FULL) return status;
      status = driver_.ops->await_space(driver_.self, to, content.size(), in_ms(kPatienceMs));
      if (status != CDMF_OK) return status;
    }
  }
  /// Everything there is now, copied.
  std::vector<Message> take(std::size_t capacity = 32) {
    std::vector<cdmf_view> views(capacity);
    const std::size_t count = driver_.ops->receive_burst(driver_.self, views.data(), views.size());
    std::vector<Message> messages;
    for (std::size_t i = 0; i < count; ++i) {
      const cdmf_view& view = views[i];
      Message message{view.kind, view.peer, {}, view.reason, view.lost, view.timestamp_us};
      if (view.kind == CDMF_VIEW_MESSAGE) message.content.assign(static_cast<const char*>(view.frame), view.size);
      messages.push_back(message);
    }
    if (count != 0) driver_.ops->release_burst(driver_.self);
    return messages;
  }
  /// The next message or event, waiting for it. A failure of the test when none comes.
  Message next() {
    const std::uint64_t deadline = in_ms(kPatienceMs);
    while (queue_.empty()) {
      queue_ = take();
      if (!queue_.empty()) break;
      if (driver_.ops->await_messages(driver_.self, deadline) == CDMF_TIMEOUT) {
        ADD_FAILURE() << "nothing arrived";
        Message none;
        none.kind = kNothing;
        return none;
      }
    }
    Message message = queue_.front();
    queue_.erase(queue_.begin());
    return message;
  }
  /// The peer that connects next.
  cdmf_peer next_peer() {
    const Message message = next();
    EXPECT_EQ(message.kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_CONNECTED));
    return message.peer;
  }

  cdmf_status create_status = CDMF_OK;
  cdmf_peer peer = CDMF_NO_PEER;  // Of the last attach().
  cdmf_error error{};

 private:
  std::string endpoint_;
  cdmf_driver driver_{};
  std::vector<Message> queue_;
};

/// A child process that ends with the test, whatever happens to it. The body's return value is its exit code.
/// To be called before this process opens a driver: the thread sanitizer refuses threads in children of threaded
/// parents.
template <typename Body>
pid_t run_in_child(Body&& body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(body());
  }
  return child;
}
inline int exit_code(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace cdmf::ipc::shm::testing
