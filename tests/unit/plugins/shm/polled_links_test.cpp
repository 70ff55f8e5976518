// Hot and parked links: who is polled, who is looked at in turn, and that nothing on a parked link is missed, whatever
// the receiver does meanwhile.
#include "polled_links.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <thread>

#include "driver_under_test.h"

namespace cdmf::ipc::shm {
namespace {

using testing::DriverUnderTest;
using testing::exit_code;
using testing::kPatienceMs;
using testing::Message;
using testing::run_in_child;
using testing::unique_endpoint;

/// The server's end of a link, and the client's end of its TX ring.
struct TestLink {
  explicit TestLink(cdmf_peer id) {
    LinkTerms terms;
    terms.id = id;
    terms.is_server = true;
    terms.plan.ring_capacity = 8;
    terms.plan.slot_size = 512;
    terms.plan.frame_size_max = 1024;
    Segment segment;
    UniqueFd memory;
    cdmf_error text{};
    text.struct_size = sizeof text;
    ErrorText error(&text);
    EXPECT_EQ(Segment::create(terms.plan, {.pid = getpid()}, {}, segment, memory, error), CDMF_OK) << text.message;
    client.emplace(segment.tx());
    link = std::make_shared<Link>(terms, std::move(segment), nullptr, UniqueFd(), UniqueFd());
    link->announced = true;
  }
  void send() {
    ASSERT_EQ(client->claim(8), ClaimOutcome::claimed);
    client->commit(8, 0, 0);
    client->flush();
  }
  std::shared_ptr<Link> link;
  std::optional<RecordProducer> client;
};

constexpr int kMoreThanEnough = 5000;  // Empty polls.

void poll_nothing(PolledLinks& polled, int times = kMoreThanEnough) {
  for (int i = 0; i < times; ++i) {
    for (Link* const link : polled.hot()) polled.polled(*link, true);
    polled.park_idle();
  }
}

TEST(PolledLinks, LinksThatStayEmptyAreParkedButForTheLast) {
  TestLink one(1);
  TestLink two(2);
  TestLink three(3);
  PolledLinks polled;
  polled.renew(std::array{one.link, std::shared_ptr<Link>(), two.link, three.link});
  EXPECT_EQ(polled.hot().size(), 3u);
  poll_nothing(polled, 2);
  EXPECT_EQ(polled.hot().size(), 3u);
  poll_nothing(polled);
  EXPECT_EQ(polled.hot().size(), 1u);
  EXPECT_TRUE(polled.has_parked());
}

TEST(PolledLinks, BusyLinkStaysHot) {
  TestLink busy(1);
  TestLink idle(2);
  PolledLinks polled;
  polled.renew(std::array{busy.link, idle.link});
  for (int i = 0; i < kMoreThanEnough; ++i) {
    polled.polled(*busy.link, i % 100 != 0);
    if (idle.link->parked) continue;
    polled.polled(*idle.link, true);
    polled.park_idle();
  }
  ASSERT_EQ(polled.hot().size(), 1u);
  EXPECT_EQ(polled.hot()[0], busy.link.get());
}

TEST(PolledLinks, LinkWithAMessageIsNotParked) {
  TestLink one(1);
  TestLink two(2);
  PolledLinks polled;
  polled.renew(std::array{one.link, two.link});
  one.send();
  two.send();
  poll_nothing(polled);
  EXPECT_FALSE(polled.has_parked());
}

TEST(PolledLinks, LooksInTurnFindWhatCameOnAnyParkedLink) {
  constexpr std::size_t kLinks = 40;
  std::vector<TestLink> links;
  std::vector<std::shared_ptr<Link>> all;
  for (std::size_t i = 0; i < kLinks; ++i) {
    links.emplace_back(i + 1);
    all.push_back(links.back().link);
  }
  PolledLinks polled;
  polled.renew(all);
  poll_nothing(polled);
  ASSERT_EQ(polled.hot().size(), 1u);
  int found = 0;
  for (TestLink& sender : links) {
    if (!sender.link->parked) continue;
    sender.send();
    for (std::size_t looks = 0; looks < 2 * kLinks && sender.link->parked; ++looks) polled.look_at_next();
    EXPECT_FALSE(sender.link->parked);
    ++found;
  }
  EXPECT_EQ(found, static_cast<int>(kLinks) - 1);
  EXPECT_FALSE(polled.has_parked());
}

/// Two links, of which the first is busy and the second becomes parked.
void park_second(PolledLinks& polled, const TestLink& busy, const TestLink& idle) {
  polled.renew(std::array{busy.link, idle.link});
  for (int i = 0; i < kMoreThanEnough && !idle.link->parked; ++i) {
    polled.polled(*busy.link, false);
    polled.polled(*idle.link, true);
    polled.park_idle();
  }
}

TEST(PolledLinks, SomeLooksAreDueHoweverBusyTheHotLinkIs) {
  TestLink busy(1);
  TestLink idle(2);
  PolledLinks polled;
  park_second(polled, busy, idle);
  ASSERT_TRUE(idle.link->parked);
  idle.send();
  const std::uint64_t until = testing::in_ms(kPatienceMs);
  while (idle.link->parked && monotonic_now_ns() < until) {
    polled.polled(*busy.link, false);
    polled.look_in_turn(false);
  }
  EXPECT_FALSE(idle.link->parked);
}

TEST(PolledLinks, LooksThatAreDueWaitForAnEmptyBurst) {
  TestLink busy(1);
  TestLink idle(2);
  PolledLinks polled;
  park_second(polled, busy, idle);
  ASSERT_TRUE(idle.link->parked);
  polled.polled(*busy.link, false);
  polled.look_in_turn(true);
  idle.send();
  const std::uint64_t due = testing::in_ms(1);
  while (monotonic_now_ns() < due) {
  }
  for (int burst = 0; burst < 4; ++burst) polled.look_in_turn(false);
  EXPECT_TRUE(idle.link->parked);
  polled.look_in_turn(true);
  EXPECT_FALSE(idle.link->parked);
}

TEST(PolledLinks, ParkedLinkIsAnnouncedToSleepersOnce) {
  TestLink one(1);
  TestLink two(2);
  TestLink three(3);
  PolledLinks polled;
  polled.renew(std::array{one.link, two.link, three.link});
  poll_nothing(polled);
  const auto unannounced = [&] {
    int count = 0;
    polled.visit_unannounced([&](Link&) { ++count; });
    return count;
  };
  EXPECT_EQ(unannounced(), 3);
  polled.announced();
  EXPECT_EQ(unannounced(), 1);  // The hot one.
  Link* const parked = one.link->parked ? one.link.get() : two.link.get();
  polled.unpark(*parked);
  EXPECT_EQ(unannounced(), 2);
  poll_nothing(polled);
  EXPECT_EQ(unannounced(), 2);  // Parked anew, so announced anew.
}

TEST(PolledLinks, LinkThatSleptAloneIsAnnouncedAnewAmongOthers) {
  TestLink once_alone(1);
  TestLink two(2);
  TestLink three(3);
  once_alone.link->arm(kArmedFutex);  // And never disarmed: nothing came.
  PolledLinks polled;
  polled.renew(std::array{once_alone.link, two.link});
  polled.polled(*two.link, false);
  for (int i = 0; i < kMoreThanEnough && !once_alone.link->parked; ++i) {
    polled.polled(*once_alone.link, true);
    polled.park_idle();
  }
  ASSERT_TRUE(once_alone.link->parked);
  polled.renew(std::array{once_alone.link, two.link, three.link});
  const auto unannounced = [&](const Link& wanted) {
    bool found = false;
    polled.visit_unannounced([&](Link& link) { found = found || &link == &wanted; });
    return found;
  };
  EXPECT_TRUE(unannounced(*once_alone.link)) << "its eventfd would not ring";
  once_alone.link->arm(kArmedFd);
  polled.announced();
  polled.renew(std::array{once_alone.link, two.link});
  EXPECT_FALSE(unannounced(*once_alone.link));
}

TEST(PolledLinks, LinkThatIsLeftAloneIsHot) {
  TestLink one(1);
  TestLink two(2);
  PolledLinks polled;
  polled.renew(std::array{one.link, two.link});
  poll_nothing(polled);
  const auto& parked = one.link->parked ? one.link : two.link;
  polled.renew(std::array{parked});
  EXPECT_FALSE(polled.has_parked());
  EXPECT_EQ(polled.hot().size(), 1u);
}

/// A server with clients in this process, each with its own driver.
struct Crowd {
  explicit Crowd(const std::string& wait, std::size_t count)
      : server(CDMF_ROLE_SERVER, endpoint, {{"wait", wait}, {"ring_buffer_capacity", "32"}}, 1024) {
    EXPECT_EQ(server.open(), CDMF_OK) << server.error.message;
    for (std::size_t i = 0; i < count; ++i) {
      clients.push_back(std::make_unique<DriverUnderTest>(CDMF_ROLE_CLIENT, endpoint, testing::Options{}, 1024));
      EXPECT_EQ(clients.back()->open(), CDMF_OK);
      EXPECT_EQ(clients.back()->attach(), CDMF_OK) << clients.back()->error.message;
      peers.push_back(server.next_peer());
    }
  }
  /// Afterwards all links but one are parked.
  void let_park() {
    for (int i = 0; i < kMoreThanEnough; ++i) EXPECT_TRUE(server.take().empty());
  }
  std::string endpoint = unique_endpoint();
  DriverUnderTest server;
  std::vector<std::unique_ptr<DriverUnderTest>> clients;
  std::vector<cdmf_peer> peers;
};

class ParkedLinks : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Modes, ParkedLinks, ::testing::Values("spin", "yield", "adaptive", "futex"),
                         [](const auto& row) { return std::string(row.param); });

TEST_P(ParkedLinks, MessageIsReceivedWhetherTheReceiverPollsOrWaits) {
  Crowd crowd(GetParam(), 5);
  for (int round = 0; round < 10; ++round) {
    crowd.let_park();
    const std::size_t who = static_cast<std::size_t>(round) % crowd.clients.size();
    DriverUnderTest& client = *crowd.clients[who];
    ASSERT_EQ(client.send(client.peer, "waits"), CDMF_OK);
    const Message waited = crowd.server.next();
    EXPECT_EQ(waited.content, "waits");
    EXPECT_EQ(waited.peer, crowd.peers[who]);
    crowd.let_park();
    ASSERT_EQ(client.send(client.peer, "polls"), CDMF_OK);
    std::vector<Message> polled;
    const std::uint64_t until = testing::in_ms(kPatienceMs);
    while (polled.empty() && monotonic_now_ns() < until) polled = crowd.server.take();
    ASSERT_EQ(polled.size(), 1u);
    EXPECT_EQ(polled[0].content, "polls");
  }
}

TEST_P(ParkedLinks, SleeperIsWokenByThem) {
  Crowd crowd(GetParam(), 5);
  for (DriverUnderTest* client : {crowd.clients[0].get(), crowd.clients[3].get()}) {
    for (int round = 0; round < 20; ++round) {
      crowd.let_park();
      std::thread sender([&] { EXPECT_EQ(client->send(client->peer, "wake"), CDMF_OK); });
      EXPECT_EQ(crowd.server.next().content, "wake");
      sender.join();
    }
  }
}

TEST_P(ParkedLinks, IsHeardBesideABusyOne) {
  Crowd crowd(GetParam(), 3);
  crowd.let_park();
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    DriverUnderTest& client = *crowd.clients[0];
    while (!stop) {
      if (client.send_waiting(client.peer, "busy") != CDMF_OK) return;
    }
  });
  DriverUnderTest& quiet = *crowd.clients[2];
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < kMoreThanEnough; ++i) crowd.server.take();  // Parks it, as it has nothing.
    ASSERT_EQ(quiet.send(quiet.peer, "quiet"), CDMF_OK);
    const std::uint64_t until = testing::in_ms(kPatienceMs);
    bool heard = false;
    while (!heard && monotonic_now_ns() < until) {
      for (const Message& message : crowd.server.take()) heard |= message.content == "quiet";
    }
    EXPECT_TRUE(heard);
  }
  stop = true;
  while (crowd.server.take().size() != 0) {
  }
  crowd.server.close();  // Ends a sender that waits for room.
  busy.join();
}

TEST_P(ParkedLinks, EndIsReported) {
  Crowd crowd(GetParam(), 4);
  for (std::size_t who : {2u, 0u, 3u}) {
    crowd.let_park();
    crowd.clients[who]->close();
    const Message end = crowd.server.next();
    EXPECT_EQ(end.kind, static_cast<std::uint32_t>(CDMF_VIEW_PEER_DISCONNECTED));
    EXPECT_EQ(end.peer, crowd.peers[who]);
  }
}

TEST_P(ParkedLinks, HeldRecordGivenBackMakesRoomAgain) {
  Crowd crowd(GetParam(), 3);
  DriverUnderTest& client = *crowd.clients[1];
  ASSERT_EQ(client.send(client.peer, "held"), CDMF_OK);
  cdmf_view view{};
  const std::uint64_t until = testing::in_ms(kPatienceMs);
  while (crowd.server->receive_burst(crowd.server.self(), &view, 1) == 0) ASSERT_LT(monotonic_now_ns(), until);
  std::uint64_t held = 0;
  ASSERT_EQ(crowd.server->hold(crowd.server.self(), view.peer, view.token, &held), CDMF_OK);
  crowd.server->release_burst(crowd.server.self());
  while (client.send(client.peer, std::string(800, 'x')) == CDMF_OK) {
    while (crowd.server.take().empty()) {
    }
  }
  crowd.let_park();
  std::thread giver([&] { crowd.server->unhold(crowd.server.self(), held); });
  std::thread sender([&] { EXPECT_EQ(client.send_waiting(client.peer, "room"), CDMF_OK); });
  EXPECT_EQ(crowd.server.next().content, "room");
  giver.join();
  sender.join();
}

TEST(ParkedLinksOnPollFd, BecomesReadableForThem) {
  Crowd crowd("adaptive", 4);
  const int fd = crowd.server->poll_fd(crowd.server.self());
  for (int round = 0; round < 40; ++round) {
    if (round % 4 == 0) crowd.let_park();
    const std::size_t who = static_cast<std::size_t>(round) % crowd.clients.size();
    while (crowd.server->arm(crowd.server.self()) != CDMF_ARMED) EXPECT_TRUE(crowd.server.take().empty());
    pollfd wait{fd, POLLIN, 0};
    ASSERT_EQ(poll(&wait, 1, 0), 0);
    ASSERT_EQ(crowd.clients[who]->send(crowd.clients[who]->peer, "ring"), CDMF_OK);
    ASSERT_EQ(poll(&wait, 1, static_cast<int>(kPatienceMs)), 1);
    const std::vector<Message> got = crowd.server.take();  // The first look after the wake-up: it knows who rang.
    ASSERT_EQ(got.size(), 1u) << round;
    EXPECT_EQ(got[0].peer, crowd.peers[who]);
  }
}

// Catches a wake-up lost around a death: clients that are killed between any two instructions of sending, while the
// server sleeps for each message, beside others that are parked. Whatever was flushed must come, then the end; the
// server must never stay asleep.
TEST_P(ParkedLinks, NothingIsMissedWhenSendersAreKilled) {
  constexpr int kKills = 40;
  const std::string endpoint = unique_endpoint();
  struct Shared {
    std::atomic<std::uint64_t> flushed[kKills];
  };
  auto* const shared =
      static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::vector<pid_t> children;
  for (int k = 0; k < kKills; ++k) {
    children.push_back(run_in_child([&] {
      DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint);
      if (client.open() != CDMF_OK || client.attach_when_listening() != CDMF_OK) return 1;
      for (;;) {
        if (client.send_waiting(client.peer, std::to_string(k)) != CDMF_OK) return 2;
        shared->flushed[k].fetch_add(1);
        usleep(200 + static_cast<useconds_t>(k) * 37);
      }
    }));
  }
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint, {{"wait", GetParam()}});
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  std::thread killer([&] {
    for (int k = 0; k < kKills; ++k) {
      while (shared->flushed[k].load() < 3) usleep(100);
      usleep(static_cast<useconds_t>(500 + k * 13));
      kill(children[static_cast<std::size_t>(k)], SIGKILL);
    }
  });
  std::map<cdmf_peer, std::pair<int, std::uint64_t>> from;  // Who it is, and how many came.
  int ended = 0;
  while (ended < kKills) {
    const Message message = server.next();
    if (message.kind == testing::kNothing) break;
    if (message.kind == CDMF_VIEW_MESSAGE) {
      from[message.peer].first = std::stoi(message.content);
      ++from[message.peer].second;
    }
    if (message.kind == CDMF_VIEW_PEER_DISCONNECTED) {
      ++ended;
      EXPECT_EQ(message.reason, CDMF_PEER_DIED);
      const auto [who, came] = from[message.peer];
      const std::uint64_t flushed = shared->flushed[who].load();
      EXPECT_TRUE(came == flushed || came == flushed + 1) << came << " came of " << flushed;
    }
  }
  EXPECT_EQ(ended, kKills);
  killer.join();
  for (const pid_t child : children) EXPECT_EQ(exit_code(child), 128 + SIGKILL);
  munmap(shared, sizeof(Shared));
}

}  // namespace
}  // namespace cdmf::ipc::shm
