// Frames written in pieces: what arrives, the checksum of it, and a receiver that fetches early, whatever it is told.
#include "large_frame.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "checksum.h"
#include "ring/record_consumer.h"
#include "ring/ring_memory.h"

namespace cdmf::ipc::shm {
namespace {

constexpr std::uint64_t kRingBytes = 512 * 1024;

struct Ring {
  testing::RingMemory memory{kRingBytes};
  RecordProducer producer{memory.ring};
  RecordConsumer consumer{memory.ring};

  /// Sends a frame, and returns what was written.
  std::string send(std::size_t body_size, std::size_t tail_size, bool checksum) {
    std::vector<unsigned char> body(body_size);  // Exact, for the sanitizers.
    std::uint32_t state = static_cast<std::uint32_t>(body_size);
    for (unsigned char& byte : body) byte = static_cast<unsigned char>((state = state * 1103515245 + 12345) >> 16);
    const std::vector<unsigned char> tail(tail_size, 't');
    cdmf_pieces frame{};
    std::memcpy(frame.head, "the head has 16.", sizeof frame.head);
    frame.body = body.data();
    frame.body_size = body.size();
    frame.tail = tail.data();
    frame.tail_size = tail.size();
    const std::size_t size = sizeof frame.head + body_size + tail_size;
    EXPECT_EQ(producer.claim(size), ClaimOutcome::claimed);
    const std::uint32_t sum = write_large_frame(producer, producer.payload().data(), frame, checksum);
    producer.commit(size, 0, sum);
    producer.flush();
    return "the head has 16." + std::string(body.begin(), body.end()) + std::string(tail.begin(), tail.end());
  }
  /// Receives one, and gives it back.
  std::string receive(std::uint32_t& checksum) {
    RecordView view;
    if (!consumer.receive(view)) return "nothing";
    const std::string content(reinterpret_cast<const char*>(view.payload), view.payload_bytes);
    checksum = view.checksum;
    consumer.release(view);
    return content;
  }
};

TEST(LargeFrame, ArrivesWholeWithTheChecksumOfTheWhole) {
  Ring ring;
  for (const bool checksum : {true, false}) {
    for (const std::size_t pieces : {1, 2, 3, 7}) {
      for (const int beside : {-17, -16, -1, 0, 1}) {  // Beside a whole number of pieces, so wraps fall anywhere.
        for (const std::size_t tail : {0, 1, 13}) {
          const std::string sent =
              ring.send(pieces * kPieceBytes + static_cast<std::size_t>(static_cast<long>(beside)), tail, checksum);
          ring.consumer.fetch_early();
          std::uint32_t sum = 0;
          ASSERT_EQ(ring.receive(sum), sent);
          ASSERT_EQ(sum, checksum ? crc32_ieee(sent.data(), sent.size()) : 0);
        }
      }
    }
  }
}

TEST(LargeFrame, AWaitingReceiverIsToldOfEachPieceButTheLast) {
  Ring ring;
  const auto& control = *ring.memory.ring.control;
  ring.send(3 * kPieceBytes, 0, false);
  EXPECT_EQ(control.writing_from.load(), 0u);
  EXPECT_EQ(control.written_to.load(), kEnvelopeBytes + 16 + 2 * kPieceBytes);
  // Behind the padding, for a record that does not fit before the end.
  std::uint32_t sum = 0;
  for (int i = 0; i < 10; ++i) {
    ring.receive(sum);
    ring.send(10 * kPieceBytes, 0, false);
    if (control.writing_from.load() == kRingBytes) break;
  }
  EXPECT_EQ(control.writing_from.load(), kRingBytes);
  EXPECT_EQ(control.written_to.load(), kRingBytes + kEnvelopeBytes + 16 + 9 * kPieceBytes);
}

TEST(LargeFrame, AnEarlyLookDeliversNothingAndSurvivesAnyHint) {
  Ring ring;
  auto& control = *ring.memory.ring.control;
  RecordView view;
  std::uint32_t sum = 0;
  const std::uint64_t hints[] = {0, 1, 63, 64, 100'000, kRingBytes - 1, kRingBytes, kRingBytes + 1, 1ull << 62, ~0ull};
  for (const std::uint64_t from : hints) {
    for (const std::uint64_t to : hints) {
      control.writing_from.store(from);
      control.written_to.store(to);
      for (int look = 0; look < 20; ++look) ring.consumer.fetch_early();
      ASSERT_FALSE(ring.consumer.receive(view));
      const std::string sent = ring.send(2 * kPieceBytes, 0, true);
      ASSERT_EQ(ring.receive(sum), sent);
      ASSERT_EQ(ring.consumer.fault(), RingFault::none);
    }
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm
