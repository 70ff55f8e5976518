#pragma once
// ipc/put_abi.h: an extension of the C boundary (ipc/plugin_abi.h, whose rules hold here): sends a frame in one call
// where claim() and commit() take two, and the host writes nothing in between. A driver that offers it answers
// cdmf_driver_ops::get_extension(CDMF_PUT_EXTENSION) with a static cdmf_put; in C++ it has a method
//   cdmf_status put(cdmf_peer peer, const cdmf_pieces& frame, bool flush);
// and, if it likes, one for many frames
//   std::size_t put_burst(cdmf_peer peer, std::span<const cdmf_pieces> frames, bool flush) noexcept;
// Worth while where a message takes tens of nanoseconds. A host that does not know it uses claim(). Compiles as C11.
#include "ipc/plugin_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CDMF_PUT_EXTENSION "cdmf.put/1"

/// A frame where the host has it: these three, one after the other. As opaque to the driver as any frame.
typedef struct cdmf_pieces {
  uint64_t head[2];
  const void* body; /* body_size bytes; may be NULL when that is 0, as for tail */
  size_t body_size;
  const void* tail;
  size_t tail_size;
} cdmf_pieces;

typedef struct cdmf_put {
  uint32_t struct_size;
  uint32_t reserved;
  /// As a claim() of the whole size, the bytes written to it, and a commit(): the same outcomes, in that order. Nothing
  /// is claimed afterwards, and on any outcome but CDMF_OK nothing of this frame is sent. [sender]
  cdmf_status (*put)(void* self, cdmf_peer peer, const cdmf_pieces* frame, uint32_t flush);
  /// put() of these frames (1 or more) in turn, up to the first that is not CDMF_OK; returns how many were. Nothing of
  /// the others is sent; what is in the way of the next one, put() of it says. flush: those that were sent are flushed,
  /// all or not. NULL, or not within the struct_size of an older plugin: the host calls put() for each. [sender]
  size_t (*put_burst)(void* self, cdmf_peer peer, const cdmf_pieces* frames, size_t count, uint32_t flush);
} cdmf_put;

#ifdef __cplusplus
}
#endif
