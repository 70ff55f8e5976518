#include "inspect/process_state.h"

#include <fstream>

namespace cdmf::ipc::shm {

std::string state_of(std::int32_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(status, line);
  const std::size_t name_end = line.rfind(')');  // The name may contain anything.
  if (name_end == std::string::npos || name_end + 2 >= line.size()) return "of which nothing is known";
  switch (line[name_end + 2]) {
    case 'T':
    case 't':
      return "which is stopped";
    case 'Z':
    case 'X':
      return "which is dead";
    case 'D':
      return "which waits for a device";
    default:
      return "which runs";
  }
}

}  // namespace cdmf::ipc::shm
