#pragma once
// A record ring in shared memory, records that tell what they are, and the account of what must be so.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <new>
#include <span>
#include <vector>

#include "ring/record_consumer.h"
#include "ring/record_producer.h"

namespace record_ring_check {

using namespace cdmf::ipc::shm;

#define CHECK(condition) \
  if (!(condition)) wrong(__FILE__, __LINE__, #condition)

inline const char* g_doing = "";
inline std::uint64_t g_seed = 0;

[[noreturn]] inline void wrong(const char* file, int line, const char* condition) {
  std::printf("%s:%d: not so: %s (%s, seed %llu)\n", file, line, condition, g_doing,
              static_cast<unsigned long long>(g_seed));
  std::fflush(stdout);
  _exit(1);
}

/// A ring, and a page for what the processes tell each other beside it.
struct Told {
  std::atomic<std::uint64_t> claimed{0};     // records begun
  std::atomic<std::uint64_t> flushed{0};     // records whose flush has returned
  std::atomic<std::uint64_t> to_release{0};  // records whose release has begun
  std::atomic<std::uint64_t> released{0};    // records whose release has returned
};

class Shared {
 public:
  explicit Shared(std::uint64_t capacity) : bytes_(kBefore + capacity) {
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory_ != MAP_FAILED);
    told = new (memory_) Told;
    auto* const base = static_cast<std::byte*>(memory_);
    ring = {new (base + 4096) RecordRingControl, base + kBefore, capacity};
  }
  ~Shared() { munmap(memory_, bytes_); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  /// The same bytes at the same place, but this process's own from now on.
  void make_private() {
    const std::vector<std::byte> copy = image();
    CHECK(mmap(memory_, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory_);
    std::memcpy(memory_, copy.data(), copy.size());
  }
  const void* data() const { return memory_; }
  std::vector<std::byte> image() const {
    const auto* const begin = static_cast<const std::byte*>(memory_);
    return {begin, begin + bytes_};
  }

  Told* told;
  RecordRingMemory ring;

 private:
  static constexpr std::size_t kBefore = 8192;
  std::size_t bytes_;
  void* memory_;
};

// Contents tell producer's sequence and length in every byte. The timestamp repeats the sequence, the checksum its
// complement: a torn envelope shows.
inline std::byte content(std::uint64_t sequence, std::size_t index) {
  return static_cast<std::byte>(sequence * 131 + index * 7 + (index >> 8));
}
// Some records look like commit words all over: stamps of every lap, small sizes.
inline bool looks_like_words(std::uint64_t sequence) { return sequence % 3 == 0; }
inline std::uint32_t fake_word(std::uint64_t sequence, std::size_t index) {
  return commit_word(1 + static_cast<std::uint32_t>(sequence + index) % 15, 16 + (sequence & 31));
}

inline void fill(std::span<std::byte> payload, std::uint64_t sequence) {
  for (std::size_t index = 0; index < payload.size(); ++index) payload[index] = content(sequence, index);
  if (!looks_like_words(sequence)) return;
  for (std::size_t at = 0; at + 4 <= payload.size(); at += 4) {
    const std::uint32_t word = fake_word(sequence, at);
    std::memcpy(payload.data() + at, &word, 4);
  }
}

inline void check_contents(const RecordView& view, std::uint64_t sequence, std::uint64_t length) {
  CHECK(view.timestamp_us == sequence);
  CHECK(view.checksum == static_cast<std::uint32_t>(~sequence));
  CHECK(view.payload_bytes == length);
  for (std::size_t index = 0; index < length; ++index) {
    if (looks_like_words(sequence) && index < length / 4 * 4) continue;
    CHECK(view.payload[index] == content(sequence, index));
  }
  if (!looks_like_words(sequence)) return;
  for (std::size_t at = 0; at + 4 <= length; at += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, view.payload + at, 4);
    CHECK(word == fake_word(sequence, at));
  }
}

inline void commit(RecordProducer& producer, std::uint64_t bytes, std::uint64_t sequence) {
  producer.commit(bytes, sequence, static_cast<std::uint32_t>(~sequence));
}

inline std::uint64_t length_of(std::uint64_t sequence, std::uint64_t largest) {
  std::uint64_t x = (sequence + 1) * 0x9E3779B97F4A7C15ull;
  x ^= x >> 29;
  // Lines matter, not bytes: one to a few of them mostly, the largest now and then, 0 as well.
  switch (x % 8) {
    case 0:
      return 0;
    case 1:
      return largest;
    case 2:
      return x / 8 % (largest + 1);
    default:
      return x / 8 % std::min<std::uint64_t>(largest + 1, 180);
  }
}

}  // namespace record_ring_check
