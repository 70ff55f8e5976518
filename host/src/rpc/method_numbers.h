#pragma once
// rpc/method_numbers.h: the numbers by which requests may name a method instead of by its name (wire.h): given by the
// process that answers, and the same for all its stubs.
//
// A number once given means its name until the process ends, whatever stubs come and go. A link's other end is one
// process for as long as there is that link, so a caller that was told a number over a link can never reach another
// method with it over that link.
#include <cstdint>
#include <string_view>

namespace cdmf::ipc::rpc {

inline constexpr std::uint8_t kMethodNumberMax = 127;  ///< Seven bits of a REQUEST's flags.

/// The number of a name, given now if it has none. 0: all numbers are given. [any]
[[nodiscard]] std::uint8_t number_of_method(std::string_view name);

/// The name that has this number; empty: none has. Valid for ever. [any]
[[nodiscard]] std::string_view method_of_number(std::uint8_t number);

}  // namespace cdmf::ipc::rpc
