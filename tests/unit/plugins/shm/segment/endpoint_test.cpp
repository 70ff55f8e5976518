// Where server and clients meet: names, leftovers, and who may be there.

#include "segment/endpoint.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace cdmf::ipc::shm {
namespace {

class Endpoint : public ::testing::Test {
 protected:
  Endpoint() {
    char name[] = "/tmp/cdmf-endpoint-XXXXXX";
    folder = mkdtemp(name);
    if (const char* const before = std::getenv("XDG_RUNTIME_DIR")) before_ = before;
    setenv("XDG_RUNTIME_DIR", folder.c_str(), 1);
  }
  ~Endpoint() override {
    if (before_.empty()) {
      unsetenv("XDG_RUNTIME_DIR");
    } else {
      setenv("XDG_RUNTIME_DIR", before_.c_str(), 1);
    }
    std::filesystem::remove_all(folder);
  }
  std::string path_of(const char* endpoint) {
    std::string path;
    EXPECT_EQ(socket_path(endpoint, path, error), CDMF_OK) << text.message;
    return path;
  }
  std::size_t file_count() const {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder + "/cdmf")) ++count;
    return count;
  }
  std::string folder;
  std::string before_;
  cdmf_error text{};
  ErrorText error{&text};
};

TEST_F(Endpoint, NamesNeverCollideAndNeverLeaveTheFolder) {
  EXPECT_EQ(path_of("/orders"), folder + "/cdmf/orders.shm");
  EXPECT_EQ(path_of("/a/b"), folder + "/cdmf/a%2Fb.shm");
  EXPECT_EQ(path_of("/a%2Fb"), folder + "/cdmf/a%252Fb.shm");
  EXPECT_EQ(path_of("/../../etc"), folder + "/cdmf/..%2F..%2Fetc.shm");
  EXPECT_EQ(path_of("orders"), folder + "/cdmf/%00orders.shm");
  EXPECT_EQ(path_of("//orders"), folder + "/cdmf/%2Forders.shm");
}

TEST_F(Endpoint, NameThatIsTooLongIsRefusedWithTheLimit) {
  std::string path;
  EXPECT_EQ(socket_path(("/" + std::string(120, 'n')).c_str(), path, error), CDMF_INVALID_CONFIG);
  EXPECT_NE(std::string(text.message).find("107"), std::string::npos) << text.message;
}

TEST_F(Endpoint, FolderThatOthersCanWriteToIsRefused) {
  path_of("/x");
  ASSERT_EQ(chmod((folder + "/cdmf").c_str(), 0777), 0);
  std::string path;
  EXPECT_EQ(socket_path("/x", path, error), CDMF_PERMISSION_DENIED);
  EXPECT_NE(std::string(text.message).find("0700"), std::string::npos) << text.message;
}

TEST_F(Endpoint, LivingServerKeepsItsNameAndAClosedOneLeavesNothing) {
  const std::string path = path_of("/x");
  ListeningEndpoint first;
  ASSERT_EQ(first.open(path, error), CDMF_OK) << text.message;
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ListeningEndpoint second;
  EXPECT_EQ(second.open(path, error), CDMF_ENDPOINT_IN_USE);
  UniqueFd socket;
  EXPECT_EQ(connect_endpoint(path, monotonic_now_ns(), socket, error), CDMF_OK) << "the first one still listens";
  first.close();
  EXPECT_EQ(file_count(), 0u);
  EXPECT_EQ(connect_endpoint(path, monotonic_now_ns(), socket, error), CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_EQ(second.open(path, error), CDMF_OK) << text.message;
}

TEST_F(Endpoint, OneOfManyServersThatRaceWins) {
  const std::string path = path_of("/race");
  for (int round = 0; round < 20; ++round) {
    int gate[2];
    int done[2];
    ASSERT_EQ(pipe(gate), 0);
    ASSERT_EQ(pipe(done), 0);
    constexpr int kServers = 4;
    for (int i = 0; i < kServers; ++i) {
      if (fork() != 0) continue;
      alarm(60);
      ListeningEndpoint endpoint;
      const bool won = endpoint.open(path, error) == CDMF_OK;
      const char result = won ? 'w' : 'l';
      if (write(done[1], &result, 1) != 1) _exit(1);
      char byte;
      ::close(gate[1]);
      [[maybe_unused]] const ssize_t got = read(gate[0], &byte, 1);  // Until everybody has tried.
      _exit(0);
    }
    int winners = 0;
    for (int i = 0; i < kServers; ++i) {
      char result = 'l';
      ASSERT_EQ(read(done[0], &result, 1), 1);
      winners += result == 'w';
    }
    ::close(gate[1]);
    for (int i = 0; i < kServers; ++i) wait(nullptr);
    for (const int fd : {gate[0], done[0], done[1]}) ::close(fd);
    EXPECT_EQ(winners, 1);  // And the winner ended without close(): the next round finds leftovers.
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm
