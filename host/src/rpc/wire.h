#pragma once
// rpc/wire.h: how calls lie in messages.
//
//   REQUEST   subject: method   id: the call's, 0 one-way   flags: kOneWay or 0   time_left: how long the caller waits
//   RESPONSE  subject: empty    id: the request's           flags: 0              payload: the reply
//   ERROR     subject: empty    id: the request's           flags: Refusal        payload: see Refusal
//
// A method whose name begins with kReservedPrefix is the stub's own.
#include <cstdint>
#include <string_view>

namespace cdmf::ipc::rpc {

inline constexpr std::uint8_t kOneWay = 1;  ///< in the flags of a REQUEST
inline constexpr std::string_view kReservedPrefix = "cdmf.";
inline constexpr std::string_view kIntrospect = "cdmf.introspect";

/// In the flags of an ERROR. All but APPLICATION say that no handler has run; the payload is a text.
enum class Refusal : std::uint8_t {
  APPLICATION = 0,  ///< payload: the handler's code, u32 little-endian, then its text
  NO_SUCH_METHOD = 1,
  OVERLOADED = 2,
  MALFORMED_REQUEST = 3,
  DEADLINE_PASSED = 4,
  STOPPING = 5,
};

}  // namespace cdmf::ipc::rpc
