// ISA-L is the fastest there is from a few hundred bytes on. Short records need something else: a sender takes the sum
// of what it wrote a moment ago, while the line is still on its way from the other core. Loads of 8 bytes get such
// bytes from the store buffer; the 16-byte loads of ISA-L, covering two stores of 8, have to wait for the line (some 50
// ns).
#include "checksum.h"

#include <isa-l/crc.h>

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cdmf::ipc::shm {
namespace {

constexpr std::size_t kShortBytes = 96;  // From here on ISA-L is faster even so (measured).

#if defined(__x86_64__)

// Polynomials over GF(2), reflected: the highest power stands in the lowest bit.
constexpr std::uint32_t kPolynomial = 0xEDB8'8320;

/// x^power mod P, moved up by a bit: the product of two reflected numbers comes out one too low.
constexpr std::uint64_t power_mod(unsigned power) {
  std::uint32_t rest = 0x8000'0000;  // x^0
  for (; power > 0; --power) rest = rest >> 1 ^ ((rest & 1) != 0 ? kPolynomial : 0);
  return std::uint64_t{rest} << 1;
}

/// floor(x^64 / P), 33 bits.
constexpr std::uint64_t quotient_of_x64() {
  // Long division, in natural order of bits.
  std::uint64_t divisor = 1;
  for (unsigned i = 0; i < 32; ++i) divisor = divisor << 1 | (kPolynomial >> i & 1);
  std::uint64_t quotient = 0;
  std::uint64_t rest = std::uint64_t{1} << 32;  // The first 33 bits of x^64.
  for (unsigned step = 0; step <= 32; ++step) {
    const bool fits = (rest >> 32 & 1) != 0;
    quotient |= std::uint64_t{fits} << step;  // Reflected at once.
    rest = (fits ? rest ^ divisor : rest) << 1;
  }
  return quotient;
}

constexpr std::uint64_t kX64 = power_mod(64);
constexpr std::uint64_t kP = std::uint64_t{kPolynomial} << 1 | 1;
constexpr std::uint64_t kQuotient = quotient_of_x64();

/// What a word is multiplied with when n words follow it: x^(64 n + 32).
constexpr auto kMoves = [] {
  std::array<std::uint64_t, kShortBytes / 8 + 1> moves{};
  for (unsigned n = 0; n < moves.size(); ++n) moves[n] = power_mod(64 * n + 32);
  return moves;
}();

inline std::uint64_t word_at(const std::byte* at) noexcept {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

inline __m128i low_half(std::uint64_t word) noexcept { return _mm_cvtsi64_si128(static_cast<long long>(word)); }

/// 8 bytes or more, fewer than kShortBytes. Every word is multiplied by its own power of x, all at the same time; the
/// sum, of 96 bits, is reduced to 64 and divided by P with two more multiplications (Barrett). Zeros in front of a
/// message change nothing, so what is no whole word is taken first.
[[gnu::target("pclmul")]] std::uint32_t short_crc32(const std::byte* data, std::size_t size) noexcept {
  std::uint64_t begin = 0xFFFF'FFFF;  // The sum starts from all ones, in the first four bytes.
  const std::size_t odd_bytes = size % 8;
  std::size_t following = size / 8;
  __m128i sum = _mm_setzero_si128();
  if (odd_bytes != 0) {
    const std::uint64_t odd = (word_at(data) ^ begin) << (64 - 8 * odd_bytes);
    sum = _mm_clmulepi64_si128(low_half(odd), low_half(kMoves[following]), 0x00);
    begin >>= 8 * odd_bytes;
    data += odd_bytes;
  }
  for (; following > 1; data += 8, begin = 0) {
    --following;
    const __m128i moved = _mm_clmulepi64_si128(low_half(word_at(data) ^ begin), low_half(kMoves[following]), 0x00);
    sum = _mm_xor_si128(sum, moved);
  }
  sum = _mm_xor_si128(sum, low_half(word_at(data) ^ begin));  // In a sum of 96 bits it stands at x^32 as it is.

  const __m128i low32 = low_half(0xFFFF'FFFF);
  sum = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(sum, low32), low_half(kX64), 0x00), _mm_srli_si128(sum, 4));
  __m128i product = _mm_clmulepi64_si128(_mm_and_si128(sum, low32), low_half(kQuotient), 0x00);
  product = _mm_clmulepi64_si128(_mm_and_si128(product, low32), low_half(kP), 0x00);
  return ~static_cast<std::uint32_t>(static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm_xor_si128(sum, product))) >> 32);
}

const bool kMultiplies = __builtin_cpu_supports("pclmul");
const bool kHasWideRegisters = __builtin_cpu_supports("avx");

/// ISA-L leaves the upper parts of its registers full (where it uses AVX-512, from 256 bytes on). Until somebody clears
/// them every SSE instruction, ours and the program's, waits for what was in its register before (measured: a message
/// of 1 KiB took its sender 230 ns, and 95 with this).
[[gnu::target("avx")]] void clear_upper_parts() noexcept { _mm256_zeroupper(); }

#endif

}  // namespace

std::uint32_t crc32_ieee(const void* data, std::size_t size_bytes) noexcept {
#if defined(__x86_64__)
  if (size_bytes < kShortBytes && size_bytes >= 8 && kMultiplies) [[likely]] {
    return short_crc32(static_cast<const std::byte*>(data), size_bytes);
  }
#endif
  return crc32_ieee_after(0, data, size_bytes);
}

std::uint32_t crc32_ieee_after(std::uint32_t before, const void* data, std::size_t size_bytes) noexcept {
  // ISA-L takes no const, and writes nothing.
  const std::uint32_t sum = crc32_gzip_refl(before, static_cast<const unsigned char*>(data), size_bytes);
#if defined(__x86_64__)
  if (kHasWideRegisters) [[likely]]
    clear_upper_parts();
#endif
  return sum;
}

}  // namespace cdmf::ipc::shm
