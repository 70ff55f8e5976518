// A pool as its drivers see it: who meets whom, what is agreed, what is told of deaths.
#include "pool/pool_driver.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/eventually.h"
#include "unit/plugins/shm/driver_under_test.h"

namespace cdmf::ipc::shm {
namespace {

using cdmf::ipc::testing::eventually;
using testing::DriverUnderTest;
using testing::Message;
using testing::Options;

constexpr std::uint32_t kCame = CDMF_VIEW_PEER_CONNECTED;
constexpr std::uint32_t kGone = CDMF_VIEW_PEER_DISCONNECTED;
constexpr std::uint32_t kMessage = CDMF_VIEW_MESSAGE;

Options pool_with(Options more = {}) {
  more.insert({"ring_type", "mpmc"});
  more.insert({"ring_buffer_capacity", "64"});
  return more;
}
std::string file_of(const std::string& endpoint) { return "/dev/shm" + endpoint + ".pool"; }

/// Writes into the object, as no member would.
template <typename Value>
void overwrite(const std::string& endpoint, std::size_t offset, const Value& value) {
  const int file = open(file_of(endpoint).c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(file, 0);
  EXPECT_EQ(pwrite(file, &value, sizeof value, static_cast<off_t>(offset)), static_cast<ssize_t>(sizeof value));
  ::close(file);
}

struct Consumer : DriverUnderTest {
  explicit Consumer(const std::string& endpoint, const Options& options = pool_with(), std::uint64_t most = 1000)
      : DriverUnderTest(CDMF_ROLE_SERVER, endpoint, options, most) {}
};
struct Producer : DriverUnderTest {
  explicit Producer(const std::string& endpoint, const Options& options = pool_with(), std::uint64_t most = 1000)
      : DriverUnderTest(CDMF_ROLE_CLIENT, endpoint, options, most) {}
  cdmf_status join() {
    if (const cdmf_status status = open(); status != CDMF_OK) return status;
    return attach();
  }
};

TEST(PoolDriver, ManyConsumersShareWhatManyProducersSend) {
  const std::string endpoint = testing::unique_endpoint();
  Consumer one(endpoint);
  Consumer two(endpoint);
  ASSERT_EQ(one.open(), CDMF_OK) << one.error.message;
  ASSERT_EQ(two.open(), CDMF_OK) << two.error.message;
  Producer left(endpoint);
  Producer right(endpoint);
  ASSERT_EQ(left.join(), CDMF_OK) << left.error.message;
  ASSERT_EQ(right.join(), CDMF_OK) << right.error.message;
  std::multiset<std::string> sent;
  std::multiset<std::string> got;
  std::size_t of_each[2] = {};
  for (int i = 0; i < 100; ++i) {
    const std::string text = "task " + std::to_string(i);
    ASSERT_EQ((i % 2 == 0 ? left : right).send_waiting((i % 2 == 0 ? left : right).peer, text), CDMF_OK);
    sent.insert(text);
    if (i % 8 != 7) continue;
    for (DriverUnderTest* const consumer : {static_cast<DriverUnderTest*>(&one), static_cast<DriverUnderTest*>(&two)}) {
      for (const Message& each : consumer->take(2)) {
        if (each.kind != kMessage) continue;
        got.insert(each.content);
        ++of_each[consumer == &one ? 0 : 1];
      }
    }
  }
  left.close();
  right.close();
  for (DriverUnderTest* const consumer : {static_cast<DriverUnderTest*>(&one), static_cast<DriverUnderTest*>(&two)}) {
    for (Message each = consumer->next(); each.kind != kGone; each = consumer->next()) {
      if (each.kind == testing::kNothing) break;
      if (each.kind == kMessage) got.insert(each.content);
    }
  }
  EXPECT_EQ(got, sent);
  EXPECT_GT(of_each[0], 0u);
  EXPECT_GT(of_each[1], 0u);
}

TEST(PoolDriver, ProducersAreOnePeerThatGoesWithTheLastOfThemAfterTheLastMessage) {
  const std::string endpoint = testing::unique_endpoint();
  Consumer consumer(endpoint);
  ASSERT_EQ(consumer.open(), CDMF_OK);
  Producer left(endpoint);
  Producer right(endpoint);
  ASSERT_EQ(left.join(), CDMF_OK);
  const cdmf_peer peer = consumer.next_peer();
  ASSERT_EQ(right.join(), CDMF_OK);
  ASSERT_EQ(left.send(left.peer, "first"), CDMF_OK);
  left.close();
  Message message = consumer.next();
  EXPECT_EQ(message.content, "first");
  EXPECT_EQ(message.peer, peer);
  EXPECT_TRUE(consumer.take().empty()) << "there is a producer left";
  ASSERT_EQ(right.send(right.peer, "last"), CDMF_OK);
  right.close();
  EXPECT_EQ(consumer.next().content, "last");
  message = consumer.next();
  EXPECT_EQ(message.kind, kGone);
  EXPECT_EQ(message.peer, peer);
  EXPECT_EQ(message.reason, CDMF_CONNECTION_CLOSED);
  EXPECT_EQ(message.lost, 0u);
}

TEST(PoolDriver, WithoutAConsumerAProducerIsToldSoAndWhatItSentWaitsForTheNextOne) {
  const std::string endpoint = testing::unique_endpoint();
  Producer producer(endpoint);
  EXPECT_EQ(producer.join(), CDMF_ENDPOINT_NOT_FOUND);
  cdmf_peer before = CDMF_NO_PEER;
  {
    Consumer first(endpoint);
    ASSERT_EQ(first.open(), CDMF_OK);
    ASSERT_EQ(producer.attach(), CDMF_OK) << producer.error.message;
    EXPECT_EQ(producer.next_peer(), producer.peer);
    before = producer.peer;
    ASSERT_EQ(producer.send(producer.peer, "waits"), CDMF_OK);
  }
  const Message gone = producer.next();
  EXPECT_EQ(gone.kind, kGone);
  EXPECT_EQ(gone.reason, CDMF_CONNECTION_CLOSED);
  EXPECT_EQ(producer.send(before, "too late"), CDMF_NOT_CONNECTED);
  EXPECT_EQ(producer.attach(), CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_NE(std::string(producer.error.message).find("no consumer"), std::string::npos) << producer.error.message;
  Consumer next(endpoint);
  ASSERT_EQ(next.open(), CDMF_OK);
  next.next_peer();
  EXPECT_EQ(next.next().content, "waits");
  ASSERT_EQ(producer.attach(), CDMF_OK) << producer.error.message;
  EXPECT_NE(producer.peer, before);
  ASSERT_EQ(producer.send(producer.peer, "again"), CDMF_OK);
  for (Message each = next.next(); each.content != "again"; each = next.next()) ASSERT_NE(each.kind, testing::kNothing);
}

TEST(PoolDriver, WhatMembersSetMustAgreeAndAnErrorNamesBothSides) {
  const std::string endpoint = testing::unique_endpoint();
  Consumer maker(endpoint);
  ASSERT_EQ(maker.open(), CDMF_OK);
  const auto refused = [&](DriverUnderTest& member, cdmf_status status, const char* ours, const char* theirs) {
    EXPECT_EQ(status, CDMF_INVALID_CONFIG);
    const std::string text = member.error.message;
    EXPECT_NE(text.find(ours), std::string::npos) << text;
    EXPECT_NE(text.find(theirs), std::string::npos) << text;
    EXPECT_NE(text.find(std::to_string(getpid())), std::string::npos) << text;
  };
  Consumer longer(endpoint, pool_with({{"ring_buffer_capacity", "128"}}));
  refused(longer, longer.open(), "128", "64");
  Producer unchecked(endpoint, pool_with({{"checksum", "none"}}));
  refused(unchecked, unchecked.join(), "none", "crc32");
  Producer larger(endpoint, pool_with(), 2000);
  refused(larger, larger.join(), "2000", "1000");
  Producer silent(endpoint, {{"ring_type", "mpmc"}}, 500);
  ASSERT_EQ(silent.join(), CDMF_OK) << silent.error.message;
  cdmf_info info{};
  info.struct_size = sizeof info;
  silent->describe(silent.self(), &info);
  EXPECT_EQ(info.frame_size_max, 1000u + CDMF_FRAME_OVERHEAD_MAX) << "the pool's";
  EXPECT_NE(std::string(info.detail).find("64 slots"), std::string::npos) << info.detail;
  EXPECT_EQ(silent.send(silent.peer, std::string(1000 + CDMF_FRAME_OVERHEAD_MAX, 'x')), CDMF_OK);
  EXPECT_EQ(silent.send(silent.peer, std::string(1001 + CDMF_FRAME_OVERHEAD_MAX, 'x')), CDMF_BUFFER_OVERFLOW);
}

TEST(PoolDriver, RefusesOptionsThatAPoolCannotHave) {
  const auto problem_of = [](const Options& options, std::uint64_t most = 1000) {
    DriverUnderTest refused(CDMF_ROLE_SERVER, "/unused", pool_with(options), most);
    EXPECT_EQ(refused.create_status, CDMF_INVALID_CONFIG);
    return std::string(refused.error.message);
  };
  EXPECT_NE(problem_of({{"slot_size", "1024"}}).find("1856"), std::string::npos) << "the slot that would do";
  EXPECT_NE(problem_of({{"slot_size", "1024"}}).find("lower max_message_size to 208"), std::string::npos);
  EXPECT_NE(problem_of({{"trust", "hostile"}}).find("trust"), std::string::npos);
  EXPECT_NE(problem_of({{"bidirectional", "true"}}).find("bidirectional"), std::string::npos);
  EXPECT_NE(problem_of({{"segment", "memfd"}}).find("segment"), std::string::npos);
  EXPECT_NE(problem_of({{"shm_size", "4096"}}).find("shm_size"), std::string::npos);
  EXPECT_NE(problem_of({{"ring_buffer_capacity", "2097152"}}).find("1048576"), std::string::npos);
  DriverUnderTest good(CDMF_ROLE_SERVER, "/unused", pool_with({{"slot_size", "2048"}}), 1000);
  EXPECT_EQ(good.create_status, CDMF_OK) << good.error.message;
}

TEST(PoolDriver, LeavesNoObjectWhenItsLastMemberIsGone) {
  const std::string endpoint = testing::unique_endpoint();
  {
    Consumer consumer(endpoint);
    Producer producer(endpoint);
    ASSERT_EQ(consumer.open(), CDMF_OK);
    ASSERT_EQ(producer.join(), CDMF_OK);
    EXPECT_TRUE(std::filesystem::exists(file_of(endpoint)));
    cdmf_loan loan{};
    ASSERT_EQ(producer->claim(producer.self(), producer.peer, 10, &loan), CDMF_OK);
    producer.close();
    consumer.close();
    EXPECT_TRUE(std::filesystem::exists(file_of(endpoint))) << "somebody may still write to the claim";
    EXPECT_EQ(producer->commit(producer.self(), &loan, 10, 1), CDMF_CONNECTION_CLOSED);
    EXPECT_FALSE(std::filesystem::exists(file_of(endpoint)));
  }
  EXPECT_FALSE(std::filesystem::exists(file_of(endpoint)));
}

/// Whether anybody has a lock on the file, which stays the same when its name is gone.
bool is_locked(int file) {
  struct flock all {};
  all.l_type = F_WRLCK;
  all.l_whence = SEEK_SET;
  return fcntl(file, F_OFD_GETLK, &all) != 0 || all.l_type != F_UNLCK;
}

TEST(PoolDriver, AProducerGoesOverToAnotherPoolWhileItSends) {
  const std::string endpoint = testing::unique_endpoint();
  Producer producer(endpoint);
  ASSERT_EQ(producer.open(), CDMF_OK);
  std::atomic<cdmf_peer> peer{CDMF_NO_PEER};
  std::atomic<std::uint64_t> sent{0};
  std::atomic<bool> stop{false};
  // Like a host: one thread sends, another one receives and connects anew.
  std::thread sender([&] {
    while (!stop) {
      const cdmf_peer to = peer;
      if (to != CDMF_NO_PEER && producer.send(to, "x", false) == CDMF_OK) {
        ++sent;
      } else {
        producer->flush(producer.self(), CDMF_NO_PEER, 0);
      }
    }
  });
  std::vector<int> before;
  for (int round = 0; round < 50; ++round) {
    Consumer consumer(endpoint);
    EXPECT_EQ(consumer.open(), CDMF_OK) << consumer.error.message;
    EXPECT_EQ(producer.attach(), CDMF_OK) << producer.error.message;
    const std::uint64_t sent_before = sent;
    peer = producer.peer;
    producer.next_peer();
    EXPECT_TRUE(eventually([&] { return sent > sent_before; })) << "in round " << round;
    before.push_back(open(file_of(endpoint).c_str(), O_RDWR | O_CLOEXEC));
    std::filesystem::remove(file_of(endpoint));  // By hand: the next consumer makes another pool.
    consumer.close();
    EXPECT_EQ(producer.next().kind, kGone);
    if (::testing::Test::HasFailure()) break;
  }
  stop = true;
  sender.join();
  ASSERT_FALSE(::testing::Test::HasFailure());
  EXPECT_EQ(std::count_if(before.begin(), before.end(), is_locked), 1) << "it has moved on from all but the last";
  producer.close();
  EXPECT_EQ(std::count_if(before.begin(), before.end(), is_locked), 0);
  for (const int file : before) ::close(file);
}

TEST(PoolDriver, AClaimInAPoolThatWasReplacedIsGivenBackInItsOwnTime) {
  for (const bool claims_anew : {false, true}) {
    const std::string endpoint = testing::unique_endpoint();
    Producer producer(endpoint);
    ASSERT_EQ(producer.open(), CDMF_OK);
    cdmf_loan old{};
    int file = -1;
    {
      Consumer consumer(endpoint);
      ASSERT_EQ(consumer.open(), CDMF_OK);
      ASSERT_EQ(producer.attach(), CDMF_OK);
      producer.next_peer();
      ASSERT_EQ(producer->claim(producer.self(), producer.peer, 10, &old), CDMF_OK);
      file = open(file_of(endpoint).c_str(), O_RDWR | O_CLOEXEC);
      std::filesystem::remove(file_of(endpoint));
    }
    EXPECT_EQ(producer.next().kind, kGone);
    Consumer consumer(endpoint);
    ASSERT_EQ(consumer.open(), CDMF_OK);
    ASSERT_EQ(producer.attach(), CDMF_OK) << producer.error.message;
    if (claims_anew) {
      EXPECT_EQ(producer.send(producer.peer, "new"), CDMF_OK);
    }
    std::memset(old.memory, 'x', 10);
    EXPECT_EQ(producer->commit(producer.self(), &old, 10, 1), CDMF_CONNECTION_CLOSED);
    EXPECT_EQ(producer.send(producer.peer, "newer"), CDMF_OK);
    EXPECT_FALSE(is_locked(file)) << "the old pool is still held";
    ::close(file);
    consumer.next_peer();
    EXPECT_EQ(consumer.next().content, claims_anew ? "new" : "newer");
  }
}

// ---- Deaths. The children come first: the thread sanitizer refuses threads in children of threaded parents.

struct Child {
  template <typename Body>
  explicit Child(Body&& body) {
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    pid = testing::run_in_child([&] {
      body();
      return 0;
    });
  }
  ~Child() {
    end();
    ::close(ends[0]);
    ::close(ends[1]);
  }
  void say_ready_and_wait() const {
    EXPECT_EQ(write(ends[1], "!", 1), 1);
    for (;;) pause();
  }
  void wait_until_ready() const {
    char byte = 0;
    EXPECT_EQ(read(ends[0], &byte, 1), 1);
  }
  void end() {
    if (pid <= 0) return;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    pid = -1;
  }
  int ends[2] = {-1, -1};
  pid_t pid = -1;
};

TEST(PoolDriver, WhatADeadConsumerHadTakenIsCountedOnceAndTheOthersGoOn) {
  const std::string endpoint = testing::unique_endpoint();
  Child victim([&] {
    Consumer consumer(endpoint);
    if (consumer.open() != CDMF_OK) _exit(1);
    cdmf_view views[8];
    for (;;) {
      const std::size_t count = consumer->receive_burst(consumer.self(), views, std::size(views));
      if (std::any_of(views, views + count, [](const cdmf_view& view) { return view.kind == kMessage; })) break;
      if (count != 0) consumer->release_burst(consumer.self());
      consumer->await_messages(consumer.self(), testing::in_ms(1000));
    }
    victim.say_ready_and_wait();  // With one message in hand.
  });
  Producer producer(endpoint);
  ASSERT_EQ(producer.open(), CDMF_OK);
  ASSERT_EQ(producer.attach_when_listening(), CDMF_OK) << producer.error.message;
  Consumer survivor(endpoint);
  ASSERT_EQ(survivor.open(), CDMF_OK);
  ASSERT_EQ(producer.send(producer.peer, "taken along"), CDMF_OK);
  victim.wait_until_ready();
  victim.end();
  survivor.next_peer();
  // Once round the ring: the dead one's slot is in use again.
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(producer.send_waiting(producer.peer, std::to_string(i)), CDMF_OK) << i;
    ASSERT_EQ(survivor.next().content, std::to_string(i));
  }
  producer.close();
  const Message gone = survivor.next();
  EXPECT_EQ(gone.kind, kGone);
  EXPECT_EQ(gone.reason, CDMF_CONNECTION_CLOSED);
  EXPECT_EQ(gone.lost, 1u);
}

TEST(PoolDriver, AProducerThatDiesBetweenClaimAndCommitStopsNobody) {
  const std::string endpoint = testing::unique_endpoint();
  Child victim([&] {
    Producer producer(endpoint);
    if (producer.open() != CDMF_OK || producer.attach_when_listening() != CDMF_OK) _exit(1);
    if (producer.send(producer.peer, "whole") != CDMF_OK) _exit(2);
    cdmf_loan loan{};
    if (producer->claim(producer.self(), producer.peer, 100, &loan) != CDMF_OK) _exit(3);
    victim.say_ready_and_wait();
  });
  Consumer consumer(endpoint, pool_with({{"wait", "futex"}}));
  ASSERT_EQ(consumer.open(), CDMF_OK);
  victim.wait_until_ready();
  Producer other(endpoint);
  ASSERT_EQ(other.join(), CDMF_OK);
  ASSERT_EQ(other.send(other.peer, "behind"), CDMF_OK);
  consumer.next_peer();
  EXPECT_EQ(consumer.next().content, "whole");
  EXPECT_TRUE(consumer.take().empty()) << "the claim in between may still be committed";
  victim.end();
  EXPECT_EQ(consumer.next().content, "behind");
  other.close();
  EXPECT_EQ(consumer.next().kind, kGone);
}

TEST(PoolDriver, TheDeathOfTheLastOfOneSideIsToldToTheOther) {
  const std::string endpoint = testing::unique_endpoint();
  Child producers([&] {
    Producer producer(endpoint);
    if (producer.open() != CDMF_OK || producer.attach_when_listening() != CDMF_OK) _exit(1);
    if (producer.send(producer.peer, "survives") != CDMF_OK) _exit(2);
    producers.say_ready_and_wait();
  });
  {
    Consumer consumer(endpoint);
    ASSERT_EQ(consumer.open(), CDMF_OK);
    producers.wait_until_ready();
    producers.end();
    consumer.next_peer();
    EXPECT_EQ(consumer.next().content, "survives");
    const Message gone = consumer.next();
    EXPECT_EQ(gone.kind, kGone);
    EXPECT_EQ(gone.reason, CDMF_PEER_DIED);
    EXPECT_EQ(gone.lost, 0u);
  }
  EXPECT_FALSE(std::filesystem::exists(file_of(endpoint)));
}

TEST(PoolDriver, ASenderThatWaitsForRoomIsToldThatTheLastConsumerDied) {
  const std::string endpoint = testing::unique_endpoint();
  Child victim([&] {
    Consumer consumer(endpoint);
    if (consumer.open() != CDMF_OK) _exit(1);
    victim.say_ready_and_wait();
  });
  victim.wait_until_ready();
  {
    Producer producer(endpoint);
    ASSERT_EQ(producer.join(), CDMF_OK);
    while (producer.send(producer.peer, "x") == CDMF_OK) {
    }
    std::thread killer([&] { victim.end(); });
    EXPECT_EQ(producer.send_waiting(producer.peer, "x"), CDMF_PEER_DIED);
    killer.join();
    producer.next_peer();
    EXPECT_EQ(producer.next().reason, CDMF_PEER_DIED);
  }
  EXPECT_FALSE(std::filesystem::exists(file_of(endpoint)));
}

// ---- Memory that somebody wrote to

constexpr std::size_t kSlotsOffset =
    kPoolRingOffset + sizeof(MpmcRecordControl) + kPoolMembersMax * sizeof(MpmcParticipant);

TEST(PoolDriver, AMessageThatDoesNotMatchItsChecksumIsDiscardedAndCounted) {
  const std::string endpoint = testing::unique_endpoint();
  Consumer consumer(endpoint);
  Producer producer(endpoint);
  ASSERT_EQ(consumer.open(), CDMF_OK);
  ASSERT_EQ(producer.join(), CDMF_OK);
  ASSERT_EQ(producer.send(producer.peer, "changed"), CDMF_OK);
  ASSERT_EQ(producer.send(producer.peer, "good"), CDMF_OK);
  overwrite(endpoint, kSlotsOffset + kMpmcSlotHeaderBytes, 'C');
  consumer.next_peer();
  EXPECT_EQ(consumer.next().content, "good");
  producer.close();
  EXPECT_EQ(consumer.next().lost, 1u);
}

TEST(PoolDriver, ABrokenPoolIsToldToEveryMemberAndTakesNobodyIn) {
  const std::string endpoint = testing::unique_endpoint();
  Consumer consumer(endpoint);
  Producer producer(endpoint);
  ASSERT_EQ(consumer.open(), CDMF_OK);
  ASSERT_EQ(producer.join(), CDMF_OK);
  consumer.next_peer();
  producer.next_peer();
  ASSERT_EQ(producer.send(producer.peer, "x"), CDMF_OK);
  overwrite(endpoint, kSlotsOffset, std::uint64_t{7});  // No state of a slot.
  EXPECT_EQ(consumer.next().reason, CDMF_PROTOCOL_ERROR);
  EXPECT_EQ(producer.next().reason, CDMF_PROTOCOL_ERROR);
  EXPECT_TRUE(eventually([&] {
    EXPECT_TRUE(consumer.take().empty());
    return consumer->await_messages(consumer.self(), testing::in_ms(5)) == CDMF_TIMEOUT;
  })) << "it is never quiet";
  Producer late(endpoint);
  EXPECT_EQ(late.join(), CDMF_CONNECTION_FAILED);
  EXPECT_NE(std::string(late.error.message).find("broken"), std::string::npos) << late.error.message;
  producer.close();
  consumer.close();
  Consumer fresh(endpoint);
  EXPECT_EQ(fresh.open(), CDMF_OK) << fresh.error.message;
}

TEST(PoolDriver, AProducerThatConnectsAnewDoesNotKeepABrokenPool) {
  const std::string endpoint = testing::unique_endpoint();
  Producer producer(endpoint);
  ASSERT_EQ(producer.open(), CDMF_OK);
  {
    Consumer consumer(endpoint);
    ASSERT_EQ(consumer.open(), CDMF_OK);
    ASSERT_EQ(producer.attach(), CDMF_OK);
    producer.next_peer();
    ASSERT_EQ(producer.send(producer.peer, "x"), CDMF_OK);
    overwrite(endpoint, kSlotsOffset, std::uint64_t{7});
    consumer.next_peer();
    EXPECT_EQ(consumer.next().reason, CDMF_PROTOCOL_ERROR);
    EXPECT_EQ(producer.next().reason, CDMF_PROTOCOL_ERROR);
    EXPECT_EQ(producer.attach(), CDMF_CONNECTION_FAILED) << "the consumer still has it";
    EXPECT_EQ(producer.attach(), CDMF_CONNECTION_FAILED);
  }
  EXPECT_FALSE(std::filesystem::exists(file_of(endpoint)));
  Consumer fresh(endpoint);
  ASSERT_EQ(fresh.open(), CDMF_OK) << fresh.error.message;
  ASSERT_EQ(producer.attach(), CDMF_OK) << producer.error.message;
  EXPECT_EQ(producer.send(producer.peer, "whole"), CDMF_OK);
  fresh.next_peer();
  EXPECT_EQ(fresh.next().content, "whole");
}

TEST(PoolDriver, ABurstOfBadMessagesIsDiscardedWithoutLookingForGoodOnes) {
  const std::string endpoint = testing::unique_endpoint();
  Consumer consumer(endpoint);
  Producer producer(endpoint);
  ASSERT_EQ(consumer.open(), CDMF_OK);
  ASSERT_EQ(producer.join(), CDMF_OK);
  consumer.next_peer();
  ASSERT_EQ(producer.send(producer.peer, "bad"), CDMF_OK);
  ASSERT_EQ(producer.send(producer.peer, "good"), CDMF_OK);
  overwrite(endpoint, kSlotsOffset + kMpmcSlotHeaderBytes, 'B');
  EXPECT_TRUE(consumer.take(1).empty());
  EXPECT_EQ(consumer->await_messages(consumer.self(), 0), CDMF_OK) << "there is more";
  EXPECT_EQ(consumer.next().content, "good");
}

}  // namespace
}  // namespace cdmf::ipc::shm
