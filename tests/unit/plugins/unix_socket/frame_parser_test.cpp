#include "frame_parser.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "receive_buffer.h"

namespace cdmf::ipc::unix_socket {
namespace {

void append_record(std::string& stream, const RecordHeader& header, const std::string& content) {
  std::string record(record_bytes(content.size()), '\0');
  std::memcpy(record.data(), &header, sizeof header);
  std::memcpy(record.data() + sizeof header, content.data(), content.size());
  stream += record;
}

void append_frame(std::string& stream, const std::string& content, std::uint64_t timestamp_us = 0) {
  append_record(stream, {static_cast<std::uint32_t>(content.size()), RecordKind::kFrame, 0, timestamp_us}, content);
}

Parsed parse(const std::string& stream, std::size_t frame_size_max = 1000) {
  return parse_record(std::as_bytes(std::span(stream)), frame_size_max);
}

/// Reads the stream as a link does, in pieces that end at the given places.
std::vector<std::string> read_in_pieces(const std::string& stream, const std::vector<std::size_t>& cuts) {
  ReceiveBuffer buffer(64);  // Smaller than some records, so that growing and moving happen too.
  std::vector<std::string> frames;
  std::size_t read = 0;
  for (std::size_t i = 0; i <= cuts.size(); ++i) {
    const std::size_t end = i < cuts.size() ? cuts[i] : stream.size();
    for (;;) {
      const Parsed parsed = parse_record(buffer.unread(), 1000);
      if (parsed.kind == Parsed::Kind::kFrame) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(parsed.frame.data()) % kRecordAlignment, 0u);
        frames.emplace_back(reinterpret_cast<const char*>(parsed.frame.data()), parsed.frame.size());
        buffer.consume(parsed.bytes);
        continue;
      }
      if (parsed.kind == Parsed::Kind::kGoodbye) {
        frames.emplace_back("goodbye " + std::to_string(parsed.reason));
        return frames;
      }
      if (parsed.kind == Parsed::Kind::kViolation) {
        frames.emplace_back("violation");
        return frames;
      }
      if (read == end) break;
      const auto room = buffer.room(parsed.bytes);
      EXPECT_FALSE(room.empty());
      const std::size_t count = std::min(room.size(), end - read);
      std::memcpy(room.data(), stream.data() + read, count);
      buffer.filled(count);
      read += count;
    }
  }
  return frames;
}

TEST(FrameParser, EverySplitOfTheBytesGivesTheSameFrames) {
  std::string stream;
  const std::vector<std::string> sent = {"a", std::string(16, 'b'), std::string(200, 'c'), std::string(15, 'd')};
  for (const auto& frame : sent) append_frame(stream, frame);
  RecordHeader goodbye;
  goodbye.kind = RecordKind::kGoodbye;
  goodbye.reason = CDMF_CONNECTION_CLOSED;
  append_record(stream, goodbye, "");
  std::vector<std::string> expected = sent;
  expected.emplace_back("goodbye 5");

  for (std::size_t first = 0; first <= stream.size(); ++first) {
    for (std::size_t second = first; second <= stream.size(); ++second) {
      ASSERT_EQ(read_in_pieces(stream, {first, second}), expected) << "cut at " << first << " and " << second;
    }
  }
  std::vector<std::size_t> every_byte;
  for (std::size_t i = 0; i < stream.size(); ++i) every_byte.push_back(i);
  EXPECT_EQ(read_in_pieces(stream, every_byte), expected);
}

TEST(FrameParser, ATooLargeFrameIsRefusedFromItsHeaderAlone) {
  RecordHeader header;
  header.size = 1001;
  std::string stream(reinterpret_cast<const char*>(&header), sizeof header);
  EXPECT_EQ(parse(stream).kind, Parsed::Kind::kViolation);
  header.size = UINT32_MAX;
  stream.assign(reinterpret_cast<const char*>(&header), sizeof header);
  EXPECT_EQ(parse(stream).kind, Parsed::Kind::kViolation);
  header.size = 1000;
  stream.assign(reinterpret_cast<const char*>(&header), sizeof header);
  EXPECT_EQ(parse(stream).kind, Parsed::Kind::kIncomplete);
  EXPECT_EQ(parse(stream).bytes, record_bytes(1000));
}

TEST(FrameParser, WhatNoPeerMaySendIsAViolation) {
  std::string empty_frame;
  append_frame(empty_frame, "");
  EXPECT_EQ(parse(empty_frame).kind, Parsed::Kind::kViolation);

  std::string unknown;
  RecordHeader header;
  header.size = 4;
  header.kind = static_cast<RecordKind>(77);
  append_record(unknown, header, "abcd");
  EXPECT_EQ(parse(unknown).kind, Parsed::Kind::kViolation);

  std::string talking_goodbye;
  header.kind = RecordKind::kGoodbye;
  append_record(talking_goodbye, header, "abcd");
  EXPECT_EQ(parse(talking_goodbye).kind, Parsed::Kind::kViolation);
}

TEST(FrameParser, AGoodbyeKeepsAKnownReasonOnly) {
  RecordHeader header;
  header.kind = RecordKind::kGoodbye;
  for (const auto& [said, understood] :
       {std::pair{int{CDMF_PROTOCOL_ERROR}, int{CDMF_PROTOCOL_ERROR}}, std::pair{0, int{CDMF_CONNECTION_CLOSED}},
        std::pair{60000, int{CDMF_CONNECTION_CLOSED}}}) {
    std::string stream;
    header.reason = static_cast<std::uint16_t>(said);
    append_record(stream, header, "");
    EXPECT_EQ(parse(stream).kind, Parsed::Kind::kGoodbye);
    EXPECT_EQ(parse(stream).reason, understood);
  }
}

TEST(FrameParser, AGoodbyeIsFoundAtTheEndOfAStreamOnly) {
  const auto end_of = [](const std::string& stream) { return goodbye_at_end(std::as_bytes(std::span(stream))); };
  std::string stream;
  append_frame(stream, std::string(100, 'x'));
  EXPECT_EQ(end_of(""), CDMF_OK);
  EXPECT_EQ(end_of(stream), CDMF_OK);
  RecordHeader header;
  header.kind = RecordKind::kGoodbye;
  header.reason = CDMF_PROTOCOL_ERROR;
  append_record(stream, header, "");
  EXPECT_EQ(end_of(stream), CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(end_of(stream.substr(0, stream.size() - 1)), CDMF_OK);
}

TEST(FrameParser, TheTimestampArrivesWithItsFrame) {
  std::string stream;
  append_frame(stream, "x", 123456789);
  EXPECT_EQ(parse(stream).timestamp_us, 123456789u);
}

TEST(ReceiveBuffer, PinnedBytesDoNotMoveAndAreNotOverwritten) {
  ReceiveBuffer buffer(64);
  auto room = buffer.room(16);
  ASSERT_EQ(room.size(), 64u);
  std::memset(room.data(), 'a', 64);
  buffer.filled(64);
  const auto kept = buffer.block();
  const std::byte* const bytes = buffer.unread().data();
  kept->pin();
  buffer.consume(32);
  room = buffer.room(48);  // 32 unread bytes have to move to another block.
  EXPECT_NE(buffer.block(), kept);
  std::memset(room.data(), 'b', room.size());
  buffer.filled(room.size());
  EXPECT_EQ(buffer.unread().front(), std::byte{'a'});
  EXPECT_EQ(buffer.unread().back(), std::byte{'b'});
  for (std::size_t i = 0; i < 64; ++i) ASSERT_EQ(bytes[i], std::byte{'a'});
  kept->unpin();
}

TEST(ReceiveBuffer, TwoBlocksAlternateWhenTheyAreReleasedInBetween) {
  ReceiveBuffer buffer(64);
  std::vector<const Block*> seen;
  for (int i = 0; i < 10; ++i) {
    const auto room = buffer.room(16);
    buffer.filled(room.size());
    const auto block = buffer.block();
    seen.push_back(block.get());
    block->pin();
    buffer.consume(buffer.unread().size());
    (void)buffer.room(64);  // While the burst is out.
    seen.push_back(buffer.block().get());
    block->unpin();
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::unique(seen.begin(), seen.end()) - seen.begin(), 2);
}

}  // namespace
}  // namespace cdmf::ipc::unix_socket
