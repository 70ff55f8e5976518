// The shm driver's extension of ipc/put_abi.h: frames given in pieces, one at a time and in bursts.

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "driver_pair.h"
#include "ipc/put_abi.h"

namespace cdmf::ipc::shm {
namespace {

using testing::Pair;

TEST(ShmDriver, PutSendsAFrameInPiecesAndEndsLikeAClaim) {
  Pair pair(testing::Options{{"ring_buffer_capacity", "32"}});
  const auto* extension =
      static_cast<const cdmf_put*>(pair.client->get_extension(pair.client.self(), CDMF_PUT_EXTENSION));
  ASSERT_NE(extension, nullptr);
  const std::string body(4096 + CDMF_FRAME_OVERHEAD_MAX, 'b');
  const auto put = [&](cdmf_peer peer, std::size_t body_size, std::string_view tail, bool flush) {
    cdmf_pieces frame{};
    std::memcpy(frame.head, "the head has 16.", 16);
    frame.body = body_size != 0 ? body.data() : nullptr;
    frame.body_size = body_size;
    frame.tail = tail.empty() ? nullptr : tail.data();
    frame.tail_size = tail.size();
    return extension->put(pair.client.self(), peer, &frame, flush ? 1 : 0);
  };
  EXPECT_EQ(put(pair.to_server + 1, 1, "", true), CDMF_NOT_CONNECTED);
  EXPECT_EQ(put(pair.to_server, body.size() - 15, "", true), CDMF_BUFFER_OVERFLOW);
  ASSERT_EQ(put(pair.to_server, 0, "", false), CDMF_OK);
  ASSERT_EQ(put(pair.to_server, 100, "tail", false), CDMF_OK);
  EXPECT_TRUE(pair.server.take().empty());
  ASSERT_EQ(put(pair.to_server, body.size() - 20, "tail", true), CDMF_OK);
  EXPECT_EQ(pair.server.next().content, "the head has 16.");
  EXPECT_EQ(pair.server.next().content, "the head has 16." + std::string(100, 'b') + "tail");
  EXPECT_EQ(pair.server.next().content, "the head has 16." + std::string(body.size() - 20, 'b') + "tail");

  cdmf_loan loan{};
  ASSERT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 10, &loan), CDMF_OK);
  EXPECT_EQ(put(pair.to_server, 1, "", true), CDMF_RESOURCE_EXHAUSTED) << "a claim is open";
  pair.client->abort(pair.client.self(), &loan);
  int sent = 0;
  while (put(pair.to_server, 1000, "", false) == CDMF_OK) ++sent;
  EXPECT_GT(sent, 1);
  EXPECT_EQ(put(pair.to_server, 1000, "", false), CDMF_BUFFER_FULL);
  for (int i = 0; i < sent; ++i) EXPECT_EQ(pair.server.next().content.size(), 1016u) << "a full ring is flushed";
  pair.server.close();
  EXPECT_EQ(pair.client.next().kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
  EXPECT_EQ(put(pair.to_server, 1, "", true), CDMF_NOT_CONNECTED);
}

TEST(ShmDriver, PutCopiesPiecesOfEverySizeAndNothingBesideThem) {
  for (const char* checksum : {"none", "crc32"}) {
    Pair pair(testing::Options{{"checksum", checksum}});
    const auto* extension =
        static_cast<const cdmf_put*>(pair.client->get_extension(pair.client.self(), CDMF_PUT_EXTENSION));
    ASSERT_NE(extension, nullptr);
    for (std::size_t body = 0; body <= 300; ++body) {
      for (const std::size_t tail : {0, 1, 7, 8, 13}) {
        const std::vector<char> body_bytes(body, static_cast<char>('a' + body % 26));  // Exact, for the sanitizers.
        const std::vector<char> tail_bytes(tail, 't');
        cdmf_pieces frame{};
        std::memcpy(frame.head, "the head has 16.", 16);
        frame.body = body_bytes.data();
        frame.body_size = body;
        frame.tail = tail_bytes.data();
        frame.tail_size = tail;
        ASSERT_EQ(extension->put(pair.client.self(), pair.to_server, &frame, 1), CDMF_OK);
        ASSERT_EQ(pair.server.next().content, "the head has 16." + std::string(body_bytes.begin(), body_bytes.end()) +
                                                  std::string(tail_bytes.begin(), tail_bytes.end()));
      }
    }
  }
}

TEST(ShmDriver, ABurstOfPutsEndsWhereAPutWouldAndAllBeforeArrive) {
  for (const char* checksum : {"none", "crc32"}) {
    Pair pair(testing::Options{{"checksum", checksum}, {"ring_buffer_capacity", "32"}});
    const auto* extension =
        static_cast<const cdmf_put*>(pair.client->get_extension(pair.client.self(), CDMF_PUT_EXTENSION));
    ASSERT_NE(extension, nullptr);
    ASSERT_NE(extension->put_burst, nullptr);
    const auto put_burst = [&](cdmf_peer peer, std::span<const cdmf_pieces> frames, bool flush) {
      return extension->put_burst(pair.client.self(), peer, frames.data(), frames.size(), flush ? 1 : 0);
    };
    const std::string body(4096 + CDMF_FRAME_OVERHEAD_MAX, 'b');
    std::vector<cdmf_pieces> frames;
    for (std::size_t i = 0; i < 20; ++i) {  // Of one line and of several, short and long.
      cdmf_pieces frame{};
      std::memcpy(frame.head, "the head has 16.", 16);
      frame.body = body.data();
      frame.body_size = i * i;
      frame.tail = "tail";
      frame.tail_size = i % 5;
      frames.push_back(frame);
    }
    EXPECT_EQ(put_burst(pair.to_server + 1, frames, true), 0u) << "there is no such peer";
    for (int lap = 0; lap < 30; ++lap) {  // Some times round the ring.
      const std::span<const cdmf_pieces> all = frames;
      std::size_t sent = put_burst(pair.to_server, all, false);
      ASSERT_GT(sent, 0u);
      // At the end of the ring the next one says why: nothing is in its way but the look that it takes itself.
      while (sent < all.size()) {
        ASSERT_EQ(extension->put(pair.client.self(), pair.to_server, &all[sent], 0), CDMF_OK);
        ++sent;
        if (sent < all.size()) sent += put_burst(pair.to_server, all.subspan(sent), false);
      }
      EXPECT_TRUE(pair.server.take().empty()) << "not flushed";
      ASSERT_EQ(put_burst(pair.to_server, all.first(1), true), 1u);
      for (const cdmf_pieces& frame : all) {
        ASSERT_EQ(pair.server.next().content, "the head has 16." + std::string(frame.body_size, 'b') +
                                                  std::string("tail").substr(0, frame.tail_size));
      }
      ASSERT_EQ(pair.server.next().content, "the head has 16.");
    }
    frames[2].body_size = body.size();
    EXPECT_EQ(put_burst(pair.to_server, frames, true), 2u) << "the third is too large";
    EXPECT_EQ(extension->put(pair.client.self(), pair.to_server, &frames[2], 1), CDMF_BUFFER_OVERFLOW);
    EXPECT_EQ(pair.server.next().content.size(), 16u) << "those before it are flushed";
    EXPECT_EQ(pair.server.next().content.size(), 18u);
    frames[2].body_size = 4;
    std::size_t sent = 0;
    for (std::size_t more = 1; more != 0; sent += more) {
      more = put_burst(pair.to_server, frames, false);
      if (more == 0 && extension->put(pair.client.self(), pair.to_server, &frames[0], 0) == CDMF_OK) more = 1;
    }
    EXPECT_EQ(extension->put(pair.client.self(), pair.to_server, &frames[0], 0), CDMF_BUFFER_FULL);
    for (std::size_t i = 0; i < sent; ++i) EXPECT_FALSE(pair.server.next().content.empty()) << i;
    EXPECT_TRUE(pair.server.take().empty());
    cdmf_loan loan{};
    ASSERT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 10, &loan), CDMF_OK);
    EXPECT_EQ(put_burst(pair.to_server, frames, true), 0u) << "a claim is open";
    pair.client->abort(pair.client.self(), &loan);
    pair.server.close();
    EXPECT_EQ(pair.client.next().kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
    EXPECT_EQ(put_burst(pair.to_server, frames, true), 0u);
  }
}

TEST(ShmDriver, ALargePutIsSummedInPiecesAndArrivesWhole) {
  Pair pair(testing::Options{{"checksum", "crc32"}}, 100'000);
  const auto* extension =
      static_cast<const cdmf_put*>(pair.client->get_extension(pair.client.self(), CDMF_PUT_EXTENSION));
  ASSERT_NE(extension, nullptr);
  for (const std::size_t body : {16 * 1024 - 17, 16 * 1024 - 16, 16 * 1024, 16 * 1024 + 1, 48 * 1024, 99'999}) {
    for (const std::string tail : {"", "the tail"}) {
      std::string content(body, '?');
      for (std::size_t i = 0; i < body; ++i) content[i] = static_cast<char>('a' + i * 7 % 26);
      cdmf_pieces frame{};
      std::memcpy(frame.head, "the head has 16.", 16);
      frame.body = content.data();
      frame.body_size = body;
      frame.tail = tail.data();
      frame.tail_size = tail.size();
      ASSERT_EQ(extension->put(pair.client.self(), pair.to_server, &frame, 1), CDMF_OK);
      ASSERT_TRUE(pair.server.next().content == "the head has 16." + content + tail) << body << " bytes";
    }
  }
}

TEST(ShmDriver, ALoanAndAPutInTurnBothArrive) {
  Pair pair;
  const auto* extension =
      static_cast<const cdmf_put*>(pair.client->get_extension(pair.client.self(), CDMF_PUT_EXTENSION));
  ASSERT_NE(extension, nullptr);
  for (int i = 0; i < 3; ++i) {
    cdmf_loan loan{};
    ASSERT_EQ(pair.client->claim(pair.client.self(), pair.to_server, 4, &loan), CDMF_OK);
    std::memcpy(loan.memory, "loan", 4);
    cdmf_pieces frame{};
    std::memcpy(frame.head, "the head has 16.", 16);
    EXPECT_EQ(extension->put(pair.client.self(), pair.to_server, &frame, 1), CDMF_RESOURCE_EXHAUSTED);
    ASSERT_EQ(pair.client->commit(pair.client.self(), &loan, 4, 0), CDMF_OK);
    ASSERT_EQ(extension->put(pair.client.self(), pair.to_server, &frame, 1), CDMF_OK);
    EXPECT_EQ(pair.server.next().content, "loan");
    EXPECT_EQ(pair.server.next().content, "the head has 16.");
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm
