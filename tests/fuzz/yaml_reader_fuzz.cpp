// Any text given as a configuration is read or refused with reasons: no crash, no exception, and every problem is one
// printable line with a place inside the text.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>

#include "config/text_check.h"
#include "config/yaml_document.h"
#include "ipc/host_config.h"
#include "ipc/plugin.h"
#include "ipc/property.h"

namespace {

using namespace cdmf::ipc;

constexpr const char* kModes[] = {"calm", "eager", nullptr};
constexpr cdmf_property kRows[] = {
    int_property("depth", "8", "1", "1024", "How many at once.", CDMF_PROPERTY_POWER_OF_TWO),
    choice_property("mode", "calm", kModes, "How it waits."),
    size_property("room", "4KiB", "1KiB", "1MiB", "Bytes in flight."),
    duration_property("patience", "1s", "0", "1min", "How long it waits."),
    bool_property("listens", nullptr, "Whether this side listens.", CDMF_PROPERTY_ROLE),
    text_property("file", nullptr, "Where it keeps its notes.", CDMF_PROPERTY_REQUIRED),
};

cdmf_status no_driver(const cdmf_host*, const cdmf_config*, cdmf_driver*, cdmf_error*) { return CDMF_UNSUPPORTED; }

constexpr cdmf_plugin kPlugin = {sizeof(cdmf_plugin),
                                 CDMF_PLUGIN_MAGIC,
                                 CDMF_ABI_MAJOR,
                                 CDMF_ABI_MINOR,
                                 0,
                                 0,
                                 &sdk::kBuildInfo,
                                 "alpha",
                                 "1.0.0",
                                 "cdmf tests",
                                 "none",
                                 "For tests.",
                                 0,
                                 1 << 20,
                                 kRows,
                                 std::size(kRows),
                                 &no_driver,
                                 &sdk::no_extension};

void require(bool fine, const char* what, std::string_view detail) {
  if (fine) return;
  std::fprintf(stderr, "%s: %.*s\n", what, static_cast<int>(detail.size()), detail.data());
  std::abort();
}

/// "c.yaml:3:5: ..." or "c.yaml: ...": the place exists in a text of that many lines.
void check_line(std::string_view line, std::size_t line_count) {
  require(line.starts_with("c.yaml:"), "a problem does not start with the file's name", line);
  require(!config::find_text_fault(line).has_value(), "a problem is not printable UTF-8", line);
  line.remove_prefix(7);
  require(line.size() > 1, "a problem has no text", line);
  if (line[0] == ' ') return;
  char* end = nullptr;
  const unsigned long row = std::strtoul(line.data(), &end, 10);
  require(row >= 1 && row <= line_count && *end == ':', "a problem is at a line that is not there", line);
  const unsigned long column = std::strtoul(end + 1, &end, 10);
  require(column >= 1 && *end == ':' && end[1] == ' ', "a problem has no column", line);
}

void check_node(const config::YamlNode& node, std::size_t depth) {
  require(depth <= config::kYamlDepthMax, "a tree is deeper than allowed", node.text);
  require(node.text.find('\0') == std::string::npos, "a value holds a zero character", node.text);
  for (const config::YamlNode& item : node.items) check_node(item, depth + 1);
  for (const config::YamlEntry& entry : node.entries) {
    require(!entry.key.empty(), "a key is empty", entry.value.text);
    require(node.find(entry.key) == &entry, "a key is there twice", entry.key);
    check_node(entry.value, depth + 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  // One more than there are newlines, and the end of the file may be noticed on a line of its own.
  const std::size_t line_count = 2 + static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));

  const config::YamlDocument document = config::read_yaml_text("c.yaml", text);
  require(document.root || !document.problems.empty(), "neither a tree nor a problem", text);
  if (document.root) {
    require(document.root->kind == config::YamlNode::Kind::map, "the root is not a map", text);
    check_node(*document.root, 0);
  }

  RegistryOptions options;
  options.use_environment = false;
  options.use_default_folders = false;
  options.builtin = {&kPlugin};
  options.log = [](LogLevel, std::string_view) {};
  const LoadedConfig loaded = read_config_text("c.yaml", text, options);
  for (const std::string& line : loaded.problems) check_line(line, line_count);
  require(loaded.problems.size() >= document.problems.lines().size(), "problems of the text were lost", text);
  if (!loaded.problems.empty()) return 0;

  // What was accepted keeps every promise that a Transport builds on.
  require(!loaded.config.transports.empty(), "accepted without a transport", text);
  for (const TransportEntry& entry : loaded.config.transports) {
    require(entry.type == "alpha" && !entry.config.endpoint.empty(), "accepted without type or endpoint", text);
    for (const auto& [name, value] : entry.config.properties) {
      const cdmf_property* row = find_property(kPlugin, name);
      if (row == nullptr) {
        require(name == "role", "accepted an option that the type does not have", name);
      } else {
        require(check_value(*row, value).problem.empty(), "accepted a value that the type refuses", value);
      }
    }
  }
  return 0;
}
