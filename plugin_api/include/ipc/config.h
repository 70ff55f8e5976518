#pragma once
// ipc/config.h: what a Transport is made from, in code or from YAML.
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace cdmf::ipc {

enum class Role { CLIENT, SERVER };
[[nodiscard]] const char* to_string(Role role) noexcept;

/// Who calls send(), loan() and flush().
enum class Senders {
  MANY,  ///< any threads; the Transport serialises them
  ONE,   ///< one thread at a time, which is not inside send() while another stops the Transport: the fast path
};

/// Who receives.
enum class Receive {
  THREAD,  ///< an I/O thread of the Transport calls the message callback
  POLL,    ///< the program calls poll() or receive(), and no thread is started: the fast path. It must not connect,
           ///< disconnect or stop while another of its threads polls; interrupt() brings that one back first
};

/// Options of one transport. Durations of 0 mean "do not wait".
struct TransportConfig {
  std::string name;  ///< in messages and logs; may be empty
  std::string
      endpoint;  ///< logical name, required, such as "/orders"; each same-host transport derives its object from it
  /// Options of the type by name, in the syntax of YAML scalars ("4096", "64KiB", "true"). The keys below are also
  /// accepted here, for instance properties["max_message_size"]. Unknown keys are errors.
  std::map<std::string, std::string> properties;

  // Keys that every transport knows; a key given in properties wins.
  /// Payload bytes of the largest message, inclusive. A client may send what its server allows when that is more
  /// (TransportInfo::max_message_size); when it is less, the client is refused or told BUFFER_OVERFLOW.
  std::uint64_t max_message_size = 64 * 1024;
  std::chrono::nanoseconds send_timeout = std::chrono::seconds(3);
  std::chrono::nanoseconds receive_timeout = std::chrono::seconds(3);  ///< of receive() without an own time-out
  std::chrono::nanoseconds connect_timeout = std::chrono::seconds(5);
  bool auto_reconnect = true;  ///< a client whose server went away tries again, until stop()
  std::optional<Role>
      role;  ///< the program's choice; the property "role" (or an alias such as create_shm) wins. Neither: client

  // What only the program can know; not in YAML.
  Senders senders = Senders::MANY;
  Receive receive = Receive::THREAD;
};

}  // namespace cdmf::ipc
