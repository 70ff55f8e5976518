#include "cli/observer.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>

#include "ipc/driver.h"

namespace cdmf::ipc::cli {
namespace {

constexpr std::chrono::seconds kPatience{2};

const cdmf_inspect* inspect_of(const cdmf_plugin& plugin) {
  return extension_of<cdmf_inspect>(plugin, CDMF_INSPECT_EXTENSION);
}

/// Structures that may be shorter or longer than ours.
template <typename T>
std::vector<T> copied(const T* first, std::size_t count, std::size_t size) {
  std::vector<T> items(first == nullptr ? 0 : count);
  const auto* at = reinterpret_cast<const std::byte*>(first);
  for (T& item : items) {
    std::memcpy(static_cast<void*>(&item), at, std::min(size, sizeof item));
    item.struct_size = sizeof item;
    at += size;
  }
  return items;
}

TransportConfig config_of(const std::string& endpoint) {
  TransportConfig config;
  config.endpoint = endpoint;
  return config;
}

}  // namespace

const cdmf_link_report* Observation::link_of(const cdmf_ring_report& ring) const noexcept {
  const auto found = std::find_if(links.begin(), links.end(), [&](const auto& link) { return link.peer == ring.link; });
  return found == links.end() ? nullptr : &*found;
}

const cdmf_ring_report* Observation::same_ring(const cdmf_ring_report& ring) const noexcept {
  const auto found = std::find_if(rings.begin(), rings.end(), [&](const auto& other) {
    return other.link == ring.link && std::strncmp(other.name, ring.name, sizeof ring.name) == 0;
  });
  return found == rings.end() ? nullptr : &*found;
}

Observation look_through(const cdmf_inspect& inspect, const cdmf_config* config, std::chrono::nanoseconds patience,
                         const std::string& what) {
  PluginError error;
  cdmf_endpoint_report report{};
  report.struct_size = sizeof report;
  const std::uint64_t deadline = monotonic_now_ns() + static_cast<std::uint64_t>(patience.count());
  error.require(inspect.look(config, deadline, &report, error.raw()), what);
  struct Release {
    const cdmf_inspect& inspect;
    cdmf_endpoint_report& report;
    ~Release() { inspect.release(&report); }
  } release{inspect, report};
  Observation seen;
  seen.endpoint = report;
  seen.links = copied(report.links, report.link_count, report.link_size);
  seen.rings = copied(report.rings, report.ring_count, report.ring_size);
  seen.endpoint.links = nullptr;
  seen.endpoint.rings = nullptr;
  return seen;
}

/// The plugin that was chosen, and its configuration.
struct Observer::Way {
  Way(const cdmf_plugin& plugin, const TransportConfig& given, const std::string& where)
      : inspect(inspect_of(plugin)), config(plugin, given, where) {
    if (inspect == nullptr) {
      throw CommandError("UNSUPPORTED: " + where + ": plugin " + plugin.type + " does not let anybody look into it");
    }
  }
  const cdmf_inspect* inspect;
  PluginConfig config;
};

Observer::Observer(const ProgramOptions& program, const std::string& target, const std::string& transport,
                   const std::string& type) {
  std::error_code ignored;
  const bool looks_like_file = target.ends_with(".yaml") || target.ends_with(".yml");
  if (std::filesystem::is_regular_file(target, ignored) || looks_like_file) {
    if (!type.empty()) throw UsageError("--type is for an endpoint; " + target + " is a file, which says the type");
    host_ = load_host(program, target, LogLevel::warning);
    const TransportEntry& entry = choose_entry(*host_, target, transport);
    type_ = entry.type;
    endpoint_ = entry.config.endpoint;
    way_ = std::make_unique<Way>(plugin_of(*host_, entry), entry.config, entry.place);
    return;
  }
  if (!transport.empty()) throw UsageError("--transport names an entry of a file, and " + target + " is no file");
  endpoint_ = target;
  registry_ = std::make_unique<TransportRegistry>(registry_options(program, LogLevel::warning));
  if (!type.empty()) {
    const auto plugin = registry_->find(type);
    require(plugin, "plugin '" + type + "'");
    type_ = type;
    way_ = std::make_unique<Way>(*plugin.value, config_of(endpoint_), type + " \"" + endpoint_ + '"');
    return;
  }
  find(*registry_, registry_->types());
}

Observer::~Observer() = default;

/// The first type under which somebody listens at the endpoint.
void Observer::find(TransportRegistry& registry, const std::vector<std::string>& types) {
  std::string tried;
  for (const std::string& type : types) {
    const auto plugin = registry.find(type);
    if (!plugin || inspect_of(*plugin.value) == nullptr) continue;
    tried += (tried.empty() ? "" : ", ") + type;
    auto way = std::make_unique<Way>(*plugin.value, config_of(endpoint_), type + " \"" + endpoint_ + '"');
    PluginError error;
    cdmf_endpoint_report report{};
    report.struct_size = sizeof report;
    const std::uint64_t deadline = monotonic_now_ns() + std::uint64_t{kPatience.count()} * 1'000'000'000;
    const cdmf_status status = way->inspect->look(way->config.raw(), deadline, &report, error.raw());
    if (status == CDMF_ENDPOINT_NOT_FOUND || status == CDMF_INVALID_CONFIG) continue;
    error.require(status, type + " \"" + endpoint_ + '"');
    way->inspect->release(&report);
    type_ = type;
    way_ = std::move(way);
    return;
  }
  if (tried.empty()) throw CommandError("no plugin here lets anybody look into its endpoints");
  throw CommandError("ENDPOINT_NOT_FOUND: no server listens at \"" + endpoint_ + "\" (looked for: " + tried +
                     "); is it a file that does not exist, or does the server run as another user?");
}

Observation Observer::look() {
  return look_through(*way_->inspect, way_->config.raw(), kPatience, type_ + " \"" + endpoint_ + '"');
}

std::optional<std::int64_t> Observer::option(std::string_view name) const { return way_->config.number(name); }

}  // namespace cdmf::ipc::cli
