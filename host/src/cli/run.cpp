// cdmf run: the host as a service. Transports that routes name pass messages on; every other one answers calls: echo,
// time, checksum.
#include <isa-l/crc.h>

#include <chrono>
#include <cstdio>
#include <vector>

#include "cli/commands.h"
#include "cli/open_transport.h"
#include "cli/stop_signal.h"
#include "ipc/router.h"
#include "ipc/service_stub.h"

namespace cdmf::ipc::cli {
namespace {

class Service {
 public:
  Service(Host& host, const TransportEntry& entry) : host_(host), name_(entry.name) {
    auto created = host.create(entry.name, Role::SERVER);
    require(created, entry.name);
    created.value->setErrorCallback([this](TransportError error, const std::string& text) { warn(error, text); });
    created.value->setStateChangeCallback([this](TransportState from, TransportState to) {
      host_.log(LogLevel::debug, name_ + ": " + to_string(from) + " -> " + to_string(to));
    });
    StubOptions options;
    options.on_peer = [this](const PeerEvent& event) { report_peer(event); };
    options.on_error = [this](TransportError error, const std::string& text) { warn(error, text); };
    stub_ = std::make_unique<ServiceStub>(std::move(created.value), std::move(options));
    add_methods();
    require(stub_->start(), entry.name);
  }

  void report_ready(const TransportEntry& entry) const {
    const auto info = stub_->transport().getInfo();
    std::printf("%s: %s %s at %s\n", name_.c_str(), entry.type.c_str(),
                info.role == Role::SERVER ? "listens" : "is connected", info.address.c_str());
  }

  void stop_and_report() {
    require(stub_->stop(), name_);
    const auto stats = stub_->transport().getStats();
    std::printf(
        "%s: received %llu messages (%llu bytes), sent %llu (%llu bytes), errors %llu receiving and %llu sending\n",
        name_.c_str(), static_cast<unsigned long long>(stats.messages_received),
        static_cast<unsigned long long>(stats.bytes_received), static_cast<unsigned long long>(stats.messages_sent),
        static_cast<unsigned long long>(stats.bytes_sent), static_cast<unsigned long long>(stats.recv_errors),
        static_cast<unsigned long long>(stats.send_errors));
    if (!stats.last_error.empty()) std::printf("%s: last error: %s\n", name_.c_str(), stats.last_error.c_str());
  }

 private:
  void add_methods() {
    require(stub_->on("echo", [](IncomingCall& call) { static_cast<void>(call.reply(call.payload())); }), name_);
    require(stub_->on("time",
                      [](IncomingCall& call) {
                        const auto now = std::chrono::system_clock::now().time_since_epoch();
                        const auto us = std::chrono::duration_cast<std::chrono::microseconds>(now);
                        static_cast<void>(call.reply(std::to_string(us.count())));
                      }),
            name_);
    require(stub_->on("checksum",
                      [](IncomingCall& call) {
                        const auto bytes = call.payload();
                        char text[9];
                        std::snprintf(
                            text, sizeof text, "%08x",
                            crc32_gzip_refl(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
                        static_cast<void>(call.reply(text));
                      }),
            name_);
  }

  void report_peer(const PeerEvent& event) {
    const std::string peer = name_ + ": peer " + std::to_string(event.peer);
    if (event.kind == PeerEvent::Kind::CONNECTED) {
      return host_.log(LogLevel::info, peer + " connected" + (event.identity.empty() ? "" : ": " + event.identity));
    }
    std::string line = peer + " left: " + to_string(event.reason);
    if (event.messages_lost > 0) line += ", " + std::to_string(event.messages_lost) + " messages lost";
    host_.log(LogLevel::info, line);
  }

  void warn(TransportError error, const std::string& text) {
    host_.log(LogLevel::warning, name_ + ": " + to_string(error) + ": " + text);
  }

  Host& host_;
  std::string name_;
  std::unique_ptr<ServiceStub> stub_;  // Last: its callbacks end before what they use goes.
};

/// Starts the routes of the file and says what they are; null when it has none.
std::unique_ptr<Router> start_routes(Host& host) {
  if (host.config().routes.empty()) return nullptr;
  auto router = Router::create(host);
  require(router, "routes");
  require(router.value->start(), "routes");
  for (const RouteEntry& each : host.config().routes) {
    std::printf("route: %s %s %s, subjects %s, when down: %s\n", each.from.c_str(), each.both_ways ? "<->" : "->",
                each.to.c_str(), each.match.c_str(), to_string(each.when_down));
  }
  return std::move(router.value);
}

void stop_and_report(Router& router) {
  router.stop();
  const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  const RouterStats stats = router.getStats();
  for (const RouteStats& each : stats.routes) {
    std::printf(
        "route %s -> %s: %llu messages passed on, %llu back, %llu bytes, %llu answers; %llu dropped, %llu refused, "
        "%llu "
        "unanswered, %llu looped\n",
        each.from.c_str(), each.to.c_str(), number(each.forwarded), number(each.forwarded_back), number(each.bytes),
        number(each.answered), number(each.dropped), number(each.refused), number(each.unanswered),
        number(each.looped));
  }
  for (const RouterTransportStats& each : stats.transports) {
    std::printf("%s: %llu without a route, %llu lost when links ended, %llu late answers, %llu answers lost\n",
                each.name.c_str(), number(each.unmatched), number(each.lost), number(each.late_answers),
                number(each.answers_lost));
  }
}

}  // namespace

int command_run(const ProgramOptions& program, const RunArguments& arguments) {
  const StopSignal stop([] {});
  const auto host = load_host(program, arguments.file, LogLevel::info);
  std::vector<std::unique_ptr<Service>> services;
  const auto router = start_routes(*host);
  for (const auto& entry : host->config().transports) {
    if (router != nullptr && router->uses(entry.name)) continue;
    services.push_back(std::make_unique<Service>(*host, entry));
    services.back()->report_ready(entry);
  }
  std::puts("ready");
  std::fflush(stdout);
  stop.wait();
  host->log(LogLevel::info, "stopping on signal " + std::to_string(stop.number()));
  for (auto& service : services) service->stop_and_report();
  if (router != nullptr) stop_and_report(*router);
  std::fflush(stdout);
  return kExitOk;
}

}  // namespace cdmf::ipc::cli
