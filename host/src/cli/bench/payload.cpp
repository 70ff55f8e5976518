#include "cli/bench/payload.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace cdmf::ipc::cli {
namespace {

constexpr std::size_t kLineBytes = 64;
constexpr std::size_t kNumberBytes = sizeof(std::uint64_t);
static_assert(std::endian::native == std::endian::little);  // Both ends run on one machine, but the text says so.

// Every word that starts a line, except the first, which holds the number. Four sums, because one would make each line
// wait for the addition of the line before.
std::uint64_t sum_of_lines(std::span<const std::byte> payload) noexcept {
  std::uint64_t sums[4] = {};
  std::size_t offset = kLineBytes;
  const auto word_at = [&](std::size_t at) {
    std::uint64_t word = 0;
    std::memcpy(&word, payload.data() + at, sizeof word);
    return word;
  };
  for (; offset + 3 * kLineBytes + sizeof(std::uint64_t) <= payload.size(); offset += 4 * kLineBytes) {
    for (std::size_t k = 0; k < 4; ++k) sums[k] += word_at(offset + k * kLineBytes);
  }
  for (; offset + sizeof(std::uint64_t) <= payload.size(); offset += kLineBytes) sums[0] += word_at(offset);
  const std::uint64_t last = payload.size() > kNumberBytes ? std::to_integer<std::uint64_t>(payload.back()) : 0;
  return sums[0] + sums[1] + sums[2] + sums[3] + last;
}

}  // namespace

TestPayload::TestPayload(std::size_t size_bytes, Writes writes)
    : bytes_(std::max<std::size_t>(size_bytes, 1)), writes_(writes) {
  std::uint64_t state = 0x9e3779b97f4a7c15;
  for (auto& byte : bytes_) {
    state = state * 6364136223846793005 + 1442695040888963407;
    byte = static_cast<std::byte>(state >> 56);
  }
  line_sum_ = sum_of_lines(bytes_);
}

std::span<const std::byte> TestPayload::numbered(std::uint64_t sequence) noexcept {
  std::memcpy(bytes_.data(), &sequence, std::min(bytes_.size(), kNumberBytes));
  if (writes_ == Writes::EVERY_LINE) {
    // Not where sum_of_lines() looks: the second word of each line, and never the last byte.
    for (std::size_t at = kLineBytes + kNumberBytes; at + kNumberBytes < bytes_.size(); at += kLineBytes) {
      std::memcpy(bytes_.data() + at, &sequence, kNumberBytes);
    }
  }
  return bytes_;
}

bool TestPayload::check(std::span<const std::byte> payload, std::uint64_t sequence) const noexcept {
  if (payload.size() != bytes_.size()) return false;
  const std::size_t number_bytes = std::min(payload.size(), kNumberBytes);
  return std::memcmp(payload.data(), &sequence, number_bytes) == 0 && sum_of_lines(payload) == line_sum_;
}

}  // namespace cdmf::ipc::cli
