#pragma once
// conformance/harness.h: what the tests need: transports of the plugin under test (subject.h), records of what arrived,
// peers in other processes.
#include <gtest/gtest.h>
#include <sys/types.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "conformance/subject.h"
#include "ipc/transport.h"
#include "support/eventually.h"

namespace cdmf::ipc::conformance {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// Ends a broken test, never a bound on a good one. --watchdog changes it.
[[nodiscard]] inline std::chrono::seconds watchdog() { return subject().watchdog; }

template <typename Condition>
[[nodiscard]] bool eventually(Condition&& condition) {
  return testing::eventually(std::forward<Condition>(condition), watchdog());
}

/// A name that no other test, process or run uses at this moment.
[[nodiscard]] std::string fresh_endpoint();
[[nodiscard]] TransportConfig config_for(const std::string& endpoint, Role role);

/// The max_message_size under test, and a size that it allows. The tests need 1000 bytes.
[[nodiscard]] std::size_t payload_bytes_max();
[[nodiscard]] inline std::size_t fit(std::size_t size) { return std::min(size, payload_bytes_max()); }

/// Bytes that depend on every position and on a seed, so that a torn, shifted or mixed-up message is noticed.
[[nodiscard]] std::string pattern(std::size_t size, std::uint64_t seed);
[[nodiscard]] MessageView text(std::string_view payload, std::uint64_t id = 0);

/// What the callbacks of one Transport were told, in order.
class Record {
 public:
  /// Listens to everything that Transport tells.
  void listen(Transport& transport);
  [[nodiscard]] std::vector<Message> messages() const;
  [[nodiscard]] std::vector<PeerEvent> events() const;
  [[nodiscard]] std::vector<TransportState> states() const;
  [[nodiscard]] std::size_t message_count() const;
  [[nodiscard]] bool wait_for_messages(std::size_t count) const;
  [[nodiscard]] std::vector<PeerEvent> gone() const;
  [[nodiscard]] bool wait_for_gone(std::size_t count) const;
  /// "came 1", "message 1", "gone 1": the order of everything about peers.
  [[nodiscard]] std::vector<std::string> order() const;

 private:
  /// Shared with the callbacks: a Transport may report its end when the Record is gone already.
  struct Entries {
    std::mutex mutex;
    std::vector<Message> messages;
    std::vector<PeerEvent> events;
    std::vector<TransportState> states;
    std::vector<std::string> order;
  };
  std::shared_ptr<Entries> entries_ = std::make_shared<Entries>();
};

/// Brings a transport up; the test fails with the reason when that does not work.
void bring_up(Transport& transport, const TransportConfig& config);

/// What the transport claims under the options of this run.
[[nodiscard]] std::uint64_t capabilities();

/// Skips the test, visibly, when the transport does not claim what it needs.
#define CDMF_NEEDS(capability)                                                                                  \
  if ((::cdmf::ipc::conformance::capabilities() & (capability)) == 0) {                                         \
    GTEST_SKIP() << ::cdmf::ipc::conformance::plugin().type << " claims no " #capability " with these options"; \
  }                                                                                                             \
  static_assert(true)

/// The same when it claims what takes a promise back.
#define CDMF_NEEDS_NO(capability)                                                                            \
  if ((::cdmf::ipc::conformance::capabilities() & (capability)) != 0) {                                      \
    GTEST_SKIP() << ::cdmf::ipc::conformance::plugin().type << " claims " #capability " with these options"; \
  }                                                                                                          \
  static_assert(true)

/// This program once more, as a peer: peer_process.cpp has what it can play.
class PeerProcess {
 public:
  /// role: a word of peer_process.cpp. Returns when the peer has said that it is ready.
  PeerProcess(const std::string& role, const std::string& endpoint, const std::string& argument = "0");
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;
  ~PeerProcess();
  [[nodiscard]] bool ready() const noexcept { return ready_; }
  void kill_it();
  void ask_to_leave();
  /// Its exit code; -1 when a signal ended it or the watchdog barked.
  int wait_for_exit();

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  bool ready_ = false;
};

/// What a peer does instead of tests. Returns its exit code.
int play_peer(const std::string& role, const std::string& endpoint, const std::string& argument);

}  // namespace cdmf::ipc::conformance
