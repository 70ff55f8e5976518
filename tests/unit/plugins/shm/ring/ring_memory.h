#pragma once
// Memory for one ring, for tests: private or shared with children, zero as the ring wants it.

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "ring/record_ring.h"

namespace cdmf::ipc::shm::testing {

class RingMemory {
 public:
  explicit RingMemory(std::uint64_t capacity_bytes) : size_(sizeof(RecordRingControl) + capacity_bytes) {
    memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) std::abort();
    ring.control = new (memory_) RecordRingControl;
    ring.bytes = static_cast<std::byte*>(memory_) + sizeof(RecordRingControl);
    ring.capacity_bytes = capacity_bytes;
  }
  ~RingMemory() { munmap(memory_, size_); }
  RingMemory(const RingMemory&) = delete;
  RingMemory& operator=(const RingMemory&) = delete;

  /// The first word of a line, as a hostile peer would write it.
  void poke(std::uint64_t offset, std::uint32_t word) { std::memcpy(ring.bytes + offset, &word, sizeof word); }
  std::uint32_t peek(std::uint64_t offset) const {
    std::uint32_t word;
    std::memcpy(&word, ring.bytes + offset, sizeof word);
    return word;
  }

  RecordRingMemory ring;

 private:
  std::size_t size_;
  void* memory_;
};

}  // namespace cdmf::ipc::shm::testing
