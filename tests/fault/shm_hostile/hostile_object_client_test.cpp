// Clients of `segment: posix` that lie, whoever takes the server's name away, and semaphores that are flooded: what a
// server does then.
#include <semaphore.h>
#include <sys/stat.h>

#include <climits>
#include <cstddef>
#include <thread>

#include "object_channel.h"
#include "shm_hostile/object_peers.h"
#include "wait/bell.h"

namespace cdmf::ipc::shm::hostile {
namespace {

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
  /// How the server's receiver sleeps in its only link, as it announces; kNotArmed while it does not.
  std::uint32_t sleeps_how() const {
    const UniqueFd fd(::open(file_of(sweeper.endpoint).c_str(), O_RDONLY | O_CLOEXEC));
    std::uint32_t armed = kNotArmed;
    EXPECT_EQ(pread(fd.get(), &armed, sizeof armed, offsetof(SegmentControl, tx) + offsetof(RecordRingControl, armed)),
              ssize_t{sizeof armed});
    return armed;
  }
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
      EXPECT_TRUE(eventually([&] { return sleeps_how() != kNotArmed; })) << each.what;
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
  std::thread receiver([&] { EXPECT_EQ(server.next().content, "a message"); });
  EXPECT_TRUE(eventually([&] { return sleeps_how() == kArmedFutex; }))
      << "it does not leave the semaphore for the word";
  EXPECT_EQ(client.send(client.peer, "a message"), CDMF_OK);
  receiver.join();
  sem_close(tx);
  ++counts().cases;
}

}  // namespace
}  // namespace cdmf::ipc::shm::hostile
