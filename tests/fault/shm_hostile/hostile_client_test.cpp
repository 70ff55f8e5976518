// Clients that break the rules on the socket: before they have a link and after. The server answers each with a typed
// error and a line in its log, keeps no descriptor of theirs, and serves the good client beside as before. Those that
// break the rules of bells: hostile_bell_test.cpp.
#include <sys/resource.h>

#include <climits>
#include <memory>

#include "shm_hostile/hostile_client.h"

namespace cdmf::ipc::shm::hostile {
namespace {

using test::Footprint;

std::string bytes_of(const void* packet, std::size_t size) { return {static_cast<const char*>(packet), size}; }
template <typename Packet>
std::string bytes_of(const Packet& packet) {
  return bytes_of(&packet, sizeof packet);
}
template <typename Change>
std::string hello_with(Change&& change) {
  Hello hello;
  change(hello);
  return bytes_of(hello);
}
std::string packet_of_kind(std::uint32_t kind, std::size_t size) {
  PacketHeader header;
  header.kind = static_cast<PacketKind>(kind);
  std::string bytes(std::max(size, sizeof header), '\0');
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}
std::string notice_with(std::int32_t reason) {
  Notice notice;
  notice.reason = reason;
  return bytes_of(notice);
}

// ---- Before there is a link ------------------------------------------------------------------------------------

TEST_F(HostileClient, WhoSpeaksWronglyInTheHandshakeGetsNoLink) {
  struct Case {
    const char* what;
    std::vector<std::string> says;  // A packet each.
    cdmf_status refusal = CDMF_OK;  // OK: it is hung up on without an answer.
    bool after_welcome = false;     // The first is a good Hello.
  };
  const std::string hello = bytes_of(Hello{});
  const std::string ack = bytes_of(Ack{});
  const Case cases[] = {
      {"an empty packet", {""}},
      {"one byte", {"x"}},
      {"a hello shorter than any version's", {hello.substr(0, kHelloBytesMin - 1)}},
      {"a hello longer than any packet", {hello + std::string(kPacketBytesMax, 'x')}},
      {"a packet of 64 KiB", {std::string(65536, 'g')}},
      {"400 bytes of nothing", {std::string(400, 'g')}, CDMF_PROTOCOL_ERROR},
      {"another protocol", {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"}, CDMF_PROTOCOL_ERROR},
      {"32 zeros", {std::string(32, '\0')}, CDMF_PROTOCOL_ERROR},
      {"another magic", {hello_with([](Hello& h) { h.header.magic = 0xCDAF5001; })}, CDMF_PROTOCOL_ERROR},
      {"major version 0", {hello_with([](Hello& h) { h.header.major = 0; })}, CDMF_VERSION_MISMATCH},
      {"the next major version", {hello_with([](Hello& h) { ++h.header.major; })}, CDMF_VERSION_MISMATCH},
      {"major version 65535", {hello_with([](Hello& h) { h.header.major = 65535; })}, CDMF_VERSION_MISMATCH},
      {"a hello of kind 0", {packet_of_kind(0, sizeof(Hello))}, CDMF_PROTOCOL_ERROR},
      {"a hello that says welcome", {packet_of_kind(2, sizeof(Hello))}, CDMF_PROTOCOL_ERROR},
      {"a hello that says wake", {packet_of_kind(5, sizeof(Hello))}, CDMF_PROTOCOL_ERROR},
      {"a hello of kind 2^32 - 1", {packet_of_kind(UINT32_MAX, sizeof(Hello))}, CDMF_PROTOCOL_ERROR},
      {"a welcome", {bytes_of(Welcome{})}, CDMF_PROTOCOL_ERROR},
      {"an ack first", {ack}},
      {"a goodbye first", {notice_with(CDMF_CONNECTION_CLOSED)}},
      {"frames one byte too large",
       {hello_with([](Hello& h) { h.frame_size_max = kFrameMax + 1; })},
       CDMF_INVALID_CONFIG},
      {"frames of 2^64 - 1 bytes", {hello_with([](Hello& h) { h.frame_size_max = UINT64_MAX; })}, CDMF_INVALID_CONFIG},
      {"a second hello instead of an ack", {hello, hello}, CDMF_OK, true},
      {"an empty packet instead of an ack", {hello, ""}, CDMF_OK, true},
      {"half an ack", {hello, ack.substr(0, 6)}, CDMF_OK, true},
      {"an ack and one byte more", {hello, ack + "x"}, CDMF_OK, true},
      {"an ack of another magic", {hello, "XXXX" + ack.substr(4)}, CDMF_OK, true},
      {"an ack of kind 0", {hello, packet_of_kind(0, sizeof(Ack))}, CDMF_OK, true},
      {"an ack that says wake", {hello, packet_of_kind(5, sizeof(Ack))}, CDMF_OK, true},
      {"a goodbye instead of an ack", {hello, notice_with(CDMF_CONNECTION_CLOSED)}, CDMF_OK, true},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    const std::size_t lines = logged();
    {
      RawClient client(pair.endpoint);
      for (std::size_t i = 0; i < one.says.size(); ++i) {
        ASSERT_TRUE(say(client.fd(), one.says[i].data(), one.says[i].size()));
        if (i == 0 && one.after_welcome) {
          Welcome welcome;
          std::array<UniqueFd, kWelcomeFdCount> fds;
          ASSERT_TRUE(hear(client.fd(), welcome, fds));
          ASSERT_EQ(welcome.status, CDMF_OK) << welcome.text;
        }
      }
      if (one.refusal != CDMF_OK) {
        Welcome answer;
        ASSERT_TRUE(hear(client.fd(), answer, {}, kWelcomeBytesMin));
        EXPECT_EQ(answer.status, one.refusal) << answer.text;
        EXPECT_NE(answer.text[0], '\0');
        if (one.refusal == CDMF_VERSION_MISMATCH) {
          Hello theirs;
          std::memcpy(&theirs, one.says[0].data(), sizeof theirs);
          for (const unsigned major : {unsigned{theirs.header.major}, unsigned{kVersionMajor}}) {
            EXPECT_NE(std::string(answer.text).find(std::to_string(major) + '.'), std::string::npos) << answer.text;
          }
        }
      }
      EXPECT_TRUE(is_hung_up_on(client.fd()));
    }
    EXPECT_GT(logged(), lines) << "nothing was logged";
    EXPECT_TRUE(pair.server.take().empty()) << "the program was told of a client that never was one";
    expect_no_trace();
    ++counts().cases;
  }
}

TEST_F(HostileClient, WordsThatMayBeAnythingAreTakenForWhatTheyAre) {
  struct Case {
    const char* what;
    std::string hello;
  };
  const Case cases[] = {
      {"a higher minor version", hello_with([](Hello& h) { h.header.minor = 65535; })},
      {"frames of 0 bytes", hello_with([](Hello& h) { h.frame_size_max = 0; })},
      {"two hellos in one packet", bytes_of(Hello{}) + bytes_of(Hello{})},
      {"a hello as long as a packet may be", bytes_of(Hello{}) + std::string(kPacketBytesMax - sizeof(Hello), 'x')},
      {"a hello of the oldest version", bytes_of(Hello{}).substr(0, kHelloBytesMin)},
      {"features that nobody knows", hello_with([](Hello& h) { h.features = UINT32_MAX; })},
      {"rings of one byte", hello_with([](Hello& h) { h.ring_bytes = 1; })},
      {"rings of 65 bytes", hello_with([](Hello& h) { h.ring_bytes = 65; })},
      {"rings of 2^63 bytes", hello_with([](Hello& h) { h.ring_bytes = std::uint64_t{1} << 63; })},
      {"rings of 2^64 - 1 bytes", hello_with([](Hello& h) { h.ring_bytes = UINT64_MAX; })},
      {"may_sleep of all ones", hello_with([](Hello& h) { h.may_sleep = UINT32_MAX; })},
      {"a CPU of -2^31", hello_with([](Hello& h) { h.only_cpu = INT_MIN; })},
      {"a CPU of 2^31 - 1", hello_with([](Hello& h) { h.only_cpu = INT_MAX; })},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    {
      RawClient client(pair.endpoint);
      ASSERT_TRUE(say(client.fd(), one.hello.data(), one.hello.size()));
      Welcome welcome;
      std::array<UniqueFd, kWelcomeFdCount> fds;
      ASSERT_TRUE(hear(client.fd(), welcome, fds, kWelcomeBytesMin));
      ASSERT_EQ(welcome.status, CDMF_OK) << welcome.text;
      ASSERT_TRUE(say(client.fd(), Ack{}));
      const cdmf_peer peer = pair.server.next_peer();
      ASSERT_EQ(pair.server.send(peer, "for you"), CDMF_OK);
      pair.expect_service();
    }
    const Message end = pair.server.next();
    EXPECT_EQ(end.kind, kDisconnected);
    EXPECT_EQ(end.reason, CDMF_PEER_DIED);
    expect_no_trace();
    ++counts().cases;
  }
}

TEST_F(HostileClient, DescriptorsThatNobodyAskedForAreClosedAndEndIt) {
  for (const char* const when : {"with the hello", "with the ack", "with a goodbye", "with a wake"}) {
    for (const int count : {1, 3, 4, 5, 253}) {
      SCOPED_TRACE(when + std::string(", ") + std::to_string(count));
      const bool at_hello = std::strcmp(when, "with the hello") == 0;
      const bool at_ack = std::strcmp(when, "with the ack") == 0;
      int ends[2];
      ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
      UniqueFd in(ends[0]);
      UniqueFd out(ends[1]);
      {
        RawClient client(pair.endpoint);
        const std::vector<int> fds(static_cast<std::size_t>(count), out.get());
        if (at_hello) {
          ASSERT_TRUE(say(client.fd(), Hello{}, fds));
        } else if (at_ack) {
          ASSERT_TRUE(say(client.fd(), Hello{}));
          Welcome welcome;
          std::array<UniqueFd, kWelcomeFdCount> offered;
          ASSERT_TRUE(hear(client.fd(), welcome, offered));
          ASSERT_TRUE(say(client.fd(), Ack{}, fds));
        } else {
          ASSERT_TRUE(client.shake_hands()) << client.text.message;
          pair.server.next_peer();
          Notice notice;
          if (std::strcmp(when, "with a wake") == 0) notice.header.kind = PacketKind::wake;
          ASSERT_TRUE(say(client.fd(), notice, fds));
          const Message end = pair.server.next();
          EXPECT_EQ(end.kind, kDisconnected);
          EXPECT_EQ(end.reason, CDMF_PROTOCOL_ERROR);
        }
        EXPECT_TRUE(is_hung_up_on(client.fd()));
      }
      out.reset();
      char byte;
      EXPECT_EQ(read(in.get(), &byte, 1), 0) << "the server kept the other end open";
      in.reset();
      expect_no_trace();
    }
    ++counts().cases;
  }
}

TEST_F(HostileClient, ASocketThatCarriesItselfIsDropped) {
  {
    RawClient client(pair.endpoint);
    const int self[] = {client.fd()};
    ASSERT_TRUE(say(client.fd(), Hello{}, self));
    EXPECT_TRUE(is_hung_up_on(client.fd()));
  }
  expect_no_trace();
  ++counts().cases;
}

TEST_F(HostileClient, WhoLeavesInTheMiddleOfTheHandshakeLeavesNothing) {
  struct Case {
    const char* what;
    std::function<void(RawClient&)> act;
  };
  const auto say_hello = [](RawClient& client) { ASSERT_TRUE(say(client.fd(), Hello{})); };
  const auto hear_welcome = [](RawClient& client) {
    Welcome welcome;
    std::array<UniqueFd, kWelcomeFdCount> fds;
    ASSERT_TRUE(hear(client.fd(), welcome, fds));
  };
  const Case cases[] = {
      {"at once", [](RawClient&) {}},
      {"with one half of its socket closed", [](RawClient& client) { shutdown(client.fd(), SHUT_WR); }},
      {"with the other half closed", [](RawClient& client) { shutdown(client.fd(), SHUT_RD); }},
      {"deaf when it is welcomed",
       [&](RawClient& client) {
         shutdown(client.fd(), SHUT_RD);
         say_hello(client);
       }},
      {"after its hello", say_hello},
      {"half closed after its hello",
       [&](RawClient& client) {
         say_hello(client);
         shutdown(client.fd(), SHUT_WR);
       }},
      {"with the welcome",
       [&](RawClient& client) {
         say_hello(client);
         hear_welcome(client);
       }},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    {
      RawClient client(pair.endpoint);
      one.act(client);
    }
    expect_no_trace();
    EXPECT_TRUE(pair.server.take().empty());
    ++counts().cases;
  }
}

TEST_F(HostileClient, WhoStallsIsDroppedAndDelaysNobody) {
  const std::uint64_t begun = monotonic_now_ns();
  RawClient silent(pair.endpoint);
  RawClient no_ack(pair.endpoint);
  ASSERT_TRUE(say(no_ack.fd(), Hello{}));
  RawClient deaf(pair.endpoint);
  shutdown(deaf.fd(), SHUT_RD);
  DriverUnderTest other(CDMF_ROLE_CLIENT, pair.endpoint);
  ASSERT_EQ(other.open(), CDMF_OK);
  ASSERT_EQ(other.attach(), CDMF_OK) << "while others stall";
  pair.server.next_peer();
  pair.expect_service();
  for (RawClient* const client : {&silent, &no_ack}) {
    EXPECT_TRUE(is_hung_up_on(client->fd()));
    EXPECT_GE(monotonic_now_ns() - begun, kHandshakeTimeoutNs / 2) << "dropped by the time-out, not for another reason";
    ++counts().cases;
  }
  other.close();
  EXPECT_EQ(pair.server.next().reason, CDMF_CONNECTION_CLOSED);
  pair.expect_service();
}

// ---- Once there is a link --------------------------------------------------------------------------------------

TEST_F(HostileClient, WhoSpeaksWronglyOnALinkEndsIt) {
  constexpr auto kRude = CDMF_PROTOCOL_ERROR;
  struct Case {
    const char* what;
    std::string says;
    cdmf_status reason;
  };
  const Case cases[] = {
      {"an empty packet", "", kRude},
      {"one byte", "x", kRude},
      {"a notice without its last byte", notice_with(CDMF_CONNECTION_CLOSED).substr(0, 15), kRude},
      {"a notice and one byte more", notice_with(CDMF_CONNECTION_CLOSED) + "x", kRude},
      {"a second hello", bytes_of(Hello{}), kRude},
      {"a second ack", bytes_of(Ack{}), kRude},
      {"a welcome", bytes_of(Welcome{}), kRude},
      {"a packet of 64 KiB", std::string(65536, 'g'), kRude},
      {"a notice of another magic", "XXXX" + notice_with(CDMF_CONNECTION_CLOSED).substr(4), kRude},
      {"a notice of kind 0", packet_of_kind(0, sizeof(Notice)), kRude},
      {"a notice of kind 3", packet_of_kind(3, sizeof(Notice)), kRude},
      {"a notice of kind 6", packet_of_kind(6, sizeof(Notice)), kRude},
      {"a notice of kind 2^32 - 1", packet_of_kind(UINT32_MAX, sizeof(Notice)), kRude},
      {"a goodbye for the reason 0", notice_with(0), CDMF_CONNECTION_CLOSED},
      {"a goodbye for the reason -1", notice_with(-1), CDMF_CONNECTION_CLOSED},
      {"a goodbye for the reason -2^31", notice_with(INT_MIN), CDMF_CONNECTION_CLOSED},
      {"a goodbye for the reason 2^31 - 1", notice_with(INT_MAX), CDMF_CONNECTION_CLOSED},
      {"a goodbye for a reason yet unknown", notice_with(CDMF_INTERNAL_ERROR + 1), CDMF_CONNECTION_CLOSED},
      {"a goodbye for a full buffer", notice_with(CDMF_BUFFER_FULL), CDMF_BUFFER_FULL},
      {"a goodbye that claims its death", notice_with(CDMF_PEER_DIED), CDMF_PEER_DIED},
      {"a goodbye that claims our error", notice_with(CDMF_INTERNAL_ERROR), CDMF_INTERNAL_ERROR},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    {
      RawClient client(pair.endpoint);
      ASSERT_TRUE(client.shake_hands()) << client.text.message;
      const cdmf_peer peer = pair.server.next_peer();
      ASSERT_TRUE(say(client.fd(), one.says.data(), one.says.size()));
      const Message end = pair.server.next();
      EXPECT_EQ(end.kind, kDisconnected);
      EXPECT_EQ(end.peer, peer);
      EXPECT_EQ(end.reason, one.reason);
      EXPECT_TRUE(is_hung_up_on(client.fd()));
      EXPECT_EQ(pair.server.send(peer, "x"), CDMF_NOT_CONNECTED);
    }
    ++counts().links_ended;
    expect_no_trace();
    ++counts().cases;
  }
}

TEST_F(HostileClient, WhoClosesHalvesOfItsSocketIsGone) {
  for (const int half : {SHUT_WR, SHUT_RD, SHUT_RDWR}) {
    SCOPED_TRACE(half);
    RawClient client(pair.endpoint);
    ASSERT_TRUE(client.shake_hands()) << client.text.message;
    const cdmf_peer peer = pair.server.next_peer();
    shutdown(client.fd(), half);
    // A peer that only does not listen is noticed when it is spoken to.
    if (half == SHUT_RD) {
      ASSERT_EQ(pair.server->disconnect(pair.server.self(), peer, CDMF_CONNECTION_CLOSED), CDMF_OK);
    }
    const Message end = pair.server.next();
    EXPECT_EQ(end.kind, kDisconnected);
    EXPECT_EQ(end.peer, peer);
    EXPECT_EQ(end.reason, half == SHUT_RD ? CDMF_CONNECTION_CLOSED : CDMF_PEER_DIED);
    pair.expect_service();
    ++counts().links_ended;
    ++counts().cases;
  }
}

TEST_F(HostileClient, WhatFollowsAGoodbyeIsNotRead) {
  RawClient client(pair.endpoint);
  ASSERT_TRUE(client.shake_hands()) << client.text.message;
  pair.server.next_peer();
  ASSERT_TRUE(say(client.fd(), Notice{}));
  for (int i = 0; i < 50; ++i) (void)!send(client.fd(), "garbage", 7, MSG_NOSIGNAL | MSG_DONTWAIT);
  EXPECT_EQ(pair.server.next().reason, CDMF_CONNECTION_CLOSED);
  pair.expect_service();
  ++counts().cases;
}

TEST_F(HostileClient, PacketsThatAreNeverAnsweredFillNothingOfOurs) {
  // It reads nothing: the server's own packets to it find its socket full, and wait for nobody.
  RawClient client(pair.endpoint);
  ASSERT_TRUE(client.shake_hands(true)) << client.text.message;
  const cdmf_peer peer = pair.server.next_peer();
  RecordRingControl& ring = *client.handshake.segment.rx().control;
  for (int i = 0; i < 2000; ++i) {
    ring.armed.store(1 + static_cast<std::uint32_t>(i) % 3);  // A bell for each message.
    const cdmf_status status = pair.server.send(peer, "ding");
    ASSERT_TRUE(status == CDMF_OK || status == CDMF_BUFFER_FULL) << status;
  }
  pair.expect_service();
  ++counts().cases;
}

// ---- Floods ----------------------------------------------------------------------------------------------------

TEST_F(HostileClient, StormsOfConnectsLeaveOthersTheirService) {
  for (const char* const how : {"and nothing else", "and half a hello", "and a hello", "and whole handshakes"}) {
    SCOPED_TRACE(how);
    for (int round = 0; round < 100; ++round) {
      RawClient client(pair.endpoint);
      if (std::strcmp(how, "and half a hello") == 0) say(client.fd(), "CDMF", 4);
      if (std::strcmp(how, "and a hello") == 0) say(client.fd(), Hello{});
      if (std::strcmp(how, "and whole handshakes") == 0) {
        ASSERT_TRUE(client.shake_hands()) << client.text.message;
      }
      if (round % 20 == 0) pair.expect_service([](const Message& other) { EXPECT_NE(other.kind, 0u); });
    }
    EXPECT_TRUE(eventually([&] {
      pair.expect_service([](const Message&) {});
      return Footprint::now() == before;
    })) << (Footprint::now() - before).text();
    ++counts().cases;
  }
}

TEST_F(HostileClient, MorePendingHandshakesThanThereIsRoomForDoNotKeepOthersOut) {
  for (const bool with_hello : {false, true}) {
    SCOPED_TRACE(with_hello);
    const std::uint64_t begun = monotonic_now_ns();
    std::vector<std::unique_ptr<RawClient>> pending;
    for (int i = 0; i < 300; ++i) {
      pending.push_back(std::make_unique<RawClient>(pair.endpoint));
      if (with_hello && i % 50 == 0) {
        ASSERT_TRUE(say(pending.back()->fd(), Hello{}));
      }
    }
    DriverUnderTest other(CDMF_ROLE_CLIENT, pair.endpoint);
    ASSERT_EQ(other.open(), CDMF_OK);
    ASSERT_EQ(other.attach(), CDMF_OK) << other.error.message;
    EXPECT_TRUE(log.text().find("to make room") != std::string::npos ||
                monotonic_now_ns() - begun >= kHandshakeTimeoutNs)
        << "it came in only when others were too late";
    pair.server.next_peer();
    pair.expect_service();
    other.close();
    EXPECT_EQ(pair.server.next().reason, CDMF_CONNECTION_CLOSED);
    ++counts().cases;
  }
}

TEST_F(HostileClient, ManyThatComeToNothingAreLetInMoreSlowlyAndOthersAllTheSame) {
  const auto is_slowed_down = [&] { return log.text().find("come to nothing") != std::string::npos; };
  const std::uint64_t deadline = in_ms(kPatienceMs);
  for (int round = 0; !is_slowed_down() && monotonic_now_ns() < deadline; ++round) {
    RawClient client(pair.endpoint);
    ASSERT_TRUE(say(client.fd(), Hello{}));
    Welcome welcome;
    std::array<UniqueFd, kWelcomeFdCount> fds;
    ASSERT_TRUE(hear(client.fd(), welcome, fds));
    if (round % 10 == 0) pair.expect_service();
  }
  EXPECT_TRUE(is_slowed_down());
  DriverUnderTest other(CDMF_ROLE_CLIENT, pair.endpoint);
  ASSERT_EQ(other.open(), CDMF_OK);
  ASSERT_EQ(other.attach(), CDMF_OK) << other.error.message;
  pair.server.next_peer();
  pair.expect_service();
  other.close();
  EXPECT_EQ(pair.server.next().reason, CDMF_CONNECTION_CLOSED);
  ++counts().cases;
}

TEST_F(HostileClient, AServerWithoutDescriptorsServesWhomItHasAndRecovers) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer needs descriptors to look at memory, and takes what it cannot see for broken";
#endif
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  for (const int spare : {0, 1, 2, 3, 4}) {  // It runs out at each step of a handshake.
    SCOPED_TRACE(spare);
    RawClient early(pair.endpoint);
    pair.expect_service();
    RawClient late(pair.endpoint);
    ASSERT_TRUE(say(late.fd(), Hello{}));
    // The lowest free number is what the limit counts from.
    const UniqueFd probe(dup(early.fd()));
    const rlimit few{static_cast<rlim_t>(probe.get() + spare), limit.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    ASSERT_TRUE(say(early.fd(), Hello{}));
    for (int i = 0; i < 50; ++i) pair.expect_service([](const Message&) {});
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    pair.expect_service([](const Message&) {});
    shutdown(early.fd(), SHUT_RDWR);
    shutdown(late.fd(), SHUT_RDWR);
    DriverUnderTest other(CDMF_ROLE_CLIENT, pair.endpoint);
    ASSERT_EQ(other.open(), CDMF_OK);
    ASSERT_EQ(other.attach(), CDMF_OK) << other.error.message;
    pair.server.next_peer();
    other.close();
    EXPECT_EQ(pair.server.next().reason, CDMF_CONNECTION_CLOSED);
    ++counts().cases;
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm::hostile
