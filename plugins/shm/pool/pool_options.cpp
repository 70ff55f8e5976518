#include "pool/pool_options.h"

#include "ipc/property.h"

namespace cdmf::ipc::shm {
namespace {

PoolPlan make_plan(const DriverConfig& config) {
  PoolPlan plan;
  plan.frame_size_max = config.frame_size_max();
  plan.checksum = config.number("checksum") == 0;
  const std::uint64_t slot_size = pool_slot_size_for(plan.frame_size_max);
  const std::uint64_t slot_given = static_cast<std::uint64_t>(config.number("slot_size"));
  if (config.given("slot_size") && slot_given < slot_size) {
    const std::uint64_t overhead = kMpmcSlotHeaderBytes + CDMF_FRAME_OVERHEAD_MAX;
    throw ConfigError("slot_size: ", slot_given, " bytes do not hold a message of ",
                      format_size(config.max_message_size()),
                      ", as with ring_type: mpmc a slot holds a whole message and ", overhead,
                      " bytes besides; leave slot_size out, set at least ", slot_size,
                      slot_given > overhead ? ", or lower max_message_size to " : "",
                      slot_given > overhead ? std::to_string(slot_given - overhead) : "");
  }
  plan.slot_size = static_cast<std::uint32_t>(config.given("slot_size") ? slot_given : slot_size);

  plan.ring_capacity = static_cast<std::uint32_t>(config.number("ring_buffer_capacity"));
  if (!config.given("ring_buffer_capacity")) {
    while (plan.ring_capacity > PoolOptions::kPoolCapacityLeast &&
           std::uint64_t{plan.ring_capacity} * plan.slot_size > PoolOptions::kPoolRingBytesUsual) {
      plan.ring_capacity /= 2;
    }
  }
  if (plan.ring_capacity > kMpmcSlotCountMax) {
    throw ConfigError("ring_buffer_capacity: ", plan.ring_capacity, " slots are more than the ", kMpmcSlotCountMax,
                      " that ring_type: mpmc can have; set ", kMpmcSlotCountMax, " or less");
  }
  const auto allowed = static_cast<std::uint64_t>(config.number("shm_size"));
  const std::uint64_t needed = plan.total_size();
  if (allowed != 0 && allowed < needed) {
    throw ConfigError("shm_size: ", format_size(allowed), " does not hold the pool, which takes ", needed,
                      " bytes (ring_buffer_capacity ", plan.ring_capacity, " x slot_size ", plan.slot_size,
                      ", and the members); set at least ", needed,
                      ", or a smaller ring_buffer_capacity or max_message_size");
  }
  return plan;
}

/// Options that say something which a pool is not.
void refuse_others(const DriverConfig& config) {
  if (config.given("bidirectional") && config.number("bidirectional") != 0) {
    throw ConfigError(
        "bidirectional: true does not go with ring_type: mpmc, whose messages go from clients to servers "
        "only; leave it out");
  }
  if (config.number("trust") == static_cast<std::int64_t>(Trust::hostile)) {
    throw ConfigError(
        "trust: hostile does not go with ring_type: mpmc, as each member of a pool can write to all of it; "
        "use ring_type: spsc between processes that do not trust each other");
  }
  if (config.given("segment") && config.text("segment") == std::string("memfd")) {
    throw ConfigError(
        "segment: memfd does not go with ring_type: mpmc, whose members meet at a named object; leave it "
        "out");
  }
  for (const char* const key : {"address", "memory_budget"}) {
    if (config.given(key)) {
      throw ConfigError(key, ": is for segment: memfd; with ring_type: mpmc there is neither a socket nor many links");
    }
  }
  if (config.number("wait") > static_cast<std::int64_t>(WaitMode::futex)) {
    throw ConfigError("wait: ", config.text("wait"),
                      " does not go with ring_type: mpmc; set spin, yield, adaptive or futex");
  }
}

template <typename Value>
cdmf_status differs(const char* name, const Value& ours, const Value& theirs, const char* address,
                    std::int32_t creator_pid, ErrorText& error) {
  return error.fail(CDMF_INVALID_CONFIG, 0, "shm: ", name, " is ", ours, " here, and ", theirs, " in the pool ",
                    address, ", which process ", creator_pid,
                    " made; set the same on both sides, or leave it out here");
}

}  // namespace

PoolOptions::PoolOptions(const DriverConfig& config)
    : is_server(config.is_server()),
      endpoint(config.endpoint()),
      access(parse_access(kModes[config.number("mode")], config.text("group"), config.text("allow_uids"))),
      plan((refuse_others(config), make_plan(config))),
      capacity_given(config.given("ring_buffer_capacity")),
      slot_size_given(config.given("slot_size")),
      checksum_given(config.given("checksum")),
      wait(static_cast<WaitMode>(config.number("wait"))),
      spin_budget_ns(static_cast<std::uint64_t>(config.number("spin_budget"))),
      timestamp(config.number("timestamp") == 0) {}

cdmf_status PoolOptions::agree(const PoolPlan& pool, const char* address, std::int32_t creator_pid,
                               ErrorText& error) const {
  if (capacity_given && plan.ring_capacity != pool.ring_capacity) {
    return differs("ring_buffer_capacity", plan.ring_capacity, pool.ring_capacity, address, creator_pid, error);
  }
  if (slot_size_given && plan.slot_size != pool.slot_size) {
    return differs("slot_size", plan.slot_size, pool.slot_size, address, creator_pid, error);
  }
  if (checksum_given && plan.checksum != pool.checksum) {
    return differs("checksum", plan.checksum ? "crc32" : "none", pool.checksum ? "crc32" : "none", address, creator_pid,
                   error);
  }
  if (plan.frame_size_max > pool.frame_size_max) {
    return error.fail(CDMF_INVALID_CONFIG, 0, "shm: max_message_size is ",
                      plan.frame_size_max - CDMF_FRAME_OVERHEAD_MAX, " here, and ",
                      pool.frame_size_max - CDMF_FRAME_OVERHEAD_MAX, " in the pool ", address, ", which process ",
                      creator_pid, " made; lower the one, or raise the other and start all again");
  }
  return CDMF_OK;
}

}  // namespace cdmf::ipc::shm
