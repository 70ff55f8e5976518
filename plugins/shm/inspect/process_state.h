#pragma once
// inspect/process_state.h: what the system knows of a process that should answer, or be at work.

#include <cstdint>
#include <string>

namespace cdmf::ipc::shm {

/// "which is stopped", "which runs" …: what /proc says of it, in the words of an error.
std::string state_of(std::int32_t pid);
inline bool is_stopped(std::int32_t pid) { return state_of(pid) == "which is stopped"; }

}  // namespace cdmf::ipc::shm
