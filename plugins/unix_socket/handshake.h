#pragma once
// handshake.h: the first 32 bytes each way. No sockets here, except where a client waits for its answer.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "ipc/driver.h"
#include "wire.h"

namespace cdmf::ipc::unix_socket {

/// A server's answer to a client's hello; answer.status is CDMF_OK when the client may come in. False: the bytes are
/// no hello at all, and deserve no answer.
[[nodiscard]] bool answer_hello(const Hello& client, std::uint64_t frame_size_max, Hello& answer) noexcept;

/// A client's judgement of the answer; errors name both sides.
[[nodiscard]] cdmf_status check_answer(const Hello& answer, std::uint64_t frame_size_wanted, const std::string& path,
                                       ErrorText& error);

/// Sends a client's hello over a fresh socket and reads the answer, until deadline. PEER_DIED when the server hangs up.
[[nodiscard]] cdmf_status exchange_hello(int socket, std::uint64_t frame_size_wanted, std::uint64_t deadline,
                                         const std::string& path, Hello& answer, ErrorText& error);

}  // namespace cdmf::ipc::unix_socket
