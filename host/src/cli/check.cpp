// cdmf check: reads configurations as the host does, and says everything that is wrong with them.
#include <cstdio>

#include "cli/commands.h"
#include "cli/open_transport.h"

namespace cdmf::ipc::cli {

int command_check(const ProgramOptions& program, const CheckArguments& arguments) {
  int code = kExitOk;
  for (const auto& file : arguments.files) {
    const auto loaded = read_config_file(file, registry_options(program, LogLevel::warning));
    for (const auto& problem : loaded.problems) std::fprintf(stderr, "%s\n", problem.c_str());
    if (!loaded.ok()) {
      code = kExitFailure;
      continue;
    }
    for (const auto& entry : loaded.config.transports) {
      std::printf("%s: ok: %s is %s at %s\n", file.c_str(), entry.name.c_str(), entry.type.c_str(),
                  entry.config.endpoint.c_str());
    }
    for (const auto& route : loaded.config.routes) {
      std::printf("%s: ok: route %s %s %s for %s\n", file.c_str(), route.from.c_str(), route.both_ways ? "<->" : "->",
                  route.to.c_str(), route.match.c_str());
    }
  }
  return code;
}

}  // namespace cdmf::ipc::cli
