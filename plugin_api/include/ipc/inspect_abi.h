#pragma once
// ipc/inspect_abi.h: an extension of the C boundary (ipc/plugin_abi.h, whose rules hold here): looking into a running
// endpoint of another process. `cdmf inspect` and `cdmf doctor` use it. A plugin that offers it answers
// cdmf_plugin::get_extension(CDMF_INSPECT_EXTENSION) with a static cdmf_inspect. Compiles as C11.
//
// What an observer gets comes from a process that may be hostile: the plugin checks sizes and structure, the host
// checks nothing but prints texts with care. No number here need be true, and none leads to an access.
#include "ipc/plugin_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CDMF_INSPECT_EXTENSION "cdmf.inspect/1"

enum {
  CDMF_RING_RECEIVER_SLEEPS = 1u << 0, /* a message has to wake it first */
  CDMF_RING_RECEIVER_NEVER_SLEEPS = 1u << 1,
  CDMF_RING_SENDER_WAITS = 1u << 2, /* for room, now */
  CDMF_RING_TO_SERVER = 1u << 3,    /* its receiver is the server */
  CDMF_RING_NOT_ALIGNED = 1u << 4,  /* words of different writers share a cache line */
  CDMF_RING_IMPLAUSIBLE = 1u << 5,  /* its words contradict each other: a peer wrote what it should not */
  CDMF_RING_PARKED = 1u << 6        /* was quiet, so that its receiver looks at it now and then only. Else it is hot */
};

/// One buffer between two ends. A number that a plugin does not keep is CDMF_UNKNOWN.
#define CDMF_UNKNOWN UINT64_MAX
typedef struct cdmf_ring_report {
  uint32_t struct_size;
  uint32_t flags; /* CDMF_RING_… */
  cdmf_peer link; /* cdmf_link_report::peer; CDMF_NO_PEER: no link's own */
  uint64_t capacity_bytes;
  uint64_t used_bytes;       /* now, as far as its receiver has told */
  uint64_t high_water_bytes; /* most that was used, as far as its sender looked */
  uint64_t pushes;           /* messages accepted */
  uint64_t pops;             /* messages handed out */
  uint64_t failed_pushes;    /* attempts that found it full */
  uint64_t bytes;            /* pushed, with all that the transport adds */
  uint64_t wakes;            /* of a sleeping receiver: a system call each */
  uint64_t space_waits;      /* sleeps of senders until there was room */
  uint64_t contentions;      /* attempts that lost to another producer or consumer and were made again */
  uint32_t producers;        /* attached now */
  uint32_t consumers;
  char name[32]; /* "TX" */
} cdmf_ring_report;

enum {
  CDMF_LINK_UNTRUSTED = 1u << 0, /* messages are copied before they are read */
  CDMF_LINK_ENDED = 1u << 1,     /* its peer is gone, its last messages are not yet read */
  CDMF_LINK_SAME_CPU = 1u << 2,  /* both ends may run on one CPU only, the same */
  CDMF_LINK_CHECKSUM = 1u << 3,  /* each message is summed up twice */
  CDMF_LINK_TIMESTAMP = 1u << 4  /* the server reads the clock at each flush */
};

typedef struct cdmf_link_report {
  uint32_t struct_size;
  uint32_t flags; /* CDMF_LINK_… */
  cdmf_peer peer; /* the server's name for it */
  int32_t pid;    /* of the client; 0 unknown */
  uint32_t uid;
  uint64_t connected_us; /* microseconds since the Unix epoch; 0 unknown */
  uint64_t discarded;    /* messages from it that were damaged */
  uint64_t message_size_max;
  int32_t only_cpu; /* of the client, -1: several */
  int32_t reason;   /* with CDMF_LINK_ENDED: a cdmf_status */
} cdmf_link_report;

enum { CDMF_WAIT_UNKNOWN = 0, CDMF_WAIT_SPIN = 1, CDMF_WAIT_YIELD = 2, CDMF_WAIT_ADAPTIVE = 3, CDMF_WAIT_SLEEP = 4 };

typedef struct cdmf_endpoint_report {
  uint32_t struct_size;
  int32_t pid; /* of the server */
  uint32_t uid;
  uint32_t wait;       /* how the server's receiver waits: CDMF_WAIT_… */
  int32_t only_cpu;    /* of the server, -1: several */
  int32_t last_error;  /* a cdmf_status; CDMF_OK: there was none */
  uint64_t taken_ns;   /* CLOCK_MONOTONIC: when this was so */
  uint64_t started_us; /* microseconds since the Unix epoch; 0 unknown */
  uint64_t accepted;   /* clients since then */
  uint64_t refused;
  uint64_t ended;
  uint64_t error_count;
  uint64_t last_error_us;
  char last_error_text[192];
  char address[128]; /* the object behind the endpoint */
  char detail[192];  /* one line for people: options in force */
  /* Of the plugin, until release(). The element number i starts at i * …_size bytes. */
  const cdmf_link_report* links;
  size_t link_count;
  size_t link_size;
  const cdmf_ring_report* rings; /* grouped by link */
  size_t ring_count;
  size_t ring_size;
} cdmf_endpoint_report;

typedef struct cdmf_inspect {
  uint32_t struct_size;
  uint32_t reserved;
  /// Looks once. Not as a client: the endpoint's server counts no peer and none of its messages is touched.
  /// report->struct_size is set by the caller. ENDPOINT_NOT_FOUND: nobody listens; TIMEOUT: the server does not answer
  /// (stopped, hung), the text names it; PERMISSION_DENIED: not for this user; VERSION_MISMATCH: of another release;
  /// PROTOCOL_ERROR: what it sent makes no sense. [any]
  cdmf_status (*look)(const cdmf_config* config, uint64_t deadline, cdmf_endpoint_report* report, cdmf_error* error);
  /// Frees what look() allocated; after a look() that returned CDMF_OK, once. [any]
  void (*release)(cdmf_endpoint_report* report);
} cdmf_inspect;

#ifdef __cplusplus
}
#endif
