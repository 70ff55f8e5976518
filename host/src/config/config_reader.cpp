// From the tree of a YAML file to a HostConfig, checked against the tables of the plugins it names.
#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "config/problem.h"
#include "config/route_reader.h"
#include "config/suggest.h"
#include "config/value_hint.h"
#include "config/yaml_document.h"
#include "ipc/host_config.h"
#include "ipc/property.h"

namespace cdmf::ipc {
namespace {

using config::in_quotes;
using config::Position;
using config::Problems;
using config::YamlDocument;
using config::YamlEntry;
using config::YamlNode;
using Kind = config::YamlNode::Kind;
using Words = std::vector<std::string_view>;

constexpr std::size_t kNameBytesMax = 64;
constexpr std::size_t kEndpointBytesMax = 255;
constexpr std::array<std::string_view, 4> kTopKeys = {"version", "plugins", "transports", "routes"};
constexpr std::array<std::string_view, 2> kPluginKeys = {"search_paths", "security"};

bool contains(std::span<const std::string_view> words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

const cdmf_property* find_common(std::string_view name) {
  for (const cdmf_property& property : common_properties()) {
    if (name == property.name) return &property;
  }
  return nullptr;
}

Words common_names() {
  Words names = {"type", "endpoint"};
  for (const cdmf_property& property : common_properties()) names.emplace_back(property.name);
  return names;
}

Words property_names(const cdmf_plugin& plugin) {
  Words names;
  for (std::size_t i = 0; i < plugin.property_count; ++i) names.emplace_back(plugin.properties[i].name);
  return names;
}

/// "; shm has: a, b" and the like are hints; the summary of a row is the best one for a missing value.
std::string summary_of(const cdmf_property& property) { return property.summary != nullptr ? property.summary : ""; }

bool is_transport_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

class Reader {
 public:
  Reader(YamlDocument document, RegistryOptions options, std::optional<std::filesystem::path> folder)
      : document_(std::move(document)), options_(std::move(options)), folder_(std::move(folder)) {}

  LoadedConfig run() {
    if (document_.root) read_top(*document_.root);
    make_registry();  // Also without a readable file: the caller may want to list plugins.
    if (transports_ != nullptr) {
      name_types(*transports_);
      read_transports(*transports_);
    }
    if (routes_ != nullptr) {
      result_.config.routes = config::read_routes(*routes_, result_.config.transports, document_.problems);
    }
    for (const YamlEntry* entry : unknown_top_keys_) unknown_top_key(*entry);
    result_.problems = document_.problems.lines();
    return std::move(result_);
  }

 private:
  void add(Position position, const std::string& key, std::string reason, std::string hint = {}) {
    document_.problems.add(position, key, std::move(reason), std::move(hint));
  }

  /// Whether the node is of that kind; a refused one is none, and was complained about before.
  bool expect(const YamlNode& node, Kind kind, const std::string& key, const std::string& hint) {
    if (node.kind == kind) return true;
    if (node.kind == Kind::refused) return false;
    const char* expected = kind == Kind::map        ? "expected a map"
                           : kind == Kind::sequence ? "expected a list"
                                                    : "expected one value";
    const char* got = node.kind == Kind::map ? "a map" : node.kind == Kind::sequence ? "a list" : nullptr;
    add(node.position, key, expected + std::string(", got ") + (got != nullptr ? got : in_quotes(node.text)), hint);
    return false;
  }

  // ---- Top level ----------------------------------------------------------------------------------------------------

  void read_top(const YamlNode& root) {
    for (const YamlEntry& entry : root.entries) {
      if (entry.key == "version") {
        read_version(entry.value);
      } else if (entry.key == "plugins") {
        if (expect(entry.value, Kind::map, "plugins", "write 'plugins: { search_paths: [/opt/acme/cdmf] }'")) {
          read_plugins(entry.value);
        }
      } else if (entry.key == "transports") {
        if (expect(entry.value, Kind::map, "transports", kTransportsHint)) transports_ = &entry.value;
      } else if (entry.key == "routes") {
        if (expect(entry.value, Kind::sequence, "routes", config::kRoutesHint)) routes_ = &entry.value;
      } else {
        unknown_top_keys_.push_back(&entry);  // What to say depends on the plugins, whose folders are not all read yet.
      }
    }
    if (root.find("version") == nullptr) add({1, 1}, "version", "is missing", "add the line 'version: 1'");
    if (root.find("transports") == nullptr) add({1, 1}, "transports", "is missing", kTransportsHint);
  }

  void unknown_top_key(const YamlEntry& entry) {
    std::string hint;
    if (contains(kPluginKeys, entry.key)) {
      hint = "it belongs under 'plugins'";
    } else if (contains(common_names(), entry.key)) {
      hint = "it belongs to a transport: 'transports: { main: { " + entry.key + ": ... } }'";
    } else if (has_type(entry.key)) {
      hint = "it belongs to a transport: 'transports: { main: { type: " + entry.key + ", " + entry.key + ": ... } }'";
    } else if (const cdmf_plugin* owner = owner_of(entry.key)) {
      hint = "it belongs to a transport, under '" + std::string(owner->type) + "'";
    } else {
      hint = config::suggestion(entry.key, kTopKeys);
    }
    add(entry.key_position, config::printable(entry.key), "unknown key", std::move(hint));
  }

  void read_version(const YamlNode& node) {
    if (!expect(node, Kind::scalar, "version", "write 'version: 1'")) return;
    if (node.text != "1") {
      add(node.position, "version", in_quotes(node.text) + " is not a version that this program reads",
          "write 'version: 1'");
    }
  }

  void read_plugins(const YamlNode& node) {
    for (const YamlEntry& entry : node.entries) {
      if (entry.key == "search_paths") {
        read_search_paths(entry.value);
      } else if (entry.key == "security") {
        read_security(entry.value);
      } else {
        add(entry.key_position, "plugins." + config::printable(entry.key), "unknown key",
            config::suggestion(entry.key, kPluginKeys));
      }
    }
  }

  void read_search_paths(const YamlNode& node) {
    const std::string key = "plugins.search_paths";
    if (!expect(node, Kind::sequence, key, "write a list: [/opt/acme/cdmf]")) return;
    for (const YamlNode& item : node.items) {
      if (!expect(item, Kind::scalar, key, "name one folder")) continue;
      const std::filesystem::path path(item.text);
      if (item.text.empty()) {
        add(item.position, key, "names an empty folder");
      } else if (path.is_absolute()) {
        result_.config.plugins.search_paths.push_back(item.text);
      } else if (folder_) {
        result_.config.plugins.search_paths.push_back((*folder_ / path).lexically_normal().string());
      } else {
        add(item.position, key, in_quotes(item.text) + " is not absolute", "a text that is no file has no folder");
      }
    }
  }

  void read_security(const YamlNode& node) {
    const std::string key = "plugins.security";
    if (!expect(node, Kind::scalar, key, "write strict or warn")) return;
    if (node.text == "strict") {
      options_.security = PluginSecurity::STRICT;
    } else if (node.text == "warn") {
      options_.security = PluginSecurity::WARN;
    } else {
      constexpr std::array<std::string_view, 2> kChoices = {"strict", "warn"};
      add(node.position, key, "expected one of strict | warn, got " + in_quotes(node.text),
          config::suggestion(node.text, kChoices));
    }
  }

  void make_registry() {
    result_.config.plugins.security = options_.security;
    for (const std::string& path : result_.config.plugins.search_paths) options_.search_paths.push_back(path);
    result_.registry = std::make_shared<TransportRegistry>(std::move(options_));
    for (const std::string& problem : result_.registry->problems()) add({}, {}, problem);
    for (std::string& type : result_.registry->types()) types_.push_back(std::move(type));
  }

  /// Finds the types that the file names; others are not loaded for the sake of a hint.
  void name_types(const YamlNode& transports) {
    const auto name = [this](const std::string& type) {
      if (has_type(type) && !contains(Words(named_types_.begin(), named_types_.end()), type))
        named_types_.push_back(type);
    };
    for (const YamlEntry& transport : transports.entries) {
      for (const YamlEntry& option : transport.value.entries) {
        if (option.key == "type" && option.value.kind == Kind::scalar) name(option.value.text);
        if (option.value.kind == Kind::map) name(option.key);
      }
    }
  }

  /// The plugin among those named in the file that has an option of that name; null when none has.
  const cdmf_plugin* owner_of(const std::string& option) {
    for (const std::string& type : named_types_) {
      const auto found = result_.registry->find(type);
      if (found && find_property(*found.value, option) != nullptr) return found.value;
    }
    return nullptr;
  }

  // ---- Transports ---------------------------------------------------------------------------------------------------

  void read_transports(const YamlNode& node) {
    if (node.entries.empty()) add(node.position, "transports", "names no transport", kTransportsHint);
    for (const YamlEntry& entry : node.entries) {
      const std::string path = "transports." + config::printable(entry.key);
      if (!is_transport_name(entry.key)) {
        add(entry.key_position, path, "is no name for a transport", "a name has 1 to 64 letters, digits, '-' and '_'");
      }
      std::string hint = "write 'main: { type: shm, endpoint: /demo }'";
      if (contains(common_names(), entry.key)) hint = "a transport has a name: " + std::string(kTransportsExample);
      if (!expect(entry.value, Kind::map, path, hint)) continue;
      if (has_type(entry.key) && entry.value.find("type") == nullptr) {
        add(entry.key_position, path, "has no type",
            "options of type " + entry.key + " stand inside a transport, beside its 'type'");
        continue;
      }
      read_transport(entry, path);
    }
  }

  void read_transport(const YamlEntry& entry, const std::string& path) {
    TransportEntry transport;
    transport.name = entry.key;
    transport.place = document_.problems.file() + ":" + to_string(entry.key_position);
    transport.config.name = entry.key;

    const cdmf_plugin* plugin = read_type(entry, path, transport);
    read_endpoint(entry, path, transport);
    for (const YamlEntry& option : entry.value.entries) {
      if (option.key == "type" || option.key == "endpoint") continue;
      if (const cdmf_property* common = find_common(option.key)) {
        read_common(option, path + "." + option.key, *common, plugin, transport);
      } else if (has_type(option.key)) {
        read_section(option, path + "." + option.key, transport);
      } else {
        unknown_option(option, path, plugin);
      }
    }
    if (plugin != nullptr) check_required(entry, path, *plugin, transport);
    result_.config.transports.push_back(std::move(transport));
  }

  bool has_type(std::string_view type) const { return std::find(types_.begin(), types_.end(), type) != types_.end(); }

  /// The plugin of the entry's type; null after a problem.
  const cdmf_plugin* read_type(const YamlEntry& entry, const std::string& path, TransportEntry& transport) {
    const YamlEntry* type = entry.value.find("type");
    const std::string key = path + ".type";
    if (type == nullptr) {
      add(entry.key_position, key, "is missing", config::suggestion({}, Words(types_.begin(), types_.end())));
      return nullptr;
    }
    if (!expect(type->value, Kind::scalar, key, "name one type")) return nullptr;
    transport.type = type->value.text;
    return find_plugin(transport.type, type->value.position, key);
  }

  const cdmf_plugin* find_plugin(const std::string& type, Position position, const std::string& key) {
    const auto found = result_.registry->find(type);
    if (found) return found.value;
    // A search path that makes no sense was reported for the file, and is not the fault of each transport.
    if (result_.registry->problems().empty()) add(position, key, found.error_message);
    return nullptr;
  }

  void read_endpoint(const YamlEntry& entry, const std::string& path, TransportEntry& transport) {
    const YamlEntry* endpoint = entry.value.find("endpoint");
    const std::string key = path + ".endpoint";
    if (endpoint == nullptr) {
      add(entry.key_position, key, "is missing", "a logical name such as /orders, the same at both ends");
      return;
    }
    if (!expect(endpoint->value, Kind::scalar, key, "a logical name such as /orders")) return;
    const std::string& text = endpoint->value.text;
    if (text.empty()) {
      add(endpoint->value.position, key, "is empty", "a logical name such as /orders");
    } else if (text.size() > kEndpointBytesMax) {
      add(endpoint->value.position, key,
          "has " + std::to_string(text.size()) + " bytes, and may have " + std::to_string(kEndpointBytesMax));
    } else if (std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; })) {
      add(endpoint->value.position, key, "has a control character: " + in_quotes(text));
    } else {
      transport.config.endpoint = text;
    }
  }

  void read_common(const YamlEntry& option, const std::string& key, const cdmf_property& property,
                   const cdmf_plugin* plugin, TransportEntry& transport) {
    if (!expect(option.value, Kind::scalar, key, describe_type(property))) return;
    std::string problem = set_common_property(transport.config, property, option.value.text);
    if (!problem.empty()) {
      add(option.value.position, key, std::move(problem), config::value_hint(property, option.value.text));
    } else if (option.key == "role") {
      // As a property it wins over what the program asks for, and a contradicting alias is noticed.
      transport.config.properties["role"] = option.value.text;
    } else if (option.key == "max_message_size" && plugin != nullptr &&
               transport.config.max_message_size > plugin->max_message_size_limit) {
      add(option.value.position, key, option.value.text + " is more than type " + plugin->type + " can carry",
          "at most " + format_size(plugin->max_message_size_limit));
    }
  }

  /// A section of the entry's own type gives its properties; one of another type is checked all the same, so that
  /// switching types does not wake up old mistakes.
  void read_section(const YamlEntry& section, const std::string& path, TransportEntry& transport) {
    if (!expect(section.value, Kind::map, path, "options of type " + section.key + " stand in it")) return;
    const bool selected = section.key == transport.type;
    const auto found = result_.registry->find(section.key);
    if (!found) {
      if (!selected) find_plugin(section.key, section.key_position, path);  // The entry's own was reported at `type`.
      return;
    }
    for (const YamlEntry& option : section.value.entries) {
      const std::string key = path + "." + config::printable(option.key);
      const cdmf_property* property = find_property(*found.value, option.key);
      if (property == nullptr) {
        unknown_property(option, key, *found.value);
        continue;
      }
      if (!expect(option.value, Kind::scalar, key, describe_type(*property))) continue;
      ParsedValue value = check_value(*property, option.value.text);
      if (!value.problem.empty()) {
        add(option.value.position, key, std::move(value.problem), config::value_hint(*property, option.value.text));
      } else if (selected) {
        transport.config.properties[option.key] = option.value.text;
      }
    }
  }

  void check_required(const YamlEntry& entry, const std::string& path, const cdmf_plugin& plugin,
                      const TransportEntry& transport) {
    const YamlEntry* section = entry.value.find(transport.type);
    for (std::size_t i = 0; i < plugin.property_count; ++i) {
      const cdmf_property& property = plugin.properties[i];
      if ((property.flags & CDMF_PROPERTY_REQUIRED) == 0) continue;
      if (section != nullptr && (section->value.kind != Kind::map || section->value.find(property.name) != nullptr)) {
        continue;
      }
      add(section != nullptr ? section->key_position : entry.key_position,
          path + "." + transport.type + "." + property.name, "is missing", summary_of(property));
    }
  }

  void unknown_option(const YamlEntry& option, const std::string& path, const cdmf_plugin* plugin) {
    const std::string key = path + "." + config::printable(option.key);
    if (plugin != nullptr && find_property(*plugin, option.key) != nullptr) {
      return add(option.key_position, key, "unknown key", "it belongs under '" + std::string(plugin->type) + "'");
    }
    if (contains(kTopKeys, option.key))
      return add(option.key_position, key, "unknown key", "it belongs to the top level");
    if (contains(kPluginKeys, option.key)) {
      return add(option.key_position, key, "unknown key", "it belongs under 'plugins' at the top level");
    }
    if (const cdmf_plugin* owner = owner_of(option.key)) {
      return add(option.key_position, key, "unknown key", "it belongs under '" + std::string(owner->type) + "'");
    }
    Words known = common_names();
    known.insert(known.end(), types_.begin(), types_.end());
    std::string hint = config::suggestion(option.key, known);
    if (plugin != nullptr && option.value.kind == Kind::scalar && hint.rfind("did you mean", 0) != 0) {
      if (const auto near = config::nearest_word(option.key, property_names(*plugin))) {
        hint = "did you mean '" + std::string(*near) + "' under '" + plugin->type + "'?";
      }
    }
    if (option.value.kind == Kind::map && hint.rfind("did you mean", 0) != 0) {
      hint = "there is no plugin of that type; " + config::suggestion(option.key, Words(types_.begin(), types_.end()));
    }
    add(option.key_position, key, "unknown key", std::move(hint));
  }

  void unknown_property(const YamlEntry& option, const std::string& key, const cdmf_plugin& plugin) {
    std::string hint;
    if (contains(common_names(), option.key)) {
      hint = "it belongs one level up, beside 'type'";
    } else if (const cdmf_plugin* owner = owner_of(option.key)) {
      hint = "it belongs under '" + std::string(owner->type) + "'";
    } else {
      hint = config::suggestion(option.key, property_names(plugin));
      if (hint.empty()) hint = "type " + std::string(plugin.type) + " has no options";
    }
    add(option.key_position, key, "unknown option of type " + std::string(plugin.type), std::move(hint));
  }

  static constexpr const char* kTransportsExample = "'transports: { main: { type: shm, endpoint: /demo } }'";
  const std::string kTransportsHint = std::string("write ") + kTransportsExample;

  YamlDocument document_;
  RegistryOptions options_;
  std::optional<std::filesystem::path> folder_;  // Of the file; none for a text.
  const YamlNode* transports_ = nullptr;
  const YamlNode* routes_ = nullptr;
  std::vector<const YamlEntry*> unknown_top_keys_;
  std::vector<std::string> named_types_;  // By the file, as types or sections, and there is a plugin file.
  std::vector<std::string> types_;        // That a plugin file or a built-in plugin exists for.
  LoadedConfig result_;
};

}  // namespace

const TransportEntry* HostConfig::find(std::string_view name) const noexcept {
  if (name.empty()) return transports.size() == 1 ? &transports.front() : nullptr;
  for (const TransportEntry& entry : transports) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

LoadedConfig read_config_file(const std::string& path, RegistryOptions options) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  std::optional<std::filesystem::path> folder;
  if (!error) folder = absolute.parent_path();
  return Reader(config::read_yaml_file(path), std::move(options), std::move(folder)).run();
}

LoadedConfig read_config_text(const std::string& name, std::string_view text, RegistryOptions options) {
  return Reader(config::read_yaml_text(name, text), std::move(options), std::nullopt).run();
}

}  // namespace cdmf::ipc
