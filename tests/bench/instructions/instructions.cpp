// bench_instructions: one operation of the shm transport, through its plugin, many times, both ends in one process and
// on one thread. instructions.sh lets callgrind count the instructions inside the functions named measured_….
//   bench_instructions <preset> <operation>
//   bench_instructions --list        the operations, a line each
//   bench_instructions --compiler    what it was built with: other compilers make other code
// CDMF_PLUGIN_PATH  where libcdmf_shm.so is
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ipc/host.h"
#include "ipc/service_proxy.h"
#include "ipc/service_stub.h"

namespace {

using namespace cdmf::ipc;

constexpr int kStretches = 100;
constexpr std::size_t kBurst = 32;  // Messages of a stretch: what one poll() can hand out.

struct Preset {
  const char* name;
  const char* options;
};
constexpr Preset kPresets[] = {
    {"ultra_low_latency", "ring_buffer_capacity: 256, wait: spin, checksum: none, timestamp: off"},
    // With timestamps the count is never twice the same: the clock is calibrated by time.
    {"checksum", "wait: spin, checksum: crc32, timestamp: off"},
};
struct Operation {
  const char* name;
  std::size_t size;
};
constexpr Operation kOperations[] = {{"send_64B", 64},      {"send_1KiB", 1024},   {"send_batch_64B", 64},
                                     {"sendBatch_64B", 64}, {"receive_64B", 64},   {"receive_burst_64B", 64},
                                     {"call_32B", 32},      {"call_batch_32B", 32}};

template <class T>
T require(TransportResult<T> result) {
  if (!result.success()) throw std::runtime_error(result.text());
  if constexpr (!std::is_void_v<T>) return std::move(result.value);
}

std::unique_ptr<Transport> end_of(Host& host, Role role) {
  auto transport = require(host.create("main", role, [](TransportConfig& config) {
    config.receive = Receive::POLL;
    config.senders = Senders::ONE;
  }));
  require(transport->start());
  require(transport->connect());
  return transport;
}

std::uint64_t seen = 0;  // What the handler adds up, so that it does something.

#define MEASURED extern "C" __attribute__((noinline)) void

MEASURED measured_send(Transport& transport, const MessageView& message, bool flush_each) {
  for (std::size_t i = 0; i < kBurst; ++i) {
    if (!transport.send(message, {.flush = flush_each || i + 1 == kBurst})) std::abort();
  }
}
/// The same messages in one call.
MEASURED measured_sendBatch(Transport& transport, std::span<const MessageView> messages) {
  if (!transport.sendBatch(messages)) std::abort();
}
MEASURED measured_receive(Transport& transport, std::size_t limit) {
  std::size_t count = 0;
  while (count < kBurst) {
    const std::size_t got = transport.poll([](const MessageView& message) { seen += message.payload.size(); }, limit);
    if (got == 0) std::abort();  // Everything was flushed; polling for more would count by chance.
    count += got;
  }
}
/// Calls, both ends: as one caller after the other would make them, or a burst of them.
void call_some(ServiceProxy& proxy, ServiceStub& stub, PayloadView request, std::size_t at_once) {
  for (std::size_t done = 0; done < kBurst; done += at_once) {
    CallOptions options;
    for (std::size_t i = 0; i < at_once; ++i) {
      options.flush = i + 1 == at_once;
      proxy.callAsync(
          "echo", request, [](const CallReply& reply) { seen += reply.payload.size(); }, options);
    }
    for (std::size_t got = 0; got < at_once;) got += stub.poll(at_once);
    for (std::size_t got = 0; got < at_once;) got += proxy.poll(at_once);
  }
}
MEASURED measured_call(ServiceProxy& proxy, ServiceStub& stub, PayloadView request, std::size_t at_once) {
  call_some(proxy, stub, request, at_once);
}
/// The same, not counted.
__attribute__((noinline)) void receive_rest(Transport& transport, std::size_t count) {
  while (count > 0) count -= transport.poll([](const MessageView& message) { seen += message.payload.size(); }, 1);
}
__attribute__((noinline)) void send_some(Transport& transport, const MessageView& message) {
  for (std::size_t i = 0; i < kBurst; ++i) require(transport.send(message));
}

bool run_calls(Transport& server, Transport& client, PayloadView request, std::size_t at_once) {
  StubOptions options;
  options.batch_replies = true;
  ServiceStub stub(server, options);
  require(stub.on("echo", [](IncomingCall& call) { (void)call.reply(call.payload()); }));
  require(stub.start());
  ServiceProxy proxy(client);
  require(proxy.start());
  call_some(proxy, stub, request, at_once);  // The client hears of its server, and learns the method's number.
  for (int stretch = 0; stretch < kStretches; ++stretch) measured_call(proxy, stub, request, at_once);
  return proxy.getStats().replies == std::uint64_t{kStretches + 1} * kBurst;
}

int run(const Preset& preset, const Operation& operation) {
  const std::string yaml = "version: 1\ntransports:\n  main: { type: shm, endpoint: /cdmf_instructions_" +
                           std::to_string(getpid()) + ", max_message_size: 4KiB, shm: { " + preset.options + " } }\n";
  RegistryOptions options;
  options.log_level = LogLevel::error;
  auto host = require(Host::from_text("instructions", yaml, options));
  const auto server = end_of(*host, Role::SERVER);
  const auto client = end_of(*host, Role::CLIENT);
  const std::vector<std::byte> payload(operation.size);
  MessageView message;
  message.payload = payload;
  const std::vector<MessageView> messages(kBurst, message);
  const bool at_once = std::strncmp(operation.name, "sendBatch", 9) == 0;
  const bool sends = std::strncmp(operation.name, "send", 4) == 0;
  const bool batch = std::strstr(operation.name, "batch") != nullptr || std::strstr(operation.name, "burst") != nullptr;
  // The server hears of its client first, which is not what is counted.
  while (server->getPeers().empty()) {
    server->poll([](const MessageView&) {});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // valgrind lets one thread run until it sleeps.
  }
  if (std::strncmp(operation.name, "call", 4) == 0) {
    return run_calls(*server, *client, std::span<const std::byte>(payload), batch ? kBurst : 1) ? 0 : 1;
  }
  for (int stretch = 0; stretch < kStretches; ++stretch) {
    if (at_once) {
      measured_sendBatch(*client, messages);
      receive_rest(*server, kBurst);
    } else if (sends) {
      measured_send(*client, message, !batch);
      receive_rest(*server, kBurst);
    } else {
      send_some(*client, message);
      measured_receive(*server, batch ? kBurst : 1);
    }
  }
  return seen == kStretches * kBurst * operation.size ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string word = argc > 1 ? argv[1] : "";
  if (word == "--compiler") return std::puts("GNU " __VERSION__) < 0;
  if (word == "--list") {
    for (const Preset& preset : kPresets) {
      for (const Operation& operation : kOperations) std::printf("%s %s\n", preset.name, operation.name);
    }
    return 0;
  }
  try {
    for (const Preset& preset : kPresets) {
      for (const Operation& operation : kOperations) {
        if (argc == 3 && word == preset.name && std::string(argv[2]) == operation.name) return run(preset, operation);
      }
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_instructions: %s\n", error.what());
    return 1;
  }
  std::fputs("usage: bench_instructions --list | --compiler | <preset> <operation>\n", stderr);
  return 2;
}
