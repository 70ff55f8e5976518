#pragma once
// shm_hostile/object_peers.h: what the tests of `segment: posix` among processes that break the rules share. Strangers
// sit at the name, servers' objects lie, clients ask for what cannot be, and somebody removes, replaces or floods what
// two sides share. Who may open the object is trusted not to cut it short (that is a SIGBUS, and README.md says so);
// everything else is a typed error or harmless, and a good pair in the same process works on.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>

#include "shm_hostile/peers.h"
#include "unit/plugins/shm/object_by_hand.h"

namespace cdmf::ipc::shm::hostile {

using test::Footprint;
using testing::ObjectByHand;

inline const Options kObject{{"segment", "posix"}, {"ring_buffer_capacity", "64"}};
inline const Options kSemaphore{{"segment", "posix"}, {"ring_buffer_capacity", "64"}, {"wait", "semaphore"}};

inline std::string file_of(const std::string& object) { return "/dev/shm" + object; }

/// Removes everything at and around a name, whatever it is.
struct Sweeper {
  explicit Sweeper(std::string of) : endpoint(std::move(of)) {}
  ~Sweeper() {
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
      if (entry.path().filename().string().find(endpoint.substr(1)) == std::string::npos) continue;
      std::error_code ignored;
      std::filesystem::remove_all(entry.path(), ignored);
    }
  }
  const std::string endpoint;
};

/// A plain file at the name, of any size, with or without what an object starts with.
inline UniqueFd plain_file(const std::string& name, std::uint64_t size, bool marked, bool allocated = true) {
  UniqueFd fd(open(file_of(name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  EXPECT_TRUE(fd);
  EXPECT_EQ(allocated && size != 0 ? posix_fallocate(fd.get(), 0, static_cast<off_t>(size))
                                   : ftruncate(fd.get(), static_cast<off_t>(size)),
            0);
  if (marked) {
    EXPECT_EQ(pwrite(fd.get(), &kObjectMark, sizeof kObjectMark, 0), ssize_t{sizeof kObjectMark});
  }
  return fd;
}

class ObjectHostile : public ::testing::Test {
 protected:
  ObjectHostile() {
    pair.expect_service();
    before = Footprint::now();
  }
  /// The good pair works, and this process has what it had.
  void expect_no_trace(const char* what) {
    pair.expect_service();
    EXPECT_TRUE(eventually([&] {
      let_go();
      const Footprint more = Footprint::now() - before;
      return more.descriptors <= 0 && more.threads <= 0 && more.shared_mappings <= 0;
    })) << "left behind by "
        << what << ": " << (Footprint::now() - before).text();
    ++counts().cases;
  }
  /// Has drivers give up what they keep of links that ended.
  virtual void let_go() {}

  GoodPair pair;
  Footprint before;
};

}  // namespace cdmf::ipc::shm::hostile
