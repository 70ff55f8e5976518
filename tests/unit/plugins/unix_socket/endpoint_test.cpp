// Names, directories, lock files and stale sockets.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

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

std::string address_problem(const std::string& address) {
  try {
    (void)endpoint_address("/orders", address);
  } catch (const ConfigError& problem) {
    return problem.what();
  }
  return "";
}

TEST(EndpointAddress, HasFourForms) {
  const RuntimeDirectory runtime;
  EXPECT_EQ(endpoint_address("/orders", "auto").socket, endpoint_path("/orders").socket);
  EXPECT_EQ(endpoint_address("/orders", "abstract").socket, "@cdmf-" + std::to_string(geteuid()) + "/orders");
  EXPECT_EQ(endpoint_address("/orders", "@acme").socket, "@acme");
  const EndpointPath given = endpoint_address("/orders", "/run/acme/orders.sock");
  EXPECT_EQ(given.socket, "/run/acme/orders.sock");
  EXPECT_EQ(given.directory, "/run/acme");
  EXPECT_EQ(endpoint_address("/orders", "/orders").directory, "/");
}

TEST(EndpointAddress, ThatIsNoneIsRefusedWithTheForms) {
  for (const char* const wrong : {"", "file", "orders.sock", "@", "/", "/run/acme/"}) {
    EXPECT_NE(address_problem(wrong).find("abstract, /path/to/file, @name"), std::string::npos)
        << wrong << ": " << address_problem(wrong);
  }
}

TEST(EndpointAddress, ThatIsTooLongIsRefusedWithLimitAndLength) {
  EXPECT_EQ(address_problem("/" + std::string(106, 'n')), "");
  EXPECT_NE(address_problem("/" + std::string(107, 'n')).find("108 bytes, the limit is 107"), std::string::npos);
  EXPECT_EQ(address_problem("@" + std::string(107, 'n')), "");
  EXPECT_NE(address_problem("@" + std::string(108, 'n')).find("109 bytes, the limit is 108"), std::string::npos);
}

TEST(AccessOptions, AreReadOrRefused) {
  EXPECT_EQ(parse_access("0660", "", "").mode, 0660u);
  EXPECT_EQ(parse_access("0600", "0", "").group, 0u);
  EXPECT_EQ(parse_access("0600", "root", "").group, 0u);
  EXPECT_EQ(parse_access("0600", "", "7, 8,4294967294").uids, (std::vector<uid_t>{7, 8, 4294967294u}));
  for (const char* const wrong : {"x", "7;8", ",7", "7,,8", "-1", "4294967295", "4294967296", "0x7"}) {
    EXPECT_THROW((void)parse_access("0600", "", wrong), ConfigError) << wrong;
  }
  EXPECT_THROW((void)parse_access("0600", "no such group", ""), ConfigError);
}

TEST(AccessOptions, AdmitThisUserRootAndThoseListed) {
  const Access access = parse_access("0600", "", "12345");
  EXPECT_TRUE(access.admits(geteuid()));
  EXPECT_TRUE(access.admits(0));
  EXPECT_TRUE(access.admits(12345));
  EXPECT_FALSE(access.admits(12346));
  EXPECT_FALSE(access.admits(static_cast<uid_t>(-1)));  // What a kernel says that does not know.
}

class Endpoint : public ::testing::Test {
 protected:
  cdmf_status listen(ListeningSocket& socket) { return listen(path, socket); }
  cdmf_status listen(const EndpointPath& at, ListeningSocket& socket, const Access& access = {},
                     int type = SOCK_STREAM) {
    ErrorText text(&error);
    return ListeningSocket::open(at, {.backlog = 16, .type = type, .access = access}, socket, text);
  }
  cdmf_status connect(Fd& socket) { return connect(path, socket); }
  cdmf_status connect(const EndpointPath& at, Fd& socket, int type = SOCK_STREAM, std::uint64_t deadline = kNoWait) {
    ErrorText text(&error);
    return connect_socket(at, type, Access{}, deadline, socket, text);
  }
  /// A path in a folder of the test's own, which is there.
  [[nodiscard]] EndpointPath given(const std::string& name = "given.sock") const {
    return endpoint_address("/orders", runtime.path() + "/" + name);
  }
  [[nodiscard]] bool error_says(const std::string& words) const {
    return std::string(error.message).find(words) != std::string::npos;
  }

  const RuntimeDirectory runtime;
  const EndpointPath path = endpoint_path("/orders");
  cdmf_error error{};
};

TEST_F(Endpoint, AtAGivenPathHasTheModeAndGroupAskedFor) {
  ListeningSocket server;
  ASSERT_EQ(listen(given(), server, parse_access("0660", std::to_string(getegid()), "")), CDMF_OK) << error.message;
  struct stat found {};
  ASSERT_EQ(stat(given().socket.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0660u);
  EXPECT_EQ(found.st_gid, getegid());
  Fd socket;
  EXPECT_EQ(connect(given(), socket), CDMF_OK) << error.message;
  server.close();
  EXPECT_FALSE(std::filesystem::exists(given().socket));
  EXPECT_FALSE(std::filesystem::exists(given().lock));
}

TEST_F(Endpoint, AtAGivenPathNeedsItsFolder) {
  ListeningSocket server;
  Fd socket;
  const EndpointPath missing = given("missing/x.sock");
  EXPECT_EQ(listen(missing, server), CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_TRUE(error_says(runtime.path() + "/missing")) << error.message;
  EXPECT_EQ(connect(missing, socket), CDMF_ENDPOINT_NOT_FOUND);
  std::ofstream(runtime.path() + "/file") << "precious";
  EXPECT_EQ(listen(given("file/x.sock"), server), CDMF_ENDPOINT_NOT_FOUND) << error.message;
}

TEST_F(Endpoint, AtAGivenPathIsRefusedInAFolderThatOthersMayChange) {
  const std::string folder = runtime.path() + "/shared";
  ASSERT_EQ(mkdir(folder.c_str(), 0700), 0);
  ASSERT_EQ(chmod(folder.c_str(), 0777), 0);
  ListeningSocket server;
  Fd socket;
  EXPECT_EQ(listen(given("shared/x.sock"), server), CDMF_PERMISSION_DENIED);
  EXPECT_TRUE(error_says("chmod go-w")) << error.message;
  EXPECT_EQ(connect(given("shared/x.sock"), socket), CDMF_PERMISSION_DENIED);
  ASSERT_EQ(chmod(folder.c_str(), 01777), 0);  // Sticky, as /tmp: nobody can replace what is another's.
  EXPECT_EQ(listen(given("shared/x.sock"), server), CDMF_OK) << error.message;
  EXPECT_EQ(connect(given("shared/x.sock"), socket), CDMF_OK) << error.message;
}

TEST_F(Endpoint, AtAGivenPathLeavesFilesAndSymbolicLinksAlone) {
  std::ofstream(given().socket) << "precious";
  ASSERT_EQ(symlink(given().socket.c_str(), given("link.sock").socket.c_str()), 0);
  ListeningSocket server;
  EXPECT_EQ(listen(given(), server), CDMF_ENDPOINT_IN_USE);
  EXPECT_TRUE(error_says("is not a socket")) << error.message;
  EXPECT_EQ(listen(given("link.sock"), server), CDMF_ENDPOINT_IN_USE);
  EXPECT_TRUE(std::filesystem::is_symlink(given("link.sock").socket));
  EXPECT_TRUE(std::filesystem::is_regular_file(given().socket));
  EXPECT_FALSE(std::filesystem::exists(given().lock));
}

TEST_F(Endpoint, WithAnAbstractNameHasOneServerAndNoFiles) {
  const EndpointPath name = endpoint_address("/abstract-" + std::to_string(getpid()), "abstract");
  ListeningSocket first;
  ListeningSocket second;
  Fd socket;
  EXPECT_EQ(connect(name, socket), CDMF_ENDPOINT_NOT_FOUND);
  ASSERT_EQ(listen(name, first), CDMF_OK) << error.message;
  EXPECT_EQ(listen(name, second), CDMF_ENDPOINT_IN_USE);
  EXPECT_TRUE(error_says(name.socket)) << error.message;
  EXPECT_EQ(connect(name, socket), CDMF_OK) << error.message;
  EXPECT_TRUE(std::filesystem::is_empty(runtime.path()));
  first.close();
  EXPECT_EQ(connect(name, socket), CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_EQ(listen(name, second), CDMF_OK) << error.message;
}

TEST_F(Endpoint, OfAnotherTypeOfSocketIsNamed) {
  ListeningSocket server;
  ListeningSocket other;
  ASSERT_EQ(listen(path, server, {}, SOCK_SEQPACKET), CDMF_OK);
  Fd socket;
  EXPECT_EQ(connect(path, socket, SOCK_STREAM), CDMF_INVALID_CONFIG);
  EXPECT_TRUE(error_says("socket_type")) << error.message;
  ASSERT_EQ(unlink(path.lock.c_str()), 0);
  EXPECT_EQ(listen(path, other, {}, SOCK_STREAM), CDMF_ENDPOINT_IN_USE) << error.message;
  EXPECT_EQ(connect(path, socket, SOCK_SEQPACKET), CDMF_OK) << error.message;
}

TEST_F(Endpoint, WhoseBacklogIsFullIsWaitedForUntilTheDeadline) {
  ListeningSocket server;
  ErrorText text(&error);
  ASSERT_EQ(ListeningSocket::open(path, {.backlog = 1}, server, text), CDMF_OK);
  std::vector<Fd> waiting;
  cdmf_status status = CDMF_OK;
  for (int i = 0; i < 16 && status == CDMF_OK; ++i) status = connect(path, waiting.emplace_back());
  EXPECT_EQ(status, CDMF_TIMEOUT);  // At once, without a deadline.
  EXPECT_TRUE(error_says("backlog is full")) << error.message;
  const std::uint64_t begun = monotonic_now_ns();
  Fd socket;
  EXPECT_EQ(connect(path, socket, SOCK_STREAM, begun + 50'000'000u), CDMF_TIMEOUT);
  EXPECT_GE(monotonic_now_ns() - begun, 50'000'000u);
  const Fd accepted(accept4(server.fd(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_EQ(connect(path, socket, SOCK_STREAM, monotonic_now_ns() + 30'000'000'000u), CDMF_OK) << error.message;
}

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
