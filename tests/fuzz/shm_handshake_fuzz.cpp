// Arbitrary packets and descriptors in the handshake: to our server, from a client, and to our client, from a server.
// Whatever comes, the answer is a link that is possible or a typed error in words; no descriptor stays; and our server
// goes on serving.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "fault/support/footprint.h"
#include "handshake.h"
#include "segment/endpoint.h"
#include "support/eventually.h"
#include "unit/plugins/shm/driver_under_test.h"

namespace {

using namespace cdmf::ipc;
using namespace cdmf::ipc::shm;
namespace test = cdmf::ipc::shm::testing;
using Footprint = cdmf::ipc::test::Footprint;
using test::DriverUnderTest;
using test::in_ms;

constexpr std::uint64_t kMessageMax = 1000;
constexpr std::uint64_t kFrameMax = kMessageMax + CDMF_FRAME_OVERHEAD_MAX;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}
  bool empty() const { return left_ == 0; }
  std::uint8_t byte() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }
  std::string bytes(std::size_t size) {
    size = std::min(size, left_);
    const std::string taken(reinterpret_cast<const char*>(data_), size);
    data_ += size;
    left_ -= size;
    return taken;
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
};

/// A good packet with some of its bytes replaced, and cut or drawn out; or anything.
template <typename Packet>
std::string packet_of(Input& input, const Packet& good) {
  const std::uint8_t how = input.byte();
  if (how == 255) return input.bytes(input.byte());
  std::string packet(reinterpret_cast<const char*>(&good), sizeof good);
  for (int edits = how % 8; edits > 0; --edits) {
    const std::size_t at = (input.byte() | std::size_t{input.byte()} << 8) % packet.size();
    packet[at] = static_cast<char>(input.byte());
  }
  if (how & 0x40) packet.resize(packet.size() + input.byte());
  if (how & 0x20) packet.resize(packet.size() - std::min<std::size_t>(packet.size(), input.byte()));
  return packet;
}

UniqueFd some_descriptor(std::uint8_t kind) {
  switch (kind % 8) {
    case 0:
      return UniqueFd(memfd_create("cdmf-fuzz", MFD_CLOEXEC));
    case 1:
      return UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC));
    case 2:
      return UniqueFd(epoll_create1(EPOLL_CLOEXEC));
    case 3: {
      int ends[2];
      if (pipe2(ends, O_CLOEXEC) != 0) return {};
      ::close(ends[0]);
      return UniqueFd(ends[1]);
    }
    default:
      return UniqueFd(eventfd(0, EFD_CLOEXEC | (kind & 0x10 ? EFD_NONBLOCK : 0)));
  }
}

bool say(int socket, const std::string& packet, const std::vector<UniqueFd>& fds) {
  iovec part{const_cast<char*>(packet.data()), packet.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  std::vector<char> control(CMSG_SPACE(sizeof(int) * fds.size()));
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    for (std::size_t i = 0; i < fds.size(); ++i) {
      const int fd = fds[i].get();
      std::memcpy(CMSG_DATA(header) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL) >= 0;
}

void be_a_server(Input& input) {
  int ends[2];
  require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0, "socketpair");
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  cdmf_error text{};
  text.struct_size = sizeof text;
  ErrorText error(&text);

  // Something to offer: a good segment, whose header may then be spoilt, or another file in its place.
  const SegmentPlan plan{.ring_capacity = 64, .slot_size = 64, .frame_size_max = kFrameMax};
  Segment segment;
  std::vector<UniqueFd> fds(1);
  require(Segment::create(plan, {}, {}, segment, fds[0], error) == CDMF_OK, text.message);
  const std::uint8_t how = input.byte();
  for (int edits = how % 4; edits > 0; --edits) {
    reinterpret_cast<std::uint8_t*>(&segment.header())[input.byte() % sizeof(SegmentHeader)] = input.byte();
  }
  if (how & 0x10) fds[0] = some_descriptor(input.byte());
  if (how & 0x20) {
    UniqueFd memory(memfd_create("cdmf-fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    const std::uint8_t off = input.byte();
    (void)!ftruncate(memory.get(), static_cast<off_t>(plan.total_size() + off % 3 - 1));
    if (off & 0x40) (void)!posix_fallocate(memory.get(), 0, static_cast<off_t>(plan.total_size()));
    fcntl(memory.get(), F_ADD_SEALS, off & 0x80 ? kSeals : off & 7);
    fds[0] = std::move(memory);
  }
  const std::uint8_t bells = input.byte();
  for (int i = 0; i < 2; ++i) fds.push_back(some_descriptor(bells & (1 << i) ? input.byte() : 0x14));
  for (int more = bells >> 6; more > 0; --more) fds.push_back(some_descriptor(1));
  if (bells & 0x20) fds.clear();
  Welcome good;
  good.ring_capacity = plan.ring_capacity;
  good.slot_size = plan.slot_size;
  good.bidirectional = 1;
  good.checksum = 1;
  good.frame_size_max = plan.frame_size_max;
  say(theirs.get(), packet_of(input, good), fds);
  if (how & 0x40) theirs.reset();

  ClientHandshake handshake;
  const cdmf_status status = handshake.run(ours.get(), kFrameMax, true, monotonic_now_ns(), error);
  require(status >= CDMF_OK && status <= CDMF_INTERNAL_ERROR, "a known status");
  if (status != CDMF_OK) {
    require(text.message[0] != '\0', "a refusal has words");
    return;
  }
  require(handshake.plan.frame_size_max >= kFrameMax && handshake.own_bell && handshake.peer_bell && handshake.segment,
          "a link that is possible");
  require(handshake.plan.total_size() == plan.total_size(), "the segment is what was sent");
  require(handshake.segment.tx().capacity_bytes == plan.ring_bytes(), "and its rings");
}

void be_a_client(Input& input) {
  static const std::string endpoint = test::unique_endpoint();
  static DriverUnderTest server(CDMF_ROLE_SERVER, endpoint,
                                {{"wait", "spin"}, {"ring_buffer_capacity", "64"}, {"slot_size", "64"}}, kMessageMax);
  static const bool is_open = server.open() == CDMF_OK;
  require(is_open, "the server opens");
  // Of this input alone: between two of them the fuzzer may start a symbolizer, and keeps its pipes.
  const Footprint without_clients = Footprint::now();
  cdmf_error text{};
  text.struct_size = sizeof text;
  ErrorText error(&text);
  std::string path;
  UniqueFd socket;
  require(socket_path(endpoint.c_str(), path, error) == CDMF_OK &&
              connect_endpoint(path, in_ms(test::kPatienceMs), socket, error) == CDMF_OK,
          text.message);
  Hello hello;
  hello.frame_size_max = kFrameMax;
  for (int turn = 0; turn == 0 || (!input.empty() && turn < 8); ++turn) {
    const std::uint8_t how = input.byte();
    std::vector<UniqueFd> fds;
    for (int more = how >> 4 & 3; more > 0; --more) fds.push_back(some_descriptor(input.byte()));
    std::string packet;
    if (how % 4 == 0) packet = packet_of(input, hello);
    if (how % 4 == 1) packet = packet_of(input, Ack{});
    if (how % 4 == 2) packet = packet_of(input, Notice{});
    if (how % 4 == 3) packet = input.bytes(input.byte());
    if (!say(socket.get(), packet, fds)) break;
    if (how & 0x80) {  // Waits for an answer, or the end.
      pollfd wait{socket.get(), POLLIN, 0};
      poll(&wait, 1, 10);
    }
  }
  shutdown(socket.get(), SHUT_RDWR);
  // A good client is let in, and is told apart from what the other may have become.
  UniqueFd again;
  ClientHandshake handshake;
  require(connect_endpoint(path, in_ms(test::kPatienceMs), again, error) == CDMF_OK &&
              handshake.run(again.get(), kFrameMax, true, in_ms(test::kPatienceMs), error) == CDMF_OK,
          text.message);
  again.reset();
  handshake = {};
  socket.reset();
  // Every link that began ends, and the server lets the last of it go when it looks again: or the next input's account
  // would be wrong.
  int begun = 0;
  int ended = 0;
  const auto is_as_before = [&] {
    for (const test::Message& message : server.take()) {
      begun += message.kind == CDMF_VIEW_PEER_CONNECTED;
      ended += message.kind == CDMF_VIEW_PEER_DISCONNECTED;
    }
    return begun != 0 && begun == ended && Footprint::now() == without_clients;
  };
  require(cdmf::ipc::testing::eventually(is_as_before), "links begin and end, and nothing of a client stays");
}

}  // namespace

/// The first byte chooses the side.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Input input(data + 1, size - 1);
  if (data[0] % 2 == 0) {
    const Footprint before = Footprint::now();
    be_a_server(input);
    require(Footprint::now() == before, "no descriptor and no mapping stays");
  } else {
    be_a_client(input);
  }
  return 0;
}
