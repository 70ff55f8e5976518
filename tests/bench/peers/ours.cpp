// Ours, as a program uses them: a YAML text, a Host, plugins loaded from their .so, poll() and await().
#include "ipc/host.h"

#include "peers/link_bench.h"

namespace cdmf::bench {
namespace {

template <class T>
void require(const ipc::TransportResult<T>& result) {
  if (!result.success()) throw std::runtime_error(result.text());
}

/// How one of our subjects is configured.
struct Ours {
  std::string type;
  std::string options;      // As YAML, without the way of waiting.
  std::size_t message_max;  // Of the shipped preset; larger messages raise it.
  std::string poll_wait;    // Option that has it poll; when it is to sleep, it sleeps at once.
  bool poll_alone;  // With Wait::poll it is never awaited: await() would sleep. That of shm polls by itself, and gRPC's
                    // own threads have to run.
  std::string wait_option(Wait wait) const {
    if (wait == Wait::poll) return poll_wait;
    return type == "shm" ? "wait: futex" : type == "loopback" ? "" : "spin_budget: 0";
  }
  std::string options_for(Wait wait) const {
    const std::string wait_text = wait_option(wait);
    return options + (options.empty() || wait_text.empty() ? "" : ", ") + wait_text;
  }
  std::string settings(const Case& what) const {
    return type + ": { " + options_for(what.wait) +
           " }, max_message_size: " + std::to_string(std::max(message_max, what.size_bytes));
  }
};

class OurLink {
 public:
  OurLink(const Place& place, const Ours& ours)
      : looks_(place.polls() && ours.poll_alone ? 1 << 14 : 4), awaits_(!place.polls() || !ours.poll_alone) {
    const std::string yaml =
        "version: 1\ntransports:\n  main:\n    type: " + ours.type + "\n    endpoint: /" + place.name +
        "\n    max_message_size: " + std::to_string(std::max(ours.message_max, place.what.size_bytes)) +
        "\n    send_timeout: 20s\n    " + ours.type + ": { " + ours.options_for(place.what.wait) + " }\n";
    ipc::RegistryOptions options;
    options.log_level = ipc::LogLevel::error;
    auto host = ipc::Host::from_text("bench", yaml, options);
    require(host);
    auto made = host.value->create("main", place.server ? ipc::Role::SERVER : ipc::Role::CLIENT,
                                   [](ipc::TransportConfig& config) {
                                     config.receive = ipc::Receive::POLL;
                                     config.senders = ipc::Senders::ONE;
                                   });
    require(made);
    transport_ = std::move(made.value);
    require(transport_->start());
    require(transport_->connect());
  }
  void send(std::span<const std::byte> message, bool flush) {
    ipc::MessageView view;
    view.payload = message;
    require(transport_->send(view, {.flush = flush}));
  }
  void drain() { require(transport_->flush()); }
  template <class Handler>
  std::size_t receive(Handler&& handler, std::size_t limit) {
    const auto hand = [&](const ipc::MessageView& message) { handler(message.payload); };
    // A few looks before a wait is set up, which would take as long as a message over shared memory.
    for (int i = 0; i < looks_; ++i) {
      if (const std::size_t count = transport_->poll(hand, limit); count > 0) return count;
    }
    if (awaits_) (void)transport_->await(std::chrono::seconds(1));
    return transport_->poll(hand, limit);
  }

 private:
  const int looks_;
  const bool awaits_;
  std::unique_ptr<ipc::Transport> transport_;
};

Subject subject(const std::string& name, const std::string& label, Ours ours, std::size_t size_max,
                bool one_process = false) {
  Subject made;
  made.name = name;
  made.label = label;
  made.library = "cdmf";
  made.ours = true;
  made.one_process = one_process;
  made.settings = [=](const Case& what) { return ours.settings(what); };
  made.applies = [=](const Case& what) {
    return what.size_bytes <= size_max && !(one_process && (what.clients > 1 || what.wait == Wait::poll));
  };
  made.measure = [=](const Case& what, const Setting& setting) {
    return measure_link<OurLink>([&](const Place& place) { return std::make_unique<OurLink>(place, ours); }, what,
                                 setting, one_process);
  };
  return made;
}

}  // namespace

std::vector<Subject> our_subjects() {
  constexpr std::size_t kAny = std::size_t{64} << 20;
  return {
      subject("shm_ultra_low_latency", "cdmf shm ultra_low_latency",
              {"shm", "ring_buffer_capacity: 256, checksum: none, timestamp: off", 4096, "wait: spin", false}, 4096),
      subject("shm_high_throughput", "cdmf shm high_throughput",
              {"shm", "ring_buffer_capacity: 16384", 262144, "wait: spin", false}, kAny),
      subject("shm_unchecked", "cdmf shm high_throughput, no checksum",
              {"shm", "ring_buffer_capacity: 16384, checksum: none", 262144, "wait: spin", false}, kAny),
      subject("shm_default", "cdmf shm, defaults",
              {"shm", "ring_buffer_capacity: 4096", 65536, "wait: adaptive", false}, 262144),
      subject("unix_socket", "cdmf unix_socket", {"unix_socket", "queue_size: 4MiB", 65536, "", true}, kAny),
      subject("grpc", "cdmf grpc, plain text", {"grpc", "insecure: true", 65536, "spin_budget: 10ms", false}, kAny),
      subject("loopback", "cdmf loopback (one process)", {"loopback", "queue_size: 4MiB", 65536, "", false}, kAny,
              true),
  };
}

}  // namespace cdmf::bench
