#include "rpc/refused.h"

#include <cstring>

#include "rpc/wire.h"

namespace cdmf::ipc::rpc {

CallReply refused(const MessageView& message) noexcept {
  const std::string_view text = message.text();
  switch (static_cast<Refusal>(message.flags)) {
    case Refusal::APPLICATION: {
      std::uint32_t code = 0;
      if (text.size() < sizeof code) {
        return {CallStatus::APPLICATION_ERROR, TransportError::INVALID_MESSAGE, 0, "the error has no code", {}};
      }
      std::memcpy(&code, text.data(), sizeof code);
      return {CallStatus::APPLICATION_ERROR, TransportError::SUCCESS, code, text.substr(sizeof code), {}};
    }
    case Refusal::NO_SUCH_METHOD:
      return {CallStatus::NOT_SENT, TransportError::UNSUPPORTED, 0, text, {}};
    case Refusal::OVERLOADED:
      return {CallStatus::NOT_SENT, TransportError::RESOURCE_EXHAUSTED, 0, text, {}};
    case Refusal::MALFORMED_REQUEST:
      return {CallStatus::NOT_SENT, TransportError::INVALID_MESSAGE, 0, text, {}};
    case Refusal::DEADLINE_PASSED:
      return {CallStatus::NOT_SENT, TransportError::TIMEOUT, 0, text, {}};
    case Refusal::STOPPING:
      return {CallStatus::NOT_SENT, TransportError::CONNECTION_CLOSED, 0, text, {}};
    case Refusal::UNREACHABLE:
      return {CallStatus::NOT_SENT, TransportError::NOT_CONNECTED, 0, text, {}};
    case Refusal::TOO_LARGE:
      return {CallStatus::NOT_SENT, TransportError::BUFFER_OVERFLOW, 0, text, {}};
    case Refusal::LOST:
      return {CallStatus::UNKNOWN, TransportError::PEER_DIED, 0, text, {}};
  }
  // Of a newer stub: whether a handler has run is not known.
  return {CallStatus::UNKNOWN, TransportError::PROTOCOL_ERROR, 0, "the server answered with an unknown refusal", {}};
}

}  // namespace cdmf::ipc::rpc
