// Peers that break the rules, in both directions: whatever they say, their link ends with the reason that the table
// names, and an honest client beside them keeps its service.
#include <poll.h>
#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "endpoint_path.h"
#include "raw_peer.h"
#include "runtime_directory.h"
#include "unit/plugins/c_driver.h"
#include "unix_socket_driver.h"

namespace cdmf::ipc::unix_socket {
namespace {

using ipc::test::CDriver;
using ipc::test::Event;
using ipc::test::in;
using ipc::test::kWatchdog;
using test::raw_record;
using test::RawPeer;
using test::RuntimeDirectory;
using namespace std::chrono_literals;

const cdmf_plugin kPlugin = make_plugin<UnixSocketDriver>(kDescription);
constexpr const char* kEndpoint = "/hostile";
using Options = std::map<std::string, std::string>;

std::size_t descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

std::string hello_bytes(const Hello& hello) { return {reinterpret_cast<const char*>(&hello), sizeof hello}; }

Hello with_version(std::uint16_t version) {
  Hello hello;
  hello.version = version;
  return hello;
}

Hello with_frame_size(std::uint64_t size) {
  Hello hello;
  hello.frame_size_max = size;
  return hello;
}

/// A server and one honest client of it. Raw clients come and go beside them.
class HostileClient : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
    ASSERT_EQ(honest.open(), CDMF_OK) << honest.error.message;
    ASSERT_EQ(honest.attach(), CDMF_OK) << honest.error.message;
    ASSERT_TRUE(honest.next().is(CDMF_VIEW_PEER_CONNECTED));
    const Event arrived = server.next();
    ASSERT_TRUE(arrived.is(CDMF_VIEW_PEER_CONNECTED));
    honest_peer = arrived.peer;
  }
  void expect_honest_service() {
    ASSERT_EQ(honest.put(honest.server, "still there?"), CDMF_OK);
    const Event asked = server.next();
    ASSERT_TRUE(asked.is_message("still there?")) << "reason " << asked.reason << ", kind " << asked.kind;
    ASSERT_EQ(asked.peer, honest_peer);
    ASSERT_EQ(server.put(honest_peer, "yes"), CDMF_OK);
    ASSERT_TRUE(honest.next().is_message("yes"));
  }
  [[nodiscard]] bool packets() const { return std::string(GetParam()) == "SEQPACKET"; }
  [[nodiscard]] RawPeer connect() const {
    return RawPeer(endpoint_path(kEndpoint).socket, packets() ? SOCK_SEQPACKET : SOCK_STREAM);
  }

  const RuntimeDirectory runtime;
  const Options options{{"socket_type", GetParam()}, {"frame_timeout", "100ms"}, {"handshake_timeout", "100ms"}};
  CDriver server{kPlugin, CDMF_ROLE_SERVER, kEndpoint, options};
  CDriver honest{kPlugin, CDMF_ROLE_CLIENT, kEndpoint, options};
  cdmf_peer honest_peer = CDMF_NO_PEER;
};

TEST_P(HostileClient, ThatIsNoGuestGetsNoLink) {
  const std::string hello = hello_bytes(with_frame_size(1000));
  struct Case {
    const char* what;
    std::string bytes;
    cdmf_status answer;  // CDMF_OK: it is hung up on without one.
  };
  const Case cases[] = {
      {"another protocol", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", CDMF_OK},
      {"zeros", std::string(32, '\0'), CDMF_OK},
      {"another magic", "X" + hello.substr(1), CDMF_OK},
      {"version 0", hello_bytes(with_version(0)), CDMF_VERSION_MISMATCH},
      {"version 65535", hello_bytes(with_version(0xffff)), CDMF_VERSION_MISMATCH},
      {"frames that are too large", hello_bytes(with_frame_size(65536 + CDMF_FRAME_OVERHEAD_MAX + 1)),
       CDMF_INVALID_CONFIG},
      {"frames of 2^64 - 1 bytes", hello_bytes(with_frame_size(UINT64_MAX)), CDMF_INVALID_CONFIG},
      {"half a hello", hello.substr(0, 16), CDMF_OK},
      {"one byte", hello.substr(0, 1), CDMF_OK},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    const RawPeer peer = connect();
    ASSERT_TRUE(peer.connected());
    ASSERT_TRUE(peer.say(one.bytes));
    if (one.answer != CDMF_OK) {
      Hello answer;
      ASSERT_TRUE(peer.hear(answer));
      EXPECT_EQ(answer.status, one.answer);
    }
    EXPECT_TRUE(peer.is_hung_up_on());
    EXPECT_TRUE(server.poll().is(UINT32_MAX));
    expect_honest_service();
  }
}

TEST_P(HostileClient, EndsItsLinkWithAReasonAndNoOther) {
  struct Case {
    const char* what;
    std::vector<std::string> says;  // A packet each.
    cdmf_status stream, packet;     // The reason that the server hears.
    bool told;                      // … and the client, in a goodbye.
    int messages = 0;               // That arrive before.
  };
  constexpr auto kRude = CDMF_PROTOCOL_ERROR;
  const std::string good = raw_record(5, "hello");
  const auto kind = [](unsigned value) { return static_cast<RecordKind>(value); };
  const Case cases[] = {
      {"a frame of 0 bytes", {raw_record(0, "")}, kRude, kRude, true},
      {"a frame larger than agreed", {raw_record(65536 + CDMF_FRAME_OVERHEAD_MAX + 1, "")}, kRude, kRude, true},
      {"a frame of 4 GiB - 1", {raw_record(0xffffffff, "")}, kRude, kRude, true},
      {"a record of kind 0", {raw_record(5, "hello", kind(0))}, kRude, kRude, true},
      {"a record of kind 3", {raw_record(5, "hello", kind(3))}, kRude, kRude, true},
      {"a record of kind 65535", {raw_record(5, "hello", kind(0xffff))}, kRude, kRude, true},
      {"a goodbye with content", {raw_record(5, "hello", RecordKind::kGoodbye)}, kRude, kRude, true},
      {"a second hello", {hello_bytes(with_frame_size(1000))}, kRude, kRude, true},
      {"text", {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"}, kRude, kRude, true},
      {"a bad record after a good one", {good, raw_record(0, "")}, kRude, kRude, true, 1},
      {"a bad record behind a good one", {good + raw_record(0, "")}, kRude, kRude, true, 1},
      {"a goodbye of an unknown reason",
       {raw_record(0, "", RecordKind::kGoodbye, 9999)},
       CDMF_CONNECTION_CLOSED,
       CDMF_CONNECTION_CLOSED,
       false},
      {"a goodbye and more",
       {raw_record(0, "", RecordKind::kGoodbye, CDMF_CONNECTION_CLOSED) + good},
       CDMF_CONNECTION_CLOSED,
       CDMF_CONNECTION_CLOSED,
       false},
      // A stream may go on later; a packet is whole or wrong.
      {"half a header", {good.substr(0, 7)}, CDMF_TIMEOUT, kRude, true},
      {"half a frame", {raw_record(100, std::string(48, 'x'))}, CDMF_TIMEOUT, kRude, true},
      {"a frame without its padding", {good.substr(0, sizeof(RecordHeader) + 5)}, CDMF_TIMEOUT, kRude, true},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    const RawPeer peer = connect();
    ASSERT_TRUE(peer.connected());
    ASSERT_TRUE(peer.shake_hands());
    const Event arrived = server.next();
    ASSERT_TRUE(arrived.is(CDMF_VIEW_PEER_CONNECTED));
    for (const std::string& bytes : one.says) ASSERT_TRUE(peer.say(bytes));
    for (int i = 0; i < one.messages; ++i) ASSERT_TRUE(server.next().is_message("hello"));
    const Event end = server.next();
    ASSERT_TRUE(end.is(CDMF_VIEW_PEER_DISCONNECTED)) << "kind " << end.kind;
    EXPECT_EQ(end.peer, arrived.peer);
    EXPECT_EQ(end.reason, packets() ? one.packet : one.stream);
    if (one.told) {
      RecordHeader goodbye;
      ASSERT_TRUE(peer.hear(goodbye));
      EXPECT_EQ(goodbye.kind, RecordKind::kGoodbye);
      EXPECT_EQ(goodbye.reason, static_cast<std::uint16_t>(end.reason));
    }
    EXPECT_TRUE(peer.is_hung_up_on());
    EXPECT_EQ(server.put(arrived.peer, "x"), CDMF_NOT_CONNECTED);
    expect_honest_service();
  }
}

TEST_P(HostileClient, ThatLeavesWithinAFrameHasDied) {
  RawPeer peer = connect();
  ASSERT_TRUE(peer.connected());
  ASSERT_TRUE(peer.shake_hands());
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  ASSERT_TRUE(peer.say(raw_record(5, "hello")));
  if (!packets()) {
    ASSERT_TRUE(peer.say(raw_record(100, "cut")));
  }
  peer.hang_up();
  EXPECT_TRUE(server.next().is_message("hello"));
  EXPECT_EQ(server.next().reason, CDMF_PEER_DIED);
  expect_honest_service();
}

TEST_P(HostileClient, ThatSendsRandomBytesHarmsNobody) {
  std::mt19937 random(7);
  for (int round = 0; round < 100; ++round) {
    SCOPED_TRACE(round);
    RawPeer peer = connect();
    ASSERT_TRUE(peer.connected());
    ASSERT_TRUE(peer.shake_hands());
    ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
    // Half of them begin with something sensible, which leads further in.
    std::string bytes = round % 2 == 0 ? raw_record(1 + random() % 64, std::string(random() % 64, 'r')) : std::string();
    for (unsigned i = random() % 200; i > 0; --i) bytes += static_cast<char>(random());
    if (!bytes.empty()) {
      ASSERT_TRUE(peer.say(bytes));
    }
    peer.hang_up();
    Event event = server.next();
    while (event.is(CDMF_VIEW_MESSAGE)) event = server.next();
    ASSERT_TRUE(event.is(CDMF_VIEW_PEER_DISCONNECTED));
    EXPECT_TRUE(event.reason == CDMF_PROTOCOL_ERROR || event.reason == CDMF_PEER_DIED ||
                event.reason == CDMF_CONNECTION_CLOSED)
        << event.reason;
  }
  expect_honest_service();
}

TEST_P(HostileClient, CannotLeaveDescriptorsBehind) {
  const std::size_t before = descriptors();
  for (const int count : {1, 2, 100, 253}) {
    SCOPED_TRACE(count);
    RawPeer peer = connect();
    ASSERT_TRUE(peer.connected());
    ASSERT_TRUE(peer.shake_hands());
    const std::string record = raw_record(5, "hello");
    std::vector<char> control(CMSG_SPACE(sizeof(int) * static_cast<std::size_t>(count)));
    iovec part{const_cast<char*>(record.data()), record.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * static_cast<std::size_t>(count));
    const std::vector<int> smuggled(static_cast<std::size_t>(count), 0);
    std::memcpy(CMSG_DATA(header), smuggled.data(), smuggled.size() * sizeof(int));
    ASSERT_EQ(sendmsg(peer.fd(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(record.size())) << errno;
    ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
    ASSERT_TRUE(server.next().is_message("hello"));
    peer.hang_up();
    EXPECT_EQ(server.next().reason, CDMF_PEER_DIED);
  }
  expect_honest_service();
  EXPECT_EQ(descriptors(), before);
}

TEST_P(HostileClient, FloodsOfConnectsLeaveTheHonestOneItsService) {
  for (int round = 0; round < 150; ++round) {
    RawPeer peer = connect();
    ASSERT_TRUE(peer.connected());
    if (round % 3 == 1) (void)peer.say("CDMU");
    if (round % 3 == 2) (void)peer.shake_hands();
    peer.hang_up();
    if (round % 50 == 0) {
      ASSERT_EQ(honest.put(honest.server, "still there?"), CDMF_OK);
      Event event = server.next();
      while (event.is(CDMF_VIEW_PEER_CONNECTED) || event.is(CDMF_VIEW_PEER_DISCONNECTED)) event = server.next();
      ASSERT_TRUE(event.is_message("still there?"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Both, HostileClient, ::testing::Values("STREAM", "SEQPACKET"),
                         [](const auto& type) { return std::string(type.param); });

TEST(SlowPeer, ThatStopsWithinAFrameIsEndedNotBeforeItsTime) {
  const RuntimeDirectory runtime;
  CDriver server(kPlugin, CDMF_ROLE_SERVER, kEndpoint, Options{{"frame_timeout", "300ms"}});
  ASSERT_EQ(server.open(), CDMF_OK);
  const RawPeer peer(endpoint_path(kEndpoint).socket, SOCK_STREAM);
  ASSERT_TRUE(peer.shake_hands());
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  const std::uint64_t begun = monotonic_now_ns();
  ASSERT_TRUE(peer.say(raw_record(100, "begun")));
  EXPECT_EQ(server.next().reason, CDMF_TIMEOUT);
  EXPECT_GE(monotonic_now_ns() - begun, 300'000'000u);
}

// The same for a program that sleeps on the descriptor, in an event loop of its own.
TEST(SlowPeer, ThatStopsWithinAFrameWakesAnEventLoop) {
  const RuntimeDirectory runtime;
  CDriver server(kPlugin, CDMF_ROLE_SERVER, kEndpoint, Options{{"frame_timeout", "100ms"}});
  ASSERT_EQ(server.open(), CDMF_OK);
  const RawPeer peer(endpoint_path(kEndpoint).socket, SOCK_STREAM);
  ASSERT_TRUE(peer.shake_hands());
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  ASSERT_TRUE(peer.say("1234567"));
  Event event;
  const std::uint64_t watchdog = in(kWatchdog);
  while (event.is(UINT32_MAX) && monotonic_now_ns() < watchdog) {
    event = server.poll();
    if (!event.is(UINT32_MAX) || server.ops().arm(server.self()) == CDMF_READY) continue;
    pollfd wait{server.ops().poll_fd(server.self()), POLLIN, 0};
    ASSERT_EQ(::poll(&wait, 1, 30'000), 1) << "nothing woke the loop";
  }
  EXPECT_EQ(event.reason, CDMF_TIMEOUT);
}

TEST(SlowPeer, ThatMovesIsNotEndedHoweverLongItsFrameTakes) {
  const RuntimeDirectory runtime;
  CDriver server(kPlugin, CDMF_ROLE_SERVER, kEndpoint, Options{{"frame_timeout", "1500ms"}});
  ASSERT_EQ(server.open(), CDMF_OK);
  const RawPeer peer(endpoint_path(kEndpoint).socket, SOCK_STREAM);
  ASSERT_TRUE(peer.shake_hands());
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  const std::string record = raw_record(5, "moved");
  const std::uint64_t begun = monotonic_now_ns();
  std::size_t said = 0;
  // A byte now and then, for longer in all than the silence that is allowed; the rest at once.
  for (; said < 12; ++said) {
    ASSERT_TRUE(peer.say(record.substr(said, 1)));
    ASSERT_TRUE(server.next(140ms).is(UINT32_MAX)) << "after " << said << " bytes";
  }
  EXPECT_GT(monotonic_now_ns() - begun, 1'500'000'000u);
  ASSERT_TRUE(peer.say(record.substr(said)));
  EXPECT_TRUE(server.next().is_message("moved"));
}

TEST(SlowPeer, IsWaitedForWithoutEndWhenTheUserSaysSo) {
  const RuntimeDirectory runtime;
  CDriver server(kPlugin, CDMF_ROLE_SERVER, kEndpoint, Options{{"frame_timeout", "0"}});
  ASSERT_EQ(server.open(), CDMF_OK);
  const RawPeer peer(endpoint_path(kEndpoint).socket, SOCK_STREAM);
  ASSERT_TRUE(peer.shake_hands());
  ASSERT_TRUE(server.next().is(CDMF_VIEW_PEER_CONNECTED));
  ASSERT_TRUE(peer.say("1234567"));
  EXPECT_TRUE(server.next(200ms).is(UINT32_MAX));
}

/// A server that breaks the rules: answers the first client's hello with `answer`, then says `more`.
class HostileServer {
 public:
  HostileServer(int type, std::string answer, std::string more) {
    const EndpointPath path = endpoint_path(kEndpoint);
    mkdir(path.directory.c_str(), 0700);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.socket.c_str(), path.socket.size() + 1);
    listening_ = Fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    EXPECT_EQ(bind(listening_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listening_.get(), 8), 0);
    thread_ = std::thread([this, answer = std::move(answer), more = std::move(more)] {
      const Fd client(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      Hello hello;
      (void)!recv(client.get(), &hello, sizeof hello, MSG_WAITALL);
      if (!answer.empty()) (void)!send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
      if (!more.empty()) (void)!send(client.get(), more.data(), more.size(), MSG_NOSIGNAL);
      if (answer == kSilence) (void)!recv(client.get(), &hello, 1, 0);  // Until the client has had enough.
    });
  }
  ~HostileServer() {
    shutdown(listening_.get(), SHUT_RDWR);
    thread_.join();
    unlink(endpoint_path(kEndpoint).socket.c_str());
  }
  HostileServer(const HostileServer&) = delete;
  HostileServer& operator=(const HostileServer&) = delete;

  static inline const std::string kSilence = "CDMU";  // Half of an answer, and nothing more.

 private:
  Fd listening_;
  std::thread thread_;
};

class ClientOfHostileServer : public ::testing::TestWithParam<const char*> {
 protected:
  [[nodiscard]] int type() const { return std::string(GetParam()) == "SEQPACKET" ? SOCK_SEQPACKET : SOCK_STREAM; }

  const RuntimeDirectory runtime;
  CDriver client{kPlugin, CDMF_ROLE_CLIENT, kEndpoint, Options{{"socket_type", GetParam()}}};
};

TEST_P(ClientOfHostileServer, IsToldWhatIsWrongWithTheAnswer) {
  constexpr std::uint64_t kFrame = 65536 + CDMF_FRAME_OVERHEAD_MAX;
  Hello strange = with_frame_size(kFrame);
  strange.status = 12345;
  struct Case {
    const char* what;
    std::string answer;
    cdmf_status status;
  };
  const Case cases[] = {
      {"hangs up", "", CDMF_PEER_DIED},
      {"another protocol", "HTTP/1.1 400 Bad Request\r\n\r\n\r\n\r\n\r\n", CDMF_PROTOCOL_ERROR},
      {"another version", hello_bytes(with_version(99)), CDMF_VERSION_MISMATCH},
      {"frames of 0 bytes", hello_bytes(with_frame_size(0)), CDMF_PROTOCOL_ERROR},
      {"frames smaller than asked for", hello_bytes(with_frame_size(kFrame - 1)), CDMF_PROTOCOL_ERROR},
      {"frames of 2^64 - 1 bytes", hello_bytes(with_frame_size(UINT64_MAX)), CDMF_PROTOCOL_ERROR},
      {"an unknown status", hello_bytes(strange), CDMF_CONNECTION_FAILED},
  };
  ASSERT_EQ(client.open(), CDMF_OK);
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    const HostileServer server(type(), one.answer, "");
    EXPECT_EQ(client.attach(), one.status) << client.error.message;
    EXPECT_NE(std::string(client.error.message).find("hostile"), std::string::npos) << client.error.message;
    EXPECT_TRUE(client.poll().is(UINT32_MAX));
  }
}

TEST_P(ClientOfHostileServer, WaitsForAnAnswerUntilItsDeadlineAndNoLonger) {
  ASSERT_EQ(client.open(), CDMF_OK);
  const HostileServer server(type(), HostileServer::kSilence, "");
  const std::uint64_t begun = monotonic_now_ns();
  EXPECT_EQ(client.attach(100ms), CDMF_TIMEOUT) << client.error.message;
  EXPECT_GE(monotonic_now_ns() - begun, 100'000'000u);
}

TEST_P(ClientOfHostileServer, EndsTheLinkAndFindsAnHonestServerAfterwards) {
  constexpr std::uint64_t kFrame = 65536 + CDMF_FRAME_OVERHEAD_MAX;
  ASSERT_EQ(client.open(), CDMF_OK);
  for (const std::string& more : {raw_record(0, ""), raw_record(0xffffffff, ""), hello_bytes(with_frame_size(kFrame)),
                                  raw_record(1, "x", static_cast<RecordKind>(7))}) {
    const HostileServer server(type(), hello_bytes(with_frame_size(kFrame)), more);
    ASSERT_EQ(client.attach(), CDMF_OK) << client.error.message;
    ASSERT_TRUE(client.next().is(CDMF_VIEW_PEER_CONNECTED));
    EXPECT_EQ(client.next().reason, CDMF_PROTOCOL_ERROR);
  }
  CDriver honest(kPlugin, CDMF_ROLE_SERVER, kEndpoint, Options{{"socket_type", GetParam()}});
  ASSERT_EQ(honest.open(), CDMF_OK) << honest.error.message;
  EXPECT_EQ(client.attach(), CDMF_OK) << client.error.message;
}

INSTANTIATE_TEST_SUITE_P(Both, ClientOfHostileServer, ::testing::Values("STREAM", "SEQPACKET"),
                         [](const auto& type) { return std::string(type.param); });

}  // namespace
}  // namespace cdmf::ipc::unix_socket
