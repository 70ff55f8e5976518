#pragma once
// send_queue.h: records that wait for the socket, in memory that the kernel reads from directly.
// Not thread-safe: the link's mutex guards it. Memory that claim() gave out is written outside of that mutex.
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "wire.h"

namespace cdmf::ipc::unix_socket {

/// A queue of bytes in which every record is contiguous. Queued bytes are first_, then second_; second_ begins at the
/// start of the memory as soon as a record does not fit behind first_, and takes first_'s place when that has left.
/// Invariant  second_ is empty, or ends before the first record of first_ that has not left completely. When nothing is
/// queued and nothing claimed, the next
///            record goes to the start of the memory: a link that keeps up touches the same few lines again and again.
class SendQueue {
 public:
  struct Pieces {
    std::array<iovec, 2> parts{};
    std::size_t count = 0;
    std::size_t bytes = 0;
  };

  /// capacity  bytes on the wire; at least record_bytes() of the largest frame.
  explicit SendQueue(std::size_t capacity);

  /// Memory of a frame of size bytes (not 0), aligned; null: no room now. One claim at a time.
  [[nodiscard]] std::byte* claim(std::size_t size) noexcept;
  [[nodiscard]] bool claimed() const noexcept { return claim_ != kNoClaim; }
  /// Whether claim(size) would find room.
  [[nodiscard]] bool has_room(std::size_t size) const noexcept { return place(record_bytes(size)) != kNoClaim; }
  /// Ends the claim with its first size bytes as a frame; it waits for publish().
  void commit(std::size_t size, std::uint64_t timestamp_us) noexcept;
  void abort() noexcept { claim_ = kNoClaim; }

  /// What is committed may leave.
  void publish() noexcept { published_bytes_ = first_.size() + second_.size(); }
  [[nodiscard]] std::size_t published_bytes() const noexcept { return published_bytes_; }
  /// What to give to the kernel next: everything published.
  [[nodiscard]] Pieces pending() const noexcept;
  /// The same as whole records of bytes_max bytes together, or one record if that is larger. For packets, of which the
  /// kernel takes all or nothing.
  [[nodiscard]] Pieces pending_packet(std::size_t bytes_max) const noexcept;
  /// The kernel took that many bytes of pending().
  void sent(std::size_t bytes) noexcept;
  /// Committed frames that have not left completely.
  [[nodiscard]] std::uint64_t unsent_frames() const noexcept { return frames_; }

 private:
  struct Region {  // Offsets into memory_.
    std::size_t begin = 0;
    std::size_t end = 0;
    [[nodiscard]] std::size_t size() const noexcept { return end - begin; }
  };
  static constexpr std::size_t kNoClaim = SIZE_MAX;

  /// Where a record of that size would go, or kNoClaim.
  [[nodiscard]] std::size_t place(std::size_t record) const noexcept;
  void count_sent(std::size_t bytes) noexcept;

  const std::size_t capacity_;
  const std::unique_ptr<std::byte[]> memory_;  // From new[], hence aligned; untouched pages cost nothing.
  Region first_;
  Region second_;
  std::size_t published_bytes_ = 0;
  std::size_t claim_ = kNoClaim;       // Offset of the open claim's record.
  std::size_t partly_sent_bytes_ = 0;  // Of the record before whose end first_ begins.
  std::uint64_t frames_ = 0;
};

}  // namespace cdmf::ipc::unix_socket
