// cdmf run: the host as a service. Every transport of the file answers requests with what they carry.
#include <cstdio>
#include <vector>

#include "cli/commands.h"
#include "cli/open_transport.h"
#include "cli/stop_signal.h"

namespace cdmf::ipc::cli {
namespace {

// How long the echo waits for a client that does not take its answers: the clients behind it wait as long.
constexpr auto kPatience = std::chrono::milliseconds(100);

class EchoService {
 public:
  EchoService(Host& host, const TransportEntry& entry) : host_(host), name_(entry.name) {
    transport_ = open_transport(host, entry, Role::SERVER, {}, [this](Transport& transport) { prepare(transport); });
  }

  void report_ready(const TransportEntry& entry) const {
    const auto info = transport_->getInfo();
    std::printf("%s: %s %s at %s\n", name_.c_str(), entry.type.c_str(),
                info.role == Role::SERVER ? "listens" : "is connected", info.address.c_str());
  }

  void stop_and_report() {
    transport_->stop();
    const auto stats = transport_->getStats();
    std::printf(
        "%s: received %llu messages (%llu bytes), sent %llu (%llu bytes), errors %llu receiving and %llu sending\n",
        name_.c_str(), static_cast<unsigned long long>(stats.messages_received),
        static_cast<unsigned long long>(stats.bytes_received), static_cast<unsigned long long>(stats.messages_sent),
        static_cast<unsigned long long>(stats.bytes_sent), static_cast<unsigned long long>(stats.recv_errors),
        static_cast<unsigned long long>(stats.send_errors));
    if (!stats.last_error.empty()) std::printf("%s: last error: %s\n", name_.c_str(), stats.last_error.c_str());
  }

 private:
  void prepare(Transport& transport) {
    transport.setViewCallback([this, &transport](const MessageView& message) { answer(transport, message); });
    transport.setPeerCallback([this](const PeerEvent& event) {
      const std::string peer = name_ + ": peer " + std::to_string(event.peer);
      if (event.kind == PeerEvent::Kind::CONNECTED) return host_.log(LogLevel::info, peer + " connected");
      std::string line = peer + " left: " + to_string(event.reason);
      if (event.messages_lost > 0) line += ", " + std::to_string(event.messages_lost) + " messages lost";
      host_.log(LogLevel::info, line);
    });
    transport.setErrorCallback([this](TransportError error, const std::string& text) {
      host_.log(LogLevel::warning, name_ + ": " + to_string(error) + ": " + text);
    });
    transport.setStateChangeCallback([this](TransportState from, TransportState to) {
      host_.log(LogLevel::debug, name_ + ": " + to_string(from) + " -> " + to_string(to));
    });
  }

  void answer(Transport& transport, const MessageView& request) {
    if (request.type != MessageType::REQUEST) return;  // Nobody waits for an answer.
    MessageView response = request;
    response.type = MessageType::RESPONSE;
    const auto sent = transport.send(response, SendOptions{.peer = request.peer, .timeout = kPatience});
    if (sent) return;
    const std::string peer = name_ + ": peer " + std::to_string(request.peer);
    if (sent.error != TransportError::TIMEOUT && sent.error != TransportError::BUFFER_FULL) {
      host_.log(LogLevel::warning, peer + ": no answer sent: " + sent.text());
      return;
    }
    host_.log(LogLevel::warning, peer + " does not take its answers and is disconnected, others wait behind it");
    static_cast<void>(transport.disconnectPeer(request.peer));  // It may have left by itself in the meantime.
  }

  Host& host_;
  std::string name_;
  std::unique_ptr<Transport> transport_;  // Last: its callbacks end before what they use goes.
};

}  // namespace

int command_run(const ProgramOptions& program, const RunArguments& arguments) {
  const StopSignal stop([] {});
  const auto host = load_host(program, arguments.file, LogLevel::info);
  std::vector<std::unique_ptr<EchoService>> services;
  for (const auto& entry : host->config().transports) {
    services.push_back(std::make_unique<EchoService>(*host, entry));
    services.back()->report_ready(entry);
  }
  std::puts("ready");
  std::fflush(stdout);
  stop.wait();
  host->log(LogLevel::info, "stopping on signal " + std::to_string(stop.number()));
  for (auto& service : services) service->stop_and_report();
  std::fflush(stdout);
  return kExitOk;
}

}  // namespace cdmf::ipc::cli
