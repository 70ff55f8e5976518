#pragma once
// cli/diagnosis.h: the tree of the specification's §9.1, walked on what was seen of a running endpoint. Pure.
#include <optional>
#include <string>
#include <vector>

#include "cli/observer.h"

namespace cdmf::ipc::cli {

/// The symptoms of the tree, in its order.
enum class Symptom { HIGH_LATENCY, LOW_THROUGHPUT, BUFFER_FULL, CAS_CONTENTION, ERRORS };

struct Finding {
  Symptom symptom;
  std::string what;    ///< where it is and the figures
  std::string change;  ///< what to do about it, in words of YAML where that helps
};

/// What the doctor was told of the configuration, for its advice.
struct Known {
  std::optional<std::int64_t> ring_buffer_capacity;
  std::optional<std::int64_t> spin_budget_ns;
};

struct Diagnosis {
  std::vector<Finding> findings;
  double seconds = 0;
  std::size_t looks = 0;
  std::uint64_t messages = 0;  ///< pushed while looking
  double contentions = 0;      ///< attempts made again, per message, of the ring that had most
};

// When a figure is a finding. Between two looks of one ring, over the whole time:
inline constexpr double kSlowFill = 0.5;   ///< mean fill of a ring whose sender found it full: the consumer is slow
inline constexpr double kWaitFill = 0.25;  ///< … from which time spent in the ring counts
inline constexpr std::uint64_t kWaitNs = 1'000'000;  ///< mean time in the ring
inline constexpr double kWakesPerMessage = 0.5;
inline constexpr double kWakeRate = 1000;  ///< messages a second from which waking each matters
inline constexpr double kMessagesInRing = 8;
inline constexpr double kContentions = 0.1;  ///< attempts made again, per message

/// seen  at least two looks, oldest first.
[[nodiscard]] Diagnosis diagnose(const std::vector<Observation>& seen, const Known& known);

/// The tree with what was found at each branch.
[[nodiscard]] std::string diagnosis_text(const std::string& type, const std::string& endpoint,
                                         const Diagnosis& diagnosis);

}  // namespace cdmf::ipc::cli
