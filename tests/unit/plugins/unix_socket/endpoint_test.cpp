// Names, directories, lock files and stale sockets.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "child.h"
#include "endpoint_path.h"
#include "listening_socket.h"
#include "runtime_directory.h"

namespace cdmf::ipc::unix_socket {
namespace {

using test::Child;
using test::Gate;
using test::RuntimeDirectory;

TEST(EndpointPath, NamesNeverCollide) {
  EXPECT_EQ(encode_endpoint("/cdmf_demo"), "cdmf_demo");
  EXPECT_EQ(encode_endpoint("cdmf_demo"), "=cdmf_demo");
  EXPECT_EQ(encode_endpoint("/a/b"), "a%2Fb");
  EXPECT_EQ(encode_endpoint("/a%2Fb"), "a%252Fb");
  EXPECT_EQ(encode_endpoint("/\xc3\xa9 "), "%C3%A9%20");
  EXPECT_EQ(encode_endpoint("/=x"), "%3Dx");
}

TEST(EndpointPath, FollowsTheRuntimeDirectoryOfTheUser) {
  const RuntimeDirectory runtime;
  const EndpointPath path = endpoint_path("/orders");
  EXPECT_EQ(path.socket, runtime.path() + "/cdmf/orders.sock");
  EXPECT_EQ(path.lock, runtime.path() + "/cdmf/orders.lock");
  unsetenv("XDG_RUNTIME_DIR");
  EXPECT_EQ(endpoint_path("/orders").directory, "/tmp/cdmf-" + std::to_string(geteuid()));
}

TEST(EndpointPath, TooLongAPathIsRefusedWithLimitAndLength) {
  const std::string directory = "/tmp";
  const std::size_t fixed = directory.size() + 1 + 5;  // "/" and ".sock"
  EXPECT_EQ(endpoint_path("/" + std::string(107 - fixed, 'n'), directory).socket.size(), 107u);
  try {
    (void)endpoint_path("/" + std::string(108 - fixed, 'n'), directory);
    ADD_FAILURE() << "a path of 108 bytes was accepted";
  } catch (const ConfigError& problem) {
    const std::string text = problem.what();
    EXPECT_NE(text.find("108 bytes"), std::string::npos) << text;
    EXPECT_NE(text.find("107"), std::string::npos) << text;
  }
}

class Endpoint : public ::testing::Test {
 protected:
  cdmf_status listen(ListeningSocket& socket) {
    ErrorText text(&error);
    return ListeningSocket::open(path, {.backlog = 16}, socket, text);
  }
  cdmf_status connect(Fd& socket) {
    ErrorText text(&error);
    return connect_socket(path, SOCK_STREAM, Access{}, kNoWait, socket, text);
  }

  const RuntimeDirectory runtime;
  const EndpointPath path = endpoint_path("/orders");
  cdmf_error error{};
};

TEST_F(Endpoint, IsPrivateToItsUser) {
  ListeningSocket server;
  ASSERT_EQ(listen(server), CDMF_OK) << error.message;
  struct stat found {};
  ASSERT_EQ(stat(path.directory.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0700u);
  ASSERT_EQ(stat(path.socket.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0600u);
  ASSERT_EQ(stat(path.lock.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0600u);
}

TEST_F(Endpoint, ADirectoryOpenToOthersIsRefused) {
  ASSERT_EQ(mkdir(path.directory.c_str(), 0700), 0);
  ASSERT_EQ(chmod(path.directory.c_str(), 0770), 0);
  ListeningSocket server;
  EXPECT_EQ(listen(server), CDMF_PERMISSION_DENIED);
  Fd socket;
  EXPECT_EQ(connect(socket), CDMF_PERMISSION_DENIED);
  EXPECT_NE(std::string(error.message).find(path.directory), std::string::npos) << error.message;
}

TEST_F(Endpoint, ADirectoryOfAnotherUserIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to make a directory of another user";
  ASSERT_EQ(mkdir(path.directory.c_str(), 0700), 0);
  ASSERT_EQ(chown(path.directory.c_str(), 65534, 65534), 0);
  ListeningSocket server;
  EXPECT_EQ(listen(server), CDMF_PERMISSION_DENIED);
}

TEST_F(Endpoint, ASymbolicLinkInPlaceOfTheDirectoryIsRefused) {
  const std::string elsewhere = runtime.path() + "/elsewhere";
  ASSERT_EQ(mkdir(elsewhere.c_str(), 0700), 0);
  ASSERT_EQ(symlink(elsewhere.c_str(), path.directory.c_str()), 0);
  ListeningSocket server;
  EXPECT_EQ(listen(server), CDMF_PERMISSION_DENIED);
}

TEST_F(Endpoint, NobodyListeningIsNotFoundAtOnce) {
  Fd socket;
  EXPECT_EQ(connect(socket), CDMF_ENDPOINT_NOT_FOUND);  // No directory.
  ListeningSocket server;
  ASSERT_EQ(listen(server), CDMF_OK);
  EXPECT_EQ(connect(socket), CDMF_OK) << error.message;
  server.close();
  EXPECT_EQ(connect(socket), CDMF_ENDPOINT_NOT_FOUND);  // No file.
  EXPECT_NE(std::string(error.message).find(path.socket), std::string::npos) << error.message;
}

TEST_F(Endpoint, ClosingLeavesNoFile) {
  ListeningSocket server;
  ASSERT_EQ(listen(server), CDMF_OK);
  server.close();
  EXPECT_TRUE(std::filesystem::is_empty(path.directory));
}

TEST_F(Endpoint, ASecondServerIsToldThatTheFirstIsThere) {
  ListeningSocket first;
  ListeningSocket second;
  ASSERT_EQ(listen(first), CDMF_OK);
  EXPECT_EQ(listen(second), CDMF_ENDPOINT_IN_USE);
  EXPECT_NE(std::string(error.message).find(path.socket), std::string::npos) << error.message;
  second.close();
  Fd socket;
  EXPECT_EQ(connect(socket), CDMF_OK);  // The loser took nothing away.
}

TEST_F(Endpoint, ALivingServerIsNotReplacedThoughItsLockFileIsGone) {
  ListeningSocket first;
  ListeningSocket second;
  ASSERT_EQ(listen(first), CDMF_OK);
  ASSERT_EQ(unlink(path.lock.c_str()), 0);
  EXPECT_EQ(listen(second), CDMF_ENDPOINT_IN_USE);
  Fd socket;
  EXPECT_EQ(connect(socket), CDMF_OK);
}

TEST_F(Endpoint, AFileThatIsNoSocketIsLeftAlone) {
  ASSERT_EQ(mkdir(path.directory.c_str(), 0700), 0);
  std::ofstream(path.socket) << "precious";
  ListeningSocket server;
  EXPECT_EQ(listen(server), CDMF_ENDPOINT_IN_USE);
  EXPECT_TRUE(std::filesystem::exists(path.socket));
}

TEST_F(Endpoint, AKilledServersFilesAreReplaced) {
  const Gate listening;
  Child server([&] {
    ListeningSocket socket;
    if (listen(socket) != CDMF_OK) return 1;
    listening.open();
    pause();
    return 2;
  });
  listening.pass();
  EXPECT_EQ(server.kill_and_wait(), -SIGKILL);
  ASSERT_TRUE(std::filesystem::exists(path.socket));
  Fd socket;
  EXPECT_EQ(connect(socket), CDMF_ENDPOINT_NOT_FOUND);
  ListeningSocket next;
  EXPECT_EQ(listen(next), CDMF_OK) << error.message;
  EXPECT_EQ(connect(socket), CDMF_OK) << error.message;
}

// Catches two servers that both remove what they take for a stale file and both believe to listen.
TEST_F(Endpoint, OfServersThatRaceForAStaleFileExactlyOneWins) {
  for (int round = 0; round < 60; ++round) {
    const Gate start;
    const Gate result;
    const Gate finish;
    const auto contender = [&] {
      start.pass();
      ListeningSocket socket;
      const cdmf_status status = listen(socket);
      result.open(static_cast<char>(status + 1));
      finish.pass();
      _exit(0);  // Without closing: the next round finds a stale file.
      return 0;
    };
    Child one(contender);
    Child two(contender);
    Child three(contender);
    for (int i = 0; i < 3; ++i) start.open();
    int won = 0;
    for (int i = 0; i < 3; ++i) {
      const int status = result.pass() - 1;
      won += status == CDMF_OK ? 1 : 0;
      EXPECT_TRUE(status == CDMF_OK || status == CDMF_ENDPOINT_IN_USE) << status;
    }
    Fd socket;
    EXPECT_EQ(connect(socket), CDMF_OK) << error.message;
    for (int i = 0; i < 3; ++i) finish.open();
    ASSERT_EQ(won, 1) << "round " << round;
    EXPECT_EQ(one.wait() + two.wait() + three.wait(), 0);
  }
}

TEST_F(Endpoint, AForkedChildDoesNotTakeTheEndpointWithIt) {
  ListeningSocket server;
  ASSERT_EQ(listen(server), CDMF_OK);
  Child child([&] {
    server.close();
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
  Fd socket;
  EXPECT_EQ(connect(socket), CDMF_OK) << error.message;
}

}  // namespace
}  // namespace cdmf::ipc::unix_socket
