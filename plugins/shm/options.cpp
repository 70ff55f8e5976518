#include "options.h"

#include "ipc/property.h"

namespace cdmf::ipc::shm {
namespace {

SegmentPlan make_plan(const DriverConfig& config) {
  SegmentPlan plan;
  plan.ring_capacity = static_cast<std::uint32_t>(config.number("ring_buffer_capacity"));
  plan.slot_size = static_cast<std::uint32_t>(config.number("slot_size"));
  plan.frame_size_max = config.frame_size_max();
  plan.bidirectional = config.number("bidirectional") != 0;
  plan.checksum = config.number("checksum") == 0;

  const auto suffices = [&](std::uint64_t capacity) {
    const std::uint64_t bytes = capacity * plan.slot_size;
    return is_valid_capacity(bytes) && plan.frame_size_max <= payload_bytes_max(bytes);
  };
  std::uint32_t needed = plan.ring_capacity;
  while (!suffices(needed) && needed < kCapacityMax) needed *= 2;
  if (!suffices(needed)) {
    throw ConfigError("slot_size: ", plan.slot_size, " is too small for messages of ",
                      format_size(config.max_message_size()), "; no ring_buffer_capacity up to ", kCapacityMax,
                      " would do");
  }
  if (needed != plan.ring_capacity && config.given("ring_buffer_capacity")) {
    throw ConfigError("ring_buffer_capacity: ", plan.ring_capacity, " slots of ", plan.slot_size,
                      " bytes are too few for messages of ", format_size(config.max_message_size()),
                      ", which take up to half a ring; set ", needed, ", or lower max_message_size");
  }
  plan.ring_capacity = needed;

  const auto allowed = static_cast<std::uint64_t>(config.number("shm_size"));
  const std::uint64_t rings = plan.total_size() - kRingsOffset;
  if (allowed != 0 && allowed < rings) {
    throw ConfigError("shm_size: ", format_size(allowed), " does not hold the rings, which take ", format_size(rings),
                      " (ring_buffer_capacity ", plan.ring_capacity, " x slot_size ", plan.slot_size,
                      plan.bidirectional ? " x 2" : "", "); set at least ", rings,
                      ", or a smaller ring_buffer_capacity");
  }
  return plan;
}

}  // namespace

Options::Options(const DriverConfig& config)
    : is_server(config.is_server()),
      endpoint(config.endpoint()),
      plan(make_plan(config)),
      wait(static_cast<WaitMode>(config.number("wait"))),
      spin_budget_ns(static_cast<std::uint64_t>(config.number("spin_budget"))),
      timestamp(config.number("timestamp") == 0),
      trust(static_cast<Trust>(config.number("trust"))) {}

}  // namespace cdmf::ipc::shm
