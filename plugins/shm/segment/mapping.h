#pragma once
// segment/mapping.h: shared memory as this process sees it, and how its bytes come to exist.
#include <cstddef>
#include <cstdint>
#include <utility>

namespace cdmf::ipc::shm {

/// Gives a new file all its bytes now, zeroed: a lack of memory later would be a SIGBUS in the middle of a message.
/// Returns 0 or an errno: ENOSPC (the file system is full), EFBIG (the limit `ulimit -f`), ENOMEM.
[[nodiscard]] int allocate_bytes(int fd, std::uint64_t size) noexcept;

/// Owner of one mapping of a whole file, readable and writable. It goes with the object and is not inherited by fork().
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept { swap(other); }
  Mapping& operator=(Mapping&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Mapping();

  /// Maps `size` bytes of the file, which has them, and all of its pages at once: a page fault on the data path costs
  /// more than the message. False, with errno: there is no room.
  [[nodiscard]] bool map(int fd, std::size_t size) noexcept;

  explicit operator bool() const noexcept { return memory_ != nullptr; }
  std::byte* memory() const noexcept { return memory_; }
  std::size_t size() const noexcept { return size_; }

 private:
  void swap(Mapping& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
  }
  std::byte* memory_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace cdmf::ipc::shm
