#pragma once
// Looking into an endpoint through the plugin's extension, and what several tests expect to see.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "../driver_under_test.h"
#include "inspect/inspector.h"

namespace cdmf::ipc::shm::testing {

struct Seen {
  cdmf_status status = CDMF_OK;
  std::string error;
  cdmf_endpoint_report endpoint{};
  std::vector<cdmf_link_report> links;
  std::vector<cdmf_ring_report> rings;
};

inline Seen look(const std::string& endpoint, std::uint64_t patience_ms = kPatienceMs, const Options& options = {}) {
  Settings settings = make_settings(plugin(), options);
  cdmf_config config{};
  config.struct_size = sizeof config;
  config.role = CDMF_ROLE_SERVER;
  config.endpoint = endpoint.c_str();
  config.max_message_size = 4096;
  config.frame_size_max = 4096 + CDMF_FRAME_OVERHEAD_MAX;
  config.settings = settings.rows.data();
  config.setting_count = settings.rows.size();
  const auto* const inspect = static_cast<const cdmf_inspect*>(plugin().get_extension(CDMF_INSPECT_EXTENSION));
  Seen seen;
  cdmf_error error{};
  error.struct_size = sizeof error;
  seen.endpoint.struct_size = sizeof seen.endpoint;
  seen.status = inspect->look(&config, in_ms(patience_ms), &seen.endpoint, &error);
  seen.error = error.message;
  if (seen.status != CDMF_OK) return seen;
  seen.links.assign(seen.endpoint.links, seen.endpoint.links + seen.endpoint.link_count);
  seen.rings.assign(seen.endpoint.rings, seen.endpoint.rings + seen.endpoint.ring_count);
  inspect->release(&seen.endpoint);
  return seen;
}

/// Five messages went from a client that spins to its server, over rings of 32 x 512 bytes.
inline void expect_five_received(const Seen& seen) {
  ASSERT_EQ(seen.rings.size(), 2u);
  const cdmf_ring_report& tx = seen.rings[0];
  EXPECT_STREQ(tx.name, "TX");
  EXPECT_NE(tx.flags & CDMF_RING_TO_SERVER, 0u);
  EXPECT_EQ(tx.capacity_bytes, 32u * 512);
  EXPECT_EQ(tx.pushes, 5u);
  EXPECT_EQ(tx.pops, 5u) << "one burst";
  EXPECT_EQ(tx.failed_pushes, 0u);
  EXPECT_EQ(tx.flags & (CDMF_RING_IMPLAUSIBLE | CDMF_RING_NOT_ALIGNED), 0u);
  EXPECT_NE(seen.rings[1].flags & CDMF_RING_RECEIVER_NEVER_SLEEPS, 0u) << "this client spins";
}
/// The client then sends until its ring is full.
inline void expect_full_ring_seen(DriverUnderTest& client, const std::string& endpoint) {
  while (client.send(client.peer, std::string(1000, 'x')) == CDMF_OK) {
  }
  const Seen seen = look(endpoint);
  ASSERT_EQ(seen.rings.size(), 2u);
  EXPECT_EQ(seen.rings[0].failed_pushes, 1u);
  EXPECT_GE(seen.rings[0].high_water_bytes, 32u * 512 - 2048);
  EXPECT_GE(seen.rings[0].used_bytes, 32u * 512 - 2048);
}

}  // namespace cdmf::ipc::shm::testing
