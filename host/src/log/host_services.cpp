#include "log/host_services.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

namespace cdmf::ipc {
namespace {

constexpr std::uint32_t kNothing = std::numeric_limits<std::uint32_t>::max();

}  // namespace

HostServices::HostServices(LogSink sink, LogLevel lowest) : sink_(std::move(sink)), level_(lowest) {
  table_.struct_size = sizeof(cdmf_host);
  table_.abi_major = CDMF_ABI_MAJOR;
  table_.abi_minor = CDMF_ABI_MINOR;
  table_.context = this;
  table_.log_level = [](void* context) -> std::uint32_t {
    const auto* services = static_cast<const HostServices*>(context);
    return services->sink_ ? static_cast<std::uint32_t>(services->level_) : kNothing;
  };
  table_.log = [](void* context, std::uint32_t level, const char* message, const char* file, std::uint32_t line) {
    if (message == nullptr) return;
    const auto known = static_cast<LogLevel>(std::min<std::uint32_t>(level, CDMF_LOG_ERROR));
    const auto* services = static_cast<const HostServices*>(context);
    if (file == nullptr) return services->log(known, message);
    try {
      services->log(known, std::string(message) + " (" + file + ":" + std::to_string(line) + ")");
    } catch (...) {  // Out of memory for the longer text.
      services->log(known, message);
    }
  };
  table_.get_extension = [](void*, const char*) -> const void* { return nullptr; };
}

void HostServices::log(LogLevel level, std::string_view line) const noexcept {
  if (!sink_ || level < level_) return;
  try {
    sink_(level, line);
  } catch (...) {  // ipc/log.h: the line is lost. Nothing may be thrown into a plugin.
  }
}

}  // namespace cdmf::ipc
