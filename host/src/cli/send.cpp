// cdmf send: the sending end of a pipe made of any transport. Exits 0 only when the transport has accepted everything.
#include <unistd.h>

#include <optional>
#include <vector>

#include "cli/commands.h"
#include "cli/fd_io.h"
#include "cli/interrupter.h"
#include "cli/line_splitter.h"
#include "cli/open_transport.h"
#include "cli/progress.h"
#include "cli/stop_signal.h"

namespace cdmf::ipc::cli {
namespace {

const std::string kInput = "standard input";
constexpr int kLookAtLinkMs = 50;  // How soon the end of the link is noticed while the input is silent.

class Sender {
 public:
  Sender(Host& host, const TransportEntry& entry, const StopSignal& stop)
      : host_(host), name_(entry.name), stop_(stop), progress_(STDIN_FILENO) {}

  void prepare(Transport& transport) {
    transport.setPeerCallback([this](const PeerEvent& event) {
      if (event.kind == PeerEvent::Kind::DISCONNECTED && !end_) end_ = event.reason;
    });
    transport.setErrorCallback([this](TransportError error, const std::string& text) {
      host_.log(LogLevel::warning, name_ + ": " + to_string(error) + ": " + text);
    });
  }

  void send_bytes(Transport& transport) {
    const std::size_t piece_bytes = transport.getInfo().max_message_size;
    for (;;) {
      wait_for_input(transport);
      // Input goes from the kernel straight into the memory that the transport sends.
      auto loan = [&] {
        for (;;) {
          auto result = transport.loan(piece_bytes);
          if (result.success()) return std::move(result.value);
          retry_or_throw(transport, result.error, result.text());
        }
      }();
      const std::size_t size = read_available(STDIN_FILENO, loan.payload(), kInput);
      if (size == 0) break;  // The loan ends unsent.
      const auto committed = loan.commit(size);
      if (!committed) fail(committed.text());
      count(size);
    }
    finish(transport);
  }

  void send_lines(Transport& transport) {
    LineSplitter splitter(transport.getInfo().max_message_size);
    std::vector<std::byte> piece(std::size_t{64} << 10);
    const auto send_line = [&](std::string_view line) {
      MessageView message;
      message.payload = std::as_bytes(std::span(line.data(), line.size()));
      for (;;) {
        const auto sent = transport.send(message, SendOptions{.flush = false});
        if (sent.success()) break;
        retry_or_throw(transport, sent.error, sent.text());
      }
      count(line.size() + 1);
    };
    try {
      for (;;) {
        wait_for_input(transport);
        const std::size_t size = read_available(STDIN_FILENO, piece, kInput);
        if (size == 0) break;
        splitter.feed({reinterpret_cast<const char*>(piece.data()), size}, send_line);
        flush(transport);  // What has been typed arrives now, not when more comes.
      }
      splitter.finish(send_line);
    } catch (const CommandError&) {
      // A line that is too long: those before it were accepted, so they shall arrive. A broken link: this changes
      // nothing.
      static_cast<void>(transport.flush());
      throw;
    }
    finish(transport);
  }

 private:
  void wait_for_input(Transport& transport) {
    if (wait_readable(STDIN_FILENO, 0) && stop_.number() == 0) return;
    flush(transport);  // While the input is silent nobody calls the transport, so nothing may stay behind in it.
    while (!wait_readable(STDIN_FILENO, kLookAtLinkMs)) {
      transport.poll([](const MessageView&) {});  // Answers are nothing to us; the end of the link is.
      check_link();
    }
    check_link();
  }

  void check_link() const {
    if (stop_.number() != 0) {
      throw CommandError(name_ + ": stopped by signal " + std::to_string(stop_.number()) + " after " + accepted());
    }
    if (end_) throw CommandError(name_ + ": the receiver is gone: " + to_string(*end_) + " after " + accepted());
  }

  // Waiting for a slow receiver is what a pipe is for: only its end, or a signal, ends the attempt.
  void retry_or_throw(Transport& transport, TransportError error, const std::string& text) {
    if (error != TransportError::TIMEOUT && error != TransportError::BUFFER_FULL &&
        error != TransportError::INTERRUPTED) {
      fail(text);
    }
    transport.poll([](const MessageView&) {});
    check_link();
    if (error != TransportError::TIMEOUT || warned_) return;
    warned_ = true;
    progress_.clear();
    host_.log(LogLevel::warning, name_ + ": the receiver takes nothing for now; still waiting for it");
  }

  [[noreturn]] void fail(const std::string& text) {
    throw CommandError(name_ + ": not everything was sent: " + text + " (accepted before: " + accepted() + ")");
  }

  void flush(Transport& transport) {
    for (;;) {
      const auto flushed = transport.flush();
      if (flushed.success()) return;
      retry_or_throw(transport, flushed.error, flushed.text());
    }
  }

  void finish(Transport& transport) {
    flush(transport);
    progress_.clear();
    const auto closed = transport.disconnect();
    if (!closed) fail(closed.text());
  }

  void count(std::size_t bytes) {
    ++messages_;
    bytes_ += bytes;
    progress_.add(bytes);
  }

  [[nodiscard]] std::string accepted() const {
    return std::to_string(messages_) + " messages, " + std::to_string(bytes_) + " bytes";
  }

  Host& host_;
  std::string name_;
  const StopSignal& stop_;
  Progress progress_;
  std::optional<TransportError> end_;
  bool warned_ = false;
  std::uint64_t messages_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace

int command_send(const ProgramOptions& program, const TransferArguments& arguments) {
  Interrupter interrupter;
  const StopSignal stop([&] {
    // Before there is a connection nothing is lost by ending at once, and connect() may take its time.
    if (!interrupter.interrupt()) _exit(kExitFailure);
  });
  const auto host = load_host(program, arguments.file, LogLevel::warning);
  const TransportEntry& entry = choose_entry(*host, arguments.file, arguments.transport);
  require_two_processes(*host, entry);

  Sender sender(*host, entry, stop);
  const auto transport = open_transport(
      *host, entry, Role::CLIENT,
      [](TransportConfig& config) {
        config.receive = Receive::POLL;
        config.senders = Senders::ONE;
        config.auto_reconnect = false;  // Half a stream to one receiver and half to the next helps nobody.
        config.properties.erase("auto_reconnect");
      },
      [&](Transport& created) { sender.prepare(created); });
  const Interrupter::Scope interruptible(interrupter, *transport);
  if (arguments.raw) {
    sender.send_bytes(*transport);
  } else {
    sender.send_lines(*transport);
  }
  return kExitOk;
}

}  // namespace cdmf::ipc::cli
