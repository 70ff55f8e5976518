// The bytes of a frame, and every way in which they can be wrong.
#include "ipc/frame.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace cdmf::ipc {
namespace {

/// A frame in aligned memory, built by hand.
class Bytes {
 public:
  explicit Bytes(std::size_t size) : words_(size / 8 + 2), size_(size) {}
  [[nodiscard]] std::byte* data() { return reinterpret_cast<std::byte*>(words_.data()); }
  [[nodiscard]] std::size_t size() const { return size_; }
  void put16(std::size_t at, std::uint16_t value) { std::memcpy(data() + at, &value, sizeof value); }
  [[nodiscard]] bool read(MessageView& view) { return read_frame(data(), size_, view); }
  [[nodiscard]] bool reads() {
    MessageView view;
    return read(view);
  }

 private:
  std::vector<std::uint64_t> words_;
  std::size_t size_;
};

/// As the Transport writes it.
Bytes make_frame(const MessageView& message, std::size_t extensions = 0) {
  Bytes bytes(frame_size(message.payload.size(), message.subject.size(), extensions));
  write_frame_header(bytes.data(), message, message.subject.size(), extensions);
  std::byte* at = bytes.data() + kFrameHeaderBytes + extensions;
  at = std::copy(message.payload.begin(), message.payload.end(), at);
  if (!message.subject.empty()) std::memcpy(at, message.subject.data(), message.subject.size());
  return bytes;
}

MessageView sample(std::string_view payload, std::string_view subject) {
  MessageView message;
  message.type = MessageType::REQUEST;
  message.flags = 0xa5;
  message.time_left = TimeLeft::from_code(0xc3);
  message.id = 0x0123456789abcdefu;
  message.subject = subject;
  message.payload = std::as_bytes(std::span(payload));
  return message;
}

TEST(Frame, CarriesEveryFieldThereAndBack) {
  for (const std::size_t payload : {0u, 1u, 15u, 16u, 17u, 4096u}) {
    for (const std::size_t subject : {0u, 1u, 255u, 256u}) {
      for (const std::size_t extensions : {0u, 16u, 240u, 512u}) {
        const std::string text(payload, 'p');
        const std::string name(subject, 's');
        Bytes frame = make_frame(sample(text, name), extensions);
        MessageView view;
        ASSERT_TRUE(frame.read(view)) << payload << ' ' << subject << ' ' << extensions;
        EXPECT_EQ(view.type, MessageType::REQUEST);
        EXPECT_EQ(view.flags, 0xa5);
        EXPECT_EQ(view.time_left.code(), 0xc3);
        EXPECT_EQ(view.id, 0x0123456789abcdefu);
        EXPECT_EQ(view.text(), text);
        EXPECT_EQ(view.subject, name);
      }
    }
  }
}

TEST(Frame, LaysTheHeaderOutAsTheHeaderFileSays) {
  Bytes frame = make_frame(sample("abc", "de"), 16);
  const auto* bytes = reinterpret_cast<const unsigned char*>(frame.data());
  const unsigned char header[16] = {0xef, 0xcd,          0xab, 0x89, 0x67, 0x45, 0x23, 0x01,
                                    1,    kFrameVersion, 0xa5, 0xc3, 2,    0,    16,   0};
  EXPECT_EQ(std::memcmp(bytes, header, sizeof header), 0);
  EXPECT_EQ(std::memcmp(bytes + 32, "abcde", 5), 0);
}

TEST(Frame, CarriesHopsInAnExtensionOfItsOwn) {
  MessageView message = sample("abc", "de");
  EXPECT_EQ(extension_size(message), 0u);
  message.hops = 200;
  ASSERT_EQ(extension_size(message), kHopsBytes);
  Bytes frame = make_frame(message, 3 * kHopsBytes);
  std::byte* const blocks = frame.data() + kFrameHeaderBytes;
  MessageView view;
  const auto hops_of = [&] {
    view.hops = 7;
    EXPECT_TRUE(frame.read(view));
    EXPECT_EQ(view.text(), "abc");
    return view.hops;
  };
  EXPECT_EQ(hops_of(), 0) << "no block says so";
  write_extensions(blocks, message);
  EXPECT_EQ(hops_of(), 200);
  std::memcpy(blocks + 2 * kHopsBytes, blocks, kHopsBytes);  // Behind a block that nobody knows,
  frame.put16(16, 0x1234);
  frame.put16(18, 2 * kHopsBytes);
  EXPECT_EQ(hops_of(), 200);
  for (const std::uint16_t size : {0, 1, 7, 9, 4096, 65535}) {  // and not behind one that makes no sense.
    frame.put16(18, size);
    EXPECT_EQ(hops_of(), 0) << size;
  }
}

TEST(Frame, OfTheLargestOverheadFitsWhatDriversReserve) {
  EXPECT_EQ(frame_size(0, kSubjectBytesMax, kExtensionBytesMax), std::size_t{CDMF_FRAME_OVERHEAD_MAX});
}

TEST(Frame, ShorterThanItsHeaderIsRefused) {
  for (std::size_t size = 0; size < kFrameHeaderBytes; ++size) {
    Bytes frame = make_frame(sample("", ""));
    MessageView view;
    EXPECT_FALSE(read_frame(frame.data(), size, view)) << size;
  }
}

TEST(Frame, OfAnotherVersionIsRefused) {
  for (int version = 0; version < 256; ++version) {
    Bytes frame = make_frame(sample("abc", "de"));
    frame.data()[9] = static_cast<std::byte>(version);
    EXPECT_EQ(frame.reads(), version == kFrameVersion) << version;
  }
}

TEST(Frame, WhoseSubjectIsLongerThanAllowedIsRefusedThoughItFits) {
  Bytes frame = make_frame(sample(std::string(70'000, 'x'), ""));
  for (const unsigned subject : {257u, 4096u, 65535u}) {
    frame.put16(12, static_cast<std::uint16_t>(subject));
    EXPECT_FALSE(frame.reads()) << subject;
  }
  frame.put16(12, 256);
  EXPECT_TRUE(frame.reads());
}

TEST(Frame, WhoseExtensionsAreTooLongOrNotWholeBlocksIsRefusedThoughTheyFit) {
  Bytes frame = make_frame(sample(std::string(70'000, 'x'), ""));
  for (const unsigned extensions : {1u, 8u, 15u, 17u, 511u, 513u, 528u, 65520u, 65535u}) {
    frame.put16(14, static_cast<std::uint16_t>(extensions));
    EXPECT_FALSE(frame.reads()) << extensions;
  }
  frame.put16(14, 512);
  EXPECT_TRUE(frame.reads());
}

TEST(Frame, WhosePartsReachBeyondItsEndIsRefused) {
  // Every pair of lengths against a frame of 16 + 64 bytes: accepted exactly when both parts fit.
  for (unsigned extensions = 0; extensions <= 512; extensions += 16) {
    for (unsigned subject = 0; subject <= 256; ++subject) {
      Bytes frame = make_frame(sample(std::string(64, 'x'), ""));
      frame.put16(12, static_cast<std::uint16_t>(subject));
      frame.put16(14, static_cast<std::uint16_t>(extensions));
      MessageView view;
      const bool fits = extensions + subject <= 64;
      ASSERT_EQ(frame.read(view), fits) << extensions << ' ' << subject;
      if (!fits) continue;
      ASSERT_EQ(view.payload.size(), 64 - extensions - subject);
      ASSERT_EQ(view.payload.data(), frame.data() + 16 + extensions);
      ASSERT_EQ(view.subject.size(), subject);
      ASSERT_EQ(view.subject.data() + subject, reinterpret_cast<const char*>(frame.data() + frame.size()));
    }
  }
}

TEST(Frame, OfAnUnknownTypeAndWithUnknownExtensionsIsKept) {
  Bytes frame = make_frame(sample("abc", "de"), 32);
  frame.data()[8] = std::byte{0xee};
  frame.put16(16, 0x7777);  // An extension kind nobody knows.
  MessageView view;
  ASSERT_TRUE(frame.read(view));
  EXPECT_EQ(static_cast<unsigned>(view.type), 0xeeu);
  EXPECT_EQ(view.text(), "abc");
}

}  // namespace
}  // namespace cdmf::ipc
