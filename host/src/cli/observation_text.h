#pragma once
// cli/observation_text.h: what a look saw, for people and for programs. Pure.
#include <cstdint>
#include <string>

#include "cli/observer.h"

namespace cdmf::ipc::cli {

/// Utilisation and drop rate as the specification has them (§9.2): most that was used / capacity, and refused /
/// accepted pushes. 0 without anything to divide by.
[[nodiscard]] double utilization(const cdmf_ring_report& ring) noexcept;
[[nodiscard]] double drop_rate(const cdmf_ring_report& ring) noexcept;

/// A table. before  an earlier look, for rates; null: totals alone. now_us  microseconds since the Unix epoch.
[[nodiscard]] std::string observation_text(const std::string& type, const std::string& endpoint,
                                           const Observation& seen, const Observation* before, std::uint64_t now_us);

/// One JSON object in one line, without a newline. Numbers that the plugin does not keep are null.
[[nodiscard]] std::string observation_json(const std::string& type, const std::string& endpoint,
                                           const Observation& seen);

}  // namespace cdmf::ipc::cli
