#pragma once
// pool/pool_options.h: what a user sets under `shm:` with `ring_type: mpmc`, as a member of a pool reads it.
#include <cstdint>
#include <string>

#include "ipc/driver.h"
#include "options.h"
#include "pool/pool_layout.h"
#include "segment/access.h"

namespace cdmf::ipc::shm {

/// Sizes. A slot holds one whole frame: slot_size is at least max_message_size + CDMF_FRAME_OVERHEAD_MAX + 32, rounded
/// up to lines of 64 bytes, which is its default. ring_buffer_capacity is the number of slots, so of messages that
/// wait; its default is 4096, or, when those would take more than kPoolRingBytesUsual, as many as do not.
struct PoolOptions {
  static constexpr std::uint64_t kPoolRingBytesUsual = std::uint64_t{32} << 20;
  static constexpr std::uint32_t kPoolCapacityLeast = 16;

  /// Throws ConfigError when values contradict each other; the text says what would work.
  explicit PoolOptions(const DriverConfig& config);

  bool may_sleep() const noexcept { return wait == WaitMode::adaptive || wait == WaitMode::futex; }
  /// Whether this member can live in a pool of that plan: what its user set is as there, and its largest message fits.
  /// INVALID_CONFIG: the text has both values.
  cdmf_status agree(const PoolPlan& pool, const char* address, std::int32_t creator_pid, ErrorText& error) const;

  bool is_server;
  std::string endpoint;
  Access access;  // Who may open a pool that this member makes, and whose pools it joins.
  PoolPlan plan;  // Of a pool that this member makes.
  bool capacity_given;
  bool slot_size_given;
  bool checksum_given;
  WaitMode wait;
  std::uint64_t spin_budget_ns;
  bool timestamp;
};

}  // namespace cdmf::ipc::shm
