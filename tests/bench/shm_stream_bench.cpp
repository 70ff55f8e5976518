// bench_shm_stream: streams of 64 bytes through the plugin, as a program sends and polls them, beside the record ring
// alone with records of the same size, in the same round: what driver, C boundary, frame and Transport take.
//
//   transport/<options>   messages per second; the ratio is to the bare ring
//   …/batch               the same by sendBatch(), as many at a time as the others have to a flush
//   send/…, receive/…     nanoseconds a message of one side: both ends on one thread, a ring that stays in its cache.
//                         The slower side is the one to work on.
//   pool/<p>p<c>c         messages per second through `ring_type: mpmc`, all producers together
//   pool/ping_pong        nanoseconds there and back through two pools, which have no way back of their own
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>

#include "arguments.h"
#include "cli/bench/machine_limits.h"
#include "ends.h"
#include "ring/record_consumer.h"
#include "ring/record_pace.h"
#include "ring/record_producer.h"
#include "rounds.h"
#include "two_processes.h"
#include "wait/spinner.h"

namespace {

using namespace cdmf::bench;
using namespace cdmf::ipc;
using cli::CpuPair;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kSize = 64;
constexpr int kBatch = 64;                                        // Messages per flush.
constexpr std::uint64_t kRingBytes = std::uint64_t{16384} * 512;  // As config/high_throughput.yaml.
constexpr auto kBudget = std::chrono::milliseconds(60);

/// The ring alone, with room for a frame's header in each record.
double bare_ring(const CpuPair& cpus) {
  using namespace shm;
  const SharedMemory memory(4096 + kRingBytes);
  const auto ring = [&] {
    return RecordRingMemory{reinterpret_cast<RecordRingControl*>(memory.bytes()), memory.bytes() + 4096, kRingBytes};
  };
  auto& received = *reinterpret_cast<std::atomic<std::uint64_t>*>(memory.bytes() + 2048);
  constexpr std::size_t kRecord = 16 + kSize;
  OtherProcess other(cpus, [&] {
    memory.map_all();
    RecordConsumer consumer(ring());
    RecordView views[Transport::kBurstMax];
    RecordPace pace;
    for (std::uint64_t number = 0;;) {
      const std::size_t count = consumer.receive_burst(views);
      if (pace.after_poll(count)) {
        for (unsigned pause = 0; pause < RecordPace::kRestPauses; ++pause) cpu_relax();
      }
      if (count == 0) continue;
      for (std::size_t i = 0; i < count; ++i, ++number) {
        if (views[i].payload_bytes != kRecord || NumberedPayload::number_of(views[i].payload + 16) != number ||
            views[i].payload[kRecord - 1] != std::byte{'p'}) {
          throw std::runtime_error("a message arrived that was not sent");
        }
      }
      consumer.release(views[count - 1]);
      received.store(number, std::memory_order_release);
    }
  });
  RecordProducer producer(ring());
  char content[kRecord];
  std::memset(content, 'p', sizeof content);
  std::uint64_t number = 0;
  const auto send_for = [&](std::chrono::nanoseconds budget) {
    const auto begin = Clock::now();
    do {
      for (int i = 0; i < kBatch; ++i, ++number) {
        other.poll_until([&] { return producer.claim(kRecord) == ClaimOutcome::claimed; });
        std::byte* const to = producer.payload().data();
        std::memcpy(to, content, kRecord);
        std::memcpy(to + 16, &number, sizeof number);
        producer.commit(kRecord, 0, 0);
      }
      producer.flush();
    } while (Clock::now() - begin < budget);
    other.poll_until([&] { return received.load(std::memory_order_acquire) == number; });
  };
  send_for(kBudget / 6);
  const std::uint64_t before = number;
  const auto begin = Clock::now();
  send_for(kBudget);
  return static_cast<double>(number - before) / std::chrono::duration<double>(Clock::now() - begin).count();
}

std::string fresh_endpoint() {
  static int count = 0;
  return "/cdmf_bench_stream_" + std::to_string(getpid()) + "_" + std::to_string(++count);
}
std::string yaml(const std::string& options, std::uint64_t ring_bytes, const std::string& endpoint = fresh_endpoint(),
                 const std::string& max_message_size = "4KiB") {
  return "version: 1\ntransports: { main: { type: shm, endpoint: " + endpoint +
         ", max_message_size: " + max_message_size +
         ", send_timeout: 20s, shm: { ring_buffer_capacity: " + std::to_string(ring_bytes / 512) + ", " + options +
         " } } }\n";
}

template <class T>
T require(TransportResult<T> result) {
  if (!result.success()) throw std::runtime_error(result.text());
  if constexpr (!std::is_void_v<T>) return std::move(result.value);
}

enum class Way { single, batch };  // send(), and sendBatch() of kBatch messages.

class Side {
 public:
  Side(const std::string& text, Role role) {
    RegistryOptions options;
    options.log_level = LogLevel::error;
    host_ = require(Host::from_text("bench", text, options));
    transport_ = require(host_->create("main", role, [](TransportConfig& config) {
      config.receive = Receive::POLL;
      config.senders = Senders::ONE;
    }));
    require(transport_->start());
    require(transport_->connect());
    std::memset(payload_, 'p', sizeof payload_);
    std::memset(payloads_, 'p', sizeof payloads_);
    for (std::size_t i = 0; i < kBatch; ++i) messages_[i].payload = std::as_bytes(std::span(payloads_[i]));
  }
  void send(std::uint64_t number, bool flush) {
    std::memcpy(payload_, &number, sizeof number);
    MessageView message;
    message.payload = std::as_bytes(std::span(payload_));
    require(transport_->send(message, {.flush = flush}));
  }
  /// The numbers from first on, in one call.
  void send_batch(std::uint64_t first) {
    for (std::uint64_t i = 0; i < kBatch; ++i) {
      const std::uint64_t number = first + i;
      std::memcpy(payloads_[i], &number, sizeof number);
    }
    if (require(transport_->sendBatch(messages_)) != kBatch) throw std::runtime_error("a part of a batch was not sent");
  }
  template <class Handler>
  std::size_t poll(Handler&& handler) {
    return transport_->poll(handler);
  }
  Transport& transport() noexcept { return *transport_; }
  /// Answers each kLast.
  void sink() {
    std::uint64_t expected = 0;
    for (;;) {
      bool last = false;
      const std::size_t count = poll([&](const MessageView& message) {
        const std::uint64_t number = check(message);
        if (number == expected) [[likely]] {
          ++expected;
          return;
        }
        if (number != kLast) throw std::runtime_error("a message is missing");
        last = true;
      });
      if (last) send(expected, true);
      if (count == 0) (void)transport_->await(std::chrono::seconds(1));
    }
  }
  /// kBatch messages and a flush.
  void send_numbers(std::uint64_t first, Way way) {
    if (way == Way::batch) return send_batch(first);
    for (int i = 0; i < kBatch; ++i) send(first++, i + 1 == kBatch);
  }
  void stream_for(std::chrono::nanoseconds budget, Way way) {
    const auto begin = Clock::now();
    do {
      send_numbers(number_, way);
      number_ += kBatch;
    } while (Clock::now() - begin < budget);
    send(kLast, true);
    bool answered = false;
    while (!answered) {
      poll([&](const MessageView& message) {
        if (check(message) != number_) throw std::runtime_error("not everything arrived");
        answered = true;
      });
    }
  }
  Measured stream(Way way) {
    stream_for(kBudget / 6, way);
    const std::uint64_t before = number_;
    const auto begin = Clock::now();
    stream_for(kBudget, way);
    const std::chrono::duration<double> took = Clock::now() - begin;
    return {static_cast<double>(number_ - before) / took.count()};
  }
  static std::uint64_t check(const MessageView& message) {
    if (message.payload.size() != kSize || message.payload[kSize - 1] != std::byte{'p'}) {
      throw std::runtime_error("a message arrived that was not sent");
    }
    return NumberedPayload::number_of(message.payload.data());
  }

 private:
  std::unique_ptr<Host> host_;
  std::unique_ptr<Transport> transport_;
  std::uint64_t number_ = 0;
  char payload_[kSize];
  char payloads_[kBatch][kSize];
  MessageView messages_[kBatch];
};

Measured through_plugin(const CpuPair& cpus, const std::string& options, Way way) {
  const std::string text = yaml(options, kRingBytes);
  const auto server = [&](const std::function<void()>& ready) {
    Side side(text, Role::SERVER);
    ready();
    side.sink();
  };
  return measure_beside({server}, cpus, [&] { return Side(text, Role::CLIENT).stream(way); });
}

/// Nanoseconds a message, of one side.
Measured alone(const CpuPair& cpus, const std::string& options, bool sending, Way way) {
  const std::string text = yaml(options, 256 * 1024);
  return measure_beside({}, cpus, [&] {
    Side server(text, Role::SERVER);
    Side client(text, Role::CLIENT);
    while (server.transport().getPeers().empty()) server.poll([](const MessageView&) {});
    std::vector<double> took;
    std::uint64_t number = 0;
    std::uint64_t expected = 0;
    for (int stretch = 0; stretch < 20000; ++stretch) {
      const auto begin = Clock::now();
      client.send_numbers(number, way);
      number += kBatch;
      const auto sent = Clock::now();
      while (expected < number) {
        server.poll([&](const MessageView& message) {
          if (Side::check(message) != expected++) throw std::runtime_error("a message is missing");
        });
      }
      const auto received = Clock::now();
      took.push_back(std::chrono::duration<double, std::nano>(sending ? sent - begin : received - sent).count() /
                     kBatch);
    }
    return Measured{cli::median(took).value_or(0)};
  });
}

/// The configuration of a pool. Its members are killed at the end, so that nobody takes its object away.
class Pool {
 public:
  Pool() = default;
  ~Pool() { std::filesystem::remove("/dev/shm" + endpoint_ + ".pool"); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  [[nodiscard]] const std::string& text() const noexcept { return text_; }

 private:
  const std::string endpoint_ = fresh_endpoint();
  const std::string text_ = yaml("ring_type: mpmc, wait: adaptive", std::uint64_t{4096} * 512, endpoint_, "64");
};

/// Messages per second through a pool: what all consumers together take from all producers.
Measured pool_stream(const CpuPair& cpus, std::size_t producers, std::size_t consumers) {
  const SharedMemory memory(4096);
  const auto taken = [&](std::size_t consumer) -> std::atomic<std::uint64_t>& {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(memory.bytes() + 128 * consumer);
  };
  const auto all_taken = [&] {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < consumers; ++i) sum += taken(i).load(std::memory_order_relaxed);
    return sum;
  };
  const Pool pool;
  std::vector<std::function<void(const std::function<void()>&)>> others;
  for (std::size_t i = 0; i < consumers; ++i) {
    others.emplace_back([&, i](const std::function<void()>& ready) {
      cli::pin_to_cpu(cpus.second);
      Side side(pool.text(), Role::SERVER);
      ready();
      for (std::uint64_t count = 0;;) {
        const std::size_t got = side.poll([](const MessageView& message) { (void)Side::check(message); });
        if (got == 0) (void)side.transport().await(std::chrono::seconds(1));
        taken(i).store(count += got, std::memory_order_relaxed);
      }
    });
  }
  for (std::size_t i = 1; i < producers; ++i) {
    others.emplace_back([&](const std::function<void()>& ready) {
      cli::pin_to_cpu(cpus.first);
      Side side(pool.text(), Role::CLIENT);
      ready();
      for (std::uint64_t number = 0;; ++number) side.send(number, number % kBatch == 0);
    });
  }
  return measure_beside(others, cpus, [&] {
    Side side(pool.text(), Role::CLIENT);
    std::uint64_t number = 0;
    const auto send_for = [&](std::chrono::nanoseconds budget) {
      const auto begin = Clock::now();
      do {
        for (int i = 0; i < kBatch; ++i) side.send(number++, i + 1 == kBatch);
      } while (Clock::now() - begin < budget);
    };
    send_for(kBudget / 3);
    const std::uint64_t before = all_taken();
    const auto begin = Clock::now();
    send_for(4 * kBudget);
    const std::uint64_t after = all_taken();
    return Measured{static_cast<double>(after - before) / std::chrono::duration<double>(Clock::now() - begin).count()};
  });
}

Measured pool_round_trip(const CpuPair& cpus) {
  const Pool there;
  const Pool back;
  const auto next = [](Side& side) {
    std::uint64_t number = 0;
    while (side.transport().poll([&](const MessageView& message) { number = Side::check(message); }, 1) == 0) {
    }
    return number;
  };
  const auto echo = [&](const std::function<void()>& ready) {
    Side in(there.text(), Role::SERVER);
    ready();
    // The way back has its consumer when the first message comes.
    const std::uint64_t first = next(in);
    Side out(back.text(), Role::CLIENT);
    out.send(first, true);
    for (;;) out.send(next(in), true);
  };
  return measure_beside({echo}, cpus, [&] {
    Side in(back.text(), Role::SERVER);
    Side out(there.text(), Role::CLIENT);
    std::uint64_t number = 0;
    const auto trip = [&] {
      out.send(++number, true);
      if (next(in) != number) throw std::runtime_error("another message came back");
    };
    trip();
    const auto trips = cli::measure_round_trips(trip, kBudget, 64);
    return Measured{trips.untimed_ns, cli::summarize(trips.timed)};
  });
}

void add_subjects(Rounds& rounds, const CpuPair& cpus) {
  const std::pair<const char*, const char*> kinds[] = {
      {"plain", "wait: adaptive, checksum: none, timestamp: off"},
      {"spin", "wait: spin, checksum: none, timestamp: off"},
      {"timestamp", "wait: adaptive, checksum: none"},
      {"crc32", "wait: adaptive"},
  };
  for (const auto& [name, options] : kinds) {
    const std::string text = options;
    for (const Way way : {Way::single, Way::batch}) {
      const std::string of = name + std::string(way == Way::batch ? "/batch" : "");
      rounds.add({"transport/" + of, Unit::messages_per_second, [=] { return through_plugin(cpus, text, way); },
                  [=] { return bare_ring(cpus); }});
      rounds.add({"send/" + of, Unit::round_trip_ns, [=] { return alone(cpus, text, true, way); }});
    }
    rounds.add(
        {std::string("receive/") + name, Unit::round_trip_ns, [=] { return alone(cpus, text, false, Way::batch); }});
  }
  for (const std::size_t members : {1, 2}) {
    const std::string count = std::to_string(members);
    rounds.add({"pool/" + count + "p" + count + "c", Unit::messages_per_second,
                [=] { return pool_stream(cpus, members, members); }});
  }
  rounds.add({"pool/ping_pong", Unit::round_trip_ns, [=] { return pool_round_trip(cpus); }});
}

}  // namespace

int main(int argc, char** argv) {
  const auto arguments = read_arguments(argc, argv);
  if (!arguments) return 2;
  try {
    const CpuPair cpus = cli::choose_cpu_pair();
    if (!cpus.pinned) throw std::runtime_error("needs two CPUs; on one, figures would be those of the scheduler");
    Rounds rounds(cpus);
    add_subjects(rounds, cpus);
    rounds.keep_only(arguments->only);
    if (rounds.empty()) throw std::runtime_error("nothing has '" + arguments->only + "' in its name");
    rounds.run(arguments->rounds);
    std::fputs((arguments->json ? rounds.json("shm_stream") : rounds.table()).c_str(), stdout);
    return 0;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "bench_shm_stream: %s\n", problem.what());
    return 1;
  }
}
