#pragma once
// log/host_services.h: the table that a host offers to its plugins, over a LogSink.
#include <string_view>

#include "ipc/log.h"
#include "ipc/plugin_abi.h"

namespace cdmf::ipc {

/// Lives as long as any driver that got its table. Does not move, as the table points into it.
class HostServices {
 public:
  /// sink may be empty: plugins are then told that nothing is logged.
  HostServices(LogSink sink, LogLevel lowest);
  HostServices(const HostServices&) = delete;
  HostServices& operator=(const HostServices&) = delete;

  [[nodiscard]] const cdmf_host* table() const noexcept { return &table_; }
  /// Passes a line on when it is at or above the level. An exception of the sink ends here. [any]
  void log(LogLevel level, std::string_view line) const noexcept;

 private:
  LogSink sink_;
  LogLevel level_;
  cdmf_host table_{};
};

}  // namespace cdmf::ipc
