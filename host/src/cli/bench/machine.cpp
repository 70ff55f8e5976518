#include "cli/bench/machine.h"

#include <sched.h>
#include <sys/utsname.h>

#include <fstream>

namespace cdmf::ipc::cli {
namespace {

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const auto colon = line.find(": ");
    // x86 has "model name"; elsewhere the nearest thing is "CPU part" or "cpu".
    if (colon != std::string::npos && (line.starts_with("model name") || line.starts_with("cpu\t"))) {
      return line.substr(colon + 2);
    }
  }
  return "unknown processor";
}

std::string compiler() {
#if defined(__clang__)
  std::string text = "Clang " __clang_version__;
#else
  std::string text = "GNU " __VERSION__;
#endif
#if defined(__OPTIMIZE__)
  text += ", optimised";
#else
  text += ", NOT optimised";
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  text += ", with a sanitizer: figures mean nothing";
#endif
  return text;
}

}  // namespace

MachineDescription describe_machine() {
  MachineDescription machine;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int usable = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 0;
  machine.cpu = cpu_model() + ", " + std::to_string(usable) + " usable";
  utsname system{};
  if (uname(&system) == 0) machine.kernel = std::string(system.sysname) + " " + system.release;
  machine.compiler = compiler();
  return machine;
}

}  // namespace cdmf::ipc::cli
