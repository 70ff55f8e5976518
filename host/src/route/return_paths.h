#pragma once
// route/return_paths.h: who asked, for the requests that were passed on over one transport and are not answered yet.
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "ipc/message.h"

namespace cdmf::ipc::route {

class Port;
struct Counters;

/// The way back of one answer.
struct ReturnPath {
  Port* origin = nullptr;
  PeerId peer = kNoPeer;  // Of origin: who asked,
  std::uint64_t id = 0;   // by that number.
  PeerId via = kNoPeer;   // Who was asked, and alone may answer.
  Counters* route = nullptr;
  std::uint64_t expires_ns = 0;  // On the monotonic clock.
};

/// Any thread may call anything. Bounded: requests that are never answered expire.
class ReturnPaths {
 public:
  static constexpr std::size_t kCountMax = 65'536;

  ReturnPaths();

  /// Notes a path and returns the number to ask with, never used before; nothing when there are too many.
  std::optional<std::uint64_t> add(const ReturnPath& path, std::uint64_t now_ns);
  /// Takes the path of that number, if it is that peer's to answer.
  std::optional<ReturnPath> take(std::uint64_t number, PeerId via);
  /// Takes all that wait for that peer.
  std::vector<ReturnPath> take_all(PeerId via);

 private:
  void drop_expired(std::uint64_t now_ns);

  std::mutex mutex_;
  std::unordered_map<std::uint64_t, ReturnPath> paths_;
  std::uint64_t last_;  // Starts anywhere: numbers of an earlier process mean nothing here.
  std::uint64_t next_sweep_ns_ = 0;
};

}  // namespace cdmf::ipc::route
