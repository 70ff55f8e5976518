#include "spec_figures.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>

#include "checksum.h"
#include "cli/bench/machine_limits.h"
#include "ipc/frame.h"
#include "ipc/ring_buffer.h"
#include "ipc/serializer.h"
#include "report/bootstrap.h"
#include "report/summary.h"
#include "report/svg.h"
#include "typed_rings.h"

namespace cdmf::bench {
namespace {

constexpr int kRepeats = 9;

/// Keeps the compiler from leaving out what makes `value`.
template <class T>
void keep(const T& value) {
  asm volatile("" : : "r"(&value) : "memory");
}

/// Nanoseconds of one call: the median of some stretches.
template <class Once>
double cost_ns(Once&& once) {
  constexpr int kCalls = 20'000;
  std::vector<double> stretches;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) once();
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
    stretches.push_back(took.count() / kCalls);
  }
  return ipc::cli::median(stretches).value_or(0);
}

std::string rate_text(double bytes_per_s) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GB/s", bytes_per_s / 1e9);
  return text;
}

class Figures {
 public:
  Figures(const Results& results, const Setting& setting) : results_(results), setting_(setting) {}

  std::vector<SpecFigure> all() {
    transports();
    stages();
    alignment();
    return std::move(figures_);
  }

 private:
  struct Best {
    double value = 0;
    std::string subject;
  };
  /// Of those subjects the best in that group.
  Best best(const std::string& group_id, const std::vector<std::string>& subjects) const {
    const Group* const group = results_.group(group_id);
    Best found;
    for (const std::string& each : subjects) {
      const Series* const series = group == nullptr ? nullptr : group->find(each);
      const double value = series == nullptr ? 0 : series->median();
      if (value <= 0) continue;
      if (found.value == 0 || (group->less_is_better() ? value < found.value : value > found.value)) {
        found = {value, each};
      }
    }
    return found;
  }

  void transports() {
    const struct {
      const char* label;
      std::vector<std::string> subjects;
      const char *latency, *throughput;
    } rows[] = {
        {"shared memory", {"shm_ultra_low_latency", "shm_high_throughput", "shm_default"}, "10 to 20 µs", "10 GB/s"},
        {"Unix socket", {"unix_socket"}, "50 to 100 µs", "1 GB/s"},
        {"gRPC", {"grpc"}, "1 to 10 ms", "0.1 GB/s"},
    };
    for (const auto& row : rows) {
      const std::string label = row.label;
      const Best poll = best("ping_pong/poll/64B", row.subjects), block = best("ping_pong/block/64B", row.subjects);
      if (poll.value > 0) {
        figures_.push_back({"1, 7.4", label + ": latency, one way", row.latency, human_ns(poll.value / 2),
                            "half a round trip of 64 B, polling" +
                                (block.value > 0 ? "; blocking " + human_ns(block.value / 2) : std::string())});
      }
      const Best stream = best("stream/poll/64KiB", row.subjects);
      if (stream.value > 0) {
        figures_.push_back({"1, 7.2, 7.4", label + ": throughput", row.throughput, rate_text(stream.value * 65536),
                            "64 KiB messages, " + label_of(results_, stream.subject)});
      }
    }
  }

  void stages() {
    std::string text(1024, 'x');
    std::vector<std::byte> memory(4096);
    ipc::Serializer<std::string>::read(std::as_bytes(std::span(text)), other_);
    add_stage("serialise", "1 µs", cost_ns([&] { keep(ipc::Serializer<std::string>::bytes(text).data()); }),
              "1 KiB of text: it is sent where it lies");
    ipc::MessageView view;
    view.payload = std::as_bytes(std::span(text));
    add_stage("create envelope", "0.5 µs", cost_ns([&] {
                ipc::write_frame_header(memory.data(), view, 0, 0);
                keep(memory);
                keep(ipc::shm::crc32_ieee(text.data(), text.size()));
                keep(std::chrono::system_clock::now());
              }),
              "header, CRC-32 of 1 KiB, timestamp (a burst has one timestamp)");
    auto ring = std::make_unique<ipc::SPSCRingBuffer<std::uint64_t, 1024>>();
    std::uint64_t item = 0;
    const double both = cost_ns([&] {
      keep(ring->try_push(item));
      keep(ring->try_pop(item));
    });
    add_stage("ring push", "0.1 µs", both / 2, "typed ring, no other processor; half of push and pop");
    add_stage("memory copy, 1 KiB", "5 µs", cost_ns([&] {
                std::memcpy(memory.data(), text.data(), text.size());
                keep(memory);
              }),
              "within the first-level cache");
    const double line = ipc::cli::cache_line_round_trip(setting_.cpus, std::chrono::milliseconds(20)).untimed_ns;
    add_stage("cache coherency", "2 µs", line / 2, "one line to the other processor");
    add_stage("ring pop", "0.1 µs", both / 2, "as push");
    add_stage("deserialise", "8 µs", cost_ns([&] {
                ipc::Serializer<std::string>::read(std::as_bytes(std::span(text)), other_);
                keep(other_);
              }),
              "1 KiB into a std::string");
    std::atomic<std::uint64_t> word{0};
    std::uint64_t expected = 0;
    add_stage("atomic CAS", "0.1 µs", cost_ns([&] { keep(word.compare_exchange_strong(expected, expected + 1)); }),
              "nobody else at it");
    const Best total = best("ping_pong/poll/1KiB", {"shm_ultra_low_latency", "shm_high_throughput", "shm_default"});
    if (total.value > 0) {
      figures_.push_back({"7.1", "end to end", "15 to 20 µs", human_ns(total.value / 2),
                          "half a round trip of 1 KiB, " + label_of(results_, total.subject)});
    }
  }
  void add_stage(const char* what, const char* specified, double ns, const char* note) {
    figures_.push_back({"7.1", what, specified, human_ns(std::max(ns, 0.1)), note});
  }

  void alignment() {
    std::vector<double> packed, padded, packed_rate, padded_rate;
    const Setting brief{setting_.cpus, std::chrono::milliseconds(20)};
    for (int round = 0; round < kRepeats; ++round) {  // In turn, as the machine moves.
      packed.push_back(packed_ring().trip(brief).value);
      padded.push_back(padded_ring().trip(brief).value);
      packed_rate.push_back(packed_ring().stream(brief).value);
      padded_rate.push_back(padded_ring().stream(brief).value);
    }
    const auto ratio = [](const std::vector<double>& a, const std::vector<double>& b) {
      return ipc::cli::spread_of_ratios(a, b).value_or(ipc::cli::Spread{}).median;
    };
    const auto middle = [](const std::vector<double>& values) { return ipc::cli::median(values).value_or(0); };
    char text[160];
    std::snprintf(text, sizeof text, "%s against %s: %.1fx", human_ns(middle(padded)).c_str(),
                  human_ns(middle(packed)).c_str(), ratio(packed, padded));
    figures_.push_back({"7.3", "round trip, aligned against not", "15 µs against 100 µs: 5 to 10x", text,
                        "Lamport's ring of 8-byte items: a line for each position, or all on one"});
    std::snprintf(text, sizeof text, "%s/s against %s/s: %.1fx", human_number(middle(padded_rate)).c_str(),
                  human_number(middle(packed_rate)).c_str(), ratio(padded_rate, packed_rate));
    figures_.push_back({"7.3", "stream, aligned against not", "", text, "the same rings"});
  }

  const Results& results_;
  const Setting& setting_;
  std::string other_;
  std::vector<SpecFigure> figures_;
};

}  // namespace

std::vector<SpecFigure> spec_figures(const Results& results, const Setting& setting) {
  return Figures(results, setting).all();
}

}  // namespace cdmf::bench
