#pragma once
// cli/bench/bench_peer.h: the answering side of a benchmark and what both sides agree on.
//
// Over the control channel, a line each:  peer "ready" | parent "pingpong", "stream", "exchange" or "call", peer
// "serving",
// then messages over the transport, the last one of type CONTROL with their number as id (calls: of kEndMethod) | peer
// "done". Any time, peer: "error …". Between rounds the peer sleeps on the channel, so that the machine's limits are
// measured undisturbed.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "cli/process.h"
#include "ipc/transport.h"

namespace cdmf::ipc::cli {

/// Nothing the other side does takes longer, short of being stopped.
inline constexpr auto kPeerSilenceMax = std::chrono::seconds(10);

/// Polls until `handler` has been given a message; waits in the way the transport is configured to.
/// limit  Messages per poll(). 1 for round trips: a larger one looks for a second message before it hands out the
/// first,
///        which over shared memory costs a cache miss.
/// throws  CommandError when nothing comes for kPeerSilenceMax or `gone()` says that the link has ended.
template <class Handler, class Gone>
void receive_some(Transport& transport, Handler&& handler, Gone&& gone, std::size_t limit = Transport::kBurstMax);

/// The service of a round of calls.
inline constexpr const char* kEchoMethod = "echo";
inline constexpr const char* kEndMethod = "end";

[[noreturn]] void throw_silent_peer();
[[noreturn]] void throw_lost_peer(const std::string& reason);

/// Tells the parent why this side gives up; a text of several lines becomes one.
void send_error(ControlChannel& control, std::string text);

/// Serves rounds until the parent closes the channel. transport  A connected server with Receive::POLL.
/// On an error it tells the parent and returns false. [the thread that owns the transport]
bool serve_rounds(Transport& transport, ControlChannel& control, std::size_t size_bytes);

template <class Handler, class Gone>
void receive_some(Transport& transport, Handler&& handler, Gone&& gone, std::size_t limit) {
  // As a polling program does: a few looks before the clock is read and a wait set up, which would themselves take as
  // long as a message over shared memory.
  constexpr int kLooks = 4;
  for (int look = 0; look < kLooks; ++look) {
    if (transport.poll(handler, limit) > 0) return;
  }
  const auto begin = std::chrono::steady_clock::now();
  for (;;) {
    const auto waited = transport.await(std::chrono::seconds(1));
    if (transport.poll(handler, limit) > 0) return;
    gone();
    if (waited.success()) continue;
    if (waited.error != TransportError::TIMEOUT && waited.error != TransportError::INTERRUPTED) {
      throw_lost_peer(waited.text());
    }
    if (std::chrono::steady_clock::now() - begin > kPeerSilenceMax) throw_silent_peer();
  }
}

}  // namespace cdmf::ipc::cli
