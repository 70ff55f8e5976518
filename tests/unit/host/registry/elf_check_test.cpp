#include "registry/elf_check.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <string>

#include "ipc/plugin_abi.h"
#include "registry/sanitizer.h"
#include "unit/host/temp_folder.h"

namespace cdmf::ipc::registry {
namespace {

/// A file in memory with these bytes.
class MemoryFile {
 public:
  explicit MemoryFile(const std::string& bytes) : fd_(::memfd_create("elf_check_test", MFD_CLOEXEC)) {
    EXPECT_GE(fd_, 0);
    set(bytes);
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  void set(const std::string& bytes) const {
    EXPECT_EQ(::ftruncate(fd_, static_cast<off_t>(bytes.size())), 0);
    EXPECT_EQ(::pwrite(fd_, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

std::string good_plugin() {
  const char* folder = std::getenv("CDMF_TEST_PLUGINS");
  EXPECT_NE(folder, nullptr);
  return read_bytes(std::string(folder == nullptr ? "" : folder) + "/libcdmf_good.so");
}

TEST(ElfCheck, AcceptsALibraryOfThisMachine) {
  const std::string bytes = good_plugin();
  ASSERT_GT(bytes.size(), 4096U);
  const MemoryFile file(bytes);
  EXPECT_EQ(examine_elf(file.fd()).problem, "");
}

TEST(ElfCheck, RefusesEveryLengthThatCutsASegment) {
  const std::string bytes = good_plugin();
  const MemoryFile file("");
  std::size_t accepted_from = bytes.size();
  for (std::size_t length = 0; length < bytes.size(); length += 7) {
    file.set(bytes.substr(0, length));
    const bool accepted = examine_elf(file.fd()).problem.empty();
    if (accepted) accepted_from = std::min(accepted_from, length);
    // Once whole, always whole: what follows the segments is not loaded.
    EXPECT_EQ(accepted, length >= accepted_from) << length;
  }
  EXPECT_GT(accepted_from, bytes.size() / 4);
}

// Would catch: a number of the file that is used before it is checked. Sanitizers watch.
TEST(ElfCheck, SurvivesDamagedHeaders) {
  const std::string bytes = good_plugin();
  std::mt19937 random(20240601);
  const MemoryFile file(bytes);
  std::size_t refused = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string damaged = bytes;
    for (int i = 0; i < 3; ++i) {
      // Headers and segment table, where the numbers are; the dynamic section lies further back.
      const std::size_t reach = i == 2 ? damaged.size() : 64 + 56 * 11;
      damaged[random() % reach] = static_cast<char>(random());
    }
    file.set(damaged);
    if (!examine_elf(file.fd()).problem.empty()) ++refused;
  }
  EXPECT_GT(refused, 100U);
}

TEST(ElfCheck, NamesTheLibrariesThatAreAskedFor) {
  const char* folder = std::getenv("CDMF_TEST_PLUGINS");
  ASSERT_NE(folder, nullptr);
  const std::string path = std::string(folder) + "/libcdmf_sanitized.so";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "not built with this compiler or sanitizer";
  const MemoryFile file(read_bytes(path));
  const ElfFacts facts = examine_elf(file.fd());
  EXPECT_EQ(facts.problem, "");
  const auto is_runtime = [](const std::string& library) {
    return sanitizer_of_library(library) == static_cast<std::uint32_t>(CDMF_BUILD_ASAN);
  };
  EXPECT_EQ(std::count_if(facts.needed.begin(), facts.needed.end(), is_runtime), 1);
}

TEST(ElfCheck, ReportsADescriptorThatIsNone) { EXPECT_NE(examine_elf(-1).problem, ""); }

}  // namespace
}  // namespace cdmf::ipc::registry
