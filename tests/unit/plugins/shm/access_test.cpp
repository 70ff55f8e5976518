// Who is let in: address, mode, group and allow_uids of the server's socket, with a real other user where there is
// root.

#include "segment/access.h"

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "driver_under_test.h"
#include "unit/plugins/unix_socket/child.h"

namespace cdmf::ipc::shm {
namespace {

using testing::DriverUnderTest;
using testing::unique_endpoint;
using unix_socket::test::Child;
using unix_socket::test::Gate;

constexpr uid_t kNobody = 65534;

TEST(Access, IsReadFromTheOptions) {
  const Access access = parse_access("0660", "0", "1001, 1002");
  EXPECT_EQ(access.mode, 0660u);
  EXPECT_EQ(access.group, 0u);
  EXPECT_TRUE(access.admits(1001));
  EXPECT_TRUE(access.admits(1002));
  EXPECT_TRUE(access.admits(0));
  EXPECT_TRUE(access.admits(geteuid()));
  EXPECT_FALSE(access.admits(1003));
  EXPECT_FALSE(access.admits(static_cast<uid_t>(-1))) << "what the kernel says of whom it does not know";
  EXPECT_THROW((void)parse_access("0600", "", "root"), ConfigError);
  EXPECT_THROW((void)parse_access("0600", "", "4294967295"), ConfigError);
  EXPECT_THROW((void)parse_access("0600", "no-such-group", ""), ConfigError);
}

class SocketAccess : public ::testing::Test {
 protected:
  SocketAccess() {
    char name[] = "/tmp/cdmf-access-XXXXXX";
    folder = mkdtemp(name);
    EXPECT_EQ(chmod(folder.c_str(), 0755), 0);
    options["address"] = folder + "/server";
    options["ring_buffer_capacity"] = "32";
  }
  ~SocketAccess() override { std::filesystem::remove_all(folder); }

  mode_t mode_of_socket() const {
    struct stat info {};
    EXPECT_EQ(stat(options.at("address").c_str(), &info), 0);
    EXPECT_TRUE(S_ISSOCK(info.st_mode));
    return info.st_mode & 07777;
  }
  bool says(const DriverUnderTest& driver, const char* words) const {
    return std::string(driver.error.message).find(words) != std::string::npos;
  }
  std::string folder;
  testing::Options options;
};

TEST_F(SocketAccess, SocketIsWhereTheAddressSaysWithItsModeAndGoesWithTheServer) {
  const std::string endpoint = unique_endpoint();
  options["mode"] = "0660";
  options["group"] = std::to_string(getegid());
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, options);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  EXPECT_EQ(mode_of_socket(), 0660u);
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, options);
  ASSERT_EQ(client.open(), CDMF_OK) << client.error.message;
  EXPECT_EQ(client.attach(), CDMF_OK) << client.error.message;
  client.close();
  server.close();
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST_F(SocketAccess, WithoutAModeOnlyThisUserConnects) {
  DriverUnderTest server(CDMF_ROLE_SERVER, unique_endpoint(), options);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  EXPECT_EQ(mode_of_socket(), 0600u);
}

TEST_F(SocketAccess, FolderThatOthersCanWriteToIsRefused) {
  ASSERT_EQ(chmod(folder.c_str(), 0777), 0);
  DriverUnderTest server(CDMF_ROLE_SERVER, unique_endpoint(), options);
  EXPECT_EQ(server.open(), CDMF_PERMISSION_DENIED);
  EXPECT_TRUE(says(server, "chmod go-w")) << server.error.message;
  options["address"] = folder + "/missing/server";
  DriverUnderTest nowhere(CDMF_ROLE_SERVER, unique_endpoint(), options);
  EXPECT_EQ(nowhere.open(), CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_TRUE(says(nowhere, "'address'")) << nowhere.error.message;
}

TEST_F(SocketAccess, FileThatIsNoSocketIsRefusedAndLeftAlone) {
  std::ofstream(options.at("address")) << "precious";
  DriverUnderTest server(CDMF_ROLE_SERVER, unique_endpoint(), options);
  EXPECT_EQ(server.open(), CDMF_ENDPOINT_IN_USE);
  EXPECT_TRUE(says(server, "is not a socket")) << server.error.message;
  EXPECT_EQ(std::filesystem::file_size(options.at("address")), 8u);
}

/// What a client of another user gets, of a server with these options.
int as_nobody(const std::string& endpoint, const testing::Options& options, const Gate& listening) {
  listening.pass();
  if (setgroups(0, nullptr) != 0 || setgid(kNobody) != 0 || setuid(kNobody) != 0) return 99;
  testing::Options its = options;
  its["allow_uids"] = "0";  // The server's user; root always is.
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint, its);
  if (client.open() != CDMF_OK) return 98;
  const cdmf_status status = client.attach();
  if (status == CDMF_PERMISSION_DENIED && std::string(client.error.message).find("allow_uids") == std::string::npos) {
    return 97;
  }
  return status;
}

TEST_F(SocketAccess, AnotherUserIsRefusedAndToldUnlessListed) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can be two users";
  const std::string endpoint = unique_endpoint();
  options["mode"] = "0666";
  Gate first;
  Gate second;
  Child unlisted([&] { return as_nobody(endpoint, options, first); });
  Child listed([&] { return as_nobody(endpoint, options, second); });
  {
    DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, options);
    ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
    first.open();
    EXPECT_EQ(unlisted.wait(), CDMF_PERMISSION_DENIED);
  }
  options["allow_uids"] = std::to_string(kNobody);
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, options);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  second.open();
  EXPECT_EQ(listed.wait(), CDMF_OK);
}

}  // namespace
}  // namespace cdmf::ipc::shm
