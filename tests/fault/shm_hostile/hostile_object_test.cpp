// `segment: posix` among processes that break the rules: strangers that sit at the name, servers whose object lies,
// clients that ask for what cannot be, and whoever removes, replaces or floods what two sides share. Who may open the
// object is trusted not to cut it short (that is a SIGBUS, and README.md says so); everything else is a typed error or
// harmless, and a good pair in the same process works on.
#include <semaphore.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <climits>
#include <filesystem>
#include <thread>

#include "object_channel.h"
#include "shm_hostile/peers.h"
#include "unit/plugins/unix_socket/child.h"
#include "wait/bell.h"
#include "wait/futex.h"

namespace cdmf::ipc::shm::hostile {
namespace {

using test::Footprint;
using unix_socket::test::Child;
using unix_socket::test::Gate;

const Options kObject{{"segment", "posix"}, {"ring_buffer_capacity", "64"}};
const Options kSemaphore{{"segment", "posix"}, {"ring_buffer_capacity", "64"}, {"wait", "semaphore"}};
constexpr std::uint64_t kSoonMs = 60;  // Of an attach() that nobody will answer.

std::string file_of(const std::string& object) { return "/dev/shm" + object; }
std::string semaphore_of(const std::string& endpoint, const char* which) {
  return "/sem." + endpoint.substr(1) + which;
}

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

/// An object made by hand and held present, as a living server's: whole and good, until a case spoils it.
struct ObjectByHand {
  explicit ObjectByHand(
      const std::string& name, const std::function<void(SegmentControl&)>& spoil = [](SegmentControl&) {},
      mode_t mode = 0600) {
    text.struct_size = sizeof text;
    Access access;
    access.mode = mode;
    EXPECT_EQ(NamedObject::create(
                  name, kPlan.total_size(), {access},
                  [&](std::byte* memory) {
                    Segment::lay_out(memory, kPlan, {.pid = getpid(), .may_sleep = 1}, {});
                    spoil(*reinterpret_cast<SegmentControl*>(memory));
                  },
                  object, error),
              CDMF_OK)
        << text.message;
  }
  SegmentControl& control() const { return *reinterpret_cast<SegmentControl*>(object.memory()); }
  std::byte* ring(bool tx) const { return object.memory() + kRingsOffset + (tx ? 0 : kPlan.ring_bytes()); }

  cdmf_error text{};
  ErrorText error{&text};
  NamedObject object;
};

/// A plain file at the name, of any size, with or without what an object starts with.
UniqueFd plain_file(const std::string& name, std::uint64_t size, bool marked, bool allocated = true) {
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
bool lock_byte(int fd, short type, off_t byte) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}
constexpr off_t kPresence = off_t{1} << 40;

class ObjectHostile : public ::testing::Test {
 protected:
  ObjectHostile() {
    pair.expect_service();
    usleep(1000);
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

// ------------------------------------------------------------------------------------------ what sits at a name

/// Each is refused by a client and by a server, and is still there afterwards.
TEST_F(ObjectHostile, StrangersAtTheNameAreRefusedAndLeftAlone) {
  struct Case {
    const char* what;
    std::function<UniqueFd(const std::string&)> sit;
    cdmf_status client;
    cdmf_status server;
  };
  const auto raise_mode = [](mode_t mode) {
    return [mode](const std::string& name) {
      UniqueFd fd = plain_file(name, kPlan.total_size(), true);
      EXPECT_EQ(fchmod(fd.get(), mode), 0);
      EXPECT_TRUE(lock_byte(fd.get(), F_RDLCK, kPresence));
      return fd;
    };
  };
  const Case cases[] = {
      {"a folder",
       [](const std::string& name) {
         EXPECT_EQ(mkdir(file_of(name).c_str(), 0700), 0);
         return UniqueFd();
       },
       CDMF_ENDPOINT_IN_USE, CDMF_ENDPOINT_IN_USE},
      {"a link to a file",
       [](const std::string& name) {
         UniqueFd fd = plain_file(name + ".target", kPlan.total_size(), true);
         EXPECT_EQ(symlink(file_of(name + ".target").c_str(), file_of(name).c_str()), 0);
         return fd;
       },
       CDMF_ENDPOINT_IN_USE, CDMF_ENDPOINT_IN_USE},
      {"a link to nowhere",
       [](const std::string& name) {
         EXPECT_EQ(symlink("/nowhere", file_of(name).c_str()), 0);
         return UniqueFd();
       },
       CDMF_ENDPOINT_IN_USE, CDMF_ENDPOINT_IN_USE},
      {"a pipe",
       [](const std::string& name) {
         EXPECT_EQ(mkfifo(file_of(name).c_str(), 0600), 0);
         return UniqueFd();
       },
       CDMF_ENDPOINT_IN_USE, CDMF_ENDPOINT_IN_USE},
      {"a socket",
       [](const std::string& name) {
         UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
         sockaddr_un address{};
         address.sun_family = AF_UNIX;
         std::snprintf(address.sun_path, sizeof address.sun_path, "%s", file_of(name).c_str());
         EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
         return fd;
       },
       CDMF_ENDPOINT_IN_USE, CDMF_ENDPOINT_IN_USE},
      {"an empty file", [](const std::string& name) { return plain_file(name, 0, false); }, CDMF_PROTOCOL_ERROR,
       CDMF_ENDPOINT_IN_USE},
      {"a file of one byte", [](const std::string& name) { return plain_file(name, 1, false); }, CDMF_PROTOCOL_ERROR,
       CDMF_ENDPOINT_IN_USE},
      {"zeros", [](const std::string& name) { return plain_file(name, kPlan.total_size(), false); },
       CDMF_PROTOCOL_ERROR, CDMF_ENDPOINT_IN_USE},
      {"a page that is not whole, held by its maker",
       [](const std::string& name) {
         UniqueFd fd = plain_file(name, kRingsOffset - 1, true);
         EXPECT_TRUE(lock_byte(fd.get(), F_RDLCK, kPresence));
         return fd;
       },
       CDMF_PROTOCOL_ERROR, CDMF_ENDPOINT_IN_USE},
      {"an object without memory, held by its maker",
       [](const std::string& name) {
         UniqueFd fd = plain_file(name, kPlan.total_size(), true, false);
         EXPECT_TRUE(lock_byte(fd.get(), F_RDLCK, kPresence));
         return fd;
       },
       CDMF_PROTOCOL_ERROR, CDMF_ENDPOINT_IN_USE},
      {"an object of 2^40 bytes, held by its maker",
       [](const std::string& name) {
         UniqueFd fd = plain_file(name, std::uint64_t{1} << 40, true, false);
         EXPECT_TRUE(lock_byte(fd.get(), F_RDLCK, kPresence));
         return fd;
       },
       CDMF_PROTOCOL_ERROR, CDMF_ENDPOINT_IN_USE},
      {"an object that lets everybody in", raise_mode(0666), CDMF_PERMISSION_DENIED, CDMF_ENDPOINT_IN_USE},
      {"an object that lets everybody read", raise_mode(0604), CDMF_PERMISSION_DENIED, CDMF_ENDPOINT_IN_USE},
      {"an object with the bit of another user", raise_mode(04600), CDMF_PERMISSION_DENIED, CDMF_ENDPOINT_IN_USE},
      {"an object of two names",
       [](const std::string& name) {
         UniqueFd fd = plain_file(name, kPlan.total_size(), true);
         EXPECT_TRUE(lock_byte(fd.get(), F_RDLCK, kPresence));
         EXPECT_EQ(link(file_of(name).c_str(), file_of(name + ".too").c_str()), 0);
         return fd;
       },
       CDMF_PERMISSION_DENIED, CDMF_ENDPOINT_IN_USE},
      {"an object that somebody is always about to remove",
       [](const std::string& name) {
         UniqueFd fd = plain_file(name, kPlan.total_size(), true);
         EXPECT_TRUE(lock_byte(fd.get(), F_WRLCK, kPresence));
         return fd;
       },
       CDMF_ENDPOINT_NOT_FOUND, CDMF_ENDPOINT_IN_USE},
  };
  for (const Case& each : cases) {
    const Sweeper sweeper(unique_endpoint());
    const UniqueFd keeps = each.sit(sweeper.endpoint);
    struct stat sat {};
    ASSERT_EQ(lstat(file_of(sweeper.endpoint).c_str(), &sat), 0) << each.what;
    {
      DriverUnderTest client(CDMF_ROLE_CLIENT, sweeper.endpoint, kObject);
      ASSERT_EQ(client.open(), CDMF_OK) << client.error.message;
      EXPECT_EQ(client.attach(kSoonMs), each.client) << each.what << ": " << client.error.message;
      DriverUnderTest server(CDMF_ROLE_SERVER, sweeper.endpoint, kObject);
      EXPECT_EQ(server.open(), each.server) << each.what << ": " << server.error.message;
      EXPECT_NE(std::string(server.error.message).find(sweeper.endpoint.substr(1)), std::string::npos)
          << each.what << ": " << server.error.message;
    }
    struct stat sits {};
    ASSERT_EQ(lstat(file_of(sweeper.endpoint).c_str(), &sits), 0) << each.what;
    EXPECT_EQ(sits.st_ino, sat.st_ino) << each.what;
  }
  for (const Case& each : cases) expect_no_trace(each.what);
}

TEST_F(ObjectHostile, ObjectsOfOtherUsersAreNotTouched) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make objects of other users";
  const Sweeper sweeper(unique_endpoint());
  const UniqueFd fd = plain_file(sweeper.endpoint, kPlan.total_size(), true);
  ASSERT_EQ(fchown(fd.get(), 12345, 12345), 0);
  for (const bool lives : {true, false}) {
    ASSERT_TRUE(lock_byte(fd.get(), lives ? F_RDLCK : F_UNLCK, kPresence));
    DriverUnderTest client(CDMF_ROLE_CLIENT, sweeper.endpoint, kObject);
    ASSERT_EQ(client.open(), CDMF_OK);
    EXPECT_EQ(client.attach(kSoonMs), CDMF_PERMISSION_DENIED) << client.error.message;
    EXPECT_NE(std::string(client.error.message).find("12345"), std::string::npos) << client.error.message;
    DriverUnderTest server(CDMF_ROLE_SERVER, sweeper.endpoint, kObject);
    EXPECT_EQ(server.open(), CDMF_PERMISSION_DENIED) << server.error.message;
  }
  EXPECT_EQ(access(file_of(sweeper.endpoint).c_str(), F_OK), 0);
  ++counts().cases;
}

// ------------------------------------------------------------------------------------------ servers that lie

TEST_F(ObjectHostile, HeadersThatCannotBeAreRefused) {
  struct Case {
    const char* what;
    std::function<void(SegmentHeader&)> spoil;
    cdmf_status status = CDMF_PROTOCOL_ERROR;
  };
  const Case cases[] = {
      {"major version 0", [](SegmentHeader& it) { it.version = 0; }, CDMF_VERSION_MISMATCH},
      {"a later major version", [](SegmentHeader& it) { it.version = UINT32_MAX; }, CDMF_VERSION_MISMATCH},
      {"no bytes in all", [](SegmentHeader& it) { it.total_size = 0; }},
      {"2^64 - 1 bytes in all", [](SegmentHeader& it) { it.total_size = UINT64_MAX; }},
      {"rings of no slots", [](SegmentHeader& it) { it.ring_capacity = 0; }},
      {"rings of 65 slots", [](SegmentHeader& it) { it.ring_capacity = 65; }},
      {"rings of twice the slots", [](SegmentHeader& it) { it.ring_capacity *= 2; }},
      {"rings of half the slots", [](SegmentHeader& it) { it.ring_capacity /= 2; }},
      {"slots of no bytes", [](SegmentHeader& it) { it.slot_size = 0; }},
      {"rings of 2^62 bytes", [](SegmentHeader& it) { it.ring_capacity = it.slot_size = 1u << 31; }},
      {"rings of 2^64 bytes in all", [](SegmentHeader& it) { it.ring_capacity = it.slot_size = UINT32_MAX; }},
      {"the TX ring over the header", [](SegmentHeader& it) { it.tx_offset = 0; }},
      {"the TX ring far away", [](SegmentHeader& it) { it.tx_offset = UINT64_MAX - 4096; }},
      {"the RX ring over the TX ring", [](SegmentHeader& it) { it.rx_offset = it.tx_offset; }},
      {"no RX ring, though there is room for one", [](SegmentHeader& it) { it.rx_offset = 0; }},
      {"frames of no bytes", [](SegmentHeader& it) { it.frame_size_max = 0; }},
      {"frames larger than half a ring", [](SegmentHeader& it) { it.frame_size_max = kPlan.ring_bytes(); }},
      {"frames of 2^64 - 1 bytes", [](SegmentHeader& it) { it.frame_size_max = UINT64_MAX; }},
      {"a checksum that is none", [](SegmentHeader& it) { it.checksum = 77; }},
      {"frames smaller than this client's", [](SegmentHeader& it) { it.frame_size_max = 100; }, CDMF_INVALID_CONFIG},
      {"semaphores that nobody has made", [](SegmentHeader& it) { it.features = kFeatureSemaphores; },
       CDMF_ENDPOINT_NOT_FOUND},
  };
  for (const Case& each : cases) {
    const Sweeper sweeper(unique_endpoint());
    ObjectByHand made(sweeper.endpoint, [&](SegmentControl& control) { each.spoil(control.header); });
    DriverUnderTest client(CDMF_ROLE_CLIENT, sweeper.endpoint, kObject);
    ASSERT_EQ(client.open(), CDMF_OK);
    EXPECT_EQ(client.attach(kSoonMs), each.status) << each.what << ": " << client.error.message;
    EXPECT_NE(client.error.message[0], '\0') << each.what;
  }
  for (const Case& each : cases) expect_no_trace(each.what);
}

TEST_F(ObjectHostile, SemaphoresThatAreNoneAreRefused) {
  struct Case {
    const char* what;
    std::function<void(const std::string&)> put;  // In the place of /sem.NAME_tx.
    cdmf_status status;
  };
  const Case cases[] = {
      {"a semaphore without a mark", [](const std::string& name) { plain_file(name, 64, false); }, CDMF_PROTOCOL_ERROR},
      {"a semaphore of no bytes", [](const std::string& name) { plain_file(name, 0, false); }, CDMF_PROTOCOL_ERROR},
      {"a semaphore that is a folder", [](const std::string& name) { mkdir(file_of(name).c_str(), 0700); },
       CDMF_ENDPOINT_IN_USE},
      {"a semaphore that is a link", [](const std::string& name) { (void)symlink("/nowhere", file_of(name).c_str()); },
       CDMF_ENDPOINT_IN_USE},
      {"a semaphore that is the segment",
       [](const std::string& name) {
         const std::string segment = "/" + name.substr(5, name.size() - 5 - 3);
         (void)link(file_of(segment).c_str(), file_of(name).c_str());
       },
       CDMF_PERMISSION_DENIED},
  };
  for (const Case& each : cases) {
    const Sweeper sweeper(unique_endpoint());
    DriverUnderTest server(CDMF_ROLE_SERVER, sweeper.endpoint, kSemaphore);
    ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
    const std::string tx = semaphore_of(sweeper.endpoint, "_tx");
    ASSERT_EQ(unlink(file_of(tx).c_str()), 0);
    each.put(tx);
    DriverUnderTest client(CDMF_ROLE_CLIENT, sweeper.endpoint, kSemaphore);
    ASSERT_EQ(client.open(), CDMF_OK);
    EXPECT_EQ(client.attach(kSoonMs), each.status) << each.what << ": " << client.error.message;
    // And whoever would make them finds them in the way.
    server.close();
    DriverUnderTest next(CDMF_ROLE_SERVER, sweeper.endpoint, kSemaphore);
    EXPECT_NE(next.open(), CDMF_OK) << each.what;
  }
  for (const Case& each : cases) expect_no_trace(each.what);
}

/// What a server says, or does not, once a client asks.
TEST_F(ObjectHostile, AnswersThatAreNoneEndTheAttemptOnly) {
  struct Case {
    const char* what;
    std::function<void(ObjectByHand&)> answer;
    cdmf_status status;
  };
  const Case cases[] = {
      {"no answer", [](ObjectByHand&) {}, CDMF_TIMEOUT},
      {"a refusal", [](ObjectByHand& it) { it.control().server.stage = kRefused; }, CDMF_CONNECTION_FAILED},
      {"stage 3", [](ObjectByHand& it) { it.control().server.stage = 3; }, CDMF_CONNECTION_FAILED},
      {"stage 2^32 - 1", [](ObjectByHand& it) { it.control().server.stage = UINT32_MAX; }, CDMF_CONNECTION_FAILED},
      {"its end", [](ObjectByHand& it) { it.object.let_go(); }, CDMF_CONNECTION_FAILED},
  };
  for (const Case& each : cases) {
    const Sweeper sweeper(unique_endpoint());
    ObjectByHand made(sweeper.endpoint);
    std::thread server([&] {
      const bool asked = eventually([&] { return made.control().client.stage == kAsks; });
      EXPECT_TRUE(asked) << each.what;
      each.answer(made);
      futex_wake_all(made.control().server.stage);
    });
    DriverUnderTest client(CDMF_ROLE_CLIENT, sweeper.endpoint, kObject);
    EXPECT_EQ(client.open(), CDMF_OK);
    EXPECT_EQ(client.attach(each.status == CDMF_TIMEOUT ? kSoonMs : kPatienceMs), each.status)
        << each.what << ": " << client.error.message;
    server.join();
  }
  // Those that do not even get as far as asking.
  const Sweeper sweeper(unique_endpoint());
  ObjectByHand made(sweeper.endpoint);
  DriverUnderTest client(CDMF_ROLE_CLIENT, sweeper.endpoint, kObject);
  ASSERT_EQ(client.open(), CDMF_OK);
  {
    NamedObject squatter;
    ASSERT_EQ(NamedObject::open(sweeper.endpoint, 0, {}, NamedObject::Presence::no, squatter, made.error), CDMF_OK);
    ASSERT_TRUE(squatter.try_lock(kClientLock));
    EXPECT_EQ(client.attach(kSoonMs), CDMF_ENDPOINT_IN_USE) << "the place of the client is taken by who asks nothing";
  }
  made.control().client.stage = 99;
  EXPECT_EQ(client.attach(kSoonMs), CDMF_TIMEOUT) << "somebody asked and left, and the server makes no other";
  client.close();
  made.object.close();
  for (const Case& each : cases) expect_no_trace(each.what);
  expect_no_trace("a squatter of the client's lock");
  expect_no_trace("a segment that stays used");
}

/// A link to a server by hand, which then writes what it likes where only it, or nobody, may write.
TEST_F(ObjectHostile, ServersThatWriteAnythingEndTheirLinkOnly) {
  struct Case {
    const char* what;
    std::function<void(ObjectByHand&)> spoil;
    bool ends;
    cdmf_status reason = CDMF_PROTOCOL_ERROR;
  };
  const auto word = [](std::uint32_t value) {
    return [value](ObjectByHand& it) {
      reinterpret_cast<std::atomic<std::uint32_t>*>(it.ring(false))->store(value, std::memory_order_release);
    };
  };
  const auto goodbye = [](std::int32_t value) {
    return [value](ObjectByHand& it) {
      it.control().server.goodbye = value;
      const char zero = 0;
      EXPECT_EQ(pwrite(it.object.fd(), &zero, 1, kRingsOffset - 1), 1);
    };
  };
  const Case cases[] = {
      {"a record of 2^28 - 1 bytes", word(0x1FFFFFFF), true},
      {"a record of 2 bytes", word(0x10000002), true},
      {"a record of no bytes with a stamp", word(0x10000000), true},
      {"a record over the end of the ring", word(0x10000000 | (64 * 512 + 64)), true},
      {"goodbye for -1", goodbye(-1), true, CDMF_CONNECTION_CLOSED},
      {"goodbye for -2^31", goodbye(INT_MIN), true, CDMF_CONNECTION_CLOSED},
      {"goodbye for 2^31 - 1", goodbye(INT_MAX), true, CDMF_CONNECTION_CLOSED},
      {"goodbye for a reason", goodbye(CDMF_TIMEOUT), true, CDMF_TIMEOUT},
      {"the end of its lock",
       [](ObjectByHand& it) {
         it.object.let_go();
         const char zero = 0;  // Else nobody has a reason to look: it lives.
         EXPECT_EQ(pwrite(it.object.fd(), &zero, 1, kRingsOffset - 1), 1);
       },
       true, CDMF_PEER_DIED},
      {"another header",
       [](ObjectByHand& it) { std::memset(static_cast<void*>(&it.control().header), 0xFF, sizeof(SegmentHeader)); },
       false},
      {"another stage", [](ObjectByHand& it) { it.control().server.stage = 0; }, false},
      {"another stage of the client's", [](ObjectByHand& it) { it.control().client.stage = 0; }, false},
      {"readers and writers without end", [](ObjectByHand& it) { it.control().counts.reader_count = UINT32_MAX; },
       false},
      {"a sleeper of kind 77", [](ObjectByHand& it) { it.control().tx.armed = 77; }, false},
      {"a sleeper in a semaphore that there is not", [](ObjectByHand& it) { it.control().tx.armed = kArmedSemaphore; },
       false},
      {"a head beyond the tail", [](ObjectByHand& it) { it.control().tx.head = UINT64_MAX; }, true},
      {"a file twice as long",
       [](ObjectByHand& it) { EXPECT_EQ(ftruncate(it.object.fd(), static_cast<off_t>(2 * it.object.size())), 0); },
       false},
      {"rings punched out",
       [](ObjectByHand& it) {
         EXPECT_EQ(fallocate(it.object.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kRingsOffset,
                             static_cast<off_t>(kPlan.ring_bytes())),
                   0);
       },
       false},
      {"no name any more", [](ObjectByHand& it) { EXPECT_EQ(unlink(file_of(it.object.name()).c_str()), 0); }, false},
      {"another mode", [](ObjectByHand& it) { EXPECT_EQ(fchmod(it.object.fd(), 0), 0); }, false},
  };
  for (const Case& each : cases) {
    const Sweeper sweeper(unique_endpoint());
    ObjectByHand made(sweeper.endpoint);
    std::thread server([&] {
      EXPECT_TRUE(eventually([&] { return made.control().client.stage == kAsks; })) << each.what;
      made.control().server.stage = kStands;
      futex_wake_all(made.control().server.stage);
    });
    DriverUnderTest client(CDMF_ROLE_CLIENT, sweeper.endpoint, kObject);
    EXPECT_EQ(client.open(), CDMF_OK);
    EXPECT_EQ(client.attach(), CDMF_OK) << each.what << ": " << client.error.message;
    server.join();
    client.next_peer();
    each.spoil(made);
    // Sends as long as there is room, whatever the words say; then nothing is waited for.
    for (int i = 0; i < 200; ++i) {
      const cdmf_status sent = client.send(client.peer, good_content(static_cast<std::uint64_t>(i)));
      EXPECT_TRUE(sent == CDMF_OK || sent == CDMF_BUFFER_FULL || sent == CDMF_CONNECTION_CLOSED || sent == each.reason)
          << each.what << ": " << sent;
    }
    if (each.ends) {
      const Message end = client.next();
      EXPECT_EQ(end.kind, kDisconnected) << each.what;
      EXPECT_EQ(end.reason, each.reason) << each.what;
      ++counts().links_ended;
    } else {
      EXPECT_TRUE(client.take().empty()) << each.what;
    }
  }
  for (const Case& each : cases) expect_no_trace(each.what);
}

// ------------------------------------------------------------------------------------------ clients that lie

/// A client by hand: it has the object as the server made it, and maps it.
struct ClientByHand {
  explicit ClientByHand(const std::string& endpoint) {
    text.struct_size = sizeof text;
    // Not the one before, which the server is about to replace.
    EXPECT_TRUE(eventually([&] {
      return NamedObject::open(endpoint, kRingsOffset, {}, NamedObject::Presence::no, object, error) == CDMF_OK &&
             control().client.stage == 0 && object.has_its_name();
    })) << text.message;
  }
  SegmentControl& control() const { return *reinterpret_cast<SegmentControl*>(object.memory()); }
  void ring() const { futimens(object.fd(), nullptr); }
  void ask() const {
    control().client.stage = kAsks;
    ring();
  }
  bool stands() const {
    return eventually([&] { return control().server.stage == kStands; });
  }

  cdmf_error text{};
  ErrorText error{&text};
  NamedObject object;
};

class ObjectServerHostile : public ObjectHostile {
 protected:
  ObjectServerHostile() : ObjectServerHostile(kObject) {}
  explicit ObjectServerHostile(const Options& options)
      : sweeper(unique_endpoint()), server(CDMF_ROLE_SERVER, sweeper.endpoint, options, 4096, log.host()) {
    EXPECT_EQ(server.open(), CDMF_OK) << server.error.message;
    before = Footprint::now();
  }
  /// A good client finds the server, whatever was done to it.
  void expect_next_client(const char* what) {
    {
      DriverUnderTest client(CDMF_ROLE_CLIENT, sweeper.endpoint, kObject);
      ASSERT_EQ(client.open(), CDMF_OK);
      // It may be between two objects.
      EXPECT_TRUE(eventually([&] { return client.attach(200) == CDMF_OK; })) << what << ": " << client.error.message;
      Message came = server.next();
      while (came.kind == kDisconnected) came = server.next();  // Of those before.
      EXPECT_EQ(came.kind, kConnected) << what;
      EXPECT_EQ(client.send(client.peer, what), CDMF_OK) << what;
      EXPECT_EQ(server.next().content, what);
      EXPECT_EQ(client.next_peer(), client.peer);
      EXPECT_EQ(server.send(came.peer, "answer"), CDMF_OK) << what;
      EXPECT_EQ(client.next().content, "answer") << what;
      client.close();
      EXPECT_EQ(server.next().kind, kDisconnected) << what;
    }
    expect_no_trace(what);
  }
  void let_go() override {
    (void)server.take();
    (void)server->flush(server.self(), CDMF_NO_PEER, kNoWait);
  }
  Log log;
  const Sweeper sweeper;
  DriverUnderTest server;
};

TEST_F(ObjectServerHostile, ClientsThatAskForWhatCannotBeAreServedOrGone) {
  struct Case {
    const char* what;
    std::function<void(ClientByHand&)> behave;
  };
  const Case cases[] = {
      {"asks without a lock", [](ClientByHand& it) { it.ask(); }},
      {"asks at stage 77",
       [](ClientByHand& it) {
         (void)it.object.try_lock(kClientLock);
         it.control().client.stage = 77;
         it.ring();
       }},
      {"has the lock and asks nothing",
       [](ClientByHand& it) {
         (void)it.object.try_lock(kClientLock);
         it.ring();
       }},
      {"says goodbye and asks nothing",
       [](ClientByHand& it) {
         it.control().client.goodbye = INT_MIN;
         it.ring();
       }},
      {"rings ten thousand times",
       [](ClientByHand& it) {
         for (int i = 0; i < 10'000; ++i) it.ring();
       }},
      {"opens and closes a thousand times",
       [](ClientByHand& it) {
         for (int i = 0; i < 1000; ++i) {
           const UniqueFd again(open(file_of(it.object.name()).c_str(), O_RDWR | O_CLOEXEC));
         }
       }},
      {"rings as the server does",
       [](ClientByHand& it) {
         const char zero = 0;
         for (int i = 0; i < 100; ++i) EXPECT_EQ(pwrite(it.object.fd(), &zero, 1, kRingsOffset - 1), 1);
       }},
      {"writes all over the notes for observers",
       [](ClientByHand& it) { std::memset(it.object.memory() + sizeof(SegmentControl), 0xFF, 1024); }},
      {"answers itself, as the server",
       [](ClientByHand& it) {
         it.control().server.stage = kStands;
         it.control().server.goodbye = 1;
         it.ask();
       }},
  };
  for (const Case& each : cases) {
    {
      ClientByHand client(sweeper.endpoint);
      each.behave(client);
    }
    expect_next_client(each.what);
  }
}

TEST_F(ObjectServerHostile, FactsThatCannotBeHarmNobody) {
  struct Case {
    const char* what;
    EndFacts facts;
  };
  const Case cases[] = {
      {"process -2^31", {.pid = INT_MIN}},
      {"process -1", {.pid = -1}},
      {"process 0", {.pid = 0}},
      {"process 1", {.pid = 1}},
      {"process 2^31 - 1", {.pid = INT_MAX}},
      {"this process itself", {.pid = getpid()}},
      {"minor 2^32 - 1", {.minor = UINT32_MAX}},
      {"sleeps 2^32 - 1 times", {.may_sleep = UINT32_MAX}},
      {"on CPU 2^31 - 1", {.only_cpu = INT_MAX}},
      {"on CPU -2^31", {.only_cpu = INT_MIN}},
  };
  for (const Case& each : cases) {
    {
      ClientByHand client(sweeper.endpoint);
      ASSERT_TRUE(client.object.try_lock(kClientLock)) << each.what;
      client.control().client.facts = each.facts;
      client.ask();
      ASSERT_TRUE(client.stands()) << each.what;
      const cdmf_peer peer = server.next_peer();
      (void)server.send(peer, "to whom it may concern");
    }
    const Message end = server.next();
    EXPECT_EQ(end.kind, kDisconnected) << each.what;
    EXPECT_EQ(end.reason, CDMF_PEER_DIED) << each.what;
    ++counts().links_ended;
    expect_next_client(each.what);
  }
}

TEST_F(ObjectServerHostile, ClientsThatWriteAnythingEndTheirLinkOnly) {
  struct Case {
    const char* what;
    std::function<void(ClientByHand&)> spoil;
    cdmf_status reason = CDMF_PROTOCOL_ERROR;
  };
  const auto word = [](std::uint32_t value) {
    return [value](ClientByHand& it) {
      reinterpret_cast<std::atomic<std::uint32_t>*>(it.object.memory() + kRingsOffset)->store(value);
      const std::uint32_t armed = it.control().tx.armed;
      if (armed == kArmedFutex) {
        it.control().tx.armed = kNotArmed;
        futex_wake_all(it.control().tx.armed);
      } else if (armed != kNotArmed) {
        it.ring();
      }
    };
  };
  const auto goodbye = [](std::int32_t value) {
    return [value](ClientByHand& it) {
      it.control().client.goodbye = value;
      it.ring();
    };
  };
  const Case cases[] = {
      {"a record of 2^28 - 1 bytes", word(0x1FFFFFFF)},
      {"a record of 1 byte that is no padding", word(0x10000003)},
      {"a record over the end of the ring", word(0x10000000 | (64 * 512 + 64))},
      {"goodbye for -1", goodbye(-1), CDMF_CONNECTION_CLOSED},
      {"goodbye for 2^31 - 1", goodbye(INT_MAX), CDMF_CONNECTION_CLOSED},
      {"its lock let go", [](ClientByHand& it) { it.object.unlock(kClientLock), it.ring(); }, CDMF_PEER_DIED},
  };
  for (const Case& each : cases) {
    ClientByHand client(sweeper.endpoint);
    ASSERT_TRUE(client.object.try_lock(kClientLock)) << each.what;
    client.control().client.facts = {.pid = getpid(), .may_sleep = 1};
    client.ask();
    ASSERT_TRUE(client.stands()) << each.what;
    (void)server.next_peer();
    each.spoil(client);
    const Message end = server.next();
    EXPECT_EQ(end.kind, kDisconnected) << each.what;
    EXPECT_EQ(end.reason, each.reason) << each.what;
    ++counts().links_ended;
    client.object.close();
    expect_next_client(each.what);
  }
}

// ------------------------------------------------------------------------------------------ names taken away

TEST_F(ObjectServerHostile, ServerWhoseNameIsRemovedTakesItBack) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(unlink(file_of(sweeper.endpoint).c_str()), 0);
    expect_next_client("a name removed");
  }
  // Under a link as well: the link stays, and the next client finds the server.
  {
    DriverUnderTest client(CDMF_ROLE_CLIENT, sweeper.endpoint, kObject);
    ASSERT_EQ(client.open(), CDMF_OK);
    ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
    (void)server.next_peer();
    ASSERT_EQ(unlink(file_of(sweeper.endpoint).c_str()), 0);
    ASSERT_EQ(client.send(client.peer, "nameless"), CDMF_OK);
    EXPECT_EQ(server.next().content, "nameless");
    client.close();
    EXPECT_EQ(server.next().kind, kDisconnected);
  }
  expect_next_client("a name removed under a link");
  EXPECT_TRUE(eventually([&] { return access(file_of(sweeper.endpoint).c_str(), F_OK) == 0; }));
  server.close();
  EXPECT_NE(access(file_of(sweeper.endpoint).c_str(), F_OK), 0);
}

TEST_F(ObjectServerHostile, NameThatBelongsToSomebodyElseIsTakenBackWhenThatIsGone) {
  struct Case {
    const char* what;
    std::function<void(const std::string&)> put;  // A file, to be renamed over the name.
    bool in_the_way;
  };
  const Case cases[] = {
      {"a leftover over the name", [](const std::string& name) { plain_file(name, kPlan.total_size(), true); }, false},
      {"another program's file over the name", [](const std::string& name) { plain_file(name, 100, false); }, true},
      {"a link over the name", [](const std::string& name) { (void)symlink("/nowhere", file_of(name).c_str()); }, true},
  };
  for (const Case& each : cases) {
    const std::size_t said = log.size();
    each.put(sweeper.endpoint + ".put");
    ASSERT_EQ(rename(file_of(sweeper.endpoint + ".put").c_str(), file_of(sweeper.endpoint).c_str()), 0) << each.what;
    if (each.in_the_way) {
      EXPECT_TRUE(eventually([&] { return log.size() > said; })) << each.what << ": nobody is told";
      EXPECT_NE(log.text().find(sweeper.endpoint), std::string::npos) << log.text();
      ASSERT_EQ(unlink(file_of(sweeper.endpoint).c_str()), 0);
    }
    expect_next_client(each.what);
  }
  // What the next generation is made at, once the present one is there.
  { const ClientByHand fresh(sweeper.endpoint); }
  ASSERT_EQ(mkdir(file_of(sweeper.endpoint + ".next").c_str(), 0700), 0);
  {
    const std::size_t said = log.size();
    DriverUnderTest client(CDMF_ROLE_CLIENT, sweeper.endpoint, kObject);
    ASSERT_EQ(client.open(), CDMF_OK);
    ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
    (void)server.next_peer();
    client.close();
    EXPECT_EQ(server.next().kind, kDisconnected);
    EXPECT_TRUE(eventually([&] { return log.size() > said; })) << "nobody is told";
  }
  ASSERT_EQ(rmdir(file_of(sweeper.endpoint + ".next").c_str()), 0);
  expect_next_client("a folder where the next object is made");
}

TEST_F(ObjectServerHostile, NameRemovedAgainAndAgainIsTakenBackInTheEnd) {
  for (int i = 0; i < 2000; ++i) unlink(file_of(sweeper.endpoint).c_str());
  expect_next_client("a name removed again and again");
}

// ------------------------------------------------------------------------------------------ semaphores

class ObjectSemaphoreHostile : public ObjectServerHostile {
 protected:
  ObjectSemaphoreHostile() : ObjectServerHostile(kSemaphore) {}
};

TEST_F(ObjectSemaphoreHostile, FloodedOrSpoiltSemaphoresCostNoMessageAndNoEnd) {
  struct Case {
    const char* what;
    std::function<void(sem_t*)> spoil;
  };
  // As glibc has it on 64 bits: value, waiters, private.
  const auto words = [](sem_t* semaphore) { return reinterpret_cast<std::atomic<std::uint32_t>*>(semaphore); };
  const Case cases[] = {
      {"posted a hundred thousand times",
       [](sem_t* it) {
         for (int i = 0; i < 100'000; ++i) sem_post(it);
       }},
      {"full", [&](sem_t* it) { words(it)[0] = SEM_VALUE_MAX; }},
      {"more than full", [&](sem_t* it) { words(it)[0] = UINT32_MAX; }},
      {"without waiters", [&](sem_t* it) { words(it)[1] = 0; }},
      {"with 2^32 - 1 waiters", [&](sem_t* it) { words(it)[1] = UINT32_MAX; }},
      {"of one process", [&](sem_t* it) { words(it)[2] = words(it)[2] ^ 128; }},
      {"of a kind that there is not", [&](sem_t* it) { words(it)[2] = 0x7777; }},
      {"all ones", [](sem_t* it) { std::memset(static_cast<void*>(it), 0xFF, sizeof *it); }},
      {"all zeros", [](sem_t* it) { std::memset(static_cast<void*>(it), 0, sizeof *it); }},
      {"drained",
       [](sem_t* it) {
         for (int i = 0; i < 1000; ++i) sem_trywait(it);
       }},
  };
  for (const Case& each : cases) {
    {
      DriverUnderTest client(CDMF_ROLE_CLIENT, sweeper.endpoint, kSemaphore);
      ASSERT_EQ(client.open(), CDMF_OK);
      ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
      const cdmf_peer peer = server.next_peer();
      client.next_peer();
      sem_t* const tx = sem_open((sweeper.endpoint + "_tx").c_str(), 0);
      ASSERT_NE(tx, SEM_FAILED);
      // Before the server sleeps, and while it does.
      each.spoil(tx);
      ASSERT_EQ(client.send(client.peer, "one"), CDMF_OK);
      EXPECT_EQ(server.next().content, "one") << each.what;
      std::thread receiver([&] { EXPECT_EQ(server.next().content, "two") << each.what; });
      usleep(2000);
      each.spoil(tx);
      ASSERT_EQ(client.send(client.peer, "two"), CDMF_OK);
      receiver.join();
      ASSERT_EQ(server.send(peer, "three"), CDMF_OK);
      EXPECT_EQ(client.next().content, "three") << each.what;
      sem_close(tx);
      client.close();
      EXPECT_EQ(server.next().kind, kDisconnected) << each.what;
    }
    expect_no_trace(each.what);
  }
}

/// A value written once would otherwise have the receiver wake for nothing two thousand million times.
TEST_F(ObjectSemaphoreHostile, FullSemaphoreDoesNotKeepTheReceiverAwake) {
  DriverUnderTest client(CDMF_ROLE_CLIENT, sweeper.endpoint, kSemaphore);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
  (void)server.next_peer();
  sem_t* const tx = sem_open((sweeper.endpoint + "_tx").c_str(), 0);
  ASSERT_NE(tx, SEM_FAILED);
  reinterpret_cast<std::atomic<std::uint32_t>*>(tx)[0] = SEM_VALUE_MAX;
  const auto cpu_ns = [] {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
  };
  const std::uint64_t began = cpu_ns();
  EXPECT_EQ(server->await_messages(server.self(), in_ms(300)), CDMF_TIMEOUT);
  EXPECT_LT(cpu_ns() - began, 150'000'000u) << "it was awake more than half of the time";
  sem_close(tx);
  ++counts().cases;
}

}  // namespace
}  // namespace cdmf::ipc::shm::hostile
