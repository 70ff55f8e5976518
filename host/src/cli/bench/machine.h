#pragma once
// cli/bench/machine.h: what a figure was measured on; without it a figure means little.
#include <string>

namespace cdmf::ipc::cli {

struct MachineDescription {
  std::string cpu;       // "AMD EPYC, 2 usable"
  std::string kernel;    // "Linux 6.1.0"
  std::string compiler;  // Of this program: "GNU 12.2.0, optimised"
};
[[nodiscard]] MachineDescription describe_machine();

}  // namespace cdmf::ipc::cli
