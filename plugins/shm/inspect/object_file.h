#pragma once
// inspect/object_file.h: a named object opened for reading, by an observer that trusts nothing in it.
#include <sys/types.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "ipc/driver.h"
#include "segment/unique_fd.h"

namespace cdmf::ipc::shm {

struct ObjectFile {
  UniqueFd fd;
  std::uint64_t size = 0;
  uid_t owner = static_cast<uid_t>(-1);

  /// Only this user's objects and root's, or any for root.
  /// missing  the end of a text that starts "nobody has made".
  static cdmf_status open(const std::string& name, const char* missing, ObjectFile& found, ErrorText& error);
  /// The bytes at `offset`, copied. False: they are not all there.
  bool read(void* bytes, std::size_t count, std::uint64_t offset) const noexcept {
    return pread(fd.get(), bytes, count, static_cast<off_t>(offset)) == static_cast<ssize_t>(count);
  }
};

/// The bytes of a structure of atomics, which cannot be copied as a whole.
template <typename T>
struct Image {
  alignas(T) std::byte bytes[sizeof(T)] = {};
  const T& value() const noexcept { return *reinterpret_cast<const T*>(bytes); }
  bool read(const ObjectFile& file, std::uint64_t offset) noexcept { return file.read(bytes, sizeof bytes, offset); }
};

}  // namespace cdmf::ipc::shm
