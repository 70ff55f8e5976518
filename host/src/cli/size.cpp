// cdmf size: what memory an endpoint takes, part by part, beside the specification's formula; and which options suit a
// load. The sizes come from the plugin, which lays the memory out.
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.h"
#include "cli/open_transport.h"
#include "cli/plugin_config.h"
#include "cli/sizing.h"

namespace cdmf::ipc::cli {
namespace {

const cdmf_sizes* sizes_of(const cdmf_plugin& plugin) { return extension_of<cdmf_sizes>(plugin, CDMF_SIZES_EXTENSION); }

const cdmf_sizes& sizes_required(const cdmf_plugin& plugin, const std::string& what) {
  if (const cdmf_sizes* const sizes = sizes_of(plugin); sizes != nullptr) return *sizes;
  throw CommandError("UNSUPPORTED: " + what + ": plugin " + plugin.type + " does not say what memory it takes");
}

std::vector<cdmf_size_part> parts_of(const cdmf_sizes& sizes, const PluginConfig& config, const std::string& what) {
  std::vector<cdmf_size_part> parts(16);
  for (;;) {
    PluginError error;
    std::size_t count = parts.size();
    error.require(sizes.parts(config.raw(), parts.data(), &count, error.raw()), what);
    const bool all = count <= parts.size();
    parts.resize(count);
    if (all) return parts;
  }
}

/// The table of an entry. formula_capacity  for the specification's formula, when no option says it.
std::string entry_text(const cdmf_plugin& plugin, const TransportConfig& config, const std::string& what,
                       std::uint64_t clients, std::uint64_t formula_capacity = 0) {
  const cdmf_sizes& sizes = sizes_required(plugin, what);
  const PluginConfig values(plugin, config, what);
  const std::string text = parts_text(parts_of(sizes, values, what), clients);
  const auto option = static_cast<std::uint64_t>(values.number("ring_buffer_capacity").value_or(0));
  const std::uint64_t capacity = option != 0 ? option : formula_capacity;
  return capacity == 0 ? text : text + formula_text(capacity, values.raw()->max_message_size);
}

void print_entry(const TransportEntry& entry, const std::string& table) {
  std::printf("%s: %s at %s\n%s", entry.name.c_str(), entry.type.c_str(), entry.config.endpoint.c_str(), table.c_str());
}

int size_of_file(const ProgramOptions& program, const SizeArguments& arguments) {
  const auto host = load_host(program, arguments.file, LogLevel::warning);
  if (!arguments.transport.empty() || host->config().transports.size() == 1) {
    const TransportEntry& entry = choose_entry(*host, arguments.file, arguments.transport);
    print_entry(entry, entry_text(plugin_of(*host, entry), entry.config, entry.place, arguments.clients));
    return kExitOk;
  }
  for (const TransportEntry& entry : host->config().transports) {
    const cdmf_plugin& plugin = plugin_of(*host, entry);
    print_entry(entry, sizes_of(plugin) == nullptr ? "does not say what memory it takes\n"
                                                   : entry_text(plugin, entry.config, entry.place, arguments.clients));
  }
  return kExitOk;
}

/// The wish of --capacity, or the one that the flowchart makes of --rate; `comments` tells how.
cdmf_size_wish read_wish(const SizeArguments& arguments, std::string& comments) {
  cdmf_size_wish wish{};
  wish.struct_size = sizeof wish;
  wish.producers = arguments.producers;
  wish.consumers = arguments.consumers;
  wish.capacity = arguments.capacity;
  const ParsedValue size = parse_size(arguments.message_size);
  if (!size.problem.empty()) throw UsageError("--message-size: " + size.problem);
  wish.message_size = static_cast<std::uint64_t>(size.number);
  if (arguments.rate.empty()) return wish;
  const auto rate = parse_rate(arguments.rate);
  if (!rate) {
    throw UsageError("--rate: '" + arguments.rate + "' is no number of messages a second, such as 50000, 50K or 2.5M");
  }
  const ParsedValue latency = parse_duration(arguments.latency);
  if (!latency.problem.empty()) throw UsageError("--latency: " + latency.problem);
  if (latency.number <= 0) throw UsageError("--latency: must be more than 0");
  wish.latency_ns = static_cast<std::uint64_t>(latency.number);
  const Advice advice = advise({*rate, wish.latency_ns, wish.producers, wish.consumers});
  wish.capacity = advice.capacity;
  const auto pause_ns = static_cast<std::uint64_t>(static_cast<double>(advice.capacity) / *rate * 1e9);
  comments = "# " + advice.reason + ".\n# At that rate a receiver may pause for " + duration_text(pause_ns) +
             " before its buffer is full.\n";
  return wish;
}

int size_of_wish(const ProgramOptions& program, const SizeArguments& arguments) {
  std::string comments;
  const cdmf_size_wish wish = read_wish(arguments, comments);
  TransportRegistry registry(registry_options(program, LogLevel::warning));
  const auto plugin = registry.find(arguments.type);
  require(plugin, "plugin '" + arguments.type + "'");
  const cdmf_sizes& sizes = sizes_required(*plugin.value, "--type " + arguments.type);
  cdmf_size_suggestion suggestion{};
  suggestion.struct_size = sizeof suggestion;
  PluginError error;
  error.require(sizes.suggest(&wish, &suggestion, error.raw()), "no options for that");
  comments += suggestion_note(suggestion);
  // Read as a file would be: what is printed is what is measured.
  const std::string yaml = suggestion_yaml(arguments.type, suggestion);
  const auto loaded = read_config_text("suggestion", yaml, registry_options(program, LogLevel::warning));
  if (!loaded.ok()) throw CommandError(loaded.problems.front());
  const std::string table = entry_text(*plugin.value, loaded.config.transports.front().config, arguments.type,
                                       arguments.clients, wish.capacity);
  std::printf("%s%s\n%s", comments.c_str(), yaml.c_str(), table.c_str());
  return kExitOk;
}

}  // namespace

int command_size(const ProgramOptions& program, const SizeArguments& arguments) {
  const int ways =
      (arguments.file.empty() ? 0 : 1) + (arguments.capacity == 0 ? 0 : 1) + (arguments.rate.empty() ? 0 : 1);
  if (ways != 1) throw UsageError("give one of FILE, --capacity with --message-size, or --rate with --latency");
  return arguments.file.empty() ? size_of_wish(program, arguments) : size_of_file(program, arguments);
}

}  // namespace cdmf::ipc::cli
