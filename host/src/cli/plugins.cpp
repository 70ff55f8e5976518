// cdmf plugins: what transports there are, where from, and what can be set.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "cli/commands.h"
#include "cli/open_transport.h"
#include "cli/plugin_text.h"

namespace cdmf::ipc::cli {
namespace {

void print(const std::string& text) { std::fputs(text.c_str(), stdout); }

// The record of that type that is used, or why none is.
PluginRecord find_plugin(TransportRegistry& registry, const std::string& type) {
  const auto found = registry.find(type);
  require(found, "plugin '" + type + "'");
  for (auto& record : registry.list()) {
    if (record.type == type && record.status == PluginStatus::LOADED) return record;
  }
  throw CommandError("plugin '" + type + "' disappeared while it was looked at");
}

// Loads the plugin in a process of its own first: this command loads whatever lies in the folders, also what nobody
// asked for, and one of them may end the process that loads it. returns how it ended; empty when it did not.
std::string load_in_child(TransportRegistry& registry, const std::string& type) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return {};  // No process to spare: as good as unknown.
  if (child == 0) {
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    (void)registry.find(type);
    ::_exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return {};
  }
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status)) + ", " + ::strsignal(WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? "" : "exit code " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

int command_plugins_list(const ProgramOptions& program, const PluginArguments& arguments) {
  TransportRegistry registry(registry_options(program, LogLevel::warning));
  for (const auto& problem : registry.problems()) std::fprintf(stderr, "cdmf plugins: %s\n", problem.c_str());
  if (!registry.problems().empty()) return kExitFailure;

  for (const auto& folder : registry.unusable_folders()) std::fprintf(stderr, "cdmf plugins: %s\n", folder.c_str());

  bool deadly = false;
  for (const std::string& type : registry.types()) {
    const std::string end = load_in_child(registry, type);
    if (end.empty()) continue;
    std::fprintf(stderr, "cdmf plugins: libcdmf_%s.so ends the process that loads it (%s); remove it from its folder\n",
                 type.c_str(), end.c_str());
    deadly = true;
  }
  if (deadly) return kExitFailure;

  std::vector<std::vector<std::string>> rows{{"TYPE", "VERSION", "PATH", "CAPABILITIES"}};
  std::vector<PluginRecord> unusable;
  for (const auto& record : registry.list()) {
    if (record.status == PluginStatus::LOADED) {
      rows.push_back(
          {record.type, record.plugin->version, record.path, capabilities_text(record.plugin->capabilities)});
    } else {
      unusable.push_back(record);
    }
  }
  if (rows.size() == 1) {
    std::string folders;
    for (const auto& folder : registry.searched_folders()) folders += "\n  " + folder;
    std::fprintf(stderr, "cdmf plugins: no usable plugin in these folders:%s\n", folders.c_str());
  } else {
    print(table_text(rows));
  }
  if (arguments.all) {
    for (const auto& record : unusable) {
      std::printf("\n%s %s: %s\n    %s\n", record.type.c_str(), to_string(record.status), record.path.c_str(),
                  record.reason.c_str());
    }
  } else if (!unusable.empty()) {
    std::fprintf(stderr, "%zu more cannot be used; --all says why\n", unusable.size());
  }
  return rows.size() > 1 ? kExitOk : kExitFailure;
}

int command_plugins_inspect(const ProgramOptions& program, const PluginArguments& arguments) {
  TransportRegistry registry(registry_options(program, LogLevel::warning));
  const PluginRecord record = find_plugin(registry, arguments.name);
  print(descriptor_text(*record.plugin, record.path));
  return kExitOk;
}

int command_plugins_doc(const ProgramOptions& program, const PluginArguments& arguments) {
  TransportRegistry registry(registry_options(program, LogLevel::warning));
  const auto plugin = registry.find(arguments.name);
  require(plugin, "plugin '" + arguments.name + "'");
  print(options_text(*plugin.value, arguments.format));
  return kExitOk;
}

}  // namespace cdmf::ipc::cli
