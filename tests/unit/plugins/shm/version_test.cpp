// Neighbours in minor version still talk. The other side is played by hand, as an older and as a newer release would:
// with shorter and with longer packets, and with features that this one does not know.

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <thread>

#include "driver_under_test.h"
#include "handshake.h"
#include "segment/endpoint.h"

namespace cdmf::ipc::shm {
namespace {

using testing::DriverUnderTest;
using testing::in_ms;
using testing::kPatienceMs;
using testing::unique_endpoint;

constexpr std::uint16_t kNewerMinor = kVersionMinor + 8;

struct Told {
  cdmf_error text{};
  ErrorText error{&text};
};

/// A client by hand, up to its link.
struct OtherClient : Told {
  OtherClient(const std::string& endpoint, const Hello& hello, std::size_t hello_bytes) {
    std::string path;
    EXPECT_EQ(socket_path(endpoint.c_str(), path, error), CDMF_OK) << text.message;
    EXPECT_EQ(connect_endpoint(path, in_ms(kPatienceMs), socket, error), CDMF_OK) << text.message;
    std::vector<std::byte> packet(hello_bytes, std::byte{0xAA});  // Fields that nobody here knows.
    std::memcpy(packet.data(), &hello, std::min(sizeof hello, hello_bytes));
    EXPECT_TRUE(send_packet(socket.get(), packet.data(), packet.size()));
    pollfd wait{socket.get(), POLLIN, 0};
    EXPECT_EQ(poll(&wait, 1, kPatienceMs), 1);
  }
  /// What the server answered; its size as the socket says.
  std::size_t take_answer() {
    char bytes[2 * sizeof(Welcome)];
    const ssize_t size = recv(socket.get(), bytes, sizeof bytes, MSG_PEEK);
    EXPECT_EQ(receive_packet(socket.get(), &welcome, sizeof welcome, fds, kWelcomeBytesMin), Received::packet);
    return static_cast<std::size_t>(size);
  }
  void attach() {
    const SegmentPlan plan{welcome.ring_capacity,      welcome.slot_size,     welcome.frame_size_max,
                           welcome.bidirectional != 0, welcome.checksum != 0, expected_minor};
    ASSERT_EQ(Segment::attach(fds[kSegmentFd].get(), plan, segment, error), CDMF_OK) << text.message;
    const Ack ack;
    ASSERT_TRUE(send_packet(socket.get(), &ack, sizeof ack));
  }
  UniqueFd socket;
  Welcome welcome;
  UniqueFd fds[kWelcomeFdCount];
  Segment segment;
  std::uint32_t expected_minor = kVersionMinor;
};

TEST(Version, OlderClientGetsTheAnswerOfItsTimeAndALink) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  Hello hello;
  hello.header.minor = 0;
  hello.frame_size_max = 100;
  OtherClient client(endpoint, hello, kHelloBytesMin);
  EXPECT_EQ(client.take_answer(), kWelcomeBytesMin) << "it would take no other size";
  client.expected_minor = 0;
  client.attach();
  EXPECT_NE(server.next_peer(), CDMF_NO_PEER);
}

TEST(Version, NewerClientGetsALinkWithTheFeaturesThatBothKnow) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  Hello hello;
  hello.header.minor = kNewerMinor;
  hello.features = ~0u;
  hello.frame_size_max = 100;
  OtherClient client(endpoint, hello, 200);
  EXPECT_EQ(client.take_answer(), sizeof(Welcome));
  EXPECT_EQ(client.welcome.features & ~kSocketFeaturesKnown, 0u);
  EXPECT_EQ(client.welcome.header.minor, kVersionMinor);
  client.attach();
  EXPECT_NE(server.next_peer(), CDMF_NO_PEER);
  EXPECT_EQ(client.segment.control().client.facts.minor, kNewerMinor);
}

TEST(Version, PacketOfNoVersionIsRefused) {
  const std::string endpoint = unique_endpoint();
  DriverUnderTest server(CDMF_ROLE_SERVER, endpoint);
  ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
  for (const std::size_t size : {kHelloBytesMin - 4, kPacketBytesMax + 1}) {
    OtherClient client(endpoint, Hello(), size);
    char byte;
    EXPECT_LE(recv(client.socket.get(), &byte, 1, 0), 0) << size << " bytes were answered";
  }
}

/// A server by hand that answers one client so.
cdmf_status attach_to(const Welcome& welcome, std::size_t welcome_bytes, std::uint32_t minor, std::string& why) {
  const std::string endpoint = unique_endpoint();
  Told told;
  std::string path;
  EXPECT_EQ(socket_path(endpoint.c_str(), path, told.error), CDMF_OK);
  ListeningEndpoint listener;
  EXPECT_EQ(listener.open(path, told.error), CDMF_OK) << told.text.message;
  fcntl(listener.fd(), F_SETFL, 0);
  const SegmentPlan plan{welcome.ring_capacity, welcome.slot_size, welcome.frame_size_max, true, true, minor};
  Segment segment;
  UniqueFd memory;
  EXPECT_EQ(Segment::create(plan, {}, {}, segment, memory, told.error), CDMF_OK) << told.text.message;
  std::thread serving([&] {
    const UniqueFd socket(accept(listener.fd(), nullptr, nullptr));
    Hello hello;
    if (recv(socket.get(), &hello, sizeof hello, 0) < static_cast<ssize_t>(kHelloBytesMin)) return;
    const UniqueFd bell(eventfd(0, EFD_NONBLOCK));
    const int fds[] = {memory.get(), bell.get(), bell.get()};
    std::vector<std::byte> packet(welcome_bytes, std::byte{0xAA});
    std::memcpy(packet.data(), &welcome, std::min(sizeof welcome, welcome_bytes));
    send_packet(socket.get(), packet.data(), packet.size(), fds);
    char byte;
    while (recv(socket.get(), &byte, 1, 0) > 0) {
    }
  });
  DriverUnderTest client(CDMF_ROLE_CLIENT, endpoint);
  EXPECT_EQ(client.open(), CDMF_OK);
  const cdmf_status status = client.attach();
  why = client.error.message;
  client.close();
  serving.join();
  return status;
}

Welcome good_welcome() {
  Welcome welcome;
  welcome.ring_capacity = 64;
  welcome.slot_size = 512;
  welcome.bidirectional = 1;
  welcome.checksum = 1;
  welcome.frame_size_max = 4096 + CDMF_FRAME_OVERHEAD_MAX;
  return welcome;
}

TEST(Version, OlderServerIsUnderstood) {
  Welcome welcome = good_welcome();
  welcome.header.minor = 0;
  std::string why;
  EXPECT_EQ(attach_to(welcome, kWelcomeBytesMin, 0, why), CDMF_OK) << why;
}

TEST(Version, NewerServerIsUnderstood) {
  Welcome welcome = good_welcome();
  welcome.header.minor = kNewerMinor;
  std::string why;
  EXPECT_EQ(attach_to(welcome, 600, kVersionMinor, why), CDMF_OK) << why;
}

TEST(Version, DifferencesNameBothSides) {
  std::string why;
  Welcome welcome = good_welcome();
  welcome.header.major = 7;
  EXPECT_EQ(attach_to(welcome, sizeof welcome, kVersionMinor, why), CDMF_VERSION_MISMATCH);
  EXPECT_NE(why.find("7.1"), std::string::npos) << why;
  EXPECT_NE(why.find("1.1"), std::string::npos) << why;
  welcome = good_welcome();
  welcome.features = 1u << 31;
  EXPECT_EQ(attach_to(welcome, sizeof welcome, kVersionMinor, why), CDMF_PROTOCOL_ERROR);
  EXPECT_NE(why.find("2147483648"), std::string::npos) << why;
  EXPECT_EQ(attach_to(good_welcome(), sizeof welcome, 0, why), CDMF_PROTOCOL_ERROR);
  EXPECT_NE(why.find("minor 0"), std::string::npos) << why;
  EXPECT_NE(why.find("said 1"), std::string::npos) << why;
}

}  // namespace
}  // namespace cdmf::ipc::shm
