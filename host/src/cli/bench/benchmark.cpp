#include "cli/bench/benchmark.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "cli/bench/bench_peer.h"
#include "cli/bench/payload.h"
#include "cli/bench/round_trips.h"
#include "cli/command_error.h"
#include "ipc/service_proxy.h"

namespace cdmf::ipc::cli {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

// A stream of small messages is published in batches of so many bytes, or of one message when that is larger.
constexpr std::size_t kBatchBytes = std::size_t{4} << 10;
// Batches of round trips: long enough to hide the clock, short enough that most of them are undisturbed.
constexpr auto kBatchTime = std::chrono::microseconds(30);

double mean(double a, double b) { return (a + b) / 2; }

class Client {
 public:
  Client(Transport& transport, BenchmarkPeer peer, const BenchmarkOptions& options)
      : transport_(transport),
        peer_(std::move(peer)),
        options_(options),
        outgoing_(options.size_bytes),
        expected_(options.size_bytes) {
    watch_peer();
  }
  ~Client() { transport_.setPeerCallback({}); }

  RoundTrips ping_pong(nanoseconds budget) {
    begin_round("pingpong");
    const std::size_t batch = trips_per_batch();
    auto trips = measure_round_trips([this] { round_trip(); }, budget, batch);
    end_round();
    return trips;
  }

  // Messages per second.
  double stream(nanoseconds budget) {
    begin_round("stream");
    const std::size_t batch = std::max<std::size_t>(1, kBatchBytes / options_.size_bytes);
    const auto begin = Clock::now();
    do {
      for (std::size_t i = 0; i + 1 < batch; ++i) send_next(false);
      send_next(true);
    } while (Clock::now() - begin < budget);
    const std::uint64_t count = sequence_;
    end_round();  // The peer has read and checked all of them before it says so.
    return static_cast<double>(count) / std::chrono::duration<double>(Clock::now() - begin).count();
  }

  // Messages there and back per second, many under way: what asynchronous calls could be without being calls.
  double exchange(nanoseconds budget) {
    begin_round("exchange");
    std::uint64_t answered = 0;
    bool wrong = false;
    const auto take = [&](const MessageView& message) { wrong |= !expected_.check(message.payload, answered++); };
    const auto gone = [this] {
      if (ended_) fail(to_string(*ended_));
    };
    const auto begin = Clock::now();
    do {
      for (std::size_t i = 0; i + 1 < batch(); ++i) send_next(false);
      send_next(true);
      while (sequence_ - answered > window() && !wrong) receive_some(transport_, take, gone);
    } while (Clock::now() - begin < budget && !wrong);
    while (answered != sequence_ && !wrong) receive_some(transport_, take, gone);
    if (wrong) throw CommandError("answer " + std::to_string(answered) + " of a stream of them is wrong");
    const double per_s = static_cast<double>(answered) / std::chrono::duration<double>(Clock::now() - begin).count();
    end_round();
    return per_s;
  }

  struct Calls {
    RoundTrips one_at_a_time;
    double pipelined_per_s = 0;
  };

  Calls calls(nanoseconds one_at_a_time, nanoseconds pipelined) {
    begin_round("call");
    Calls figures;
    {
      ProxyOptions options;
      options.timeout = kPeerSilenceMax;
      ServiceProxy proxy(transport_, options);
      figures.one_at_a_time = measure_round_trips([&] { call(proxy); }, one_at_a_time, 64);
      figures.pipelined_per_s = call_pipelined(proxy, pipelined);
      const auto end = proxy.call(kEndMethod, {});
      if (!end) fail(end.text());
    }
    watch_peer();  // The proxy had the callback.
    expect_line("done");
    return figures;
  }

 private:
  void watch_peer() {
    transport_.setPeerCallback([this](const PeerEvent& event) {
      if (event.kind == PeerEvent::Kind::DISCONNECTED) ended_ = event.reason;
    });
  }

  void call(ServiceProxy& proxy) {
    const std::uint64_t sequence = sequence_++;
    bool right = false;
    const auto end = proxy.callView(kEchoMethod, outgoing_.numbered(sequence), [&](std::span<const std::byte> reply) {
      right = expected_.check(reply, sequence);
    });
    if (!end) fail(end.text());
    if (!right) throw CommandError("the reply to call " + std::to_string(sequence) + " is wrong");
  }

  // Of what is sent at once, and of what is under way, where answers come.
  [[nodiscard]] std::size_t batch() const { return std::clamp<std::size_t>(kBatchBytes / options_.size_bytes, 1, 64); }
  [[nodiscard]] std::size_t window() const { return std::min<std::size_t>(4 * batch(), 512); }

  // Calls per second. Requests are published in batches, as in a stream.
  double call_pipelined(ServiceProxy& proxy, nanoseconds budget) {
    const std::uint64_t first = sequence_;
    answered_ = first;
    wrong_ = false;
    const auto send = [&](bool flush) {
      CallOptions options;
      options.flush = flush;
      proxy.callAsync(
          kEchoMethod, outgoing_.numbered(sequence_++),
          [this](const CallReply& reply) { wrong_ |= !reply || !expected_.check(reply.payload, answered_++); },
          options);
    };
    const auto begin = Clock::now();
    do {
      for (std::size_t i = 0; i + 1 < batch(); ++i) send(false);
      send(true);
      while (sequence_ - answered_ > window() && !wrong_) proxy.poll();
    } while (Clock::now() - begin < budget && !wrong_);
    while (answered_ != sequence_ && !wrong_ && !ended_) {
      if (proxy.poll() == 0) static_cast<void>(proxy.await(std::chrono::milliseconds(100)));
    }
    if (wrong_) throw CommandError("call " + std::to_string(answered_) + " of a stream of calls went wrong");
    return static_cast<double>(answered_ - first) / std::chrono::duration<double>(Clock::now() - begin).count();
  }

  void begin_round(const char* kind) {
    sequence_ = 0;
    if (!peer_.control.send_line(kind)) fail("cannot start a round");
    expect_line("serving");
  }

  void end_round() {
    MessageView last;
    last.type = MessageType::CONTROL;
    last.id = sequence_;
    check_sent(transport_.send(last));
    check_sent(transport_.flush());  // From here on nobody calls the transport, so nothing may stay behind in it.
    expect_line("done");
  }

  void expect_line(const std::string& expected) {
    std::string line;
    const auto outcome = peer_.control.read_line(line, kPeerSilenceMax);
    if (outcome == ControlChannel::ReadOutcome::timed_out) throw_silent_peer();
    if (outcome == ControlChannel::ReadOutcome::closed || line != expected) fail(line);
  }

  void send_next(bool flush) {
    MessageView message;
    message.id = sequence_;
    message.payload = outgoing_.numbered(sequence_);
    check_sent(transport_.send(message, SendOptions{.flush = flush}));
    ++sequence_;
  }

  void round_trip() {
    const std::uint64_t sequence = sequence_;
    send_next(true);
    receive_some(
        transport_,
        [&](const MessageView& message) {
          if (expected_.check(message.payload, sequence)) return;
          throw CommandError("the answer to message " + std::to_string(sequence) + " is wrong");
        },
        [this] {
          if (ended_) fail(to_string(*ended_));
        },
        1);
  }

  std::size_t trips_per_batch() {
    constexpr int kTrips = 16;
    const auto begin = Clock::now();
    for (int i = 0; i < kTrips; ++i) round_trip();
    const nanoseconds one = (Clock::now() - begin) / kTrips;
    return static_cast<std::size_t>(
        std::clamp<nanoseconds::rep>(nanoseconds(kBatchTime) / std::max(one, nanoseconds(1)), 2, 256));
  }

  void check_sent(const TransportResult<>& sent) {
    if (!sent.success()) fail(sent.text());
  }

  // What the peer says of itself explains more than what the transport noticed of it.
  [[noreturn]] void fail(const std::string& noticed) {
    std::string line = noticed;
    while (line.rfind("error ", 0) != 0) {
      std::string next;
      if (peer_.control.read_line(next, std::chrono::milliseconds(500)) != ControlChannel::ReadOutcome::line) break;
      line = next;
    }
    if (line.rfind("error ", 0) == 0) throw CommandError("the other side of the benchmark: " + line.substr(6));
    const std::string end = peer_.end();
    throw_lost_peer(noticed + (end.empty() ? "" : " (" + end + ")"));
  }

  Transport& transport_;
  BenchmarkPeer peer_;
  const BenchmarkOptions& options_;
  TestPayload outgoing_;
  TestPayload expected_;
  std::uint64_t sequence_ = 0;
  std::uint64_t answered_ = 0;  // Of the calls in a stream of them.
  bool wrong_ = false;
  std::optional<TransportError> ended_;
};

// One value per round.
struct Series {
  std::vector<double> transport, cache_line, unix_rtt, futex, unix_writes, copy, pingpong, pipelined, exchanged;
};

}  // namespace

BenchmarkResult run_benchmark(Transport& transport, BenchmarkPeer peer, const BenchmarkOptions& options) {
  const ScopedPin pin(options.cpus.first);
  const bool ping_pong = options.pattern != Pattern::STREAM;
  const CpuPair& cpus = options.cpus;
  const std::size_t size = options.size_bytes;
  const auto part = [&](int percent) { return options.round * percent / 100; };

  Client client(transport, std::move(peer), options);
  const CopyGeometry geometry = choose_copy_geometry(cpus, 3, std::chrono::milliseconds(10));
  Series series;
  auto histogram = std::make_unique<LatencyHistogram>();
  for (int round = -1; round < options.rounds; ++round) {
    // What the ratios need is measured before and after, as the machine may change its speed in between.
    double cache_line = cache_line_round_trip(cpus, part(ping_pong ? 10 : 5)).untimed_ns;
    double copy = copy_bytes_per_second(cpus, geometry, part(ping_pong ? 5 : 10));
    double unix_rtt = socket_round_trip(cpus, size, part(8)).untimed_ns;
    double transported = 0;
    double raw = 0;
    double pipelined = 0;
    double exchanged = 0;
    if (ping_pong) {
      RoundTrips trips;
      if (options.pattern == Pattern::CALL) {
        raw = client.ping_pong(part(10)).untimed_ns;
        exchanged = client.exchange(part(5));
        Client::Calls calls = client.calls(part(15), part(10));
        exchanged = mean(exchanged, client.exchange(part(5)));
        raw = mean(raw, client.ping_pong(part(10)).untimed_ns);
        pipelined = calls.pipelined_per_s;
        trips = std::move(calls.one_at_a_time);
      } else {
        trips = client.ping_pong(part(50));
      }
      transported = trips.untimed_ns;
      if (round >= 0) histogram->merge(trips.timed);
      cache_line = mean(cache_line, cache_line_round_trip(cpus, part(10)).untimed_ns);
      unix_rtt = mean(unix_rtt, socket_round_trip(cpus, size, part(7)).untimed_ns);
    } else {
      transported = client.stream(part(50));
      copy = mean(copy, copy_bytes_per_second(cpus, geometry, part(10)));
    }
    const double futex = futex_round_trip(cpus, part(5)).untimed_ns;
    const double unix_writes = socket_messages_per_second(cpus, size, part(5));
    if (round < 0) continue;
    series.transport.push_back(transported);
    series.pingpong.push_back(raw);
    series.pipelined.push_back(pipelined);
    series.exchanged.push_back(exchanged);
    series.cache_line.push_back(cache_line);
    series.unix_rtt.push_back(unix_rtt);
    series.futex.push_back(futex);
    series.unix_writes.push_back(unix_writes);
    series.copy.push_back(copy);
  }

  BenchmarkResult result;
  const double middle = median(series.transport).value_or(0);
  result.msgs_per_s = ping_pong ? (middle > 0 ? 1e9 / middle : 0) : middle;
  result.bytes_per_s = result.msgs_per_s * static_cast<double>(size);
  result.limit = {median(series.cache_line).value_or(0), median(series.unix_rtt).value_or(0),
                  median(series.futex).value_or(0), median(series.unix_writes).value_or(0),
                  median(series.copy).value_or(0)};
  if (ping_pong) {
    result.rtt_ns = middle;
    result.rtt = summarize(*histogram);
    result.pingpong_ns = median(series.pingpong).value_or(0);
    result.calls_per_s = median(series.pipelined).value_or(0);
    result.exchanges_per_s = median(series.exchanged).value_or(0);
    result.ratio_to_exchange = spread_of_ratios(series.pipelined, series.exchanged).value_or(Spread{});
    result.ratio_to_pingpong = spread_of_ratios(series.transport, series.pingpong).value_or(Spread{});
    result.ratio_to_limit = spread_of_ratios(series.transport, series.cache_line).value_or(Spread{});
    result.ratio_to_unix = spread_of_ratios(series.transport, series.unix_rtt).value_or(Spread{});
  } else {
    std::vector<double> bytes = series.transport;
    for (auto& value : bytes) value *= static_cast<double>(size);
    result.ratio_to_limit = spread_of_ratios(bytes, series.copy).value_or(Spread{});
    result.ratio_to_unix = spread_of_ratios(series.transport, series.unix_writes).value_or(Spread{});
  }
  return result;
}

}  // namespace cdmf::ipc::cli
