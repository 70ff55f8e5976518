#pragma once
// acceptor.h: a server's control thread: accepts, checks who it is, shakes hands. Carries no data.
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "access.h"
#include "fd.h"
#include "ipc/driver.h"
#include "listening_socket.h"
#include "wire.h"

namespace cdmf::ipc::unix_socket {

/// A client that says nothing, or half of a hello, delays nobody and is dropped after a while; so is everything beyond
/// a fixed number of clients in that state. When the process has no descriptor left, clients are turned away instead of
/// waking this thread for ever.
class Acceptor {
 public:
  struct Rules {
    std::uint64_t frame_size_max = 0;
    std::chrono::nanoseconds handshake_timeout{};
    Access access{};
  };
  /// What the driver does with a client that may come in. Called on the control thread.
  struct Reception {
    std::function<bool(uid_t)> has_room;
    std::function<void(Fd, const PeerIdentity&)> welcome;  ///< the answer is sent already
  };

  Acceptor(ListeningSocket listening, std::string address, const Rules& rules, Reception reception, PluginHost host)
      : listening_(std::move(listening)),
        address_(std::move(address)),
        rules_(rules),
        reception_(std::move(reception)),
        host_(host) {}
  ~Acceptor() { stop(); }

  /// 0, or the errno of what could not be had.
  [[nodiscard]] int start();
  /// Joins the thread, gives the endpoint back. Clients in the middle of their handshake are hung up on.
  void stop() noexcept;
  /// In a forked child: the thread is not there; nothing of the parent's is touched.
  void abandon() noexcept;

 private:
  struct Guest {  // In its handshake.
    Fd socket;
    PeerIdentity identity;
    std::uint64_t deadline_ns = 0;
    Hello hello{};
    std::size_t received = 0;
  };
  static constexpr std::size_t kGuestsMax = 64;
  // Of one user who is neither this one nor root, so that nobody who was let in keeps the door shut for the others.
  static constexpr std::size_t kGuestsOfOneUserMax = 16;

  void run();
  void accept_some();
  void turn_one_away();
  [[nodiscard]] cdmf_status judge(const PeerIdentity& identity) const;
  void pause() const;
  [[nodiscard]] bool keep_waiting(Guest& guest);
  void finish_handshake(Guest& guest);
  static void answer(int socket, const Hello& hello);

  ListeningSocket listening_;
  const std::string address_;
  const Rules rules_;
  const Reception reception_;
  const PluginHost host_;
  Fd stop_event_;
  Fd reserve_;  // Given up for a moment to accept and turn away a client when no descriptor is left.
  std::vector<Guest> guests_;
  bool out_of_descriptors_ = false;
  std::thread thread_;
};

}  // namespace cdmf::ipc::unix_socket
