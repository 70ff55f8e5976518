#pragma once
// ipc/protobuf_serializer.h: protobuf messages as requests and replies. Include it where you link protobuf; cdmf itself
// does not. A message that lacks required fields is malformed, as is one that does not parse.
#include <google/protobuf/message_lite.h>

#include <limits>
#include <stdexcept>

#include "ipc/serializer.h"

namespace cdmf::ipc {

template <class T>
requires std::derived_from<T, google::protobuf::MessageLite>
struct Serializer<T> {
  /// throws  std::length_error beyond 2 GiB, protobuf's own limit.
  static void write(const T& value, std::vector<std::byte>& out) {
    const std::size_t size = value.ByteSizeLong();
    if (size > std::numeric_limits<int>::max()) throw std::length_error("a protobuf message of more than 2 GiB");
    const std::size_t begin = out.size();
    out.resize(begin + size);
    value.SerializeWithCachedSizesToArray(reinterpret_cast<std::uint8_t*>(out.data() + begin));
  }
  static bool read(std::span<const std::byte> payload, T& value) {
    return payload.size() <= std::numeric_limits<int>::max() &&
           value.ParseFromArray(payload.data(), static_cast<int>(payload.size()));
  }
};

}  // namespace cdmf::ipc
