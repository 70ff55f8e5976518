#include "ipc/host.h"

#include <utility>

namespace cdmf::ipc {
namespace {

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : "\n") + line;
  return text;
}

}  // namespace

Host::Host(LoadedConfig loaded, LogSink log, LogLevel log_level)
    : loaded_(std::move(loaded)), log_(std::move(log)), log_level_(log_level) {}

TransportResult<std::unique_ptr<Host>> Host::load(const std::string& path, RegistryOptions options) {
  if (!options.log) options.log = stderr_log();
  LogSink log = options.log;
  const LogLevel level = options.log_level;
  LoadedConfig loaded = read_config_file(path, std::move(options));
  if (!loaded.ok()) return {TransportError::INVALID_CONFIG, joined(loaded.problems)};
  return std::unique_ptr<Host>(new Host(std::move(loaded), std::move(log), level));
}

TransportResult<std::unique_ptr<Host>> Host::from_text(const std::string& name, std::string_view text,
                                                       RegistryOptions options) {
  if (!options.log) options.log = stderr_log();
  LogSink log = options.log;
  const LogLevel level = options.log_level;
  LoadedConfig loaded = read_config_text(name, text, std::move(options));
  if (!loaded.ok()) return {TransportError::INVALID_CONFIG, joined(loaded.problems)};
  return std::unique_ptr<Host>(new Host(std::move(loaded), std::move(log), level));
}

TransportResult<std::unique_ptr<Transport>> Host::create(std::string_view name, Role program_role,
                                                         const std::function<void(TransportConfig&)>& adjust) {
  const TransportEntry* entry = config().find(name);
  if (entry == nullptr) {
    std::string known;
    for (const TransportEntry& other : config().transports) known += (known.empty() ? "" : ", ") + other.name;
    return {TransportError::INVALID_ARGUMENT,
            (name.empty() ? "several transports are configured; name one of "
                          : "no transport \"" + std::string(name) + "\" is configured; there is ") +
                known};
  }
  TransportConfig config = entry->config;
  if (!config.role) config.role = program_role;
  if (adjust) adjust(config);

  auto transport = registry().create(entry->type);
  if (!transport) return transport;
  const auto initialised = transport.value->init(config);
  if (!initialised) {
    return {initialised.error, entry->place + ": transports." + entry->name + ": " + initialised.error_message};
  }
  return transport;
}

void Host::log(LogLevel level, std::string_view line) const noexcept {
  if (level < log_level_) return;
  try {
    log_(level, line);
  } catch (...) {  // ipc/log.h: the line is lost, the caller goes on.
  }
}

}  // namespace cdmf::ipc
