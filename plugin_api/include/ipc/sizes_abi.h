#pragma once
// ipc/sizes_abi.h: an extension of the C boundary (ipc/plugin_abi.h, whose rules hold here): what memory an endpoint
// takes, and which options hold so many messages. `cdmf size` prints it. A plugin that offers it answers
// cdmf_plugin::get_extension(CDMF_SIZES_EXTENSION) with a static cdmf_sizes. Compiles as C11.
#include "ipc/plugin_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CDMF_SIZES_EXTENSION "cdmf.sizes/1"

/// How often a part exists.
enum { CDMF_SIZE_PER_ENDPOINT = 0, CDMF_SIZE_PER_CLIENT = 1 };
/// Whose memory a part is.
enum {
  CDMF_SIZE_SHARED = 0, /* one piece that both processes map */
  CDMF_SIZE_SERVER = 1, /* the server's alone */
  CDMF_SIZE_CLIENT = 2  /* the client's alone */
};

typedef struct cdmf_size_part {
  uint32_t struct_size;
  uint16_t per;    /* CDMF_SIZE_PER_… */
  uint16_t owner;  /* CDMF_SIZE_SHARED … */
  uint64_t bytes;  /* exact */
  char name[40];   /* "control block" */
  char detail[88]; /* "4096 slots of 512 bytes"; may be empty */
} cdmf_size_part;

/// What somebody wants, in the words of the specification's §8.1.
typedef struct cdmf_size_wish {
  uint32_t struct_size;
  uint32_t producers; /* at least 1 */
  uint32_t consumers; /* at least 1 */
  uint32_t reserved;
  uint64_t capacity;     /* messages that one direction is to hold */
  uint64_t message_size; /* payload bytes of each */
  uint64_t latency_ns;   /* aimed at, one way; 0: not said */
} cdmf_size_wish;

typedef struct cdmf_size_option {
  char name[40]; /* a row of the plugin's table, or max_message_size */
  char text[40]; /* in the row's syntax */
} cdmf_size_option;

#define CDMF_SIZE_OPTIONS_MAX 16
typedef struct cdmf_size_suggestion {
  uint32_t struct_size;
  uint32_t option_count;
  cdmf_size_option options[CDMF_SIZE_OPTIONS_MAX];
  char note[512]; /* what to know about it, one sentence or two; may be empty */
} cdmf_size_suggestion;

typedef struct cdmf_sizes {
  uint32_t struct_size;
  uint32_t reserved;
  /// Every part of an endpoint with these options, as its server makes it. *count: room in parts, then how many parts
  /// there are (when more than the room, the first ones were written). INVALID_CONFIG as create() says it. [any]
  cdmf_status (*parts)(const cdmf_config* config, cdmf_size_part* parts, size_t* count, cdmf_error* error);
  /// Options with which an endpoint grants the wish. INVALID_ARGUMENT: none do, the text says why. [any]
  cdmf_status (*suggest)(const cdmf_size_wish* wish, cdmf_size_suggestion* suggestion, cdmf_error* error);
} cdmf_sizes;

#ifdef __cplusplus
}
#endif
