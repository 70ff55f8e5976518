#pragma once
// What a process occupies in the kernel: to show that nothing was left behind.

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <string>

namespace cdmf::ipc::test {

struct Footprint {
  std::ptrdiff_t descriptors = 0;
  std::ptrdiff_t threads = 0;
  std::ptrdiff_t shared_mappings = 0;

  /// Of this process.
  static Footprint now() {
    const auto entries = [](const char* folder) {
      return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
    };
    Footprint now{entries("/proc/self/fd"), entries("/proc/self/task"), 0};
    std::FILE* const maps = std::fopen("/proc/self/maps", "re");
    char line[512];
    while (maps != nullptr && std::fgets(line, sizeof line, maps) != nullptr) {
      now.shared_mappings += std::strstr(line, "rw-s") != nullptr;
    }
    if (maps != nullptr) std::fclose(maps);
    return now;
  }

  bool operator==(const Footprint&) const = default;
  Footprint operator-(const Footprint& other) const {
    return {descriptors - other.descriptors, threads - other.threads, shared_mappings - other.shared_mappings};
  }
  std::string text() const {
    return std::to_string(descriptors) + " descriptors, " + std::to_string(threads) + " threads, " +
           std::to_string(shared_mappings) + " mappings";
  }
};

}  // namespace cdmf::ipc::test
