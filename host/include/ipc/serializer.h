#pragma once
// ipc/serializer.h: how a type lies in the payload of a call. Two shapes; specialise Serializer for a type of your own
// (ipc/protobuf_serializer.h does so for protobuf messages).
//
//   template <> struct Serializer<Order> {
//     static std::span<const std::byte> bytes(const Order& value);             // it lies in memory as it is sent, or
//     static void write(const Order& value, std::vector<std::byte>& out);      // it is written, appended to `out`
//     static bool read(std::span<const std::byte> payload, Order& value);      // false: malformed
//   };
//
// read() may run on bytes that a hostile peer still changes (shm with `trust: cooperative`): copy, then check.
#include <concepts>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace cdmf::ipc {

/// Types that are sent as they lie in memory: structs of numbers, enums and arrays of these. Both ends must be built
/// with the same layout. Not pointers and not views, which mean nothing elsewhere; a struct that hides one cannot be
/// told apart. The bytes of padding are sent as they are.
template <class T>
concept PlainStruct = std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T> && !std::is_pointer_v<T> &&
                      !std::is_member_pointer_v<T> && !std::is_array_v<T> && !std::is_empty_v<T>;

template <class T>
struct Serializer;

template <PlainStruct T>
struct Serializer<T> {
  static std::span<const std::byte> bytes(const T& value) noexcept { return std::as_bytes(std::span(&value, 1)); }
  static bool read(std::span<const std::byte> payload, T& value) noexcept {
    if (payload.size() != sizeof(T)) return false;
    std::memcpy(static_cast<void*>(&value), payload.data(), sizeof(T));
    return true;
  }
};

template <>
struct Serializer<std::string_view> {
  static std::span<const std::byte> bytes(std::string_view value) noexcept { return std::as_bytes(std::span(value)); }
  static bool read(std::span<const std::byte> payload, std::string_view& value) noexcept {
    value = {reinterpret_cast<const char*>(payload.data()), payload.size()};
    return true;
  }
};

template <>
struct Serializer<std::string> {
  static std::span<const std::byte> bytes(const std::string& value) noexcept { return std::as_bytes(std::span(value)); }
  static bool read(std::span<const std::byte> payload, std::string& value) {
    value.assign(reinterpret_cast<const char*>(payload.data()), payload.size());
    return true;
  }
};

template <>
struct Serializer<std::span<const std::byte>> {
  static std::span<const std::byte> bytes(std::span<const std::byte> value) noexcept { return value; }
  static bool read(std::span<const std::byte> payload, std::span<const std::byte>& value) noexcept {
    value = payload;
    return true;
  }
};

template <>
struct Serializer<std::vector<std::byte>> {
  static std::span<const std::byte> bytes(const std::vector<std::byte>& value) noexcept { return value; }
  static bool read(std::span<const std::byte> payload, std::vector<std::byte>& value) {
    value.assign(payload.begin(), payload.end());
    return true;
  }
};

/// Types whose value looks at the payload instead of owning it: a handler may take them, a reply may not be one.
template <class T>
inline constexpr bool kIsView = std::is_same_v<T, std::string_view> || std::is_same_v<T, std::span<const std::byte>>;

template <class T>
concept Readable = requires(std::span<const std::byte> payload, T& value) {
  { Serializer<T>::read(payload, value) } -> std::same_as<bool>;
};

template <class T>
concept Writable = requires(const T& value) {
  { Serializer<T>::bytes(value) } -> std::convertible_to<std::span<const std::byte>>;
}
|| requires(const T& value, std::vector<std::byte>& out) { Serializer<T>::write(value, out); };

/// Hands the bytes of a value to use(span), which returns before they are gone. Written ones come from a buffer of this
/// thread that keeps its size, so that nothing is allocated call after call.
template <Writable T, class Use>
decltype(auto) with_bytes(const T& value, Use&& use) {
  if constexpr (requires { Serializer<T>::bytes(value); }) {
    return use(std::span<const std::byte>(Serializer<T>::bytes(value)));
  } else {
    // Taken out while in use: `use` may run handlers that come here again.
    thread_local std::vector<std::byte> spare;
    struct Buffer {
      std::vector<std::byte> bytes = std::move(spare);
      ~Buffer() { spare = std::move(bytes); }
    } buffer;
    buffer.bytes.clear();
    Serializer<T>::write(value, buffer.bytes);
    return use(std::span<const std::byte>(buffer.bytes));
  }
}

}  // namespace cdmf::ipc
