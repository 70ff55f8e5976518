#include "ipc/serializer.h"

#include <gtest/gtest.h>

namespace cdmf::ipc {
namespace {

struct Point {
  std::int32_t x;
  std::int32_t y;
};
struct Empty {};

static_assert(Writable<Point> && Readable<Point>);
static_assert(Writable<double> && Readable<std::uint8_t>);
static_assert(Writable<std::string> && Readable<std::vector<std::byte>>);
static_assert(!Writable<int*> && !Readable<Point*> && !Writable<Empty> && !Writable<std::vector<int>>);
static_assert(kIsView<std::string_view> && !kIsView<std::string>);

/// A type of a user, written and not lying in memory as it is sent.
struct Words {
  std::vector<std::string> words;
};

}  // namespace

template <>
struct Serializer<Words> {
  static void write(const Words& value, std::vector<std::byte>& out) {
    for (const auto& word : value.words) {
      for (const char c : word + '\n') out.push_back(static_cast<std::byte>(c));
    }
  }
};

namespace {

template <class T>
std::vector<std::byte> bytes_of(const T& value) {
  return with_bytes(value, [](std::span<const std::byte> bytes) { return std::vector(bytes.begin(), bytes.end()); });
}

TEST(Serializer, StructsKeepTheirValueAndTheirSizeIsChecked) {
  const auto bytes = bytes_of(Point{3, -4});
  Point point{};
  ASSERT_TRUE(Serializer<Point>::read(bytes, point));
  EXPECT_EQ(point.x, 3);
  EXPECT_EQ(point.y, -4);
  EXPECT_FALSE(Serializer<Point>::read(std::span(bytes).first(7), point));
  EXPECT_FALSE(Serializer<Point>::read({}, point));
}

TEST(Serializer, StructsAreReadFromAnyAddress) {
  std::vector<std::byte> shifted(1 + sizeof(Point));
  const auto bytes = bytes_of(Point{5, 6});
  std::copy(bytes.begin(), bytes.end(), shifted.begin() + 1);
  Point point{};
  ASSERT_TRUE(Serializer<Point>::read(std::span(shifted).subspan(1), point));
  EXPECT_EQ(point.y, 6);
}

TEST(Serializer, WrittenTypesUseABufferThatMayBeUsedInside) {
  const Words outer{{"a", "b"}};
  const auto both = with_bytes(outer, [&](std::span<const std::byte> bytes) {
    const auto inner = bytes_of(Words{{"inner"}});
    EXPECT_EQ(inner.size(), 6u);
    return std::vector(bytes.begin(), bytes.end());
  });
  EXPECT_EQ(both.size(), 4u);
  EXPECT_EQ(bytes_of(outer), both);
}

}  // namespace
}  // namespace cdmf::ipc
