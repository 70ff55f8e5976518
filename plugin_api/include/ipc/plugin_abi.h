#pragma once
// ipc/plugin_abi.h: the C boundary between a host program and a transport plugin (compiles as C11).
// A plugin in C++ includes ipc/plugin.h instead and never sees this file; rules in words: ../../README.md.
//
// Rules that hold for everything here
//   - Structures grow only at their end and start with struct_size, the size their writer knew. A reader
//     looks at a field only when struct_size covers it. New functions may also come as get_extension() names.
//   - No exception, no C++ type and no callback of the application crosses. Who allocates, frees.
//   - All times are absolute nanoseconds of CLOCK_MONOTONIC ("deadline"); 0 means "do not wait".
//   - All text is UTF-8 and ends with NUL. Text a plugin returns lives as long as the plugin (static) unless said.
//   - Thread tags: [any] any thread at any time; [sender] the one thread that sends at a time (the host serialises);
//     [receiver] the one thread that receives at a time; [control] one thread at a time, never together with
//     [sender] or [receiver] calls of the same driver unless said.

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CDMF_ABI_MAJOR 1
#define CDMF_ABI_MINOR 0
#define CDMF_PLUGIN_MAGIC UINT32_C(0x43444d46) /* "CDMF" */
/// The one symbol a plugin exports. The major is part of the name, so that a plugin for another major is
/// recognised by what it exports instead of being misread.
#define CDMF_PLUGIN_SYMBOL "cdmf_plugin_v1"

/* ---- Results ------------------------------------------------------------------------------------------------- */

/// Outcome of a call: CDMF_OK or one of the codes below. Open-ended: treat an unknown value as CDMF_INTERNAL_ERROR.
typedef int32_t cdmf_status;
enum {
  CDMF_OK = 0,
  CDMF_NOT_INITIALIZED = 1,
  CDMF_ALREADY_INITIALIZED = 2,
  CDMF_NOT_CONNECTED = 3,
  CDMF_CONNECTION_FAILED = 4,
  CDMF_CONNECTION_CLOSED = 5,
  CDMF_TIMEOUT = 6,         /* a wait expired */
  CDMF_BUFFER_FULL = 7,     /* no room now; nothing was sent */
  CDMF_BUFFER_OVERFLOW = 8, /* larger than the maximum; waiting does not help */
  CDMF_INVALID_CONFIG = 9,
  CDMF_INVALID_MESSAGE = 10,
  CDMF_INVALID_ARGUMENT = 11,
  CDMF_CHECKSUM_MISMATCH = 12,
  CDMF_PROTOCOL_ERROR = 13, /* the peer broke the rules; its link is over */
  CDMF_VERSION_MISMATCH = 14,
  CDMF_RESOURCE_EXHAUSTED = 15, /* memory, descriptors, quota */
  CDMF_PERMISSION_DENIED = 16,
  CDMF_ENDPOINT_NOT_FOUND = 17, /* nobody listens there (yet) */
  CDMF_ENDPOINT_IN_USE = 18,
  CDMF_PEER_DIED = 19, /* the peer ended without saying goodbye */
  CDMF_UNSUPPORTED = 20,
  CDMF_INTERRUPTED = 21,  /* interrupt() ended a wait */
  CDMF_PLUGIN_ERROR = 22, /* a plugin could not be loaded or broke its contract */
  CDMF_INTERNAL_ERROR = 23
};

/// Text of an error, in memory of the caller of a function. The callee fills it, truncating, and keeps no pointer.
typedef struct cdmf_error {
  uint32_t struct_size;
  int32_t os_errno;   /* 0 when no system call failed */
  char message[1016]; /* what, where (endpoint, path, name) and what to do next; no code, no newline */
} cdmf_error;

/* ---- Frames -------------------------------------------------------------------------------------------------- */

/// What a driver carries: opaque frames of 1 to frame_size_max bytes. The host writes and reads their content
/// (message header, payload, subject; ipc/message.h), a driver never looks inside.
/// frame_size_max = max_message_size + CDMF_FRAME_OVERHEAD_MAX.
#define CDMF_FRAME_OVERHEAD_MAX 784
/// Every frame starts at an address that is a multiple of this, at the sender and at the receiver.
#define CDMF_FRAME_ALIGNMENT 16

/// Names one link for the life of a driver: never 0, never reused.
typedef uint64_t cdmf_peer;
#define CDMF_NO_PEER UINT64_C(0)
#define CDMF_ALL_PEERS UINT64_MAX /* reserved; no call takes it yet */

/// Memory of one frame being written: from claim() to commit() or abort().
typedef struct cdmf_loan {
  void* memory; /* size bytes, aligned to CDMF_FRAME_ALIGNMENT, content undefined; write only */
  size_t size;
  cdmf_peer peer;
  uint64_t token; /* the driver's own */
} cdmf_loan;

/// Kinds of what a receiver gets, in the order in which it happened per peer:
/// PEER_CONNECTED, then its MESSAGEs, then PEER_DISCONNECTED, and nothing after that.
enum { CDMF_VIEW_MESSAGE = 0, CDMF_VIEW_PEER_CONNECTED = 1, CDMF_VIEW_PEER_DISCONNECTED = 2 };

/// One received frame or one change of a peer. Plain data; valid until release_burst().
typedef struct cdmf_view {
  const void* frame; /* MESSAGE: size bytes, aligned to CDMF_FRAME_ALIGNMENT. The peer may still be able to write
                        there: copy what you check. PEER_CONNECTED: size bytes of UTF-8 that name the peer, as far as
                        the driver has made sure of it, such as the subject of its certificate; NULL: it has not.
                        Otherwise NULL. */
  size_t size;       /* MESSAGE: 1 .. frame_size_max, already checked by the driver */
  cdmf_peer peer;
  uint64_t token;        /* for hold() */
  uint64_t timestamp_us; /* MESSAGE: when it was sent, microseconds since the Unix epoch; 0 when not carried */
  uint32_t kind;
  cdmf_status reason; /* PEER_DISCONNECTED: CDMF_CONNECTION_CLOSED after a goodbye, else what ended the link */
  uint64_t lost;      /* PEER_DISCONNECTED: messages accepted from it or for it that are known to be lost */
} cdmf_view;

/* ---- Properties ---------------------------------------------------------------------------------------------- */

/// Types of options, with their YAML syntax.
enum {
  CDMF_PROPERTY_BOOL = 0,     /* true | false                                      number: 0 or 1 */
  CDMF_PROPERTY_INT = 1,      /* decimal integer                                   number: itself */
  CDMF_PROPERTY_SIZE = 2,     /* bytes: 4096, 4KiB, 1MiB, 1GiB, 4KB, 1MB, 1GB      number: bytes */
  CDMF_PROPERTY_DURATION = 3, /* 10ns 10us 10ms 10s 10min; a unit is required; 0   number: nanoseconds */
  CDMF_PROPERTY_CHOICE = 4,   /* one of choices                                    number: its index */
  CDMF_PROPERTY_TEXT = 5      /* any text                                          number: 0 */
};
enum {
  CDMF_PROPERTY_REQUIRED = 1,
  CDMF_PROPERTY_POWER_OF_TWO = 2,
  CDMF_PROPERTY_ROLE = 4 /* BOOL that is an alias of `role`: true = server, false = client */
};

/// One row of a plugin's option table. The host checks values against it before create() and prints it as manual.
typedef struct cdmf_property {
  uint32_t struct_size;
  uint32_t type;
  uint32_t flags;
  uint32_t reserved;
  const char* name; /* snake_case, unique in the table */
  const char*
      default_text; /* in the type's syntax; NULL: none (only for REQUIRED and ROLE, and TEXT where it means empty) */
  const char* minimum; /* inclusive, in the type's syntax; NULL: no limit but the type's. INT, SIZE, DURATION */
  const char* maximum;
  const char* const* choices; /* CHOICE: NULL-terminated */
  const char* summary;        /* one or two sentences: meaning, unit, when to change it */
} cdmf_property;

/// Value of one property, checked, defaults filled in.
typedef struct cdmf_setting {
  const char* name;
  const char* text;
  int64_t number; /* see the types above */
  uint32_t given; /* 1 when the user wrote it, 0 when it is the default */
  uint32_t reserved;
} cdmf_setting;

typedef enum cdmf_role { CDMF_ROLE_CLIENT = 0, CDMF_ROLE_SERVER = 1 } cdmf_role;

/// What a driver is made from. Valid during create() only; copy what you keep.
typedef struct cdmf_config {
  uint32_t struct_size;
  uint32_t role;                /* cdmf_role */
  const char* endpoint;         /* logical name, not empty, e.g. "/orders"; the driver derives its own object from it */
  uint64_t max_message_size;    /* payload bytes of the largest message, inclusive */
  uint64_t frame_size_max;      /* max_message_size + CDMF_FRAME_OVERHEAD_MAX */
  const cdmf_setting* settings; /* exactly the rows of the plugin's table, in its order */
  size_t setting_count;
} cdmf_config;

/* ---- Host services ------------------------------------------------------------------------------------------- */

enum { CDMF_LOG_TRACE = 0, CDMF_LOG_DEBUG = 1, CDMF_LOG_INFO = 2, CDMF_LOG_WARNING = 3, CDMF_LOG_ERROR = 4 };

/// What the host offers to a plugin. Outlives every driver.
typedef struct cdmf_host {
  uint32_t struct_size;
  uint16_t abi_major;
  uint16_t abi_minor;
  void* context;
  /// Lowest level that is not thrown away. [any]
  uint32_t (*log_level)(void* context);
  /// Writes one line. file may be NULL. The texts are copied before return. [any]
  void (*log)(void* context, uint32_t level, const char* message, const char* file, uint32_t line);
  /// NULL when the host does not know the name. [any]
  const void* (*get_extension)(void* context, const char* name);
} cdmf_host;

/* ---- The driver ---------------------------------------------------------------------------------------------- */

/// What a driver can do. The conformance suite tests every claimed bit and skips, visibly, what is not claimed.
enum {
  CDMF_CAP_MANY_PEERS = 1u << 0,     /* a server serves several clients at once */
  CDMF_CAP_INTER_PROCESS = 1u << 1,  /* peers may live in other processes */
  CDMF_CAP_INTER_HOST = 1u << 2,     /* … on other machines */
  CDMF_CAP_ZERO_COPY_SEND = 1u << 3, /* a loan is the memory that the peer reads */
  CDMF_CAP_ZERO_COPY_RECEIVE = 1u << 4,
  CDMF_CAP_HOLD = 1u << 5,            /* hold() works (within its quota) */
  CDMF_CAP_POLL_FD = 1u << 6,         /* poll_fd() and arm() work */
  CDMF_CAP_TIMESTAMP = 1u << 7,       /* views carry the time of sending */
  CDMF_CAP_SURVIVES_SENDER = 1u << 8, /* what was flushed reaches a living peer though the sender dies at once */
  CDMF_CAP_ENCRYPTED = 1u << 9,
  /* The next two take promises back. */
  CDMF_CAP_ONE_WAY = 1u << 10, /* messages go from clients to servers alone: no replies */
  CDMF_CAP_POOL = 1u << 11     /* an endpoint has any number of servers; each message reaches one of them, no matter
                                  which. All clients together are one peer, and so are all servers. What was sent
                                  without a flush may be received before it */
};

/// What a driver says of itself after open(). Text lives until the next call of describe() or destroy().
typedef struct cdmf_info {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t capabilities;   /* CDMF_CAP_…, under the options in force */
  uint64_t frame_size_max; /* in force: a client has its server's */
  uint64_t buffer_bytes;   /* bytes that one peer can have in flight before BUFFER_FULL, roughly; 0 unknown */
  const char* address;     /* the object behind the endpoint, for operators: "unix:/run/…", "memfd via @…" */
  const char* detail;      /* one line: waiting, checksum, ring sizes …; may be empty */
} cdmf_info;

typedef enum cdmf_arm_result { CDMF_ARMED = 0, CDMF_READY = 1 } cdmf_arm_result;

/// A driver is passive: it moves frames when it is called, and knows no state machine. It calls nobody back.
/// It may run a control thread for accepting, handshakes and noticing death, never one that carries data.
/// Life: create → open → (client: attach, again after each end) → … → close → destroy. close() may be followed by
/// open() again. After fork() a driver may only be used by the process that created it.
typedef struct cdmf_driver_ops {
  uint32_t struct_size;
  uint32_t reserved;

  /// Server: makes the endpoint and listens; does not wait for clients. Client: gets ready, reaches nobody yet.
  /// Errors: ENDPOINT_IN_USE, PERMISSION_DENIED, RESOURCE_EXHAUSTED, INVALID_CONFIG … with text. [control]
  cdmf_status (*open)(void* self, cdmf_error* error);

  /// Client: one attempt to reach the server. ENDPOINT_NOT_FOUND at once when nobody listens; a handshake waits
  /// until deadline at most (TIMEOUT). On CDMF_OK the next view of this peer is its PEER_CONNECTED.
  /// A client has one peer at a time; ALREADY_INITIALIZED while it has one. [receiver]
  cdmf_status (*attach)(void* self, uint64_t deadline, cdmf_peer* peer, cdmf_error* error);

  /// Memory for one frame of size bytes to that peer. Never waits: BUFFER_FULL when there is no room now (what is
  /// committed and not flushed has then been flushed). BUFFER_OVERFLOW above frame_size_max. NOT_CONNECTED: no such
  /// peer (any more); CONNECTION_CLOSED, PEER_DIED …: its link is ending. RESOURCE_EXHAUSTED: this peer has an open
  /// claim. UNSUPPORTED: this direction carries nothing. [sender]
  cdmf_status (*claim)(void* self, cdmf_peer peer, size_t size, cdmf_loan* loan);

  /// Ends a claim; size may be smaller than claimed, not 0. Sent by the next flush(), or now with flush != 0 (then
  /// the result is that of flush(peer, 0), BUFFER_FULL excepted: the frame is accepted and leaves later). [sender]
  cdmf_status (*commit)(void* self, const cdmf_loan* loan, size_t size, uint32_t flush);

  /// Gives a claim back; the peer never sees it. [sender]
  void (*abort)(void* self, const cdmf_loan* loan);

  /// Publishes all commits to that peer (CDMF_NO_PEER: to every peer) with one synchronisation. OK: they are where
  /// the promise of the transport starts (shm: visible to the peer; sockets: taken by the kernel). BUFFER_FULL: some
  /// are still queued when deadline is 0; TIMEOUT: … when the deadline passed. Queued frames leave with later calls
  /// of flush, claim, receive_burst and await_messages. [sender]
  cdmf_status (*flush)(void* self, cdmf_peer peer, uint64_t deadline);

  /// Waits until claim(peer, size) may work. OK: try again; TIMEOUT; INTERRUPTED; or the end of the link as claim()
  /// says it. May return OK early. [any]
  cdmf_status (*await_space)(void* self, cdmf_peer peer, size_t size, uint64_t deadline);

  /// Takes up to capacity views, oldest first per peer and fair among peers. Never waits. The views stay valid until
  /// release_burst(); a second receive_burst() before that is an error of the caller. [receiver]
  size_t (*receive_burst)(void* self, cdmf_view* views, size_t capacity);

  /// Gives back the whole last burst (except what is held). Call it once after each burst that was not empty.
  /// [receiver]
  void (*release_burst)(void* self);

  /// Waits, in the way the options ask for, until receive_burst() may return something. OK | TIMEOUT | INTERRUPTED.
  /// May return OK early. [receiver]
  cdmf_status (*await_messages)(void* self, uint64_t deadline);

  /// Keeps a view of the current burst, named by its peer and token, beyond release_burst(). RESOURCE_EXHAUSTED: over
  /// the quota. *held names it; the memory stays readable until unhold(), also after the end of the link and after
  /// close(). [receiver]
  cdmf_status (*hold)(void* self, cdmf_peer peer, uint64_t token, uint64_t* held);
  /// [any]
  void (*unhold)(void* self, uint64_t held);

  /// A descriptor for epoll, owned by the driver; -1 without CDMF_CAP_POLL_FD. After arm() returned ARMED it becomes
  /// readable when there is something to receive, and may do so early; it means nothing otherwise. Do not read from
  /// it. Edge-triggered use needs an arm() after every wake-up. [any after open]
  int (*poll_fd)(void* self);
  /// READY: do not sleep, receive_burst() may return something. ARMED: sleep on poll_fd(). [receiver]
  cdmf_arm_result (*arm)(void* self);

  /// Ends a running or the next await_space(), and a running or the next await_messages(), with INTERRUPTED: when both
  /// run, both end. [any]
  void (*interrupt)(void* self);

  /// Ends one link; reason is told to the peer when the transport can. Its PEER_DISCONNECTED (with this reason) is
  /// still received. NOT_CONNECTED when there is no such peer. [any]
  cdmf_status (*disconnect)(void* self, cdmf_peer peer, cdmf_status reason);

  /// Says goodbye on every link and frees the endpoint. What is held, and an open claim, stay valid memory; their
  /// commit() returns CONNECTION_CLOSED. Idempotent. [control]
  void (*close)(void* self);

  /// Frees the driver; nothing is held or claimed any more. Joins the control thread. [control]
  void (*destroy)(void* self);

  /// [any after open]
  void (*describe)(void* self, cdmf_info* info);

  /// NULL when unknown. [any]
  const void* (*get_extension)(void* self, const char* name);
} cdmf_driver_ops;

/// A driver made by create().
typedef struct cdmf_driver {
  void* self;
  const cdmf_driver_ops* ops; /* static; the same table for all drivers of a plugin is fine */
} cdmf_driver;

/* ---- The plugin ---------------------------------------------------------------------------------------------- */

enum { CDMF_BUILD_ASAN = 1u << 0, CDMF_BUILD_TSAN = 1u << 1, CDMF_BUILD_MSAN = 1u << 2 };

/// How a plugin was built, for messages; only the sanitizers are compared.
typedef struct cdmf_build_info {
  uint32_t struct_size;
  uint32_t flags;               /* CDMF_BUILD_… */
  const char* compiler;         /* "GNU 12.2.0" */
  const char* language;         /* "C++20", "C11" */
  const char* standard_library; /* "libstdc++ 20220819", "" for C */
} cdmf_build_info;

/// The exported symbol cdmf_plugin_v1. All texts non-NULL.
typedef struct cdmf_plugin {
  uint32_t struct_size;
  uint32_t magic;          /* CDMF_PLUGIN_MAGIC */
  uint16_t abi_major;      /* must equal the host's */
  uint16_t abi_minor;      /* what the plugin was built with; may be newer than the host's */
  uint16_t min_host_minor; /* lowest host minor it can work with */
  uint16_t reserved;
  const cdmf_build_info* build;
  const char* type;    /* the word after `type:` in YAML; the file is libcdmf_<type>.so */
  const char* version; /* of the plugin, semantic versioning */
  const char* vendor;
  const char* license;             /* SPDX */
  const char* summary;             /* one line */
  uint64_t capabilities;           /* CDMF_CAP_… with default options */
  uint64_t max_message_size_limit; /* largest max_message_size that a config may ask for */
  const cdmf_property* properties;
  size_t property_count;
  /// Makes a driver; takes no system resource a failed open() would not free. Error text on failure. [any]
  cdmf_status (*create)(const cdmf_host* host, const cdmf_config* config, cdmf_driver* driver, cdmf_error* error);
  /// NULL when unknown. [any]
  const void* (*get_extension)(const char* name);
} cdmf_plugin;

#ifdef __cplusplus
}
#endif
