// What sits at the name of `segment: posix`, and servers whose object lies: what a client, or a server to be, does
// then.
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <climits>

#include "object_channel.h"
#include "shm_hostile/object_peers.h"
#include "wait/bell.h"
#include "wait/futex.h"

namespace cdmf::ipc::shm::hostile {
namespace {

constexpr std::uint64_t kSoonMs = 60;  // Of an attach() that nobody will answer.

std::string semaphore_of(const std::string& endpoint, const char* which) {
  return "/sem." + endpoint.substr(1) + which;
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
    ObjectByHand made(sweeper.endpoint, kPlan, [&](SegmentControl& control) { each.spoil(control.header); });
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
    ObjectByHand made(sweeper.endpoint, kPlan);
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
  ObjectByHand made(sweeper.endpoint, kPlan);
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
    ObjectByHand made(sweeper.endpoint, kPlan);
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

}  // namespace
}  // namespace cdmf::ipc::shm::hostile
