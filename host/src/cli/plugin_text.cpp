#include "cli/plugin_text.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "ipc/property.h"

namespace cdmf::ipc::cli {
namespace {

struct CapabilityName {
  std::uint64_t bit;
  const char* name;
};
constexpr CapabilityName kCapabilityNames[] = {
    {CDMF_CAP_MANY_PEERS, "many peers"},
    {CDMF_CAP_INTER_PROCESS, "between processes"},
    {CDMF_CAP_INTER_HOST, "between machines"},
    {CDMF_CAP_ZERO_COPY_SEND, "sends in place"},
    {CDMF_CAP_ZERO_COPY_RECEIVE, "receives in place"},
    {CDMF_CAP_HOLD, "messages can be held"},
    {CDMF_CAP_POLL_FD, "fits an event loop"},
    {CDMF_CAP_TIMESTAMP, "timestamps"},
    {CDMF_CAP_SURVIVES_SENDER, "survives its sender's death"},
    {CDMF_CAP_ENCRYPTED, "encrypted"},
    {CDMF_CAP_ONE_WAY, "from clients to servers only"},
    {CDMF_CAP_POOL, "a pool of many servers"},
};

// "between 64 and 1MiB", "one of spin, yield", "power of two, at least 64"; empty when only the type limits it.
std::string range_text(const cdmf_property& property) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (property.choices != nullptr) {
    std::string words;
    for (const char* const* choice = property.choices; *choice != nullptr; ++choice) {
      words += (words.empty() ? "" : " | ") + std::string(*choice);
    }
    add(words);
  }
  if ((property.flags & CDMF_PROPERTY_POWER_OF_TWO) != 0) add("a power of two");
  if (property.minimum != nullptr && property.maximum != nullptr) {
    add(std::string(property.minimum) + " to " + property.maximum);
  } else if (property.minimum != nullptr) {
    add("at least " + std::string(property.minimum));
  } else if (property.maximum != nullptr) {
    add("at most " + std::string(property.maximum));
  }
  return text;
}

std::string default_text(const cdmf_property& property) {
  if ((property.flags & CDMF_PROPERTY_REQUIRED) != 0) return "required";
  if (property.default_text == nullptr) return "none";
  return *property.default_text == '\0' ? "\"\"" : property.default_text;
}

// Breaks at blanks so that lines fit `width` columns; each line starts with `indent`.
std::string wrapped(std::string_view text, const std::string& indent, std::size_t width) {
  std::string result;
  std::string line = indent;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (line.size() > indent.size() && line.size() + 1 + word.size() > width) {
      result += line + "\n";
      line = indent;
    }
    if (line.size() > indent.size()) line += ' ';
    line += word;
  }
  return line.size() > indent.size() ? result + line + "\n" : result;
}

std::string markdown_cell(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  return text;
}

std::string options_as_text(const cdmf_plugin& plugin) {
  std::string text = std::string(plugin.type) + ": " + plugin.summary + "\n";
  if (plugin.property_count == 0) return text + "\nIt has no options.\n";
  for (std::size_t i = 0; i < plugin.property_count; ++i) {
    const auto& property = plugin.properties[i];
    text += "\n" + std::string(property.name) + "\n";
    text += wrapped(property.summary, "    ", 100);
    text += "    type: " + describe_type(property) + "\n";
    const std::string range = range_text(property);
    if (!range.empty()) text += "    values: " + range + "\n";
    text += "    default: " + default_text(property) + "\n";
  }
  return text;
}

std::string options_as_markdown(const cdmf_plugin& plugin) {
  std::string text = "# " + std::string(plugin.type) + "\n\n" + plugin.summary + "\n";
  if (plugin.property_count == 0) return text + "\nIt has no options.\n";
  text += "\n| Option | Type | Values | Default | Meaning |\n|---|---|---|---|---|\n";
  for (std::size_t i = 0; i < plugin.property_count; ++i) {
    const auto& property = plugin.properties[i];
    text += "| `" + std::string(property.name) + "` | " + markdown_cell(describe_type(property)) + " | " +
            markdown_cell(range_text(property)) + " | " + markdown_cell(default_text(property)) + " | " +
            markdown_cell(property.summary) + " |\n";
  }
  return text;
}

std::string options_as_yaml(const cdmf_plugin& plugin) {
  std::string text = wrapped(plugin.summary, "# ", 100) + plugin.type + ":";
  if (plugin.property_count == 0) return text + " {}  # no options\n";
  text += "\n";
  for (std::size_t i = 0; i < plugin.property_count; ++i) {
    const auto& property = plugin.properties[i];
    const std::string range = range_text(property);
    text += wrapped(property.summary, "  # ", 100);
    text += "  # " + describe_type(property) + (range.empty() ? "" : "; " + range) + "\n";
    // What has no default cannot stand at it: shown as a comment, for the reader to fill in.
    const bool has_default = property.default_text != nullptr && *property.default_text != '\0';
    text += has_default ? "  " + std::string(property.name) + ": " + property.default_text + "\n"
                        : "  # " + std::string(property.name) + ": (" + default_text(property) + ")\n";
  }
  return text;
}

}  // namespace

std::string capabilities_text(std::uint64_t capabilities) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  for (const auto& known : kCapabilityNames) {
    if ((capabilities & known.bit) != 0) add(known.name);
    capabilities &= ~known.bit;
  }
  for (int bit = 0; bit < 64; ++bit) {
    if ((capabilities >> bit & 1) != 0) add("bit " + std::to_string(bit));
  }
  return text.empty() ? "none" : text;
}

std::string descriptor_text(const cdmf_plugin& plugin, std::string_view path) {
  std::string sanitizers;
  const auto add = [&](const char* name) { sanitizers += (sanitizers.empty() ? "" : ", ") + std::string(name); };
  if ((plugin.build->flags & CDMF_BUILD_ASAN) != 0) add("address");
  if ((plugin.build->flags & CDMF_BUILD_TSAN) != 0) add("thread");
  if ((plugin.build->flags & CDMF_BUILD_MSAN) != 0) add("memory");
  std::string text;
  const auto line = [&](const char* name, const std::string& value) {
    text += std::string(name) + ":" + std::string(20 - std::char_traits<char>::length(name), ' ') + value + "\n";
  };
  line("type", plugin.type);
  line("path", std::string(path));
  line("summary", plugin.summary);
  line("version", plugin.version);
  line("vendor", plugin.vendor);
  line("license", plugin.license);
  line("abi", std::to_string(plugin.abi_major) + "." + std::to_string(plugin.abi_minor) + ", works with hosts from " +
                  std::to_string(plugin.abi_major) + "." + std::to_string(plugin.min_host_minor));
  line("capabilities", capabilities_text(plugin.capabilities));
  line("max_message_size", "up to " + format_size(plugin.max_message_size_limit));
  line("compiler", plugin.build->compiler);
  line("language", plugin.build->language);
  line("standard library", *plugin.build->standard_library == '\0' ? "none" : plugin.build->standard_library);
  line("sanitizers", sanitizers.empty() ? "none" : sanitizers);
  line("options", std::to_string(plugin.property_count) +
                      (plugin.property_count == 0 ? "" : ": cdmf plugins doc " + std::string(plugin.type)));
  return text;
}

std::string options_text(const cdmf_plugin& plugin, std::string_view format) {
  if (format == "markdown") return options_as_markdown(plugin);
  if (format == "yaml") return options_as_yaml(plugin);
  return options_as_text(plugin);
}

std::string table_text(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text.append(widths[i] - row[i].size() + 2, ' ');
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += "\n";
  }
  return text;
}

}  // namespace cdmf::ipc::cli
