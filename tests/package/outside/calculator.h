#pragma once
// What the calculator's server and clients agree on.
#include <cstdint>

struct Operands {
  std::int64_t left = 0;
  std::int64_t right = 0;
};
struct Number {
  std::int64_t value = 0;
};
inline constexpr std::uint32_t kDivisionByZero = 1;
