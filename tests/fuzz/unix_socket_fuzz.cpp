// A peer that sends what the fuzzer likes, over a real pair of sockets: what the link hands out must be exactly what a
// second, plainer reading of the bytes finds, however they are cut. Then the other direction: whatever order a program
// claims, commits and flushes in, the peer finds those frames and no others.
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "handshake.h"
#include "link.h"
#include "wire.h"

namespace {

using namespace cdmf::ipc;
using namespace cdmf::ipc::unix_socket;

constexpr std::size_t kFrameBytesMax = 512;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

/// What a link must hand out, and how it must end.
struct Expected {
  std::vector<std::string> frames;
  cdmf_status reason = CDMF_PEER_DIED;  // The peer closes without a goodbye.
};

/// The rules of wire.h once more, with nothing in common with the parser but those rules. False: the link is over.
bool read_plainly(std::string& bytes, bool whole, Expected& expected) {
  const auto end = [&](cdmf_status reason) {
    expected.reason = reason;
    return false;
  };
  while (!bytes.empty()) {
    const auto number = [&](std::size_t at, std::size_t size) {
      std::uint32_t value = 0;
      for (std::size_t i = size; i > 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[at + i - 1]);
      return value;
    };
    if (bytes.size() < 16) return whole ? end(CDMF_PROTOCOL_ERROR) : true;
    const std::uint32_t size = number(0, 4);
    const std::uint32_t kind = number(4, 2);
    const std::uint32_t reason = number(6, 2);
    if (kind == 2 && size == 0) {
      const bool known = reason >= CDMF_NOT_INITIALIZED && reason <= CDMF_INTERNAL_ERROR;
      return end(known ? static_cast<cdmf_status>(reason) : CDMF_CONNECTION_CLOSED);
    }
    if (kind != 1 || size == 0 || size > kFrameBytesMax) return end(CDMF_PROTOCOL_ERROR);
    const std::size_t record = (16 + std::size_t{size} + 15) / 16 * 16;
    if (bytes.size() < record) return whole ? end(CDMF_PROTOCOL_ERROR) : true;
    expected.frames.push_back(bytes.substr(16, size));
    bytes.erase(0, record);
  }
  return true;
}

struct Pair {
  explicit Pair(bool packets) {
    int fds[2];
    require(socketpair(AF_UNIX, (packets ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
    const int small = 2304;  // The least that Linux gives: full is near.
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    peer = Fd(fds[1]);
    Link::Limits limits;
    limits.frame_size_max = kFrameBytesMax;
    limits.queue_bytes = 2 * record_bytes(kFrameBytesMax);
    limits.read_bytes = 768;
    limits.packet_bytes = packets ? 4096 : 0;
    link = std::make_shared<Link>(1, Fd(fds[0]), Fd(), 0, limits);
  }
  Fd peer;
  std::shared_ptr<Link> link;
};

/// Takes what the link has now. True: its end was among it.
bool take(Link& link, std::vector<std::string>& frames, cdmf_status& reason) {
  for (;;) {
    cdmf_view views[3];
    Burst burst;
    link.set_readable();
    const std::size_t count = link.receive(views, burst);
    require(count <= 3, "no more views than asked for");
    for (const cdmf_view& view : std::span(views, count)) {
      require(view.peer == 1, "the link's own views");
      if (view.kind == CDMF_VIEW_PEER_DISCONNECTED) reason = view.reason;
      if (view.kind != CDMF_VIEW_MESSAGE) continue;
      require(view.token < burst.segments.size(), "a message lies in a segment");
      const Block& block = *burst.segments[view.token].block;
      const auto* const frame = static_cast<const std::byte*>(view.frame);
      require(frame >= block.bytes.get() && frame + view.size <= block.bytes.get() + block.capacity,
              "a message lies in its block");
      require(reinterpret_cast<std::uintptr_t>(frame) % kRecordAlignment == 0, "a message is aligned");
      frames.emplace_back(static_cast<const char*>(view.frame), view.size);
    }
    for (const auto& segment : burst.segments) segment.block->unpin();
    if (link.is_done()) return true;
    if (count == 0) return false;
  }
}

void receive_from_hostile_peer(bool packets, std::size_t chunk_bytes, std::string_view bytes) {
  Pair pair(packets);
  Expected expected;
  std::vector<std::string> frames;
  cdmf_status reason = CDMF_OK;
  std::string unread;
  bool open = true;
  bool done = false;
  while (!bytes.empty() && !done) {
    const std::string_view chunk = bytes.substr(0, std::min(chunk_bytes, bytes.size()));
    bytes.remove_prefix(chunk.size());
    if (send(pair.peer.get(), chunk.data(), chunk.size(), MSG_NOSIGNAL) < 0) break;  // It has been hung up on.
    unread += chunk;
    if (open) open = read_plainly(unread, packets, expected);
    done = take(*pair.link, frames, reason);
    require(done == !open, "the link ends when its peer breaks a rule or says goodbye, and not otherwise");
  }
  pair.peer.reset();
  if (!done) done = take(*pair.link, frames, reason);
  require(done, "the link ends with its peer");
  require(reason == expected.reason, "the reason of the end");
  require(frames == expected.frames, "the frames that arrived");
  cdmf_loan loan{};
  require(pair.link->claim(1, loan) == reason, "a sender hears of the same end");
}

/// Reads what is there and checks it against what was sent.
void read_as_peer(int fd, bool packets, std::string& unread, std::vector<std::string>& arrived) {
  char bytes[8192];
  for (;;) {
    const ssize_t count = recv(fd, bytes, packets ? sizeof bytes : 700, MSG_DONTWAIT);
    if (count <= 0) return;
    unread.append(bytes, static_cast<std::size_t>(count));
    Expected found;
    require(read_plainly(unread, packets, found), "what a link sends follows the rules");
    for (auto& frame : found.frames) arrived.push_back(std::move(frame));
  }
}

void send_in_any_order(bool packets, std::string_view commands) {
  Pair pair(packets);
  std::vector<std::string> accepted;
  std::vector<std::string> arrived;
  std::string unread;
  for (std::size_t i = 0; i + 1 < commands.size(); i += 2) {
    const auto command = static_cast<unsigned char>(commands[i]);
    const std::size_t size = static_cast<unsigned char>(commands[i + 1]) * 2 + 1;
    if (command % 8 == 7) read_as_peer(pair.peer.get(), packets, unread, arrived);
    if (command % 8 == 6) (void)pair.link->flush(kNoWait);
    cdmf_loan loan{};
    const cdmf_status status = pair.link->claim(size, loan);
    require(status == CDMF_OK || status == CDMF_BUFFER_FULL, "a claim works or there is no room");
    if (status != CDMF_OK) continue;
    if (command % 8 == 5) {
      Link::abort(loan);
      continue;
    }
    const std::size_t used = command % 8 == 4 ? size / 2 + 1 : size;
    std::string frame(used, static_cast<char>(i));
    std::memset(loan.memory, 0xee, size);
    std::memcpy(loan.memory, frame.data(), used);
    require(Link::commit(loan, used, command % 2 == 0) == CDMF_OK, "a commit works");
    accepted.push_back(std::move(frame));
  }
  for (int turn = 0; turn < 1000 && arrived.size() < accepted.size(); ++turn) {
    (void)pair.link->flush(kNoWait);
    read_as_peer(pair.peer.get(), packets, unread, arrived);
  }
  require(arrived == accepted, "every accepted frame arrives once and in order");
  require(unread.empty(), "nothing else arrives");
}

void shake_hands(std::string_view bytes) {
  Hello hello;
  if (bytes.size() < sizeof hello) return;
  std::memcpy(&hello, bytes.data(), sizeof hello);
  Hello answer;
  answer.status = CDMF_INTERNAL_ERROR;
  const bool known = answer_hello(hello, kFrameBytesMax, answer);
  require(known == (hello.magic == kHelloMagic), "who speaks the protocol is answered");
  const bool welcome = known && answer.status == CDMF_OK;
  require(welcome == (known && hello.version == kWireVersion && hello.frame_size_max <= kFrameBytesMax),
          "who may come in, comes in");
  cdmf_error error{};
  error.struct_size = sizeof error;
  ErrorText text(&error);
  const cdmf_status status = check_answer(hello, kFrameBytesMax, "/somewhere", text);
  require(status != CDMF_OK || (hello.magic == kHelloMagic && hello.version == kWireVersion &&
                                hello.frame_size_max >= kFrameBytesMax && hello.frame_size_max <= UINT32_MAX),
          "a server's answer is believed only when it is possible");
  require(status == CDMF_OK || std::strlen(error.message) != 0, "every refusal has words");
}

}  // namespace

/// The first byte chooses: bit 0 the type of socket, bits 1 and 2 what is done; the second how the bytes are cut.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const bool packets = (data[0] & 1) != 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  switch (data[0] >> 1 & 3) {
    case 0:
    case 1:
      receive_from_hostile_peer(packets, std::size_t{data[1]} * 4 + 1, bytes);
      break;
    case 2:
      send_in_any_order(packets, bytes);
      break;
    default:
      shake_hands(bytes);
      break;
  }
  return 0;
}
