#pragma once
// A server and a client of the shm driver, connected: where most tests of the driver begin.

#include "driver_under_test.h"

namespace cdmf::ipc::shm::testing {

/// A connected pair: the server has received PEER_CONNECTED, and so has the client.
struct Pair {
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  explicit Pair(const Options& options = {}, std::uint64_t max_message_size = 4096)
      : endpoint(unique_endpoint()),
        server(CDMF_ROLE_SERVER, endpoint, options, max_message_size),
        client(CDMF_ROLE_CLIENT, endpoint, options, max_message_size) {
    EXPECT_EQ(server.open(), CDMF_OK) << server.error.message;
    EXPECT_EQ(client.open(), CDMF_OK) << client.error.message;
    EXPECT_EQ(client.attach(), CDMF_OK) << client.error.message;
    to_client = server.next_peer();
    EXPECT_EQ(client.next_peer(), client.peer);
    to_server = client.peer;
  }
  std::string endpoint;
  DriverUnderTest server;
  DriverUnderTest client;
  cdmf_peer to_client = CDMF_NO_PEER;
  cdmf_peer to_server = CDMF_NO_PEER;
};

}  // namespace cdmf::ipc::shm::testing
