// Servers that break the rules: they offer what cannot be, say what nobody asked for, stall and leave. The client
// refuses with a typed error and a text, keeps nothing, and a good pair in the same process works on.
#include <linux/memfd.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include <climits>
#include <thread>

#include "shm_hostile/peers.h"

namespace cdmf::ipc::shm::hostile {
namespace {

using test::Footprint;

class HostileServer : public ::testing::Test {
 protected:
  HostileServer() {
    pair.expect_service();
    before = Footprint::now();
  }
  void expect_no_trace() {
    pair.expect_service();
    EXPECT_TRUE(eventually([&] {
      const Footprint more = Footprint::now() - before;
      return more.descriptors <= 0 && more.threads <= 0 && more.shared_mappings <= 0;
    })) << "left behind: "
        << (Footprint::now() - before).text();
    ++counts().cases;
  }
  /// What attach() says to a server that offers this.
  cdmf_status refusal(const Offer& offer, std::string& text) {
    RawServer server([&](int socket) {
      if (!hear_hello(socket)) return;
      offer.say_to(socket);
      until_hung_up(socket);
    });
    DriverUnderTest client(CDMF_ROLE_CLIENT, server.endpoint);
    EXPECT_EQ(client.open(), CDMF_OK) << client.error.message;
    const cdmf_status status = client.attach();
    text = client.error.message;
    client.close();
    return status;
  }

  GoodPair pair;
  Footprint before;
};

TEST_F(HostileServer, OffersThatCannotBeAreRefused) {
  struct Case {
    const char* what;
    std::function<void(Offer&)> spoil;
    cdmf_status status = CDMF_PROTOCOL_ERROR;
    const char* words = "";
  };
  const auto size = kPlan.total_size();
  const auto header = [](auto change) { return [change](Offer& offer) { change(offer.segment.header()); }; };
  const auto bell = [](WelcomeFd which, auto make) {
    return [which, make](Offer& offer) { offer.fds[which].reset(make()); };
  };
  const auto a_pipe = [] {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    ::close(ends[0]);  // A write to it raises SIGPIPE.
    return ends[1];
  };
  const auto a_socket = [] {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ::close(ends[0]);
    return ends[1];
  };
  const auto a_file = [] { return memfd_create("cdmf-test", MFD_CLOEXEC); };
  const auto a_timer = [] { return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC); };
  const auto an_epoll = [] { return epoll_create1(EPOLL_CLOEXEC); };
  const auto a_folder = [] { return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC); };
  const auto nowhere = [] { return open("/dev/null", O_RDWR | O_CLOEXEC); };
  const Case cases[] = {
      // The packet.
      {"an empty answer", [](Offer& o) { o.bytes = 0; }, CDMF_PROTOCOL_ERROR, "malformed"},
      {"an answer of one byte", [](Offer& o) { o.bytes = 1; }, CDMF_PROTOCOL_ERROR, "malformed"},
      {"an answer too short", [](Offer& o) { o.bytes = kWelcomeBytesMin - 1; }, CDMF_PROTOCOL_ERROR, "malformed"},
      {"an answer too long", [](Offer& o) { o.bytes = kPacketBytesMax + 1; }, CDMF_PROTOCOL_ERROR, "malformed"},
      {"another magic", [](Offer& o) { o.welcome.header.magic = 1; }, CDMF_PROTOCOL_ERROR, "speak"},
      {"major version 0", [](Offer& o) { o.welcome.header.major = 0; }, CDMF_VERSION_MISMATCH, "0.1"},
      {"a later major version", [](Offer& o) { o.welcome.header.major = 9; }, CDMF_VERSION_MISMATCH, "9.1"},
      {"an answer that says hello", [](Offer& o) { o.welcome.header.kind = PacketKind::hello; }},
      {"an answer of kind 0", [](Offer& o) { o.welcome.header.kind = PacketKind{}; }},
      {"an answer that says goodbye", [](Offer& o) { o.welcome.header.kind = PacketKind::goodbye; }},
      {"refused for -1", [](Offer& o) { o.welcome.status = -1; }, CDMF_PROTOCOL_ERROR, "-1"},
      {"refused for 2^31 - 1", [](Offer& o) { o.welcome.status = INT_MAX; }, CDMF_PROTOCOL_ERROR, "unknown status"},
      {"refused, with descriptors", [](Offer& o) { o.welcome.status = CDMF_PERMISSION_DENIED; }, CDMF_PERMISSION_DENIED,
       "does not say why"},
      {"refused in words without end",
       [](Offer& o) {
         o.welcome.status = CDMF_RESOURCE_EXHAUSTED;
         std::memset(o.welcome.text, 'a', sizeof o.welcome.text);
       },
       CDMF_RESOURCE_EXHAUSTED, "aaa"},
      {"refused in words for the terminal",
       [](Offer& o) {
         o.welcome.status = CDMF_RESOURCE_EXHAUSTED;
         std::strcpy(o.welcome.text, "\x1b[2J\r\nall is well");
       },
       CDMF_RESOURCE_EXHAUSTED, "?[2J??all is well"},
      // The plan.
      {"rings of no slots", [](Offer& o) { o.welcome.ring_capacity = 0; }, CDMF_PROTOCOL_ERROR, "cannot be"},
      {"rings of 65 slots", [](Offer& o) { o.welcome.ring_capacity = 65; }, CDMF_PROTOCOL_ERROR, "cannot be"},
      {"rings of 2^32 - 1 slots", [](Offer& o) { o.welcome.ring_capacity = UINT32_MAX; }, CDMF_PROTOCOL_ERROR,
       "cannot be"},
      {"slots of no bytes", [](Offer& o) { o.welcome.slot_size = 0; }, CDMF_PROTOCOL_ERROR, "cannot be"},
      {"rings of 2^62 bytes", [](Offer& o) { o.welcome.ring_capacity = o.welcome.slot_size = 1u << 31; },
       CDMF_PROTOCOL_ERROR, "cannot be"},
      {"rings of 2^40 bytes",
       [](Offer& o) {
         o.welcome.ring_capacity = 1u << 20;
         o.welcome.slot_size = 1u << 20;
       },
       CDMF_PROTOCOL_ERROR, "bytes instead of"},
      {"rings larger than the segment", [](Offer& o) { o.welcome.ring_capacity *= 2; }, CDMF_PROTOCOL_ERROR,
       "bytes instead of"},
      {"one ring where there are two", [](Offer& o) { o.welcome.bidirectional = 0; }, CDMF_PROTOCOL_ERROR,
       "bytes instead of"},
      {"frames of 0 bytes", [](Offer& o) { o.welcome.frame_size_max = 0; }, CDMF_PROTOCOL_ERROR, "cannot be"},
      {"frames of 2^64 - 1 bytes", [](Offer& o) { o.welcome.frame_size_max = UINT64_MAX; }, CDMF_PROTOCOL_ERROR,
       "cannot be"},
      {"frames of half a ring", [](Offer& o) { o.welcome.frame_size_max = kPlan.ring_bytes() / 2; },
       CDMF_PROTOCOL_ERROR, "cannot be"},
      {"frames smaller than asked for", [](Offer& o) { o.welcome.frame_size_max = kFrameMax - 1; }, CDMF_PROTOCOL_ERROR,
       "asked for"},
      {"features that nobody offered", [](Offer& o) { o.welcome.features = 1u << 31; }, CDMF_PROTOCOL_ERROR,
       "features"},
      // How many descriptors.
      {"no descriptors", [](Offer& o) { o.fds.clear(); }},
      {"one descriptor", [](Offer& o) { o.fds.resize(1); }, CDMF_PROTOCOL_ERROR, "malformed"},
      {"two descriptors", [](Offer& o) { o.fds.resize(2); }, CDMF_PROTOCOL_ERROR, "malformed"},
      {"four descriptors", [&](Offer& o) { o.fds.emplace_back(nowhere()); }, CDMF_PROTOCOL_ERROR, "malformed"},
      {"five descriptors",
       [&](Offer& o) {
         o.fds.emplace_back(nowhere());
         o.fds.emplace_back(nowhere());
       },
       CDMF_PROTOCOL_ERROR, "malformed"},
      {"253 descriptors",
       [&](Offer& o) {
         while (o.fds.size() < 253) o.fds.emplace_back(nowhere());
       },
       CDMF_PROTOCOL_ERROR, "malformed"},
      // The segment's descriptor.
      {"a pipe for a segment", bell(kSegmentFd, a_pipe), CDMF_PROTOCOL_ERROR, "seal"},
      {"a socket for a segment", bell(kSegmentFd, a_socket), CDMF_PROTOCOL_ERROR, "seal"},
      {"a folder for a segment", bell(kSegmentFd, a_folder), CDMF_PROTOCOL_ERROR, "seal"},
      {"/dev/null for a segment", bell(kSegmentFd, nowhere), CDMF_PROTOCOL_ERROR, "seal"},
      {"an eventfd for a segment", bell(kSegmentFd, [] { return eventfd(0, EFD_CLOEXEC); }), CDMF_PROTOCOL_ERROR,
       "seal"},
      {"an ordinary file for a segment",
       bell(kSegmentFd,
            [size] {
              char name[] = "/tmp/cdmf-hostile-XXXXXX";
              const int fd = mkostemp(name, O_CLOEXEC);
              unlink(name);
              EXPECT_EQ(posix_fallocate(fd, 0, static_cast<off_t>(size)), 0);
              return fd;
            }),
       CDMF_PROTOCOL_ERROR, "seal"},
      {"a file that may not be sealed", [=](Offer& o) { o.replace_memory(MFD_CLOEXEC, 0, size); }, CDMF_PROTOCOL_ERROR,
       "seal"},
      {"no seals", [=](Offer& o) { o.replace_memory(MFD_ALLOW_SEALING, 0, size); }, CDMF_PROTOCOL_ERROR, "seal"},
      {"all seals but against shrinking",
       [=](Offer& o) { o.replace_memory(MFD_ALLOW_SEALING, kSeals & ~F_SEAL_SHRINK, size); }, CDMF_PROTOCOL_ERROR,
       "seal"},
      {"all seals but against growing",
       [=](Offer& o) { o.replace_memory(MFD_ALLOW_SEALING, kSeals & ~F_SEAL_GROW, size); }, CDMF_PROTOCOL_ERROR,
       "seal"},
      {"all seals but against seals",
       [=](Offer& o) { o.replace_memory(MFD_ALLOW_SEALING, kSeals & ~F_SEAL_SEAL, size); }, CDMF_PROTOCOL_ERROR,
       "seal"},
      {"sealed against writing too",
       [=](Offer& o) { o.replace_memory(MFD_ALLOW_SEALING, kSeals | F_SEAL_WRITE, size); }, CDMF_PROTOCOL_ERROR,
       "does not let us write"},
      {"sealed against writing from now on",
       [=](Offer& o) { o.replace_memory(MFD_ALLOW_SEALING, kSeals | F_SEAL_FUTURE_WRITE, size); }, CDMF_PROTOCOL_ERROR,
       "does not let us write"},
      {"a segment open for reading only",
       [](Offer& o) {
         const std::string name = "/proc/self/fd/" + std::to_string(o.fds[kSegmentFd].get());
         o.fds[kSegmentFd].reset(open(name.c_str(), O_RDONLY | O_CLOEXEC));
       },
       CDMF_PROTOCOL_ERROR, "does not let us write"},
      {"a segment one byte short", [=](Offer& o) { o.replace_memory(MFD_ALLOW_SEALING, kSeals, size - 1); },
       CDMF_PROTOCOL_ERROR, "bytes instead of"},
      {"a segment one page short", [=](Offer& o) { o.replace_memory(MFD_ALLOW_SEALING, kSeals, size - 4096); },
       CDMF_PROTOCOL_ERROR, "bytes instead of"},
      {"an empty segment", [](Offer& o) { o.replace_memory(MFD_ALLOW_SEALING, kSeals, 0); }, CDMF_PROTOCOL_ERROR,
       "bytes instead of"},
      {"a segment one byte long", [=](Offer& o) { o.replace_memory(MFD_ALLOW_SEALING, kSeals, size + 1); },
       CDMF_PROTOCOL_ERROR, "bytes instead of"},
      {"a segment that is not allocated", [=](Offer& o) { o.replace_memory(MFD_ALLOW_SEALING, kSeals, size, false); },
       CDMF_PROTOCOL_ERROR, "not allocated"},
      {"a terabyte that is not allocated",
       [](Offer& o) {
         o.welcome.ring_capacity = 1u << 20;
         o.welcome.slot_size = 1u << 20;
         const SegmentPlan huge{.ring_capacity = 1u << 20, .slot_size = 1u << 20, .frame_size_max = kFrameMax};
         o.replace_memory(MFD_ALLOW_SEALING, kSeals, huge.total_size(), false);
       },
       CDMF_PROTOCOL_ERROR, "not allocated"},
      {"huge pages", [](Offer& o) { o.replace_memory(MFD_ALLOW_SEALING | MFD_HUGETLB, kSeals, 2u << 20); }},
      // What the segment says.
      {"a header of another magic", header([](SegmentHeader& h) { h.magic = 0; }), CDMF_VERSION_MISMATCH, "magic"},
      {"a header of another version", header([](SegmentHeader& h) { h.version = 7; }), CDMF_VERSION_MISMATCH,
       "version 7"},
      {"a header of another size", header([](SegmentHeader& h) { ++h.total_size; }), CDMF_PROTOCOL_ERROR, "total_size"},
      {"a header of other slots", header([](SegmentHeader& h) { h.ring_capacity *= 2; }), CDMF_PROTOCOL_ERROR,
       "ring_capacity"},
      {"a header of larger slots", header([](SegmentHeader& h) { h.slot_size *= 2; }), CDMF_PROTOCOL_ERROR,
       "slot_size"},
      {"a header of another minor version", header([](SegmentHeader& h) { h.minor = 77; }), CDMF_PROTOCOL_ERROR,
       "minor"},
      {"a header of other features", header([](SegmentHeader& h) { h.features = 1; }), CDMF_PROTOCOL_ERROR, "features"},
      {"a header of larger frames", header([](SegmentHeader& h) { h.frame_size_max = 9000; }), CDMF_PROTOCOL_ERROR,
       "frame_size_max 9000"},
      {"a header with its first ring elsewhere", header([](SegmentHeader& h) { h.tx_offset = UINT64_MAX; }),
       CDMF_PROTOCOL_ERROR, "tx_offset"},
      {"a header without its second ring", header([](SegmentHeader& h) { h.rx_offset = 0; }), CDMF_PROTOCOL_ERROR,
       "rx_offset"},
      {"a header of another checksum", header([](SegmentHeader& h) { h.checksum = 2; }), CDMF_PROTOCOL_ERROR,
       "checksum"},
      // The bells.
      {"a pipe for our bell", bell(kClientBellFd, a_pipe), CDMF_PROTOCOL_ERROR, "not an eventfd"},
      {"a file for our bell", bell(kClientBellFd, a_file), CDMF_PROTOCOL_ERROR, "not an eventfd"},
      {"an epoll for our bell", bell(kClientBellFd, an_epoll), CDMF_PROTOCOL_ERROR, "not an eventfd"},
      {"a pipe without a reader for its bell", bell(kServerBellFd, a_pipe), CDMF_PROTOCOL_ERROR, "not an eventfd"},
      {"a socket without a reader for its bell", bell(kServerBellFd, a_socket), CDMF_PROTOCOL_ERROR, "not an eventfd"},
      {"a timer for its bell", bell(kServerBellFd, a_timer), CDMF_PROTOCOL_ERROR, "not an eventfd"},
      {"a folder for its bell", bell(kServerBellFd, a_folder), CDMF_PROTOCOL_ERROR, "not an eventfd"},
      {"/dev/null for its bell", bell(kServerBellFd, nowhere), CDMF_PROTOCOL_ERROR, "not an eventfd"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    {
      Offer offer;
      one.spoil(offer);
      std::string text;
      EXPECT_EQ(refusal(offer, text), one.status) << text;
      EXPECT_NE(text.find(one.words), std::string::npos) << text;
      EXPECT_FALSE(text.empty());
    }
    expect_no_trace();
  }
}

TEST_F(HostileServer, WhoAnswersOtherwiseOrNotAtAllIsGivenUp) {
  struct Case {
    const char* what;
    std::function<void(int socket)> serve;
    cdmf_status status;
    std::uint64_t timeout_ms = kPatienceMs;
  };
  const Case cases[] = {
      {"hangs up at once", [](int) {}, CDMF_CONNECTION_FAILED},
      {"hangs up after the hello", [](int socket) { hear_hello(socket); }, CDMF_CONNECTION_FAILED},
      {"says goodbye instead of welcome",
       [](int socket) {
         hear_hello(socket);
         say(socket, Notice{});
         until_hung_up(socket);
       },
       CDMF_PROTOCOL_ERROR},
      {"answers with a hello",
       [](int socket) {
         say(socket, Hello{});
         until_hung_up(socket);
       },
       CDMF_PROTOCOL_ERROR},
      {"closes its half",
       [](int socket) {
         shutdown(socket, SHUT_WR);
         until_hung_up(socket);
       },
       CDMF_CONNECTION_FAILED},
      {"is silent", [](int socket) { until_hung_up(socket); }, CDMF_TIMEOUT, 50},
      {"hears and is silent",
       [](int socket) {
         hear_hello(socket);
         until_hung_up(socket);
       },
       CDMF_TIMEOUT, 50},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    {
      RawServer server(one.serve);
      DriverUnderTest client(CDMF_ROLE_CLIENT, server.endpoint);
      ASSERT_EQ(client.open(), CDMF_OK);
      const std::uint64_t begun = monotonic_now_ns();
      EXPECT_EQ(client.attach(one.timeout_ms), one.status) << client.error.message;
      if (one.status == CDMF_TIMEOUT) {
        EXPECT_GE(monotonic_now_ns() - begun, one.timeout_ms * 1'000'000);
      }
      EXPECT_NE(client.error.message[0], '\0');
    }
    expect_no_trace();
  }
}

TEST_F(HostileServer, WhoNeverAcceptsIsGivenUpInTime) {
  const std::string endpoint = unique_endpoint();
  cdmf_error text{};
  ErrorText error(&text);
  std::string path;
  ASSERT_EQ(socket_path(endpoint.c_str(), path, error), CDMF_OK);
  {
    ListeningEndpoint listener;
    ASSERT_EQ(listener.open(path, error), CDMF_OK) << text.message;
    DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint);
    ASSERT_EQ(client.open(), CDMF_OK);
    EXPECT_EQ(client.attach(50), CDMF_TIMEOUT);
    // Its queue full as well.
    std::vector<UniqueFd> crowd;
    for (;;) {
      UniqueFd one;
      if (connect_endpoint(path, kNoWait, one, error) != CDMF_OK) break;
      crowd.push_back(std::move(one));
      ASSERT_LT(crowd.size(), 10'000u);
    }
    EXPECT_EQ(client.attach(50), CDMF_TIMEOUT);
    EXPECT_NE(std::string(client.error.message).find("too many clients"), std::string::npos) << client.error.message;
  }
  expect_no_trace();
}

TEST_F(HostileServer, WhoSpeaksWronglyOnALinkEndsIt) {
  struct Case {
    const char* what;
    std::function<void(int socket, const Offer& offer)> act;
    cdmf_status reason;
  };
  const auto notice = [](std::int32_t reason, PacketKind kind = PacketKind::goodbye) {
    Notice made;
    made.reason = reason;
    made.header.kind = kind;
    return made;
  };
  const Case cases[] = {
      {"a second welcome", [](int socket, const Offer& offer) { offer.say_to(socket); }, CDMF_PROTOCOL_ERROR},
      {"a hello", [](int socket, const Offer&) { say(socket, Hello{}); }, CDMF_PROTOCOL_ERROR},
      {"an ack", [](int socket, const Offer&) { say(socket, Ack{}); }, CDMF_PROTOCOL_ERROR},
      {"an empty packet", [](int socket, const Offer&) { say(socket, "", 0); }, CDMF_PROTOCOL_ERROR},
      {"garbage", [](int socket, const Offer&) { say(socket, "garbage", 7); }, CDMF_PROTOCOL_ERROR},
      {"a notice of an unknown kind",
       [=](int socket, const Offer&) { say(socket, notice(0, static_cast<PacketKind>(99))); }, CDMF_PROTOCOL_ERROR},
      {"a descriptor",
       [=](int socket, const Offer&) {
         const int fds[] = {socket};
         say(socket, notice(CDMF_CONNECTION_CLOSED), fds);
       },
       CDMF_PROTOCOL_ERROR},
      {"a goodbye for -7", [=](int socket, const Offer&) { say(socket, notice(-7)); }, CDMF_CONNECTION_CLOSED},
      {"a goodbye for 1000", [=](int socket, const Offer&) { say(socket, notice(1000)); }, CDMF_CONNECTION_CLOSED},
      {"its end", [](int socket, const Offer&) { shutdown(socket, SHUT_RDWR); }, CDMF_PEER_DIED},
      {"half its end", [](int socket, const Offer&) { shutdown(socket, SHUT_WR); }, CDMF_PEER_DIED},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    {
      Offer offer;
      RawServer server([&](int socket) {
        if (!hear_hello(socket)) return;
        offer.say_to(socket);
        Ack ack;
        if (!hear(socket, ack)) return;
        one.act(socket, offer);
        until_hung_up(socket);
      });
      DriverUnderTest client(CDMF_ROLE_CLIENT, server.endpoint);
      ASSERT_EQ(client.open(), CDMF_OK);
      ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
      EXPECT_EQ(client.next().kind, kConnected);
      const Message end = client.next();
      EXPECT_EQ(end.kind, kDisconnected);
      EXPECT_EQ(end.reason, one.reason);
      EXPECT_EQ(client.send(client.peer, "x"), CDMF_NOT_CONNECTED);
      ++counts().links_ended;
    }
    expect_no_trace();
  }
}

TEST_F(HostileServer, WakesWithoutEndDelayNobody) {
  Offer offer;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wakes{0};
  RawServer server([&](int socket) {
    if (!hear_hello(socket)) return;
    offer.say_to(socket);
    Ack ack;
    if (!hear(socket, ack)) return;
    Notice wake;
    wake.header.kind = PacketKind::wake;
    while (!stop && say(socket, wake)) ++wakes;
    until_hung_up(socket);
  });
  DriverUnderTest client(CDMF_ROLE_CLIENT, server.endpoint);
  ASSERT_EQ(client.open(), CDMF_OK);
  ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
  EXPECT_EQ(client.next().kind, kConnected);
  EXPECT_TRUE(eventually([&] { return wakes > 1000; }));
  EXPECT_TRUE(client.take().empty());
  for (int i = 0; i < 100; ++i) pair.expect_service();
  EXPECT_EQ(client->disconnect(client.self(), client.peer, CDMF_CONNECTION_CLOSED), CDMF_OK);
  EXPECT_EQ(client.next().reason, CDMF_CONNECTION_CLOSED);
  stop = true;
  client.close();
  ++counts().cases;
}

}  // namespace
}  // namespace cdmf::ipc::shm::hostile
