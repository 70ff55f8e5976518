#pragma once
// ipc/result.h: every outcome of a transport, and the value-or-error that carries it.
// The codes are those of the plugin boundary (ipc/plugin_abi.h), so nothing is translated on the way up.
#include <string>
#include <utility>

#include "ipc/plugin_abi.h"

namespace cdmf::ipc {

/// What can come out of a call. Meanings are in the text of each (to_string) and in plugin_api/README.md.
enum class TransportError : cdmf_status {
  SUCCESS = CDMF_OK,
  NOT_INITIALIZED = CDMF_NOT_INITIALIZED,
  ALREADY_INITIALIZED = CDMF_ALREADY_INITIALIZED,
  NOT_CONNECTED = CDMF_NOT_CONNECTED,
  CONNECTION_FAILED = CDMF_CONNECTION_FAILED,
  CONNECTION_CLOSED = CDMF_CONNECTION_CLOSED,
  TIMEOUT = CDMF_TIMEOUT,
  BUFFER_FULL = CDMF_BUFFER_FULL,
  BUFFER_OVERFLOW = CDMF_BUFFER_OVERFLOW,
  INVALID_CONFIG = CDMF_INVALID_CONFIG,
  INVALID_MESSAGE = CDMF_INVALID_MESSAGE,
  INVALID_ARGUMENT = CDMF_INVALID_ARGUMENT,
  CHECKSUM_MISMATCH = CDMF_CHECKSUM_MISMATCH,
  PROTOCOL_ERROR = CDMF_PROTOCOL_ERROR,
  VERSION_MISMATCH = CDMF_VERSION_MISMATCH,
  RESOURCE_EXHAUSTED = CDMF_RESOURCE_EXHAUSTED,
  PERMISSION_DENIED = CDMF_PERMISSION_DENIED,
  ENDPOINT_NOT_FOUND = CDMF_ENDPOINT_NOT_FOUND,
  ENDPOINT_IN_USE = CDMF_ENDPOINT_IN_USE,
  PEER_DIED = CDMF_PEER_DIED,
  UNSUPPORTED = CDMF_UNSUPPORTED,
  INTERRUPTED = CDMF_INTERRUPTED,
  PLUGIN_ERROR = CDMF_PLUGIN_ERROR,
  INTERNAL_ERROR = CDMF_INTERNAL_ERROR,
};

/// The code as it is written in this file ("BUFFER_FULL"); "UNKNOWN" for a value that is none of them.
[[nodiscard]] const char* to_string(TransportError error) noexcept;
/// The same for a status of the plugin boundary: INTERNAL_ERROR when this version does not know the value.
[[nodiscard]] TransportError to_error(cdmf_status status) noexcept;
/// One short sentence about the code in general ("no room now; nothing was sent").
[[nodiscard]] const char* describe(TransportError error) noexcept;

/// Value or error. On success `error` is SUCCESS and `error_message` is empty. On an ordinary outcome of the data
/// path (BUFFER_FULL, TIMEOUT, …) the message may be empty too, so that it costs nothing; on a fault it says what,
/// where, and what to do next. `text()` is never empty.
template <typename T = void>
struct [[nodiscard]] TransportResult {
  TransportError error = TransportError::SUCCESS;
  std::string error_message;
  T value{};

  TransportResult() = default;
  TransportResult(T result) : value(std::move(result)) {}  // NOLINT(google-explicit-constructor): return value;
  TransportResult(TransportError code, std::string message = {}) : error(code), error_message(std::move(message)) {}

  [[nodiscard]] bool success() const noexcept { return error == TransportError::SUCCESS; }
  explicit operator bool() const noexcept { return success(); }
  /// "CODE: message", or "CODE: general description" when there is no message.
  [[nodiscard]] std::string text() const {
    return std::string(to_string(error)) + ": " + (error_message.empty() ? describe(error) : error_message);
  }
};

template <>
struct [[nodiscard]] TransportResult<void> {
  TransportError error = TransportError::SUCCESS;
  std::string error_message;

  TransportResult() noexcept {}  // Not defaulted: `return {};` would set every byte to 0 first.
  TransportResult(TransportError code, std::string message = {}) : error(code), error_message(std::move(message)) {}

  [[nodiscard]] bool success() const noexcept { return error == TransportError::SUCCESS; }
  explicit operator bool() const noexcept { return success(); }
  [[nodiscard]] std::string text() const {
    return std::string(to_string(error)) + ": " + (error_message.empty() ? describe(error) : error_message);
  }
};

}  // namespace cdmf::ipc
