#pragma once
// ipc/message.h: what applications send: Message owns its bytes, MessageView looks at bytes somewhere else.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/plugin_abi.h"
#include "ipc/time_left.h"

namespace cdmf::ipc {

/// Kind of a message. Transports treat all alike; other values of the byte are kept for applications.
enum class MessageType : std::uint8_t {
  REQUEST = 1,   ///< wants a RESPONSE or ERROR with the same id
  RESPONSE = 2,  ///< carries the id of its REQUEST
  EVENT = 3,     ///< wants no answer
  ERROR = 4,     ///< answer to a REQUEST that failed
  HEARTBEAT = 5,
  CONTROL = 6,
};
[[nodiscard]] const char* to_string(MessageType type) noexcept;

/// Names one link of a Transport; not used again between init() and cleanup().
using PeerId = cdmf_peer;
inline constexpr PeerId kNoPeer = CDMF_NO_PEER;      ///< "the only peer there is"
inline constexpr PeerId kAllPeers = CDMF_ALL_PEERS;  ///< reserved
inline constexpr std::size_t kSubjectBytesMax = 256;

/// A message whose bytes live elsewhere: in the memory of the transport while a handler runs, or with the sender.
/// A plain value; copying it copies no bytes. A received view is valid until its handler returns (see
/// Transport::hold to keep it). Header fields and lengths are private copies; payload and subject bytes are in
/// memory that a hostile peer may still change (shm with `trust: cooperative`), so copy what you check.
struct MessageView {
  MessageType type = MessageType::EVENT;
  std::uint8_t flags = 0;  ///< the application's own
  TimeLeft time_left{};    ///< how long the sender of a REQUEST waited when it sent it
  std::uint8_t hops = 0;   ///< routes (ipc/router.h) that have passed it on; 0: as its author sent it
  std::uint64_t id = 0;
  std::string_view subject{};            ///< method or topic, 0 … kSubjectBytesMax bytes, any bytes
  std::span<const std::byte> payload{};  ///< 0 … max_message_size bytes
  // Filled in by the receiving side, ignored when sending.
  PeerId peer = kNoPeer;
  std::uint64_t timestamp_us = 0;  ///< time of sending, µs since the Unix epoch; 0 when the transport carries none
  std::uint64_t token = 0;         ///< the driver's, for Transport::hold

  [[nodiscard]] std::size_t getPayloadSize() const noexcept { return payload.size(); }
  [[nodiscard]] std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(payload.data()), payload.size()};
  }
};

/// A message that owns its subject and payload.
class Message {
 public:
  explicit Message(MessageType type = MessageType::EVENT) noexcept : type_(type) {}
  /// Copies everything a view shows.
  explicit Message(const MessageView& view)
      : type_(view.type),
        flags_(view.flags),
        time_left_(view.time_left),
        hops_(view.hops),
        id_(view.id),
        peer_(view.peer),
        timestamp_us_(view.timestamp_us),
        subject_(view.subject),
        payload_(view.payload.begin(), view.payload.end()) {}

  [[nodiscard]] MessageType getType() const noexcept { return type_; }
  void setType(MessageType type) noexcept { type_ = type; }
  [[nodiscard]] std::uint64_t getId() const noexcept { return id_; }
  void setId(std::uint64_t id) noexcept { id_ = id; }
  [[nodiscard]] std::uint8_t getFlags() const noexcept { return flags_; }
  void setFlags(std::uint8_t flags) noexcept { flags_ = flags; }
  [[nodiscard]] TimeLeft getTimeLeft() const noexcept { return time_left_; }
  void setTimeLeft(TimeLeft time_left) noexcept { time_left_ = time_left; }
  [[nodiscard]] std::uint8_t getHops() const noexcept { return hops_; }
  [[nodiscard]] const std::string& getSubject() const noexcept { return subject_; }
  void setSubject(std::string_view subject) { subject_ = subject; }

  /// Replaces the payload by a copy of size_bytes bytes; data may be null when size_bytes is 0.
  void setPayload(const void* data, std::size_t size_bytes) {
    const auto* bytes = static_cast<const std::byte*>(data);
    payload_.assign(bytes, bytes + size_bytes);
  }
  void setPayload(std::string_view text) { setPayload(text.data(), text.size()); }
  [[nodiscard]] std::span<const std::byte> getPayload() const noexcept { return payload_; }
  [[nodiscard]] std::size_t getPayloadSize() const noexcept { return payload_.size(); }
  [[nodiscard]] std::string_view getPayloadText() const noexcept {
    return {reinterpret_cast<const char*>(payload_.data()), payload_.size()};
  }

  /// Received messages: whom an answer goes to, and when it was sent (0: not carried).
  [[nodiscard]] PeerId getPeer() const noexcept { return peer_; }
  [[nodiscard]] std::uint64_t getTimestampMicroseconds() const noexcept { return timestamp_us_; }

  /// Valid until this Message changes or dies.
  [[nodiscard]] MessageView view() const noexcept {
    return {type_, flags_, time_left_, hops_, id_, subject_, payload_, peer_, timestamp_us_, 0};
  }

 private:
  MessageType type_;
  std::uint8_t flags_ = 0;
  TimeLeft time_left_{};
  std::uint8_t hops_ = 0;
  std::uint64_t id_ = 0;
  PeerId peer_ = kNoPeer;
  std::uint64_t timestamp_us_ = 0;
  std::string subject_;
  std::vector<std::byte> payload_;
};

using MessagePtr = std::unique_ptr<Message>;

}  // namespace cdmf::ipc
