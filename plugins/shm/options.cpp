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

  std::uint32_t needed = plan.ring_capacity;
  while (!plan.suffices(needed) && needed < kCapacityMax) needed *= 2;
  if (!plan.suffices(needed)) {
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

/// Refuses options that contradict each other. What the segment is made of decides.
void check(const Options& options, const DriverConfig& config) {
  const bool posix = options.segment == SegmentKind::posix;
  if (options.wait == WaitMode::semaphore && !posix) {
    throw ConfigError(
        "wait: semaphore needs segment: posix, which has names for semaphores; this is segment: memfd, "
        "where wait: futex does the same without names");
  }
  if (posix) {
    if (options.trust == Trust::hostile) {
      throw ConfigError(
          "trust: hostile is not to be had with segment: posix, whose memory a peer can cut off under our "
          "feet; use segment: memfd");
    }
    for (const char* const key : {"address", "memory_budget"}) {
      if (config.given(key))
        throw ConfigError(key, ": is for segment: memfd; segment: posix has neither a socket nor many links");
    }
    return;
  }
  if (options.address != "auto" && options.address[0] != '/') {
    throw ConfigError("address: \"", options.address, "\" is neither auto nor a path that starts with '/'");
  }
  if (options.address == "auto" && (options.access.mode != 0600 || options.access.group != static_cast<gid_t>(-1))) {
    throw ConfigError(
        "mode and group: others get no further than the directory of this user, where address: auto puts "
        "the socket; set address to a path in a directory that they may enter");
  }
  const std::uint64_t one = options.plan.total_size();
  if (options.is_server && options.memory_budget != 0 && options.memory_budget < one) {
    throw ConfigError("memory_budget: ", format_size(options.memory_budget), " does not hold one link, which takes ",
                      one, " bytes; set at least that, or a smaller ring_buffer_capacity");
  }
}

}  // namespace

Options::Options(const DriverConfig& config)
    : is_server(config.is_server()),
      endpoint(config.endpoint()),
      segment(static_cast<SegmentKind>(config.number("segment"))),
      address(config.text("address")),
      access(parse_access(kModes[config.number("mode")], config.text("group"), config.text("allow_uids"))),
      memory_budget(static_cast<std::uint64_t>(config.number("memory_budget"))),
      plan(make_plan(config)),
      ring_bytes_wanted(config.given("ring_buffer_capacity") || config.given("slot_size") ? plan.ring_bytes() : 0),
      wait(static_cast<WaitMode>(config.number("wait"))),
      spin_budget_ns(static_cast<std::uint64_t>(config.number("spin_budget"))),
      timestamp(config.number("timestamp") == 0),
      trust(static_cast<Trust>(config.number("trust"))) {
  check(*this, config);
}

}  // namespace cdmf::ipc::shm
