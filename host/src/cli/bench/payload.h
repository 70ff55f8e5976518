#pragma once
// cli/bench/payload.h: what a benchmark's messages carry, so that no figure comes from bytes nobody wrote or read.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cdmf::ipc::cli {

/// What of a message is written before it is sent: its number alone, or something in each line, as by a program whose
/// messages differ. Lines that nobody has written since may still lie in the receiver's cache.
enum class Writes { NUMBER, EVERY_LINE };

/// A message's bytes: its sequence number (little-endian, in the first 8 bytes or as many as there are), then a pattern
/// that differs from line to line.
class TestPayload {
 public:
  /// size_bytes  At least 1.
  explicit TestPayload(std::size_t size_bytes, Writes writes = Writes::NUMBER);

  /// The bytes with that number; valid until the next call. All of them are to be copied by whoever sends.
  [[nodiscard]] std::span<const std::byte> numbered(std::uint64_t sequence) noexcept;

  /// Reads every 64-byte line of `payload` and the last byte.
  /// returns  whether it is this payload with that number: size, number and pattern.
  [[nodiscard]] bool check(std::span<const std::byte> payload, std::uint64_t sequence) const noexcept;

 private:
  std::vector<std::byte> bytes_;
  Writes writes_;
  std::uint64_t line_sum_ = 0;
};

}  // namespace cdmf::ipc::cli
