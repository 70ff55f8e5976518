// The keys that every transport knows: one row each, and the field it sets.
#include <array>

#include "ipc/plugin.h"
#include "ipc/property.h"

namespace cdmf::ipc {
namespace {

constexpr const char* kRoles[] = {"client", "server", nullptr};

/// In the order of the enum below.
constexpr std::array kCommon = {
    size_property("max_message_size", "64KiB", "1", "1GiB",
                  "Payload bytes of the largest message, inclusive. The server's value rules its clients."),
    duration_property("send_timeout", "3s", "0", "24h",
                      "How long send() waits for room before TIMEOUT; 0: BUFFER_FULL at once."),
    duration_property("receive_timeout", "3s", "0", "24h", "How long receive() waits for a message before TIMEOUT."),
    duration_property("connect_timeout", "5s", "0", "24h",
                      "How long a client tries to reach its server; 0: one attempt."),
    bool_property("auto_reconnect", "true", "Whether a client whose server went away tries again until it is stopped."),
    choice_property("role", nullptr, kRoles, "Overrides which side of the link the program takes."),
};
enum Row { kMaxMessageSize, kSendTimeout, kReceiveTimeout, kConnectTimeout, kAutoReconnect, kRole };

}  // namespace

std::span<const cdmf_property> common_properties() noexcept { return kCommon; }

std::string set_common_property(TransportConfig& config, const cdmf_property& property, std::string_view text) {
  const ParsedValue value = check_value(property, text);
  if (!value.problem.empty()) return value.problem;
  switch (static_cast<Row>(&property - kCommon.data())) {
    case kMaxMessageSize:
      config.max_message_size = static_cast<std::uint64_t>(value.number);
      break;
    case kSendTimeout:
      config.send_timeout = std::chrono::nanoseconds(value.number);
      break;
    case kReceiveTimeout:
      config.receive_timeout = std::chrono::nanoseconds(value.number);
      break;
    case kConnectTimeout:
      config.connect_timeout = std::chrono::nanoseconds(value.number);
      break;
    case kAutoReconnect:
      config.auto_reconnect = value.number != 0;
      break;
    case kRole:
      config.role = value.number == 0 ? Role::CLIENT : Role::SERVER;
      break;
  }
  return {};
}

}  // namespace cdmf::ipc
