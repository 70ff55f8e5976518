#include "ipc/protobuf_serializer.h"

#include <google/protobuf/wrappers.pb.h>
#include <gtest/gtest.h>

namespace cdmf::ipc {
namespace {

using google::protobuf::Int64Value;
using google::protobuf::StringValue;
static_assert(Writable<StringValue> && Readable<StringValue> && !PlainStruct<StringValue>);

TEST(ProtobufSerializer, MessagesComeBackAsTheyWere) {
  StringValue text;
  text.set_value("forty-two");
  StringValue back;
  const bool read = with_bytes(text, [&](std::span<const std::byte> bytes) {
    EXPECT_EQ(bytes.size(), text.ByteSizeLong());
    return Serializer<StringValue>::read(bytes, back);
  });
  EXPECT_TRUE(read);
  EXPECT_EQ(back.value(), "forty-two");
}

TEST(ProtobufSerializer, TheEmptyMessageHasNoBytes) {
  Int64Value value;
  value.set_value(7);
  EXPECT_TRUE(Serializer<Int64Value>::read({}, value));
  EXPECT_EQ(value.value(), 0);
}

TEST(ProtobufSerializer, WhatDoesNotParseIsMalformed) {
  const std::byte cut[] = {std::byte{0x0a}, std::byte{0x09}, std::byte{'f'}};
  StringValue text;
  EXPECT_FALSE(Serializer<StringValue>::read(cut, text));
}

}  // namespace
}  // namespace cdmf::ipc
