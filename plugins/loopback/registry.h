#pragma once
// registry.h: the endpoints that servers of this process have open, by name.
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "alarm.h"
#include "link.h"

namespace cdmf::ipc::loopback {

/// An open endpoint: where clients leave their links for the server to find. [any]
class Listener {
 public:
  Listener(LinkLimits limits, std::shared_ptr<Alarm> server) : limits_(limits), server_(std::move(server)) {}

  [[nodiscard]] const LinkLimits& limits() const noexcept { return limits_; }
  /// Makes a link and puts it in front of the server. Null: the server closed in the meantime.
  [[nodiscard]] std::shared_ptr<Link> connect(std::shared_ptr<Alarm> client);
  /// Links made since the last call, oldest first.
  [[nodiscard]] std::vector<std::shared_ptr<Link>> accept();
  [[nodiscard]] bool has_waiting();
  /// No further links; those that nobody accepted end.
  void close();

 private:
  const LinkLimits limits_;
  const std::shared_ptr<Alarm> server_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Link>> waiting_;
  bool closed_ = false;
};

/// False: the name is taken.
[[nodiscard]] bool register_endpoint(const std::string& name, const std::shared_ptr<Listener>& listener);
void unregister_endpoint(const std::string& name);
/// Null: nobody listens there.
[[nodiscard]] std::shared_ptr<Listener> find_endpoint(const std::string& name);

}  // namespace cdmf::ipc::loopback
