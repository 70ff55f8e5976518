#pragma once
// bench/peers/link_bench.h: one measurement of one link between processes, the same for ours and for every peer.
//
// An adapter is a class, one object of it per end:
//
//   class SomeLink {
//    public:
//     explicit SomeLink(const Place&);  // server: open to clients; client: connected. Throws.
//     void send(std::span<const std::byte> message, bool flush);  // a copy is taken; waits for room; throws
//     template <class Handler>          // handler(std::span<const std::byte>) for up to `limit` messages
//     std::size_t receive(Handler&& handler, std::size_t limit);  // waits for one, at most a second; how many
//     void drain();                     // optional: returns when nothing needs this end to be called any more
//   };
//
// Nothing is called through a table: the receiving loop is compiled into each adapter. The first 8 bytes of a message
// are its number, the rest a pattern; the receiver reads every line and throws when one is wrong, missing or out of
// order. Marks between stretches are messages too, with bit 63 set in their number. Each measurement has fresh
// processes, pinned once the link stands; helper threads that a library started before run where there is room.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/bench/payload.h"
#include "cli/bench/round_trips.h"
#include "cli/process.h"
#include "peers/subject.h"

namespace cdmf::bench {

/// Where an end is.
struct Place {
  std::string name;  ///< a word for this measurement alone: of objects, files and endpoints
  bool server = false;
  Case what;
  int client = 0;  ///< which

  [[nodiscard]] std::string path(const std::string& ending) const { return "/tmp/" + name + ending; }
  [[nodiscard]] bool polls() const noexcept { return what.wait == Wait::poll; }
  /// Streams of small messages are published in batches of so many bytes, or of one message when that is larger.
  [[nodiscard]] std::size_t batch() const noexcept { return std::max<std::size_t>(1, 4096 / what.size_bytes); }
};

/// Looks until look() finds something, for some ms at most.
template <class Look>
std::size_t poll_some(Look&& look) {
  for (int i = 0; i < 1 << 16; ++i) {
    if (const std::size_t found = look(); found != 0) return found;
  }
  return 0;
}

/// Tries until attempt() succeeds; gives the processor away in between where clients share one.
template <class Attempt>
void try_until(const Place& place, Attempt&& attempt) {
  for (std::uint64_t tries = 0; !attempt(); ++tries) {
    if (place.what.clients > 1 || tries % 4096 == 4095) sched_yield();
  }
}

namespace detail {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

inline constexpr std::uint64_t kMark = std::uint64_t{1} << 63;  // The measured stretch begins.
inline constexpr std::uint64_t kEnd = kMark | 1;                // It is over.
inline constexpr int kClientShift = 48;                         // Whose message it is.
inline constexpr auto kSilenceMax = std::chrono::seconds(10);

[[nodiscard]] double cpu_ns() noexcept;        // This process so far.
[[nodiscard]] double memory_bytes() noexcept;  // Of this process; pages that several share count in parts.

inline std::uint64_t number_of(std::span<const std::byte> message) noexcept {
  std::uint64_t number = 0;
  if (message.size() >= sizeof number) std::memcpy(&number, message.data(), sizeof number);
  return number;
}
void sleep_until(Clock::time_point when);
[[noreturn]] void throw_wrong(std::uint64_t expected, std::span<const std::byte> message);

/// Throws when nothing has come for long.
class Silence {
 public:
  void heard() noexcept { since_ = {}; }
  void not_heard() {
    const auto now = Clock::now();
    if (since_ == Clock::time_point{}) since_ = now;
    if (now - since_ > kSilenceMax) throw std::runtime_error("the other end has been silent for 10 s");
  }

 private:
  Clock::time_point since_{};
};

template <class Link>
class Server {
 public:
  Server(const Place& place, Link& link) : place_(place), link_(link), next_(place.what.clients) {}

  void run() {
    const auto handle = [this](std::span<const std::byte> message) { take(message); };
    const std::size_t limit = place_.what.pattern == Pattern::stream ? 32 : 1;
    Silence silence;
    while (ended_ < place_.what.clients) link_.receive(handle, limit) > 0 ? silence.heard() : silence.not_heard();
  }
  [[nodiscard]] double cpu() const noexcept { return cpu_at_end_ - cpu_at_mark_; }
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] double seconds() const { return std::chrono::duration<double>(end_ - begin_).count(); }

 private:
  void take(std::span<const std::byte> message) {
    if (next_.size() == 1) [[likely]] {
      if (expected_.check(message, next_[0])) {
        if (place_.what.pattern != Pattern::stream) link_.send(answer_.numbered(next_[0]), true);
        ++next_[0];
        return;
      }
    }
    const std::uint64_t number = number_of(message);
    const auto client = (number >> kClientShift) & 0x7fff;
    if (client >= next_.size()) throw_wrong(next_[0], message);
    const std::uint64_t of_client = client << kClientShift;
    if (number & kMark) {
      if (!expected_.check(message, number)) throw_wrong(next_[client], message);
      mark(number & ~of_client);
    } else if (expected_.check(message, of_client | next_[client])) {
      ++next_[client];
    } else {
      throw_wrong(next_[client], message);
    }
  }
  void mark(std::uint64_t which) {
    if (which == kMark) {
      if (begin_ == Clock::time_point{}) begin_ = Clock::now();
      cpu_at_mark_ = cpu_ns();
      counted_from_ = place_.what.clients > 1 ? 0 : next_[0];
    } else {
      ++ended_;
      end_ = Clock::now();
      cpu_at_end_ = cpu_ns();
      count_ = 0;
      for (const std::uint64_t each : next_) count_ += each;
      count_ -= counted_from_;
    }
    // A stream is over when its last message has been read: the sender's clock stops with this answer.
    if (place_.what.clients == 1) link_.send(answer_.numbered(which), true);
  }

  const Place& place_;
  Link& link_;
  std::vector<std::uint64_t> next_;
  ipc::cli::TestPayload expected_{place_.what.size_bytes};
  ipc::cli::TestPayload answer_{place_.what.size_bytes, place_.what.writes};
  int ended_ = 0;
  std::uint64_t count_ = 0, counted_from_ = 0;
  double cpu_at_mark_ = 0, cpu_at_end_ = 0;
  Clock::time_point begin_{}, end_{};
};

template <class Link>
class Client {
 public:
  Client(const Place& place, Link& link) : place_(place), link_(link) {}

  /// One of the patterns; the outcome's CPU time is this end's alone, per message.
  Outcome run(nanoseconds budget) {
    if (place_.what.clients > 1) return one_of_many(budget);
    switch (place_.what.pattern) {
      case Pattern::ping_pong:
        return ping_pong(budget);
      case Pattern::stream:
        return stream(budget);
      case Pattern::paced:
        return paced(budget);
    }
    return {};
  }

 private:
  Outcome ping_pong(nanoseconds budget) {
    const auto warm = Clock::now();
    std::size_t trips = 0;
    do {
      trip();
      ++trips;
    } while (Clock::now() - warm < budget / 8 || trips < 16);
    const nanoseconds one = (Clock::now() - warm) / trips;
    const auto batch = static_cast<std::size_t>(
        std::clamp<nanoseconds::rep>(std::chrono::microseconds(30) / std::max(one, nanoseconds(1)), 2, 256));
    mark(kMark);
    const std::uint64_t first = sequence_;
    const double cpu = cpu_ns();
    auto found = ipc::cli::measure_round_trips([this] { trip(); }, budget, batch);
    Outcome outcome{found.untimed_ns, found.timed};
    outcome.cpu_ns_per_message = (cpu_ns() - cpu) / static_cast<double>(2 * (sequence_ - first));
    mark(kEnd);
    return outcome;
  }

  Outcome paced(nanoseconds budget) {
    constexpr auto kPace = std::chrono::milliseconds(1);
    constexpr auto kSpin = std::chrono::microseconds(150);
    for (int i = 0; i < 16; ++i) trip();
    mark(kMark);
    const auto cost = ipc::cli::clock_cost();
    const std::uint64_t first = sequence_;
    const double cpu = cpu_ns();
    const auto begin = Clock::now();
    Outcome outcome;
    for (auto due = begin + kPace; due < begin + budget; due += kPace) {
      // The sender's own wake-up is not what is measured: it sleeps short of the time and looks at the clock then.
      if (!place_.polls()) sleep_until(due - kSpin);
      while (Clock::now() < due) {
      }
      trip();
      outcome.latency.record(Clock::now() - due - cost);
    }
    const auto trips = static_cast<double>(sequence_ - first);
    outcome.value = static_cast<double>(outcome.latency.quantile_ns(0.5));
    outcome.cpu_ns_per_message = (cpu_ns() - cpu) / (2 * trips);
    mark(kEnd);
    return outcome;
  }

  Outcome stream(nanoseconds budget) {
    send_for(budget / 6);  // Long enough for a ring to be written once, so that no page is new.
    mark(kMark);
    const std::uint64_t first = sequence_;
    const double cpu = cpu_ns();
    const auto begin = Clock::now();
    send_for(budget);
    mark(kEnd);
    const std::chrono::duration<double> took = Clock::now() - begin;
    const auto sent = static_cast<double>(sequence_ - first);
    return {sent / took.count(), {}, (cpu_ns() - cpu) / sent};
  }

  Outcome one_of_many(nanoseconds budget) {
    link_.send(outgoing_.numbered(kMark | of_client()), true);
    const double cpu = cpu_ns();
    send_for(budget);
    link_.send(outgoing_.numbered(kEnd | of_client()), true);
    if constexpr (requires { link_.drain(); }) link_.drain();
    return {static_cast<double>(sequence_), {}, (cpu_ns() - cpu) / static_cast<double>(sequence_)};
  }

  void send_for(nanoseconds budget) {
    const std::size_t batch = place_.batch();
    const auto begin = Clock::now();
    do {
      for (std::size_t i = 1; i <= batch; ++i) link_.send(outgoing_.numbered(of_client() | sequence_++), i == batch);
    } while (Clock::now() - begin < budget);
  }
  void trip() {
    link_.send(outgoing_.numbered(sequence_), true);
    answer(sequence_);
    ++sequence_;
  }
  void mark(std::uint64_t which) {
    link_.send(outgoing_.numbered(which), true);
    answer(which);
  }
  void answer(std::uint64_t number) {
    const auto handle = [&](std::span<const std::byte> message) {
      if (!expected_.check(message, number)) throw_wrong(number, message);
    };
    if (link_.receive(handle, 1) > 0) [[likely]]
      return;
    Silence silence;
    while (link_.receive(handle, 1) == 0) silence.not_heard();
  }
  [[nodiscard]] std::uint64_t of_client() const noexcept {
    return static_cast<std::uint64_t>(place_.client) << kClientShift;
  }

  const Place& place_;
  Link& link_;
  ipc::cli::TestPayload outgoing_{place_.what.size_bytes, place_.what.writes};
  ipc::cli::TestPayload expected_{place_.what.size_bytes};
  std::uint64_t sequence_ = 0;
};

/// An end's life: says "ready", waits for "go", runs, says what it found, stays until told "bye".
using Channel = ipc::cli::ControlChannel;
using EndBody = std::function<void(const Place&, Channel&, int cpu, nanoseconds budget)>;
[[nodiscard]] std::string expect(Channel& control, const std::string& word);
void tell(Channel& control, const std::string& line);
[[nodiscard]] std::string text_of(const Outcome& outcome);

template <class Link, class Make>
void run_end(const Make& make, const Place& place, Channel& control, int cpu, nanoseconds budget) {
  const double memory_before = memory_bytes();
  const std::unique_ptr<Link> link = make(place);
  ipc::cli::pin_to_cpu(cpu);
  tell(control, "ready");
  (void)expect(control, "go");
  if (place.server) {
    Server<Link> server(place, *link);
    server.run();
    if constexpr (requires { link->drain(); }) link->drain();
    const double messages = std::max(1.0, static_cast<double>(server.count()));
    const bool both_ways = place.what.pattern != Pattern::stream;
    Outcome found;
    found.value = place.what.clients > 1 ? messages / server.seconds() : 0;
    found.cpu_ns_per_message = server.cpu() / (both_ways ? 2 * messages : messages);
    found.memory_bytes = memory_bytes() - memory_before;
    tell(control, "found " + text_of(found));
  } else {
    Client<Link> client(place, *link);
    Outcome found = client.run(budget);
    found.memory_bytes = memory_bytes() - memory_before;
    tell(control, "found " + text_of(found));
  }
  (void)expect(control, "bye");
}

[[nodiscard]] Outcome measure_ends(const EndBody& body, const Case& what, const Setting& setting, bool one_process);

}  // namespace detail

/// Measures links of this class. make(place) returns a std::unique_ptr<Link>. one_process  The ends are two threads.
template <class Link, class Make>
Outcome measure_link(const Make& make, const Case& what, const Setting& setting, bool one_process = false) {
  const detail::EndBody body = [&](const Place& place, detail::Channel& control, int cpu,
                                   std::chrono::nanoseconds budget) {
    detail::run_end<Link>(make, place, control, cpu, budget);
  };
  return detail::measure_ends(body, what, setting, one_process);
}
template <class Link>
Outcome measure_link(const Case& what, const Setting& setting) {
  return measure_link<Link>([](const Place& place) { return std::make_unique<Link>(place); }, what, setting);
}

}  // namespace cdmf::bench
