#pragma once
// cli/sizing.h: how large a buffer should be and what it then takes: the specification's flowchart (§8.1), its formula
// (§8.4), and the exact sizes that a plugin tells. Pure: no files, no loading.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ipc/sizes_abi.h"

namespace cdmf::ipc::cli {

/// What the flowchart of §8.1 asks.
struct Load {
  double messages_per_second = 0;
  std::uint64_t latency_ns = 0;
  std::uint32_t producers = 1;
  std::uint32_t consumers = 1;
};
/// What it answers, and by which way through it.
struct Advice {
  std::uint64_t capacity = 0;
  bool many = false;  ///< MPMC instead of SPSC
  std::string reason;
};
[[nodiscard]] Advice advise(const Load& load);

/// The specification's formula: (64 + 2 * capacity * message_size + 192) * 1.2, rounded up to whole bytes.
[[nodiscard]] std::uint64_t specified_size(std::uint64_t capacity, std::uint64_t message_size) noexcept;

/// "100000", "100K", "2.5M", "1G" (thousands); nothing when it is none of these or not positive.
[[nodiscard]] std::optional<double> parse_rate(const std::string& text);

/// A table of the parts, and the sums: one client, and `clients` of them.
[[nodiscard]] std::string parts_text(const std::vector<cdmf_size_part>& parts, std::uint64_t clients);

/// A configuration to paste, with what was suggested.
[[nodiscard]] std::string suggestion_yaml(const std::string& type, const cdmf_size_suggestion& suggestion);

/// Its note as lines of comment; empty without one.
[[nodiscard]] std::string suggestion_note(const cdmf_size_suggestion& suggestion);
/// The specification's formula with its result, as a line.
[[nodiscard]] std::string formula_text(std::uint64_t capacity, std::uint64_t message_size);

/// "1.28ms": three digits.
[[nodiscard]] std::string duration_text(std::uint64_t nanoseconds);
/// "4198400 bytes (4.0 MiB)".
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);

}  // namespace cdmf::ipc::cli
