#pragma once
// bench/ends.h: a measurement between processes of their own, each with a copy of this one that has no thread yet: what
// starts threads, as gRPC does, cannot be forked from afterwards. And both ends of a link as programs use it.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/bench/round_trips.h"
#include "cli/cpu.h"
#include "cli/process.h"
#include "ipc/host.h"
#include "rounds.h"

namespace cdmf::bench {

/// Runs the others first, in order, each until it says that it is ready; then `measure`; then kills them.
inline Measured measure_beside(const std::vector<std::function<void(const std::function<void()>& ready)>>& others,
                               const ipc::cli::CpuPair& cpus, const std::function<Measured()>& measure) {
  using ipc::cli::ChildProcess;
  using ipc::cli::ControlChannel;
  constexpr auto kPatience = std::chrono::seconds(20);
  std::vector<ChildProcess> running;
  std::string line;
  for (std::size_t i = 0; i < others.size(); ++i) {
    running.push_back(ChildProcess::call([&, i](ControlChannel& control) {
      if (i == 0) ipc::cli::pin_to_cpu(cpus.second);  // Those between the ends go where there is room.
      others[i]([&] { control.send_line("ready"); });
      return 0;
    }));
    if (running.back().control().read_line(line, kPatience) != ControlChannel::ReadOutcome::line) {
      throw std::runtime_error("the other end did not start");
    }
  }
  auto client = ChildProcess::call([&](ControlChannel& control) {
    ipc::cli::pin_to_cpu(cpus.first);
    const Measured found = measure();
    char text[160];
    std::snprintf(
        text, sizeof text, "%.3f %llu %llu %llu %llu", found.value,
        static_cast<unsigned long long>(found.latency.count), static_cast<unsigned long long>(found.latency.p50_ns),
        static_cast<unsigned long long>(found.latency.p99_ns), static_cast<unsigned long long>(found.latency.p999_ns));
    control.send_line(text);
    return 0;
  });
  if (client.control().read_line(line, kPatience) != ControlChannel::ReadOutcome::line) {
    throw std::runtime_error("the measuring end failed");
  }
  Measured found;
  unsigned long long n[4];
  if (std::sscanf(line.c_str(), "%lf %llu %llu %llu %llu", &found.value, &n[0], &n[1], &n[2], &n[3]) != 5) {
    throw std::runtime_error("the measuring end said: " + line);
  }
  found.latency = {n[0], n[1], n[2], n[3], 0};
  return found;
}

/// What a message carries: a number, then bytes of which a receiver reads every line.
class NumberedPayload {
 public:
  explicit NumberedPayload(std::size_t size) : bytes_(size, 'p') {}
  std::string_view with(std::uint64_t number) noexcept {
    std::memcpy(bytes_.data(), &number, sizeof number);
    return bytes_;
  }
  static std::uint64_t number_of(const void* from) noexcept {
    std::uint64_t number;
    std::memcpy(&number, from, sizeof number);
    return number;
  }
  /// Throws when a line of it, behind the number, was changed on the way.
  static void check_rest(const char* from, std::size_t size) {
    bool wrong = false;
    for (std::size_t at = 8; at < size; at += 64) wrong |= from[at] != 'p';
    if (wrong || from[size - 1] != 'p') throw std::runtime_error("a message arrived that was not sent");
  }

 private:
  std::string bytes_;
};

inline constexpr std::uint64_t kLast = ~std::uint64_t{0};

/// One end, over a transport.
class End {
 public:
  End(const std::string& yaml, const std::string& name, ipc::Role role) {
    ipc::RegistryOptions options;
    options.log_level = ipc::LogLevel::error;
    auto host = ipc::Host::from_text("bench", yaml, options);
    require(host);
    auto made = host.value->create(name, role, [](ipc::TransportConfig& config) {
      config.receive = ipc::Receive::POLL;
      config.senders = ipc::Senders::ONE;
    });
    require(made);
    transport_ = std::move(made.value);
    require(transport_->start());
    require(transport_->connect());
  }

  /// The next message's number; everything in it was read.
  std::uint64_t receive() {
    std::uint64_t number = 0;
    receive_some([&](const ipc::MessageView& message) { number = check(message); }, 1);
    return number;
  }
  template <class Handler>
  void receive_some(Handler&& handler, std::size_t limit) {
    while (transport_->poll(handler, limit) == 0) (void)transport_->await(std::chrono::seconds(1));
  }
  static std::uint64_t check(const ipc::MessageView& message) {
    NumberedPayload::check_rest(message.text().data(), message.payload.size());
    return NumberedPayload::number_of(message.payload.data());
  }
  void send(NumberedPayload& payload, std::uint64_t number, bool flush = true) {
    ipc::MessageView message;
    message.payload = std::as_bytes(std::span(payload.with(number)));
    require(transport_->send(message, {.timeout = std::chrono::seconds(20), .flush = flush}));
  }

  /// Sends back what comes.
  void echo(std::size_t size) {
    NumberedPayload payload(size);
    for (;;) send(payload, receive());
  }
  Measured round_trips(std::size_t size, std::chrono::nanoseconds budget, std::size_t batch) {
    NumberedPayload payload(size);
    std::uint64_t number = 0;
    const auto once = [&] {
      send(payload, ++number);
      if (receive() != number) throw std::runtime_error("another message came back");
    };
    const auto trips = ipc::cli::measure_round_trips(once, budget, batch);
    return {trips.untimed_ns, ipc::cli::summarize(trips.timed)};
  }

  /// Takes streams and answers the last message of each.
  void sink() {
    NumberedPayload answer(64);
    std::uint64_t expected = 0;
    for (;;) {
      bool last = false;
      receive_some(
          [&](const ipc::MessageView& message) {
            const std::uint64_t number = check(message);
            last |= number == kLast;
            if (number != kLast && number != expected++) throw std::runtime_error("a message is missing");
          },
          ipc::Transport::kBurstMax);
      if (last) send(answer, std::exchange(expected, 0));
    }
  }
  Measured stream(std::size_t size, std::chrono::nanoseconds budget) {
    NumberedPayload payload(size);
    const auto begin = std::chrono::steady_clock::now();
    std::uint64_t number = 0;
    while (std::chrono::steady_clock::now() - begin < budget) {
      for (int i = 0; i < 32; ++i) send(payload, number++, i == 31);
    }
    send(payload, kLast);
    if (receive() != number) throw std::runtime_error("not everything arrived");
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    return {static_cast<double>(number) / took.count()};
  }

 private:
  template <class T>
  static void require(const ipc::TransportResult<T>& result) {
    if (!result.success()) throw std::runtime_error(result.text());
  }
  std::unique_ptr<ipc::Transport> transport_;
};

}  // namespace cdmf::bench
