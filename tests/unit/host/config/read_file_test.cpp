#include "config/read_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "config/yaml_document.h"

namespace cdmf::ipc::config {
namespace {

class ReadFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "cdmf_read_file_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    std::error_code ignored;
    if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
  }

  std::string path(const std::string& name) const { return folder_ / name; }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::binary) << text;
    return path(name);
  }

  std::filesystem::path folder_;
};

TEST_F(ReadFile, ReadsBytesAsTheyAre) {
  const std::string bytes("a\0\r\n\xFF", 5);
  const FileText file = read_small_file(write("f", bytes), 100);
  ASSERT_TRUE(file.ok) << file.reason;
  EXPECT_EQ(file.text, bytes);
  EXPECT_TRUE(read_small_file(write("empty", ""), 100).ok);
}

TEST_F(ReadFile, AcceptsTheBoundAndRefusesOneByteMore) {
  EXPECT_EQ(read_small_file(write("f", std::string(2048, 'x')), 2048).text.size(), 2048U);
  const FileText file = read_small_file(write("g", std::string(2049, 'x')), 2048);
  EXPECT_FALSE(file.ok);
  EXPECT_EQ(file.reason, "is larger than 2 KiB");
}

TEST_F(ReadFile, RefusesASparseGiantWithoutReadingIt) {
  const std::string name = write("f", "");
  ASSERT_EQ(::truncate(name.c_str(), off_t{10} << 30), 0);
  EXPECT_EQ(read_small_file(name, 2048).reason, "is larger than 2 KiB");
}

TEST_F(ReadFile, ReadsAFileThatClaimsToBeEmpty) {
  const FileText file = read_small_file("/proc/self/status", 65536);
  ASSERT_TRUE(file.ok) << file.reason;
  EXPECT_FALSE(file.text.empty());
}

TEST_F(ReadFile, BoundsAFileThatClaimsToBeEmptyToo) {
  EXPECT_EQ(read_small_file("/proc/self/maps", 16).reason, "is larger than 0 KiB");
}

TEST_F(ReadFile, SaysWhyAFileCannotBeOpened) {
  const FileText missing = read_small_file(path("nothing"), 100);
  EXPECT_FALSE(missing.ok);
  EXPECT_EQ(missing.reason, "cannot be opened: No such file or directory");
  EXPECT_FALSE(missing.hint.empty());
  EXPECT_EQ(read_small_file(path("nothing/below"), 100).reason, "cannot be opened: No such file or directory");
  EXPECT_EQ(read_small_file(write("f", "x") + "/below", 100).reason, "cannot be opened: Not a directory");
  EXPECT_EQ(read_small_file("", 100).reason, "no file name is given");
  EXPECT_FALSE(read_small_file(write("f", "x") + std::string(1, '\0') + "y", 100).ok);
}

/// Root may read everything, so the test becomes somebody else while it lives.
class AsNobody {
 public:
  AsNobody() : was_root_(::geteuid() == 0) {
    if (was_root_) {
      EXPECT_EQ(::seteuid(65534), 0);
    }
  }
  ~AsNobody() {
    if (was_root_) {
      EXPECT_EQ(::seteuid(0), 0);
    }
  }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

 private:
  const bool was_root_;
};

TEST_F(ReadFile, SaysThatPermissionIsMissing) {
  const std::string name = write("f", "x");
  ASSERT_EQ(::chmod(folder_.c_str(), 0755), 0);
  ASSERT_EQ(::chmod(name.c_str(), 0), 0);
  FileText file;
  {
    const AsNobody nobody;
    file = read_small_file(name, 100);
  }
  EXPECT_EQ(file.reason, "cannot be opened: Permission denied");
  EXPECT_EQ(file.hint, "check the permissions of the file and of the folders above it");
}

TEST_F(ReadFile, SaysThatPermissionForAFolderAboveIsMissing) {
  const std::string name = write("f", "x");
  ASSERT_EQ(::chmod(folder_.c_str(), 0), 0);
  FileText file;
  {
    const AsNobody nobody;
    file = read_small_file(name, 100);
  }
  ASSERT_EQ(::chmod(folder_.c_str(), 0700), 0);
  EXPECT_EQ(file.reason, "cannot be opened: Permission denied");
}

TEST_F(ReadFile, RefusesEverythingThatIsNoRegularFile) {
  EXPECT_EQ(read_small_file(folder_, 100).reason, "is a folder");
  EXPECT_EQ(read_small_file("/dev/zero", 100).reason, "is a device");

  // Nobody writes: a blocking open would wait for ever.
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_EQ(read_small_file(path("fifo"), 100).reason, "is a pipe");

  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_GE(listener, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path("socket").copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int bound = ::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  ::close(listener);
  ASSERT_EQ(bound, 0);
  EXPECT_FALSE(read_small_file(path("socket"), 100).ok);
}

TEST_F(ReadFile, LeavesNoDescriptorOpen) {
  const auto open_count = [] {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all));
  };
  const std::string name = write("f", "x");
  const auto before = open_count();
  for (int i = 0; i < 10; ++i) {
    (void)read_small_file(name, 100);
    (void)read_small_file(folder_, 100);
    (void)read_small_file(name, 0);
  }
  EXPECT_EQ(open_count(), before);
}

TEST_F(ReadFile, ServesTheYamlReader) {
  const std::string good = write("good.yaml", "a: 1\n");
  EXPECT_EQ(read_yaml_file(good).root->find("a")->value.text, "1");
  const YamlDocument bad = read_yaml_file(write("bad.yaml", "a: 1\na: 2\n"));
  EXPECT_EQ(bad.problems.text(), path("bad.yaml") + ":2:1: a: is given twice, first at 1:1; keep one of the two");
  const YamlDocument folder = read_yaml_file(folder_);
  EXPECT_FALSE(folder.root);
  EXPECT_EQ(folder.problems.text(), folder_.string() + ": is a folder; name a regular file");
  EXPECT_NE(read_yaml_file(path("none")).problems.text().find("No such file"), std::string::npos);
}

}  // namespace
}  // namespace cdmf::ipc::config
