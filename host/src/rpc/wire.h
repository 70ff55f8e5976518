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

/// In the flags of an ERROR. All but APPLICATION and LOST say that no handler has run; the payload is a text.
enum class Refusal : std::uint8_t {
  APPLICATION = 0,  ///< payload: the handler's code, u32 little-endian, then its text
  NO_SUCH_METHOD = 1,
  OVERLOADED = 2,
  MALFORMED_REQUEST = 3,
  DEADLINE_PASSED = 4,
  STOPPING = 5,
  UNREACHABLE = 6,  ///< of a route: what it leads to is down, full, or the way back to where it came from
  TOO_LARGE = 7,    ///< of a route: for what it leads to
  LOST = 8,         ///< of a route: it was passed on, then that link ended; a handler may have run
};

}  // namespace cdmf::ipc::rpc
