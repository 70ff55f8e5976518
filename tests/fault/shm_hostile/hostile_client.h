#pragma once
// shm_hostile/hostile_client.h: what tests of clients by hand begin with: the good pair, and what it has of the system.
#include "shm_hostile/peers.h"

namespace cdmf::ipc::shm::hostile {

/// A server with a log and a good client of it, and what both need.
class HostileClient : public ::testing::Test {
 protected:
  /// What the pair needs: the least that was seen after a stranger has come and gone, as its link takes a moment to go.
  void SetUp() override {
    for (int i = 0; i < 5; ++i) {
      {
        RawClient stranger(pair.endpoint);
        ASSERT_TRUE(stranger.shake_hands()) << stranger.text.message;
        pair.server.next_peer();
      }
      ASSERT_EQ(pair.server.next().kind, kDisconnected);
      pair.expect_service();
      usleep(1000);
      const test::Footprint now = test::Footprint::now();
      if (i == 0 || now.descriptors < before.descriptors) before = now;
    }
  }
  /// The server has what it had, and the good pair works.
  void expect_no_trace() {
    pair.expect_service();
    EXPECT_TRUE(eventually([&] { return test::Footprint::now() == before; }))
        << "left behind: " << (test::Footprint::now() - before).text();
  }
  std::size_t logged() const { return log.size(); }

  test::Footprint before;
  Log log;
  GoodPair pair{Options{{"ring_buffer_capacity", "128"}}, log.host()};
};

}  // namespace cdmf::ipc::shm::hostile
