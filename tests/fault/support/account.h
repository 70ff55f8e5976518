#pragma once
// What storms have in common: messages that tell who sent them, which they are and whether they are whole; and how such
// a test ends with the first thing that is wrong, whichever of its processes finds it.

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>
#include <span>
#include <string>
#include <vector>

namespace cdmf::ipc::test {

/// The head of a message; the rest of it follows from these two.
struct Content {
  std::uint32_t stream;  // One life of one sender.
  std::uint32_t number;  // From 0.

  /// One in sixteen is long.
  std::size_t length(std::size_t most) const {
    const std::uint32_t mixed = (stream * 31 + number) * 2654435761u;
    return sizeof(Content) + (mixed >> 8) % (mixed % 16 == 0 ? most - sizeof(Content) : 100);
  }
  /// Fills payload, which has length() bytes.
  void write(std::span<std::byte> payload) const {
    std::memcpy(payload.data(), this, sizeof *this);
    for (std::size_t index = sizeof *this; index < payload.size(); ++index) payload[index] = filling(index);
  }
  /// False: the message is torn, or nobody sends such.
  bool read(std::span<const std::byte> payload, std::size_t most) {
    if (payload.size() < sizeof *this) return false;
    std::memcpy(this, payload.data(), sizeof *this);
    if (payload.size() != length(most)) return false;
    for (std::size_t index = sizeof *this; index < payload.size(); ++index) {
      if (payload[index] != filling(index)) return false;
    }
    return true;
  }

 private:
  std::byte filling(std::size_t index) const { return static_cast<std::byte>(stream * 7 + number * 13 + index); }
};

/// The first thing that is wrong, for all processes of a test: part of what they share.
struct Complaint {
  std::atomic<bool> is_there{false};  // Then the text is, too.
  char text[400] = {};

  /// Only the first is kept.
  void set(const std::string& what) {
    if (is_taken_.exchange(true)) return;
    std::snprintf(text, sizeof text, "%s", what.c_str());
    is_there.store(true, std::memory_order_release);
  }

 private:
  std::atomic<bool> is_taken_{false};
};

/// A T that this process and its children share; nullptr: no memory. Pages come as they are touched.
template <typename T>
T* make_shared_board() {
  void* const memory =
      mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : new (memory) T;
}

/// Names in /dev/shm that are of this endpoint.
inline std::vector<std::string> objects_of(const std::string& endpoint) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    const std::string name = entry.path().filename().string();
    if (name.find(endpoint.substr(1)) != std::string::npos) names.push_back(name);
  }
  return names;
}

}  // namespace cdmf::ipc::test
