// Texts of the enumerations.
#include "ipc/config.h"
#include "ipc/message.h"
#include "ipc/result.h"
#include "ipc/transport.h"

namespace cdmf::ipc {
namespace {

struct ErrorName {
  TransportError error;
  const char* name;
  const char* description;
};

constexpr ErrorName kErrors[] = {
    {TransportError::SUCCESS, "SUCCESS", "done"},
    {TransportError::NOT_INITIALIZED, "NOT_INITIALIZED", "call init() and start() first"},
    {TransportError::ALREADY_INITIALIZED, "ALREADY_INITIALIZED", "that was done before; stop() or cleanup() first"},
    {TransportError::NOT_CONNECTED, "NOT_CONNECTED", "there is no link to that peer; connect() first"},
    {TransportError::CONNECTION_FAILED, "CONNECTION_FAILED", "the link could not be made"},
    {TransportError::CONNECTION_CLOSED, "CONNECTION_CLOSED", "the link was closed in an orderly way"},
    {TransportError::TIMEOUT, "TIMEOUT", "it did not happen in time"},
    {TransportError::BUFFER_FULL, "BUFFER_FULL", "no room now; nothing was sent, try again later"},
    {TransportError::BUFFER_OVERFLOW, "BUFFER_OVERFLOW", "larger than max_message_size; waiting does not help"},
    {TransportError::INVALID_CONFIG, "INVALID_CONFIG", "the configuration is wrong"},
    {TransportError::INVALID_MESSAGE, "INVALID_MESSAGE", "the message breaks a rule of its format"},
    {TransportError::INVALID_ARGUMENT, "INVALID_ARGUMENT", "an argument is out of range"},
    {TransportError::CHECKSUM_MISMATCH, "CHECKSUM_MISMATCH", "the bytes received are not those that were sent"},
    {TransportError::PROTOCOL_ERROR, "PROTOCOL_ERROR", "the peer broke the rules of the link, which is over"},
    {TransportError::VERSION_MISMATCH, "VERSION_MISMATCH", "the two sides speak different versions"},
    {TransportError::RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED", "out of memory, descriptors or quota"},
    {TransportError::PERMISSION_DENIED, "PERMISSION_DENIED", "not allowed"},
    {TransportError::ENDPOINT_NOT_FOUND, "ENDPOINT_NOT_FOUND", "no server is listening there"},
    {TransportError::ENDPOINT_IN_USE, "ENDPOINT_IN_USE", "another server is listening there"},
    {TransportError::PEER_DIED, "PEER_DIED", "the peer ended without closing the link"},
    {TransportError::UNSUPPORTED, "UNSUPPORTED", "this transport, or this place, cannot do that"},
    {TransportError::INTERRUPTED, "INTERRUPTED", "the wait was ended by interrupt() or stop()"},
    {TransportError::PLUGIN_ERROR, "PLUGIN_ERROR", "a plugin could not be loaded or broke its contract"},
    {TransportError::INTERNAL_ERROR, "INTERNAL_ERROR", "a bug, in this library, a plugin or a callback"},
};

const ErrorName* find_error(TransportError error) noexcept {
  for (const ErrorName& row : kErrors) {
    if (row.error == error) return &row;
  }
  return nullptr;
}

}  // namespace

const char* to_string(TransportError error) noexcept {
  const ErrorName* row = find_error(error);
  return row != nullptr ? row->name : "UNKNOWN";
}

TransportError to_error(cdmf_status status) noexcept {
  const auto error = static_cast<TransportError>(status);
  return find_error(error) != nullptr ? error : TransportError::INTERNAL_ERROR;
}

const char* describe(TransportError error) noexcept {
  const ErrorName* row = find_error(error);
  return row != nullptr ? row->description : "a code this version does not know";
}

const char* to_string(MessageType type) noexcept {
  switch (type) {
    case MessageType::REQUEST:
      return "REQUEST";
    case MessageType::RESPONSE:
      return "RESPONSE";
    case MessageType::EVENT:
      return "EVENT";
    case MessageType::ERROR:
      return "ERROR";
    case MessageType::HEARTBEAT:
      return "HEARTBEAT";
    case MessageType::CONTROL:
      return "CONTROL";
  }
  return "UNKNOWN";
}

const char* to_string(Role role) noexcept { return role == Role::SERVER ? "server" : "client"; }

const char* to_string(TransportState state) noexcept {
  switch (state) {
    case TransportState::UNINITIALIZED:
      return "UNINITIALIZED";
    case TransportState::INITIALIZED:
      return "INITIALIZED";
    case TransportState::STARTED:
      return "STARTED";
    case TransportState::CONNECTED:
      return "CONNECTED";
    case TransportState::RECONNECTING:
      return "RECONNECTING";
  }
  return "UNKNOWN";
}

}  // namespace cdmf::ipc
