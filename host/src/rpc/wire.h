#pragma once
// rpc/wire.h: how calls lie in messages.
//
//   REQUEST   subject: method   id: the call's, 0 one-way   flags: see below   time_left: how long the caller waits
//   RESPONSE  subject: empty    id: the request's           flags: 0           payload: the reply
//   ERROR     subject: empty    id: the request's           flags: Refusal     payload: see Refusal
//
// A method whose name begins with kReservedPrefix is the stub's own.
//
// Methods by number, so that a small request fits one line of memory. A caller that could use a number sets kTellNumber
// in a request by name; a stub that gives numbers puts kNumberSubject and one byte, 1 to 127, into the subject of that
// request's RESPONSE. From then on, over this link, a REQUEST with an empty subject and that number in its flags names
// the same method. Either side may leave it at names: older ones do. A number is for the link it was told over, so a
// request that has come by a route (hops > 0) is told none, and is refused when it uses one.
#include <cstdint>
#include <string_view>

namespace cdmf::ipc::rpc {

// In the flags of a REQUEST.
inline constexpr std::uint8_t kOneWay = 1;
inline constexpr std::uint8_t kTellNumber = 2;  ///< with a subject
inline constexpr unsigned kMethodNumberShift =
    1;  ///< without a subject: the bits above kOneWay are the method's number

inline constexpr std::string_view kNumberSubject = "cdmf.number=";  ///< in that of a RESPONSE, then the number's byte
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
