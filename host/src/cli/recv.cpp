// cdmf recv: the receiving end of a pipe made of any transport.
#include <unistd.h>

#include <optional>

#include "cli/commands.h"
#include "cli/fd_io.h"
#include "cli/interrupter.h"
#include "cli/open_transport.h"
#include "cli/stop_signal.h"

namespace cdmf::ipc::cli {
namespace {

constexpr std::size_t kTextBytesMax = std::size_t{64} << 10;
const std::string kOutput = "standard output";

// Takes the messages of the first client that connects; others would mix their bytes with its own.
class Receiver {
 public:
  Receiver(Host& host, std::string name, bool raw) : host_(host), name_(std::move(name)), raw_(raw) {}

  void prepare(Transport& transport) {
    transport.setPeerCallback([this, &transport](const PeerEvent& event) { on_peer(transport, event); });
    transport.setErrorCallback([this](TransportError error, const std::string& text) {
      host_.log(LogLevel::warning, name_ + ": " + to_string(error) + ": " + text);
    });
  }

  void take(const MessageView& message) {
    if (message.peer != sender_) return;
    ++messages_;
    if (raw_) return write_all(STDOUT_FILENO, message.payload, kOutput);
    text_ += message.text();
    text_ += '\n';
    if (text_.size() >= kTextBytesMax) write_text();
  }

  // Lines are written when a burst is over: at once for a person who waits, many at a time in a stream.
  void write_text() {
    write_all(STDOUT_FILENO, text_, kOutput);
    text_.clear();
  }

  [[nodiscard]] bool ended() const noexcept { return end_.has_value(); }
  [[nodiscard]] std::uint64_t messages() const noexcept { return messages_; }

  // throws unless the sender said that this was all.
  void check_end() const {
    const std::string received = " after " + std::to_string(messages_) + " messages";
    if (end_->reason != TransportError::CONNECTION_CLOSED) {
      throw CommandError(name_ + ": the sender is gone without closing, what was received is not all: " +
                         to_string(end_->reason) + received);
    }
    if (end_->messages_lost > 0) {
      throw CommandError(name_ + ": the transport lost " + std::to_string(end_->messages_lost) + " messages" +
                         received);
    }
  }

 private:
  void on_peer(Transport& transport, const PeerEvent& event) {
    if (event.kind == PeerEvent::Kind::CONNECTED) {
      if (sender_ == kNoPeer) {
        sender_ = event.peer;
        host_.log(LogLevel::info, name_ + ": the sender has connected");
        return;
      }
      host_.log(LogLevel::warning, name_ + ": a second sender was sent away; one recv serves one send");
      static_cast<void>(transport.disconnectPeer(event.peer));  // It may have left by itself in the meantime.
    } else if (event.peer == sender_ && !end_) {
      end_ = event;
    }
  }

  Host& host_;
  std::string name_;
  bool raw_;
  PeerId sender_ = kNoPeer;
  std::optional<PeerEvent> end_;
  std::uint64_t messages_ = 0;
  std::string text_;
};

}  // namespace

int command_recv(const ProgramOptions& program, const TransferArguments& arguments) {
  Interrupter interrupter;
  const StopSignal stop([&] { interrupter.interrupt(); });
  const auto host = load_host(program, arguments.file, LogLevel::warning);
  const TransportEntry& entry = choose_entry(*host, arguments.file, arguments.transport);
  require_two_processes(*host, entry);

  Receiver receiver(*host, entry.name, arguments.raw);
  const auto transport = open_transport(
      *host, entry, Role::SERVER,
      [](TransportConfig& config) {
        config.receive = Receive::POLL;
        config.senders = Senders::ONE;
        config.auto_reconnect = false;  // Another connection is another stream.
        config.properties.erase("auto_reconnect");
      },
      [&](Transport& created) { receiver.prepare(created); });
  const Interrupter::Scope interruptible(interrupter, *transport);
  host->log(LogLevel::info, entry.name + ": waiting for a sender at " + transport->getInfo().address);

  while (!receiver.ended() && stop.number() == 0) {
    const std::size_t taken = transport->poll([&](const MessageView& message) { receiver.take(message); });
    if (taken > 0) {
      receiver.write_text();
      continue;
    }
    if (receiver.ended()) break;
    const auto waited = transport->await(std::chrono::milliseconds(500));
    if (!waited && waited.error != TransportError::TIMEOUT && waited.error != TransportError::INTERRUPTED) {
      require(waited, entry.name);
    }
  }
  receiver.write_text();
  const bool ended = receiver.ended();  // Stopping ends the link too, which is not the sender's doing.
  transport->stop();
  if (!ended) {
    throw CommandError(entry.name + ": stopped by signal " + std::to_string(stop.number()) + " after " +
                       std::to_string(receiver.messages()) + " messages, before the sender had closed");
  }
  receiver.check_end();
  return kExitOk;
}

}  // namespace cdmf::ipc::cli
