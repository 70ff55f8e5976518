#include "cli/open_transport.h"

#include <cstdlib>

namespace cdmf::ipc::cli {

RegistryOptions registry_options(const ProgramOptions& program, LogLevel default_level) {
  RegistryOptions options;
  options.plugin_paths = program.plugin_paths;
  options.log_level = default_level;
  const char* environment = std::getenv("CDMF_LOG");
  const std::string word = !program.log_level.empty() ? program.log_level : environment != nullptr ? environment : "";
  if (!word.empty()) {
    const auto level = parse_log_level(word);
    if (!level) {
      const std::string source = program.log_level.empty() ? "CDMF_LOG" : "--log-level";
      throw UsageError(source + ": '" + word + "' is none of trace, debug, info, warning, error");
    }
    options.log_level = *level;
  }
  options.log = stderr_log(options.log_level);
  return options;
}

std::unique_ptr<Host> load_host(const ProgramOptions& program, const std::string& file, LogLevel default_level) {
  auto host = Host::load(file, registry_options(program, default_level));
  if (!host.success()) throw CommandError(host.error_message.empty() ? file + ": " + host.text() : host.error_message);
  return std::move(host.value);
}

const TransportEntry& choose_entry(const Host& host, const std::string& file, const std::string& name) {
  const TransportEntry* entry = host.config().find(name);
  if (entry != nullptr) return *entry;
  std::string names;
  for (const auto& known : host.config().transports) names += (names.empty() ? "" : ", ") + known.name;
  if (name.empty()) throw UsageError(file + " has several transports; choose one with --transport: " + names);
  throw UsageError(file + " has no transport '" + name + "'; it has: " + names);
}

const cdmf_plugin& plugin_of(Host& host, const TransportEntry& entry) {
  const auto plugin = host.registry().find(entry.type);
  require(plugin, entry.place);
  return *plugin.value;
}

void require_two_processes(Host& host, const TransportEntry& entry) {
  if ((plugin_of(host, entry).capabilities & CDMF_CAP_INTER_PROCESS) != 0) return;
  throw CommandError("UNSUPPORTED: transport '" + entry.name + "' has type " + entry.type +
                     ", whose two ends must live in one process, and this command is only one of them. Choose another "
                     "'type' (" +
                     entry.place + ")");
}

void forget_role(const cdmf_plugin& plugin, TransportConfig& config) {
  config.role.reset();
  config.properties.erase("role");
  for (std::size_t i = 0; i < plugin.property_count; ++i) {
    if ((plugin.properties[i].flags & CDMF_PROPERTY_ROLE) != 0) config.properties.erase(plugin.properties[i].name);
  }
}

std::unique_ptr<Transport> open_transport(Host& host, const TransportEntry& entry, Role role,
                                          const std::function<void(TransportConfig&)>& adjust,
                                          const std::function<void(Transport&)>& prepare) {
  auto created = host.create(entry.name, role, adjust);
  require(created, entry.name);
  auto transport = std::move(created.value);
  if (prepare) prepare(*transport);
  require(transport->start(), entry.name);
  require(transport->connect(), entry.name);
  return transport;
}

}  // namespace cdmf::ipc::cli
