#pragma once
// options.h: what a user can set under `shm:`, as a table for the host and as values for the driver.
#include <cstdint>
#include <string>

#include "inspect/extension.h"
#include "ipc/plugin.h"
#include "segment/access.h"
#include "segment/segment.h"

namespace cdmf::ipc::shm {

enum class SegmentKind : std::uint8_t { memfd, posix };
enum class WaitMode : std::uint8_t { spin, yield, adaptive, futex, semaphore };  // In the order of the choices below.
enum class Trust : std::uint8_t { automatic, cooperative, hostile };
enum class RingType : std::uint8_t { spsc, mpmc };

inline constexpr const char* kSegmentChoices[] = {"memfd", "posix", nullptr};
inline constexpr const char* kModes[] = {"0600", "0660", "0666", nullptr};
inline constexpr const char* kWaitChoices[] = {"spin", "yield", "adaptive", "futex", "semaphore", nullptr};
inline constexpr const char* kChecksumChoices[] = {"crc32", "none", nullptr};
inline constexpr const char* kTimestampChoices[] = {"on", "off", nullptr};
inline constexpr const char* kTrustChoices[] = {"auto", "cooperative", "hostile", nullptr};
inline constexpr const char* kRingTypeChoices[] = {"spsc", "mpmc", nullptr};

inline constexpr cdmf_property kProperties[] = {
    choice_property(
        "ring_type", "spsc", kRingTypeChoices,
        "spsc: a link of its own for each client. mpmc: a pool, one queue that any number of clients put messages in "
        "and any number of servers take them out of, each message once; they trust each other, and nothing goes back "
        "to a client. A slot then holds a whole message, so that slot_size follows from max_message_size."),
    int_property(
        "ring_buffer_capacity", "4096", "4", "16777216",
        "Slots of each ring; a ring has this many times slot_size bytes, of which a message takes what it needs. "
        "Small rings (256) suit low latency, large ones (16384) bulk data. The server's value counts; when it is "
        "not set, it grows until the largest message takes half a ring. A client that sets less gets less, where its "
        "server's largest message still takes half a ring.",
        CDMF_PROPERTY_POWER_OF_TWO),
    size_property("slot_size", "512", "64", "1MiB", "Bytes of a slot; see ring_buffer_capacity.",
                  CDMF_PROPERTY_POWER_OF_TWO),
    size_property(
        "shm_size", "0", nullptr, nullptr,
        "Bytes that the rings of one link may take together; refused when they need more. 0: what they need."),
    bool_property("bidirectional", "true",
                  "false: one ring, from the client to the server. The server's value counts."),
    {sizeof(cdmf_property), CDMF_PROPERTY_BOOL, CDMF_PROPERTY_ROLE, 0, "create_shm", nullptr, nullptr, nullptr, nullptr,
     "true makes this side the server, which creates the memory; another name for role."},
    choice_property(
        "segment", "memfd", kSegmentChoices,
        "Where a link's memory lives, the same at both ends. memfd: in a sealed file without a name, one per client, "
        "handed over at a socket; nothing is left behind by a crash. posix: in the shared-memory object named like the "
        "endpoint, for one client at a time that is trusted."),
    text_property(
        "address", "auto",
        "segment: memfd: where the socket is, the same at both ends. auto: a file derived from endpoint, in a "
        "directory of this user. /path/to/file: that file."),
    choice_property(
        "mode", "0600", kModes,
        "Server: permissions of the socket file; others than 0600 need an address that is a path. Who may "
        "open the file must still be let in: see allow_uids. With segment: posix of the object, the same at "
        "both ends; who may open it is let in."),
    text_property("group", "",
                  "Server: group of the socket file, by name or number; needs an address that is a path. Empty: as it "
                  "comes. With segment: posix of the object."),
    text_property("allow_uids", "",
                  "Users whose processes are accepted at the other end, besides this user and root: numbers, separated "
                  "by commas. With segment: posix, users whose objects are opened."),
    size_property("memory_budget", "0", nullptr, nullptr,
                  "Server with segment: memfd: bytes that all links may take together. When less is left than a link "
                  "takes, a new client gets smaller rings, down to what its largest message needs; then it is refused "
                  "and told. 0: no limit."),
    choice_property(
        "wait", "adaptive", kWaitChoices,
        "How a receiver waits. spin: fastest, takes a whole core. yield: the same, giving way to others. adaptive: "
        "spins for spin_budget while that pays, then sleeps. futex: sleeps at once. semaphore: sleeps at once in the "
        "named semaphores NAME_tx and NAME_rx; needs segment: posix, and the same at both ends."),
    duration_property("spin_budget", "30us", "0", "100ms", "Longest time that wait: adaptive spins before it sleeps."),
    choice_property(
        "checksum", "crc32", kChecksumChoices,
        "crc32: every message carries a CRC-32 (IEEE), and one that does not match is discarded and counted. The "
        "server's value counts. none saves a few nanoseconds a side."),
    choice_property("timestamp", "on", kTimestampChoices,
                    "on: messages carry the time of sending, read once per flush. off saves some 25 ns."),
    choice_property(
        "trust", "auto", kTrustChoices,
        "hostile: messages are copied before anybody looks at them, as the peer could change them meanwhile. "
        "cooperative: they are read in place. auto: hostile when the peer is another user."),
};

inline constexpr TransportDescription kDescription{
    .type = "shm",
    .vendor = "cdmf",
    .license = "Apache-2.0",
    .summary = "shared memory between processes of one host: rings without locks, one memory segment per client",
    .capabilities = CDMF_CAP_MANY_PEERS | CDMF_CAP_INTER_PROCESS | CDMF_CAP_ZERO_COPY_SEND |
                    CDMF_CAP_ZERO_COPY_RECEIVE | CDMF_CAP_HOLD | CDMF_CAP_POLL_FD | CDMF_CAP_TIMESTAMP |
                    CDMF_CAP_SURVIVES_SENDER,
    .max_message_size_limit = std::uint64_t{255} << 20,  // A commit word counts to 256 MiB.
    .properties = kProperties,
    .get_extension = find_extension,
};

inline constexpr std::uint32_t kCapacityMax = 1u << 24;  // As the table says.

struct Options {
  /// Throws ConfigError when values contradict each other; the text says what would work.
  explicit Options(const DriverConfig& config);

  /// Whether a receiver with this mode ever sleeps, so that its peers must look whether to wake it.
  bool may_sleep() const noexcept { return wait != WaitMode::spin && wait != WaitMode::yield; }

  bool is_server;
  std::string endpoint;
  SegmentKind segment;
  std::string address;  // Of the socket: "auto", or a path.
  Access access;
  std::uint64_t memory_budget;      // Of all links of a server; 0: no limit.
  SegmentPlan plan;                 // A server's rules for its links. A client gets the server's.
  std::uint64_t ring_bytes_wanted;  // A client's, when it was told of a size; otherwise 0.
  WaitMode wait;
  std::uint64_t spin_budget_ns;
  bool timestamp;
  Trust trust;
};

}  // namespace cdmf::ipc::shm
