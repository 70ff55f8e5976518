// Named objects between real processes: who gets the name, what stands in the way, and what is left afterwards.

#include "segment/named_object.h"

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "support/eventually.h"
#include "unit/plugins/unix_socket/child.h"

namespace cdmf::ipc::shm {
namespace {

using testing::eventually;
using unix_socket::test::Child;
using unix_socket::test::Gate;
using Presence = NamedObject::Presence;

constexpr std::uint64_t kSize = 64 * 1024;

class Named : public ::testing::Test {
 protected:
  Named() {
    const std::string test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    name = "/cdmf-" + std::to_string(getpid()) + '-' + test;
    path = "/dev/shm" + name;
  }
  ~Named() override {
    EXPECT_FALSE(std::filesystem::exists(path + ".next"));
    std::filesystem::remove_all(path);
  }
  static void fill(std::byte* memory) { std::memcpy(memory, &kObjectMark, sizeof kObjectMark); }
  cdmf_status create(NamedObject& made) { return NamedObject::create(name, kSize, terms, fill, made, error); }
  cdmf_status open(NamedObject& found, Presence presence = Presence::no) {
    return NamedObject::open(name, kSize, terms, presence, found, error);
  }
  /// What a process that was killed leaves.
  void leave_one_behind() {
    Child creator([&] {
      NamedObject object;
      if (create(object) != CDMF_OK) return 1;
      raise(SIGKILL);
      return 2;
    });
    ASSERT_EQ(creator.wait(), -SIGKILL);
    ASSERT_TRUE(std::filesystem::exists(path));
  }
  ::testing::AssertionResult says(const char* words) const {
    return std::string(text.message).find(words) != std::string::npos ? ::testing::AssertionSuccess()
                                                                      : ::testing::AssertionFailure() << text.message;
  }
  std::string name;
  std::string path;
  NamedObject::Terms terms;
  cdmf_error text{};
  ErrorText error{&text};
};

TEST_F(Named, IsWholePrivateAndGoneAfterwards) {
  const mode_t before = umask(0);
  NamedObject object;
  const cdmf_status status = create(object);
  umask(before);
  ASSERT_EQ(status, CDMF_OK) << text.message;
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(info.st_size, static_cast<off_t>(kSize));
  EXPECT_GE(info.st_blocks * 512, static_cast<off_t>(kSize)) << "all of it has memory";
  // The object of the specification: what shm_open() opens.
  const int fd = shm_open(name.c_str(), O_RDWR, 0);
  EXPECT_GE(fd, 0);
  ::close(fd);
  object.close();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(Named, TwoProcessesShareTheMemory) {
  Gate made;
  Child creator([&] {
    NamedObject object;
    if (create(object) != CDMF_OK) return 1;
    made.open();
    const auto* const byte = reinterpret_cast<std::atomic<char>*>(object.memory() + 100);
    return eventually([&] { return byte->load() == 'x'; }) ? 0 : 2;
  });
  made.pass();
  NamedObject object;
  ASSERT_EQ(open(object), CDMF_OK) << text.message;
  EXPECT_EQ(object.size(), kSize);
  EXPECT_EQ(object.owner(), geteuid());
  reinterpret_cast<std::atomic<char>*>(object.memory() + 100)->store('x');
  EXPECT_EQ(creator.wait(), 0);
  EXPECT_FALSE(object.has_its_name()) << "its creator took the name away";
}

TEST_F(Named, LivingAndStoppedProcessesKeepTheirName) {
  Gate made;
  Child creator([&] {
    NamedObject object;
    if (create(object) != CDMF_OK) return 1;
    made.open();
    pause();
    return 2;
  });
  made.pass();
  NamedObject object;
  EXPECT_EQ(create(object), CDMF_ENDPOINT_IN_USE);
  EXPECT_TRUE(says("a living process has")) << "and what to do";
  creator.signal(SIGSTOP);
  EXPECT_EQ(create(object), CDMF_ENDPOINT_IN_USE) << "a stopped process is slow, not dead";
  EXPECT_EQ(open(object), CDMF_OK) << text.message;
  object.close();
  creator.kill_and_wait();
  EXPECT_EQ(create(object), CDMF_OK) << text.message;
}

TEST_F(Named, LeftoverOfAKilledProcessIsNoEndpointAndIsReplaced) {
  leave_one_behind();
  NamedObject object;
  EXPECT_EQ(open(object), CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_TRUE(says("left behind"));
  EXPECT_FALSE(std::filesystem::exists(path)) << "who finds it takes it away";
  leave_one_behind();
  EXPECT_EQ(open(object, Presence::yes), CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_FALSE(std::filesystem::exists(path));
  leave_one_behind();
  ASSERT_EQ(create(object), CDMF_OK) << text.message;
  EXPECT_TRUE(object.has_its_name());
}

TEST_F(Named, WhoOutlivesItsMakerTakesTheNameAwayUnlessItHasASuccessor) {
  Gate made;
  Child creator([&] {
    NamedObject object;
    if (create(object) != CDMF_OK) return 1;
    made.open();
    pause();
    return 2;
  });
  made.pass();
  NamedObject first;
  NamedObject second;
  ASSERT_EQ(open(first), CDMF_OK) << text.message;
  ASSERT_EQ(open(second), CDMF_OK) << text.message;
  creator.kill_and_wait();
  first.close();
  EXPECT_FALSE(std::filesystem::exists(path));
  NamedObject successor;
  ASSERT_EQ(create(successor), CDMF_OK) << text.message;
  second.close();
  EXPECT_TRUE(successor.has_its_name());
}

TEST_F(Named, ZombieIsDead) {
  Gate made;
  Child creator([&] {
    NamedObject object;
    if (create(object) != CDMF_OK) return 1;
    made.open();
    pause();
    return 2;
  });
  made.pass();
  creator.signal(SIGKILL);  // Not waited for: the process stays as a zombie, for which kill(pid, 0) succeeds.
  NamedObject object;
  EXPECT_TRUE(eventually([&] { return create(object) == CDMF_OK; })) << text.message;
}

TEST_F(Named, ChildOfForkDoesNotKeepItsDeadParentAlive) {
  Gate forked;
  Gate end;
  Child creator([&] {
    NamedObject object;
    if (create(object) != CDMF_OK) return 1;
    if (fork() == 0) {
      alarm(60);
      forked.open();
      end.pass();
      _exit(0);
    }
    forked.pass();
    raise(SIGKILL);
    return 2;
  });
  ASSERT_EQ(creator.wait(), -SIGKILL);
  NamedObject object;
  EXPECT_EQ(create(object), CDMF_OK) << text.message;
  end.open();
}

TEST_F(Named, ChildOfForkThatEndsTakesNothingAway) {
  NamedObject object;
  ASSERT_EQ(create(object), CDMF_OK) << text.message;
  Child child([&] {
    object.close();  // As its destructor would at exit().
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_TRUE(object.has_its_name());
  Child other([&] {
    NamedObject second;
    return create(second) == CDMF_ENDPOINT_IN_USE ? 0 : 1;
  });
  EXPECT_EQ(other.wait(), 0) << "the parent still has its lock";
}

TEST_F(Named, OneOfManyThatRaceForALeftoverWins) {
  for (int round = 0; round < 20; ++round) {
    Gate done;
    Gate end;
    constexpr int kServers = 4;
    std::vector<Child> servers;
    for (int i = 0; i < kServers; ++i) {
      servers.emplace_back([&] {
        NamedObject object;
        done.open(create(object) == CDMF_OK ? 'w' : 'l');
        end.pass();
        raise(SIGKILL);
        return 1;
      });
    }
    int winners = 0;
    for (int i = 0; i < kServers; ++i) winners += done.pass() == 'w';
    for (int i = 0; i < kServers; ++i) end.open();
    for (Child& server : servers) EXPECT_EQ(server.wait(), -SIGKILL);
    EXPECT_EQ(winners, 1);  // And it left its object to the next round.
  }
}

TEST_F(Named, ReplacementTakesTheNameInOneStep) {
  NamedObject first;
  ASSERT_EQ(create(first), CDMF_OK) << text.message;
  Gate started;
  Gate end;
  Child looker([&] {
    started.open();
    for (int i = 0; i < 2000; ++i) {
      NamedObject found;
      if (open(found) != CDMF_OK) return 1;
    }
    return 0;
  });
  started.pass();
  for (int i = 0; i < 200; ++i) {
    NamedObject second;
    ASSERT_EQ(NamedObject::replace(first, kSize, fill, second, error), CDMF_OK) << text.message;
    EXPECT_FALSE(first.has_its_name());
    EXPECT_TRUE(second.has_its_name());
    first = std::move(second);  // And the first one goes, without taking the name along.
  }
  EXPECT_EQ(looker.wait(), 0) << "somebody found no server";
  EXPECT_TRUE(first.has_its_name());
}

TEST_F(Named, ObjectStaysUntilTheLastThatHoldsItPresentLeaves) {
  NamedObject creator;
  ASSERT_EQ(create(creator), CDMF_OK) << text.message;
  NamedObject member;
  ASSERT_EQ(open(member, Presence::yes), CDMF_OK) << text.message;
  creator.close();
  EXPECT_TRUE(member.has_its_name());
  Child other([&] {
    NamedObject second;
    return open(second, Presence::yes) == CDMF_OK && create(second) == CDMF_ENDPOINT_IN_USE ? 0 : 1;
  });
  EXPECT_EQ(other.wait(), 0);
  EXPECT_TRUE(member.has_its_name()) << "it was not the last";
  member.close();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(Named, LocksOfParticipantsGoWithTheirProcesses) {
  NamedObject object;
  ASSERT_EQ(create(object), CDMF_OK) << text.message;
  Gate locked;
  Child member([&] {
    NamedObject own;
    if (open(own) != CDMF_OK || !own.try_lock(7) || own.is_locked_by_another(7)) return 1;
    locked.open();
    pause();
    return 2;
  });
  locked.pass();
  EXPECT_FALSE(object.try_lock(7));
  EXPECT_TRUE(object.is_locked_by_another(7));
  EXPECT_TRUE(object.try_lock(8));
  member.signal(SIGSTOP);
  EXPECT_FALSE(object.try_lock(7)) << "a stopped process is slow, not dead";
  member.kill_and_wait();
  EXPECT_TRUE(object.try_lock(7));
  object.unlock(7);
  NamedObject second;  // Of the same process, and yet another participant.
  ASSERT_EQ(open(second), CDMF_OK) << text.message;
  EXPECT_TRUE(second.try_lock(7));
  EXPECT_FALSE(object.try_lock(7));
}

TEST_F(Named, TakenMappingOutlivesTheObjectAndHoldsNoLock) {
  NamedObject object;
  ASSERT_EQ(create(object), CDMF_OK) << text.message;
  const Mapping mapping = object.take_mapping();
  object.close();
  EXPECT_EQ(std::memcmp(mapping.memory(), &kObjectMark, sizeof kObjectMark), 0);
  EXPECT_EQ(create(object), CDMF_OK) << text.message;
}

TEST_F(Named, LinksFoldersAndPipesAreRefusedAndLeftAlone) {
  NamedObject object;
  const std::string target = path + ".target";
  std::ofstream(target) << "precious";
  ASSERT_EQ(symlink(target.c_str(), path.c_str()), 0);
  EXPECT_EQ(create(object), CDMF_ENDPOINT_IN_USE);
  EXPECT_TRUE(says("no shared-memory object"));
  EXPECT_EQ(open(object), CDMF_ENDPOINT_IN_USE);
  EXPECT_EQ(std::filesystem::file_size(target), 8u);
  ASSERT_EQ(unlink(path.c_str()), 0);
  unlink(target.c_str());
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(create(object), CDMF_ENDPOINT_IN_USE);
  EXPECT_EQ(open(object), CDMF_ENDPOINT_IN_USE);
  ASSERT_EQ(unlink(path.c_str()), 0);
  ASSERT_EQ(mkdir(path.c_str(), 0700), 0);
  EXPECT_EQ(create(object), CDMF_ENDPOINT_IN_USE);
  EXPECT_EQ(open(object), CDMF_ENDPOINT_IN_USE);
  EXPECT_TRUE(std::filesystem::is_directory(path));
}

TEST_F(Named, FileOfAnotherProgramIsRefusedAndLeftAlone) {
  std::ofstream(path) << std::string(kSize, 'z');
  NamedObject object;
  ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  EXPECT_EQ(create(object), CDMF_ENDPOINT_IN_USE);
  EXPECT_TRUE(says("another program"));
  EXPECT_EQ(std::filesystem::file_size(path), kSize);
}

TEST_F(Named, SecondNameOfAnObjectIsRefused) {
  NamedObject object;
  ASSERT_EQ(create(object), CDMF_OK) << text.message;
  ASSERT_EQ(link(path.c_str(), (path + ".alias").c_str()), 0);
  NamedObject found;
  EXPECT_EQ(open(found), CDMF_PERMISSION_DENIED);
  unlink((path + ".alias").c_str());
  EXPECT_EQ(open(found), CDMF_OK) << text.message;
}

TEST_F(Named, ObjectThatLetsInMoreThanExpectedIsRefused) {
  NamedObject object;
  terms.access.mode = 0660;
  ASSERT_EQ(create(object), CDMF_OK) << text.message;
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0660u);
  NamedObject found;
  EXPECT_EQ(open(found), CDMF_OK) << text.message;
  terms.access.mode = 0600;
  EXPECT_EQ(open(found), CDMF_PERMISSION_DENIED);
  EXPECT_TRUE(says("0660"));
}

TEST_F(Named, SparseObjectIsRefused) {
  NamedObject object;
  ASSERT_EQ(create(object), CDMF_OK) << text.message;
  ASSERT_EQ(truncate(path.c_str(), 4), 0);
  ASSERT_EQ(truncate(path.c_str(), kSize), 0);  // Of the right size, and a write might be a SIGBUS.
  NamedObject found;
  EXPECT_EQ(open(found), CDMF_PROTOCOL_ERROR);
  EXPECT_TRUE(says("has memory for"));
}

/// In a child that has become another user, which only root can do.
template <typename Body>
int as_nobody(Body&& body) {
  Child child([&] {
    if (setgroups(0, nullptr) != 0 || setgid(65534) != 0 || setuid(65534) != 0) return 77;
    return body();
  });
  return child.wait();
}

TEST_F(Named, ObjectOfAnotherUserIsRefusedAndLeftAlone) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can be two users";
  ASSERT_EQ(as_nobody([&] {
              NamedObject squatter;
              if (create(squatter) != CDMF_OK) return 1;
              squatter.take_mapping();
              raise(SIGKILL);
              return 2;
            }),
            -SIGKILL);
  NamedObject object;
  EXPECT_EQ(create(object), CDMF_PERMISSION_DENIED);
  EXPECT_TRUE(says("belongs to user 65534"));
  EXPECT_TRUE(says("change 'endpoint'"));
  EXPECT_EQ(open(object), CDMF_PERMISSION_DENIED);
  EXPECT_TRUE(says("allow_uids"));
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(Named, AnotherUserIsLetInByModeAndAllowUids) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can be two users";
  NamedObject object;
  ASSERT_EQ(create(object), CDMF_OK) << text.message;
  EXPECT_EQ(as_nobody([&] {
              NamedObject found;
              return open(found) == CDMF_PERMISSION_DENIED && says("'mode'") ? 0 : 1;
            }),
            0);
  object.close();
  terms.access.mode = 0660;
  terms.access.group = 65534;
  ASSERT_EQ(create(object), CDMF_OK) << text.message;
  EXPECT_EQ(as_nobody([&] {
              NamedObject found;
              return open(found) == CDMF_OK ? 0 : 1;
            }),
            0)
      << "root is always admitted";
}

/// In a child with a /dev/shm of its own, of 1 MiB.
template <typename Body>
int with_small_shm(Body&& body) {
  Child child([&] {
    const uid_t user = geteuid();
    const gid_t group = getegid();
    if (unshare(CLONE_NEWNS) != 0) {
      if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 77;
      std::ofstream("/proc/self/setgroups") << "deny";
      std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
      std::ofstream("/proc/self/gid_map") << "0 " << group << " 1";
    }
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 77;
    if (mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m,mode=1777") != 0) return 77;
    return body();
  });
  return child.wait();
}

TEST_F(Named, FullFileSystemIsAnErrorAndNotASignal) {
  const int outcome = with_small_shm([&] {
    NamedObject object;
    if (NamedObject::create(name, 4 << 20, terms, fill, object, error) != CDMF_RESOURCE_EXHAUSTED) return 1;
    if (!says("make room")) return 2;
    if (!std::filesystem::is_empty("/dev/shm")) return 3;  // Nothing half-made is left.
    if (create(object) != CDMF_OK) return 4;
    // And a replacement that does not fit leaves the first in its place.
    NamedObject second;
    if (NamedObject::replace(object, 4 << 20, fill, second, error) != CDMF_RESOURCE_EXHAUSTED) return 5;
    return object.has_its_name() ? 0 : 6;
  });
  if (outcome == 77) GTEST_SKIP() << "no name spaces here";
  EXPECT_EQ(outcome, 0);
}

TEST_F(Named, LimitOfFileSizesIsAnErrorAndNotASignal) {
  Child child([&] {
    const rlimit small{4096, 4096};
    if (setrlimit(RLIMIT_FSIZE, &small) != 0) return 1;
    NamedObject object;
    return create(object) == CDMF_RESOURCE_EXHAUSTED ? 0 : 2;
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(Named, FolderWhereEverybodyReplacesEverythingIsRefused) {
  const int outcome = with_small_shm([&] {
    if (chmod("/dev/shm", 0777) != 0) return 1;
    NamedObject object;
    return create(object) == CDMF_PERMISSION_DENIED && says("chmod +t") ? 0 : 2;
  });
  if (outcome == 77) GTEST_SKIP() << "no name spaces here";
  EXPECT_EQ(outcome, 0);
}

TEST(ObjectName, IsTheEndpointsAndNeverAnothersOrTooLong) {
  cdmf_error text{};
  ErrorText error{&text};
  std::string name;
  EXPECT_EQ(object_name("/cdmf_shm_example", 0, name, error), CDMF_OK);
  EXPECT_EQ(name, "/cdmf_shm_example");
  EXPECT_EQ(object_name("/a/b", 0, name, error), CDMF_OK);
  EXPECT_EQ(name, "/a%2Fb");
  EXPECT_EQ(object_name("orders", 0, name, error), CDMF_OK);
  EXPECT_EQ(name, "/%00orders");
  EXPECT_EQ(object_name("/", 0, name, error), CDMF_INVALID_CONFIG);
  EXPECT_EQ(object_name("/..", 0, name, error), CDMF_INVALID_CONFIG);
  EXPECT_EQ(object_name(("/" + std::string(250, 'n')).c_str(), 5, name, error), CDMF_OK);
  EXPECT_EQ(object_name(("/" + std::string(251, 'n')).c_str(), 5, name, error), CDMF_INVALID_CONFIG);
}

}  // namespace
}  // namespace cdmf::ipc::shm
