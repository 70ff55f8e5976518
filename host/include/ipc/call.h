#pragma once
// ipc/call.h: how a call ends, and what it is given on its way. ServiceProxy makes calls, ServiceStub answers them.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ipc/result.h"

namespace cdmf::ipc {

/// How a call ended. Each ends exactly once, in one of these four ways.
enum class CallStatus : std::uint8_t {
  REPLY,              ///< the handler answered
  APPLICATION_ERROR,  ///< the handler ran and refused or failed: `code` and `text` are its own
  NOT_SENT,           ///< no handler has run or will run: calling again is safe
  UNKNOWN,            ///< a handler may have run, may be running, or may still run
};
[[nodiscard]] const char* to_string(CallStatus status) noexcept;

/// What one call wants. A duration alone will do: proxy.call("add", request, 50ms).
struct CallOptions {
  CallOptions() noexcept = default;
  template <class Rep, class Period>
  CallOptions(std::chrono::duration<Rep, Period> wait) noexcept  // NOLINT(google-explicit-constructor): see above.
      : timeout(std::chrono::duration_cast<std::chrono::nanoseconds>(wait)) {}

  /// More than 0, else the call is NOT_SENT, INVALID_ARGUMENT; unset: ProxyOptions::timeout.
  std::optional<std::chrono::nanoseconds> timeout{};
  bool flush = true;  ///< false, callAsync and callOneWay only: sent with the next flush() or flushing call
};

/// Bytes that somebody else owns: what a request or a reply is made from. Any of: bytes, a vector of them, text.
class PayloadView {
 public:
  PayloadView() noexcept = default;
  // NOLINTBEGIN(google-explicit-constructor): the point of it.
  PayloadView(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}
  PayloadView(const std::vector<std::byte>& bytes) noexcept : bytes_(bytes) {}
  PayloadView(std::string_view text) noexcept : bytes_(std::as_bytes(std::span(text))) {}
  PayloadView(const std::string& text) noexcept : PayloadView(std::string_view(text)) {}
  PayloadView(const char* text) noexcept : PayloadView(std::string_view(text)) {}
  // NOLINTEND(google-explicit-constructor)
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

/// How a call ended, as its callback sees it: valid until that returns.
struct CallReply {
  CallStatus status = CallStatus::UNKNOWN;
  /// Why there is no reply. NOT_SENT: as Transport::send(), or UNSUPPORTED (the server has no such method),
  /// RESOURCE_EXHAUSTED (its pool or this proxy's calls in flight are at their limit), CONNECTION_CLOSED (it is
  /// stopping), INVALID_MESSAGE (it could not read the request), TIMEOUT (no room in time, or too late when it
  /// arrived). UNKNOWN: TIMEOUT, PEER_DIED, CONNECTION_CLOSED, INTERRUPTED (cancelled) …
  TransportError error = TransportError::SUCCESS;
  std::uint32_t code = 0;  ///< of an APPLICATION_ERROR: the handler's own
  std::string_view text;   ///< of whatever is no REPLY
  std::span<const std::byte> payload;

  [[nodiscard]] bool success() const noexcept { return status == CallStatus::REPLY; }
  explicit operator bool() const noexcept { return success(); }
};

/// How a call ended, with a value of its own. T: what the reply is read as.
template <typename T = std::vector<std::byte>>
struct [[nodiscard]] CallResult {
  CallStatus status = CallStatus::UNKNOWN;
  TransportError error = TransportError::SUCCESS;  ///< as in CallReply
  std::uint32_t code = 0;
  std::string error_message;
  T value{};

  [[nodiscard]] bool success() const noexcept { return status == CallStatus::REPLY; }
  explicit operator bool() const noexcept { return success(); }
  /// "UNKNOWN: TIMEOUT: …", "APPLICATION_ERROR 7: …". Never empty.
  [[nodiscard]] std::string text() const;
};

template <>
struct [[nodiscard]] CallResult<void> {
  CallStatus status = CallStatus::UNKNOWN;
  TransportError error = TransportError::SUCCESS;
  std::uint32_t code = 0;
  std::string error_message;

  CallResult() = default;
  /// Keeps what a view of it says.
  explicit CallResult(const CallReply& reply)
      : status(reply.status), error(reply.error), code(reply.code), error_message(reply.text) {}

  [[nodiscard]] bool success() const noexcept { return status == CallStatus::REPLY; }
  explicit operator bool() const noexcept { return success(); }
  [[nodiscard]] std::string text() const;
  /// The same end with a value.
  template <typename T>
  [[nodiscard]] CallResult<T> with(T value) && {
    return {status, error, code, std::move(error_message), std::move(value)};
  }
};

template <typename T>
std::string CallResult<T>::text() const {
  return CallResult<void>(CallReply{status, error, code, error_message, {}}).text();
}

/// Thrown by a handler to answer with an APPLICATION_ERROR of its own code.
class ApplicationError : public std::runtime_error {
 public:
  ApplicationError(std::uint32_t code, const std::string& text) : std::runtime_error(text), code_(code) {}
  [[nodiscard]] std::uint32_t code() const noexcept { return code_; }

 private:
  std::uint32_t code_;
};

}  // namespace cdmf::ipc
