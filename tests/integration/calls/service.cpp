#include "calls/service.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace cdmf::ipc::calls {

using namespace std::chrono_literals;

Subject& subject() {
  static Subject subject;
  return subject;
}

std::unique_ptr<Transport> make_transport(Role role, const std::string& endpoint, Receive receive, Senders senders) {
  static Host& host = *[] {
    auto loaded = Host::from_text(
        "subject", "version: 1\ntransports:\n  subject: { type: " + subject().type + ", endpoint: /replaced }\n");
    if (!loaded) throw std::runtime_error(loaded.text());
    return loaded.value.release();  // Transports outlive main()'s statics in a failed test.
  }();
  auto created = host.create("subject", role, [&](TransportConfig& config) {
    config.endpoint = endpoint;
    config.properties.erase("endpoint");
    for (const auto& property : subject().properties) {
      const auto equals = property.find('=');
      config.properties[property.substr(0, equals)] = property.substr(equals + 1);
    }
    config.receive = receive;
    config.senders = senders;
  });
  if (!created) throw std::runtime_error(created.text());
  return std::move(created.value);
}

struct TestService::State {
  std::mutex mutex;
  std::vector<DeferredCall> held;
  std::atomic<std::int64_t> one_way{0};
  std::vector<std::jthread> helpers;
};

TestService::TestService(const std::string& endpoint) : state_(std::make_shared<State>()) {
  StubOptions options;
  options.pool_threads = 2;
  options.pool_queue = 4;
  options.reply_timeout = 2s;
  stub_ = std::make_unique<ServiceStub>(make_transport(Role::SERVER, endpoint, subject().receive), options);
  ServiceStub& stub = *stub_;
  State& state = *state_;
  const auto number = [](const IncomingCall& call) { return std::stol(std::string(call.text())); };
  const auto check = [](const TransportResult<>& named) {
    if (!named) throw std::runtime_error(named.text());
  };
  check(stub.on("echo", [](IncomingCall& call) { (void)call.reply(call.payload()); }));
  check(stub.on<AddRequest, AddReply>("add", [](const AddRequest& r) { return AddReply{std::int64_t{r.a} + r.b}; }));
  check(stub.on<std::string, std::string>("greet", [](const std::string& name) { return "hello " + name; }));
  check(stub.on<std::string_view, void>("ignore", [](std::string_view) {}));
  check(stub.on("fail", [](IncomingCall&) { throw ApplicationError(42, "as asked"); }));
  check(stub.on("throw", [](IncomingCall&) { throw std::runtime_error("a handler's own words"); }));
  check(stub.on("silent", [](IncomingCall&) {}));
  check(stub.on("twice", [](IncomingCall& call) {
    (void)call.reply("first");
    if (call.reply("second").error != TransportError::INVALID_ARGUMENT) std::abort();
    if (call.defer()) std::abort();
  }));
  check(stub.on("sleep", [number](IncomingCall& call) {
    std::this_thread::sleep_for(std::chrono::milliseconds(number(call)));
    (void)call.reply(call.payload());
  }));
  check(stub.on(
      "pool_sleep",
      [number](IncomingCall& call) {
        std::this_thread::sleep_for(std::chrono::milliseconds(number(call)));
        (void)call.reply(call.payload());
      },
      RunOn::POOL));
  check(stub.on("big", [number](IncomingCall& call) {
    (void)call.reply(std::string(static_cast<std::size_t>(number(call)), 'b'));
  }));
  check(stub.on("remaining", [](IncomingCall& call) { (void)call.reply(std::to_string(call.remaining().count())); }));
  check(stub.on(
      "pool_remaining", [](IncomingCall& call) { (void)call.reply(std::to_string(call.remaining().count())); },
      RunOn::POOL));
  check(stub.on("later", [&state, number](IncomingCall& call) {
    const auto wait = std::chrono::milliseconds(number(call));
    const std::lock_guard lock(state.mutex);
    state.helpers.emplace_back([later = call.defer(), wait]() mutable {
      std::this_thread::sleep_for(wait);
      (void)later.reply("later");
    });
  }));
  check(stub.on("drop", [](IncomingCall& call) { (void)call.defer(); }));
  check(stub.on("hold", [&state](IncomingCall& call) {
    const std::lock_guard lock(state.mutex);
    state.held.push_back(call.defer());
  }));
  check(stub.on("release", [&state](IncomingCall& call) {
    std::vector<DeferredCall> held;
    {
      const std::lock_guard lock(state.mutex);
      held.swap(state.held);
    }
    for (auto& later : held) (void)later.reply("released");
    (void)call.reply(std::to_string(held.size()));
  }));
  check(stub.on("count", [&state](IncomingCall& call) {
    if (call.one_way()) state.one_way += 1;
    (void)call.reply(std::to_string(state.one_way.load()));
  }));
  check(stub.on("stop", [this](IncomingCall& call) {
    (void)stub_->stop();
    (void)call.reply("bye");
  }));
  check(stub.on("die_before", [](IncomingCall&) { raise(SIGKILL); }));
  check(stub.on("die_after", [](IncomingCall& call) {
    (void)call.reply(call.payload());
    raise(SIGKILL);
  }));
  check(stub.on(
      "die_on_pool", [](IncomingCall&) { raise(SIGKILL); }, RunOn::POOL));
  const auto started = stub.start();
  if (!started) throw std::runtime_error(started.text());
}

TestService::~TestService() {
  (void)stub_->stop(0s);
  const std::lock_guard lock(state_->mutex);
  state_->held.clear();
}

void TestService::serve() {
  if (subject().receive == Receive::POLL) (void)stub_->serve();
}

Server::Server() {
  static std::atomic<int> count{0};
  endpoint_ = "/cdmf_calls_" + std::to_string(getpid()) + "_" + std::to_string(count++);
}

Server::~Server() {
  if (here_ == nullptr) return;
  (void)here_->stub().stop(0s);
  thread_.join();
}

void Server::start() {
  if (!subject().leaves_process()) {
    here_ = std::make_unique<TestService>(endpoint_);
    thread_ = std::thread([this] { here_->serve(); });
    return;
  }
  std::vector<std::string> words{"--serve=" + endpoint_, "--type=" + subject().type,
                                 std::string("--receive=") + (subject().receive == Receive::POLL ? "poll" : "thread")};
  for (const auto& property : subject().properties) words.push_back("--property=" + property);
  child_ = cli::ChildProcess::run_self(words);
  std::string line;
  if (child_->control().read_line(line, kWatchdog) != cli::ControlChannel::ReadOutcome::line || line != "ready") {
    throw std::runtime_error("the server does not start: " + line);
  }
}

void Server::kill() {
  ::kill(child_->pid(), SIGKILL);
  (void)wait();
}
void Server::freeze() {
  ::kill(child_->pid(), SIGSTOP);
  siginfo_t stopped{};
  (void)waitid(P_PID, static_cast<id_t>(child_->pid()), &stopped, WSTOPPED | WNOWAIT);  // It takes a moment.
}
void Server::thaw() { ::kill(child_->pid(), SIGCONT); }
cli::ExitStatus Server::wait() {
  const auto status = child_->wait_for(kWatchdog);
  if (!status) throw std::runtime_error("the server does not end");
  return *status;
}

int serve_in_child(const std::string& endpoint) {
  auto parent = cli::ControlChannel::from_parent();
  if (!parent) return 1;
  TestService service(endpoint);
  parent->send_line("ready");
  service.serve();
  std::string line;
  // Receive::THREAD, or stopped by its own handler: lives until the parent has gone, or says so.
  while (service.stub().transport().getState() != TransportState::INITIALIZED &&
         parent->read_line(line, std::chrono::milliseconds(20)) == cli::ControlChannel::ReadOutcome::timed_out) {
  }
  return 0;
}

}  // namespace cdmf::ipc::calls
