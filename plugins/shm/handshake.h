#pragma once
// handshake.h: the packets that server and client exchange over the endpoint's socket (SOCK_SEQPACKET: one packet, one
// message). Order: Hello from the client, Welcome with three descriptors from the server, Ack from the client; from
// then on Notices, from either side; end-of-file without a goodbye means that the peer is dead. Bytes: LAYOUT.md.
//
// Minor versions differ in the length of packets: a newer one appends fields. What a reader does not know it ignores,
// what an older writer does not have is 0, and means what was the rule before.
#include <cstddef>
#include <cstdint>
#include <span>

#include "ipc/driver.h"
#include "segment/access.h"
#include "segment/segment.h"
#include "segment/unique_fd.h"

namespace cdmf::ipc::shm {

inline constexpr std::uint64_t kHandshakeTimeoutNs = 2'000'000'000;  // For each answer that a server waits for.

// A look and its page are an observer's: see inspect/look.h.
enum class PacketKind : std::uint32_t { hello = 1, welcome = 2, ack = 3, goodbye = 4, wake = 5, look = 6, page = 7 };

struct PacketHeader {
  std::uint32_t magic = kSegmentMagic;
  std::uint16_t major = kVersionMajor;  // Must be equal on both sides.
  std::uint16_t minor = kVersionMinor;
  PacketKind kind{};
};

struct Hello {
  PacketHeader header{.kind = PacketKind::hello};
  std::uint32_t may_sleep = 0;       // 0: this side only spins, so the peer need not look whether to wake it.
  std::int32_t only_cpu = -1;        // See wait/spinner.h.
  std::uint32_t features = 0;        // 1.1: which the client knows.
  std::uint64_t frame_size_max = 0;  // What the client needs; the server's value holds for both.
  std::uint64_t ring_bytes = 0;      // 1.1: of the ring that the client asks for; 0: as the server has it.
};

struct Welcome {
  PacketHeader header{.kind = PacketKind::welcome};
  std::int32_t status = CDMF_OK;  // Otherwise the server refuses, and says why in text; nothing else counts.
  std::uint32_t may_sleep = 0;
  std::uint32_t ring_capacity = 0;
  std::uint32_t slot_size = 0;
  std::uint32_t bidirectional = 0;
  std::uint32_t checksum = 0;
  std::int32_t only_cpu = -1;
  std::uint64_t frame_size_max = 0;
  char text[256] = {};
  std::uint32_t features = 0;  // 1.1: those of the Hello that the link has.
  std::uint32_t reserved = 0;
};
static_assert(sizeof(Hello) == 40 && sizeof(Welcome) == 312);
inline constexpr std::size_t kHelloBytesMin = 32;  // Of minor version 0.
inline constexpr std::size_t kWelcomeBytesMin = 304;
inline constexpr std::size_t kPacketBytesMax = 4096;  // Of any version.
// Descriptors of a Welcome, in this order.
enum WelcomeFd : std::size_t { kSegmentFd, kServerBellFd, kClientBellFd, kWelcomeFdCount };

struct Ack {
  PacketHeader header{.kind = PacketKind::ack};
};

/// What either side may send once the link stands.
struct Notice {
  PacketHeader header{.kind = PacketKind::goodbye};
  std::int32_t reason =
      CDMF_CONNECTION_CLOSED;  // Of a goodbye. A wake is the message bell of a link that does not trust.
};

/// Sends one packet, with descriptors when fds is not empty. Never waits; false: the peer is gone or does not read.
bool send_packet(int socket, const void* packet, std::size_t size, std::span<const int> fds = {}) noexcept;

enum class Received : std::uint8_t { packet, nothing, closed, malformed };
/// Takes one packet of the given type. `nothing`: none is there yet. `malformed`: not of this size, or descriptors that
/// do not belong; what came with it is closed.
/// fds       as many as the packet must carry; filled on `packet`
/// size_min  0: all of `size`, exactly. Otherwise packets of other minor versions are taken: a shorter one is filled up
///           with 0, and of a longer one the rest is dropped.
Received receive_packet(int socket, void* packet, std::size_t size, std::span<UniqueFd> fds = {},
                        std::size_t size_min = 0) noexcept;

/// Whether the header is one that this side understands; a text that names both versions otherwise.
cdmf_status check_header(const PacketHeader& header, PacketKind expected, const char* peer_name, ErrorText& error);

/// The process at the other end as the kernel knows it. False when it cannot say.
struct PeerCredentials {
  std::int32_t pid = 0;
  std::uint32_t uid = 0;
};
bool peer_credentials(int socket, PeerCredentials& credentials) noexcept;

/// The client's half, up to and including its Ack. [receiver]
struct ClientHandshake {
  // Set before run().
  std::uint64_t ring_bytes_wanted = 0;  // 0: what the server has.
  Access access;                        // Whose servers are trusted.
  // Its result.

  SegmentPlan plan;
  bool peer_may_sleep = false;
  std::int32_t peer_only_cpu = -1;
  PeerCredentials peer;
  Segment segment;
  UniqueFd own_bell;   // Wakes this side.
  UniqueFd peer_bell;  // Wakes the server.

  cdmf_status run(int socket, std::uint64_t frame_size_max, bool may_sleep, std::uint64_t deadline, ErrorText& error);
};

}  // namespace cdmf::ipc::shm
