#pragma once
// cli/fd_io.h: reading and writing descriptors whole, through interruptions and short transfers.
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace cdmf::ipc::cli {

/// Writes all of `bytes`, however many calls that takes.
/// throws  CommandError naming `what` ("standard output") when the other end is gone or the disk is full.
void write_all(int fd, std::span<const std::byte> bytes, const std::string& what);
void write_all(int fd, std::string_view text, const std::string& what);

/// Reads until `bytes` is full, the input ends, or nothing more is there at the moment; waits only for the first byte,
/// so that what a slow pipe has delivered goes on at once while a file comes in full pieces. returns  how many bytes; 0
/// only at the end of the input. throws   CommandError naming `what`.
[[nodiscard]] std::size_t read_available(int fd, std::span<std::byte> bytes, const std::string& what);

/// Waits up to `timeout_ms` until reading would not wait. Also true at the end of the input and on errors.
[[nodiscard]] bool wait_readable(int fd, int timeout_ms) noexcept;

}  // namespace cdmf::ipc::cli
