#include "ipc/call.h"

namespace cdmf::ipc {

const char* to_string(CallStatus status) noexcept {
  switch (status) {
    case CallStatus::REPLY:
      return "REPLY";
    case CallStatus::APPLICATION_ERROR:
      return "APPLICATION_ERROR";
    case CallStatus::NOT_SENT:
      return "NOT_SENT";
    case CallStatus::UNKNOWN:
      return "UNKNOWN";
  }
  return "?";
}

std::string CallResult<void>::text() const {
  std::string text = to_string(status);
  if (status == CallStatus::REPLY) return text;
  if (status == CallStatus::APPLICATION_ERROR) {
    if (error == TransportError::SUCCESS) text += " " + std::to_string(code);
  }
  if (error != TransportError::SUCCESS) text += std::string(": ") + to_string(error);
  return text + ": " + (error_message.empty() ? describe(error) : error_message);
}

}  // namespace cdmf::ipc
