#pragma once
// cli/bench/machine_limits.h: what this machine can do at best between two processes, measured without any transport.
// A transport's figure means something only beside the limit of the same seconds; hence every measurement takes a
// budget small enough (some 20 to 200 ms) to be repeated in each round of a benchmark.
//
// All functions fork one real process, run it on cpus.second and the caller on cpus.first, end it and restore the
// caller's pinning. They throw std::runtime_error when that process dies or does not answer for 10 seconds, and
// std::system_error when the system refuses memory, sockets or processes; they never hang. One call at a time.
#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "cli/bench/round_trips.h"
#include "cli/cpu.h"

namespace cdmf::ipc::cli {

/// Two cache lines of shared memory, each written by one side and polled by the other: the floor of every ping-pong
/// that stays out of the kernel. With one processor the sides yield to each other instead.
[[nodiscard]] RoundTrips cache_line_round_trip(const CpuPair& cpus, std::chrono::nanoseconds budget);

/// Both sides sleep in the kernel on a process-shared futex and wake each other: the floor for waiting without polling.
[[nodiscard]] RoundTrips futex_round_trip(const CpuPair& cpus, std::chrono::nanoseconds budget);

/// A bare connected Unix stream socket; `size_bytes` (at least 1) there and back, one write each way.
[[nodiscard]] RoundTrips socket_round_trip(const CpuPair& cpus, std::size_t size_bytes,
                                           std::chrono::nanoseconds budget);

/// Messages per second through a bare Unix stream socket when each is written by one system call; the other side reads
/// as much as there is. size_bytes  at least 1.
[[nodiscard]] double socket_messages_per_second(const CpuPair& cpus, std::size_t size_bytes,
                                                std::chrono::nanoseconds budget);

/// How the buffer of copy_bytes_per_second() is divided: one flag per chunk.
struct CopyGeometry {
  std::size_t chunk_bytes = 0;
  std::size_t chunk_count = 0;

  [[nodiscard]] std::string text() const;  // "4 x 1 MiB"
};

/// Bytes per second from one processor to the other through shared memory: one side copies from its own cache into a
/// chunk, the other reads every line of it. No queue, no records, one flag per chunk: the bound of every stream.
[[nodiscard]] double copy_bytes_per_second(const CpuPair& cpus, CopyGeometry geometry, std::chrono::nanoseconds budget);

/// The geometries worth trying. Less than 4 MiB in all keeps both sides on each other's second-level cache, more than
/// 8 MiB leaves the third.
[[nodiscard]] std::vector<CopyGeometry> copy_geometries();

/// Tries them all, `rounds` times in turn for `budget_each`, and returns the one with the highest median.
[[nodiscard]] CopyGeometry choose_copy_geometry(const CpuPair& cpus, int rounds, std::chrono::nanoseconds budget_each);

}  // namespace cdmf::ipc::cli
