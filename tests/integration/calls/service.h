#pragma once
// tests/integration/calls/service.h: the service that the tests call: in a process of its own where the transport can
// leave one, else on this process's threads. Which transport, and how both sides receive, is on the command line:
//   --type=T [--property=NAME=VALUE]... --receive=thread|poll
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/process.h"
#include "ipc/host.h"
#include "ipc/service_proxy.h"
#include "ipc/service_stub.h"

namespace cdmf::ipc::calls {

/// Ends a broken test; never a bound on a good one.
inline constexpr auto kWatchdog = std::chrono::seconds(60);

struct Subject {
  std::string type = "loopback";
  std::vector<std::string> properties;  ///< NAME=VALUE
  Receive receive = Receive::THREAD;
  [[nodiscard]] bool leaves_process() const { return type != "loopback"; }
};
[[nodiscard]] Subject& subject();

struct AddRequest {
  std::int32_t a = 0;
  std::int32_t b = 0;
};
struct AddReply {
  std::int64_t sum = 0;
};

/// A Transport of the subject's type at an endpoint, initialised.
[[nodiscard]] std::unique_ptr<Transport> make_transport(Role role, const std::string& endpoint, Receive receive,
                                                        Senders senders = Senders::MANY);

/// Names the methods of the test service; those with `hold` in their name answer on `release`.
class TestService {
 public:
  explicit TestService(const std::string& endpoint);
  ~TestService();
  /// Until stop(). Receive::POLL: on this thread.
  void serve();
  ServiceStub& stub() { return *stub_; }

 private:
  struct State;
  std::shared_ptr<State> state_;
  std::unique_ptr<ServiceStub> stub_;
};

/// The service as the client sees it: can be killed and started again.
class Server {
 public:
  Server();
  ~Server();
  void start();
  void kill();    ///< SIGKILL, reaped
  void freeze();  ///< SIGSTOP
  void thaw();
  /// Waits until it has ended by itself.
  cli::ExitStatus wait();
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }

 private:
  std::string endpoint_;
  std::optional<cli::ChildProcess> child_;
  std::unique_ptr<TestService> here_;
  std::thread thread_;
};

/// The child's main(): serves until its parent goes.
int serve_in_child(const std::string& endpoint);

}  // namespace cdmf::ipc::calls
