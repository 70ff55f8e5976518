#pragma once
// ipc/stats.h: what a Transport counts (specification §9.2).
#include <chrono>
#include <cstdint>
#include <string>

namespace cdmf::ipc {

/// A snapshot; the counters belong together only roughly while messages flow. Bytes are payload bytes.
struct TransportStats {
  std::uint64_t messages_sent = 0;      ///< accepted by send() or Loan::commit()
  std::uint64_t messages_received = 0;  ///< handed to the program
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t send_errors = 0;         ///< sends that ended in anything but SUCCESS
  std::uint64_t recv_errors = 0;         ///< malformed messages, callbacks that threw, messages lost with a peer
  std::uint32_t active_connections = 0;  ///< peers connected now
  std::chrono::system_clock::time_point last_error_time{};  ///< epoch when there was none
  std::string last_error;  ///< "CODE: text" of the last error, empty when there was none
};

}  // namespace cdmf::ipc
