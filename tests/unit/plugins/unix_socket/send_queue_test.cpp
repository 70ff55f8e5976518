#include "send_queue.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <random>
#include <string>

#include "frame_parser.h"

namespace cdmf::ipc::unix_socket {
namespace {

bool put(SendQueue& queue, const std::string& content) {
  std::byte* const memory = queue.claim(content.size());
  if (memory == nullptr) return false;
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % kRecordAlignment, 0u);
  std::memcpy(memory, content.data(), content.size());
  queue.commit(content.size(), 7);
  return true;
}

/// Takes up to limit bytes, as the kernel would.
std::string take(SendQueue& queue, std::size_t limit) {
  std::string bytes;
  const auto pieces = queue.pending();
  for (std::size_t i = 0; i < pieces.count; ++i) {
    bytes.append(static_cast<const char*>(pieces.parts[i].iov_base), pieces.parts[i].iov_len);
  }
  EXPECT_EQ(bytes.size(), pieces.bytes);
  bytes.resize(std::min(bytes.size(), limit));
  queue.sent(bytes.size());
  return bytes;
}

TEST(SendQueue, NothingLeavesBeforePublish) {
  SendQueue queue(1024);
  ASSERT_TRUE(put(queue, "one"));
  EXPECT_EQ(queue.pending().bytes, 0u);
  queue.publish();
  ASSERT_TRUE(put(queue, "two"));
  EXPECT_EQ(take(queue, 1000).size(), 32u);
  EXPECT_EQ(queue.pending().bytes, 0u);
  EXPECT_EQ(queue.unsent_frames(), 1u);
}

TEST(SendQueue, ARecordOfTheWholeCapacityFitsWhenItIsEmpty) {
  SendQueue queue(1024);
  EXPECT_FALSE(queue.has_room(1009));
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(put(queue, std::string(1008, 'x')));
    EXPECT_FALSE(queue.has_room(1));
    queue.publish();
    EXPECT_EQ(take(queue, 5000).size(), 1024u);
  }
}

TEST(SendQueue, APacketIsWholeRecordsUpToItsLimit) {
  SendQueue queue(1024);
  for (const char* const text : {"one", "two", "three"}) ASSERT_TRUE(put(queue, text));  // 32 bytes each.
  ASSERT_TRUE(put(queue, "not yet published"));
  queue.publish();
  ASSERT_TRUE(put(queue, "not published"));
  EXPECT_EQ(queue.pending_packet(32).bytes, 32u);
  EXPECT_EQ(queue.pending_packet(95).bytes, 64u);
  EXPECT_EQ(queue.pending_packet(96).bytes, 96u);
  EXPECT_EQ(queue.pending_packet(100'000).bytes, queue.published_bytes());
  EXPECT_EQ(queue.pending_packet(1).bytes, 32u);  // Never less than one.
  queue.sent(64);
  EXPECT_EQ(queue.pending_packet(32).bytes, 32u);
  EXPECT_EQ(std::memcmp(static_cast<char*>(queue.pending_packet(32).parts[0].iov_base) + 16, "three", 5), 0);
}

TEST(SendQueue, APacketGoesOnAtTheStartOfTheMemory) {
  SendQueue queue(256);
  ASSERT_TRUE(put(queue, std::string(80, 'a')));   // 96 bytes
  ASSERT_TRUE(put(queue, std::string(100, 'b')));  // 128 bytes
  queue.publish();
  queue.sent(96);
  ASSERT_TRUE(put(queue, std::string(60, 'c')));  // 80 bytes, in front.
  queue.publish();
  EXPECT_EQ(queue.pending_packet(207).bytes, 128u);
  const SendQueue::Pieces both = queue.pending_packet(208);
  EXPECT_EQ(both.bytes, 208u);
  ASSERT_EQ(both.count, 2u);
  EXPECT_EQ(static_cast<char*>(both.parts[1].iov_base)[16], 'c');
  queue.sent(208);
  EXPECT_EQ(queue.unsent_frames(), 0u);
  EXPECT_EQ(queue.pending_packet(1000).bytes, 0u);
}

TEST(SendQueue, PaddingIsZeroWhateverLayThereBefore) {
  SendQueue queue(64);
  ASSERT_TRUE(put(queue, std::string(48, 's')));
  queue.publish();
  (void)take(queue, 64);
  ASSERT_TRUE(put(queue, "x"));
  queue.publish();
  EXPECT_EQ(take(queue, 64).substr(17), std::string(15, '\0'));
}

TEST(SendQueue, AnAbortedClaimLeavesNoTraceAndAShrunkOneItsBytes) {
  SendQueue queue(256);
  ASSERT_NE(queue.claim(100), nullptr);
  EXPECT_TRUE(queue.claimed());
  queue.abort();
  EXPECT_FALSE(queue.claimed());
  std::byte* const memory = queue.claim(100);
  std::memcpy(memory, "abc", 3);
  queue.commit(3, 0);
  queue.publish();
  EXPECT_EQ(take(queue, 256).size(), 32u);
  EXPECT_EQ(queue.unsent_frames(), 0u);
}

TEST(SendQueue, EverythingMayLeaveBetweenClaimAndCommit) {
  SendQueue queue(256);
  ASSERT_TRUE(put(queue, std::string(80, 'a')));
  ASSERT_TRUE(put(queue, std::string(100, 'b')));
  queue.publish();
  (void)take(queue, 100);
  std::byte* const memory = queue.claim(70);  // Does not fit behind: goes to the start of the memory.
  ASSERT_NE(memory, nullptr);
  (void)take(queue, 1000);
  std::memcpy(memory, "hello", 5);
  queue.commit(5, 0);
  queue.publish();
  EXPECT_EQ(take(queue, 1000).substr(16, 5), "hello");
}

// Catches a wrong region, a lost or doubled byte, a wrong count: random records, partial sends of random sizes, sends
// while a claim is open, compared with the frames that went in.
TEST(SendQueue, WhatLeavesIsWhatWentInForRandomUse) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    SendQueue queue(512);
    std::deque<std::string> expected;
    std::string wire;
    std::uint64_t committed = 0;
    std::uint64_t complete = 0;
    const auto drain = [&] {
      wire += take(queue, random() % 300);
      for (;;) {
        const Parsed parsed = parse_record(std::as_bytes(std::span(wire)), 496);
        if (parsed.kind != Parsed::Kind::kFrame) {
          ASSERT_EQ(parsed.kind, Parsed::Kind::kIncomplete);
          break;
        }
        ASSERT_FALSE(expected.empty());
        const std::string frame(reinterpret_cast<const char*>(parsed.frame.data()), parsed.frame.size());
        ASSERT_EQ(frame, expected.front());
        expected.pop_front();
        wire.erase(0, parsed.bytes);
        ++complete;
      }
      ASSERT_EQ(queue.unsent_frames(), committed - complete);
    };
    for (int step = 0; step < 400; ++step) {
      const std::size_t size = 1 + random() % (random() % 8 == 0 ? 496 : 60);
      if (std::byte* const memory = queue.claim(size); memory != nullptr) {
        const std::string content(1 + random() % size, static_cast<char>('a' + step % 26));
        std::memcpy(memory, content.data(), content.size());
        if (random() % 4 == 0) {
          ASSERT_NO_FATAL_FAILURE(drain());
        }
        if (random() % 8 == 0) {
          queue.abort();
        } else {
          queue.commit(content.size(), 0);
          expected.push_back(content);
          ++committed;
        }
      }
      if (random() % 2 == 0) queue.publish();
      ASSERT_NO_FATAL_FAILURE(drain());
    }
    queue.publish();
    for (int i = 0; i < 1000 && queue.unsent_frames() != 0; ++i) ASSERT_NO_FATAL_FAILURE(drain());
    EXPECT_TRUE(expected.empty()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace cdmf::ipc::unix_socket
