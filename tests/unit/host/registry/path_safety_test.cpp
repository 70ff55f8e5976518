#include "registry/path_safety.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "unit/host/temp_folder.h"

namespace cdmf::ipc::registry {
namespace {

class PathSafety : public testing::Test {
 protected:
  PathSafety() : folder_(temp_.add_folder("folder")), file_(temp_.write("folder/file", "x")) {
    // What lies above the temporary folder is as it is on this machine; the tests look at what they make.
    trust_ = trust_in(temp_.path());
    trust_.groups.clear();
    trust_.everybody = false;
  }

  static void set_mode(const std::string& path, mode_t mode) { ASSERT_EQ(::chmod(path.c_str(), mode), 0); }

  const TempFolder temp_;
  const std::string folder_;
  const std::string file_;
  Trust trust_;
};

TEST_F(PathSafety, AcceptsWhatOnlyItsOwnerMayWrite) {
  EXPECT_EQ(find_unsafe(file_, trust_), std::nullopt);
  set_mode(folder_, 0755);
  set_mode(file_, 0755);
  EXPECT_EQ(find_unsafe(file_, trust_), std::nullopt);
}

TEST_F(PathSafety, RefusesWritersAtEveryLevel) {
  for (const std::string& path : {temp_.path(), folder_, file_}) {
    set_mode(path, 0720);
    EXPECT_EQ(find_unsafe(file_, trust_), '"' + path + "\" is writable by its group (mode 0720); use chmod go-w");
    set_mode(path, 0702);
    EXPECT_EQ(find_unsafe(file_, trust_), '"' + path + "\" is writable by everybody (mode 0702); use chmod go-w");
    set_mode(path, 0700);
  }
}

TEST_F(PathSafety, RefusesAStickyFileAndAStickyFolderThatIsNotRoots) {
  set_mode(file_, 01777);
  EXPECT_NE(find_unsafe(file_, trust_), std::nullopt);
  set_mode(file_, 0700);
  set_mode(folder_, 01777);
  EXPECT_EQ(find_unsafe(file_, trust_).has_value(), ::geteuid() != 0);
}

TEST_F(PathSafety, RefusesOwnersItDoesNotTrust) {
  struct stat status {};
  ASSERT_EQ(::stat(file_.c_str(), &status), 0);
  trust_.users.erase(status.st_uid);
  const auto reason = find_unsafe(folder_, trust_);
  ASSERT_TRUE(reason);
  EXPECT_NE(reason->find(" belongs to user " + std::to_string(status.st_uid)), std::string::npos) << *reason;
}

TEST_F(PathSafety, RefusesWhatIsNotThere) {
  const auto reason = find_unsafe(temp_.path("none"), trust_);
  ASSERT_TRUE(reason);
  EXPECT_NE(reason->find("cannot be examined: No such file"), std::string::npos) << *reason;
}

TEST_F(PathSafety, AllowsAPluginToBeAsOpenAsTheProgramAndNoMore) {
  const std::string program = temp_.write("program", "x");
  struct stat status {};
  ASSERT_EQ(::stat(program.c_str(), &status), 0);
  set_mode(file_, 0770);
  set_mode(program, 0755);
  EXPECT_FALSE(trust_in(program).groups.contains(status.st_gid));
  set_mode(program, 0775);
  const Trust of_group = trust_in(program);
  EXPECT_TRUE(of_group.groups.contains(status.st_gid));
  EXPECT_EQ(find_unsafe(file_, of_group), std::nullopt);

  set_mode(program, 0755);
  set_mode(temp_.path(), 0770);  // A folder above: its writers can replace the program.
  EXPECT_TRUE(trust_in(program).groups.contains(status.st_gid));
  set_mode(temp_.path(), 0700);

  set_mode(file_, 0777);
  EXPECT_FALSE(trust_in(program).everybody);
  set_mode(program, 0777);
  EXPECT_TRUE(trust_in(program).everybody);
  EXPECT_EQ(find_unsafe(file_, trust_in(program)), std::nullopt);
}

TEST_F(PathSafety, TrustsTheOwnersOfTheFoldersAboveTheProgram) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  const std::string program = temp_.write("folder/program", "x");
  ASSERT_EQ(::chown(folder_.c_str(), 12345, 12345), 0);
  EXPECT_TRUE(trust_in(program).users.contains(12345));
  EXPECT_EQ(find_unsafe(file_, trust_in(program)), std::nullopt);
  EXPECT_NE(find_unsafe(file_, trust_in(temp_.path())), std::nullopt);
}

TEST(OwnTrust, HoldsRootAndThisUser) {
  EXPECT_TRUE(own_trust().users.contains(0));
  EXPECT_TRUE(own_trust().users.contains(::geteuid()));
  EXPECT_EQ(trust_in("/nowhere/program").users.count(::geteuid()), 1U);
}

}  // namespace
}  // namespace cdmf::ipc::registry
