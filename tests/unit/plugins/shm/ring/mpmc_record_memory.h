#pragma once
// Memory for one ring of many producers and consumers, for tests: shared with children, zero as the ring wants it.

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "ring/mpmc_record_ring.h"

namespace cdmf::ipc::shm::testing {

template <typename Memory>
class BasicMpmcTestMemory {
 public:
  BasicMpmcTestMemory(std::uint32_t slot_count, std::uint32_t slot_size_bytes, std::uint32_t participant_count)
      : size_(Memory::size_bytes(slot_count, slot_size_bytes, participant_count)),
        bytes_(map(size_)),
        ring(bytes_, slot_count, slot_size_bytes, participant_count) {}
  ~BasicMpmcTestMemory() { munmap(bytes_, size_); }
  BasicMpmcTestMemory(const BasicMpmcTestMemory&) = delete;
  BasicMpmcTestMemory& operator=(const BasicMpmcTestMemory&) = delete;

  /// A new ring, as if nothing had ever happened. Nobody uses the old one.
  void reset() { std::memset(bytes_, 0, size_); }
  std::byte* bytes() const { return bytes_; }
  std::size_t size_bytes() const { return size_; }

 private:
  static std::byte* map(std::size_t size) {
    void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    return static_cast<std::byte*>(memory);
  }
  std::size_t size_;
  std::byte* bytes_;

 public:
  Memory ring;
};
using MpmcTestMemory = BasicMpmcTestMemory<MpmcRecordMemory>;

/// A member whose process can "die" inside this one: it is then simply never touched again.
class MortalMember {
 public:
  MortalMember(const MpmcRecordMemory& memory, std::uint32_t index) {
    member_ = new (storage_) MpmcRecordMember(memory, index);
  }
  ~MortalMember() {
    if (member_ != nullptr) member_->~MpmcRecordMember();
  }
  MortalMember(const MortalMember&) = delete;
  MortalMember& operator=(const MortalMember&) = delete;
  void die() { member_ = nullptr; }  // No destructor: nothing may be put right.
  bool dead() const { return member_ == nullptr; }
  MpmcRecordMember* operator->() const { return member_; }
  MpmcRecordMember& operator*() const { return *member_; }

 private:
  alignas(MpmcRecordMember) std::byte storage_[sizeof(MpmcRecordMember)];
  MpmcRecordMember* member_;
};

}  // namespace cdmf::ipc::shm::testing
