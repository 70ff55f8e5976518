#include "cli/bench/bench_peer.h"

#include <algorithm>
#include <optional>

#include "cli/bench/payload.h"
#include "cli/command_error.h"
#include "ipc/service_stub.h"

namespace cdmf::ipc::cli {
namespace {

class Server {
 public:
  Server(Transport& transport, std::size_t size_bytes)
      : transport_(transport), expected_(size_bytes), answer_(size_bytes) {}

  ~Server() { transport_.setPeerCallback({}); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  enum class Answers { NONE, EACH, TOGETHER };  // TOGETHER: to what came together.

  // One round: checks and answers every message until the CONTROL message that ends the round.
  void serve(Answers answers) {
    transport_.setPeerCallback([this](const PeerEvent& event) {
      if (event.kind == PeerEvent::Kind::DISCONNECTED) ended_ = event.reason;
    });
    std::uint64_t received = 0;
    bool over = false;
    const auto handle = [&](const MessageView& message) {
      if (message.type == MessageType::CONTROL) {
        if (message.id != received) throw_wrong(message.id, received, "messages were sent, but received: ");
        over = true;
        return;
      }
      if (!expected_.check(message.payload, received)) throw_wrong(received, message.id, "is wrong, with id ");
      if (answers != Answers::NONE) answer(message, received, answers == Answers::EACH);
      ++received;
    };
    const auto gone = [&] {
      if (ended_) throw_lost_peer(to_string(*ended_));
    };
    while (!over) {
      receive_some(transport_, handle, gone, answers == Answers::EACH ? 1 : Transport::kBurstMax);
      if (answers == Answers::TOGETHER) require(transport_.flush());
    }
  }

  // One round of calls: the same checks and answers, through a stub.
  void serve_calls() {
    std::uint64_t received = 0;
    StubOptions options;
    options.batch_replies = true;
    std::optional<ServiceStub> stub;
    options.on_peer = [&](const PeerEvent& event) {
      if (event.kind != PeerEvent::Kind::DISCONNECTED) return;
      ended_ = event.reason;
      static_cast<void>(stub->stop());
    };
    stub.emplace(transport_, options);
    require(stub->on(kEchoMethod, [&](IncomingCall& call) {
      if (!expected_.check(call.payload(), received)) throw ApplicationError(1, "the request is wrong");
      static_cast<void>(call.reply(answer_.numbered(received)));
      ++received;
    }));
    require(stub->on(kEndMethod, [&](IncomingCall& call) {
      static_cast<void>(call.reply());
      static_cast<void>(stub->stop());
    }));
    require(stub->start());
    require(stub->serve());
    if (ended_) throw_lost_peer(to_string(*ended_));
  }

 private:
  static void require(const TransportResult<>& result) {
    if (!result) throw CommandError("cannot serve: " + result.text());
  }

  void answer(const MessageView& message, std::uint64_t sequence, bool flush) {
    MessageView view;
    view.id = sequence;
    view.payload = answer_.numbered(sequence);
    const auto sent = transport_.send(view, SendOptions{.peer = message.peer, .flush = flush});
    if (!sent) throw CommandError("cannot answer: " + sent.text());
  }

  [[noreturn]] static void throw_wrong(std::uint64_t which, std::uint64_t what, const char* how) {
    throw CommandError("message " + std::to_string(which) + " " + how + std::to_string(what));
  }

  Transport& transport_;
  TestPayload expected_;
  TestPayload answer_;
  std::optional<TransportError> ended_;
};

}  // namespace

void throw_silent_peer() { throw CommandError("the other side of the benchmark has been silent for 10 s"); }

void throw_lost_peer(const std::string& reason) {
  throw CommandError("the other side of the benchmark is gone: " + reason);
}

void send_error(ControlChannel& control, std::string text) {
  std::replace(text.begin(), text.end(), '\n', ';');
  control.send_line("error " + text);  // When nobody is left to hear it, nobody needs it.
}

bool serve_rounds(Transport& transport, ControlChannel& control, std::size_t size_bytes) {
  try {
    Server server(transport, size_bytes);
    control.send_line("ready");
    std::string line;
    for (;;) {
      const auto outcome = control.read_line(line, std::chrono::hours(24));
      if (outcome != ControlChannel::ReadOutcome::line) return true;
      control.send_line("serving");
      if (line == "call") {
        server.serve_calls();
      } else {
        server.serve(line == "pingpong"   ? Server::Answers::EACH
                     : line == "exchange" ? Server::Answers::TOGETHER
                                          : Server::Answers::NONE);
      }
      control.send_line("done");
    }
  } catch (const std::exception& error) {
    send_error(control, error.what());
    return false;
  }
}

}  // namespace cdmf::ipc::cli
