#pragma once
// registry/path_safety.h: could anyone but root and this user have put this file here, or change it?
#include <optional>
#include <string>

namespace cdmf::ipc::registry {

/// Looks at the owner and mode of a file or folder and of each folder above it.
/// path     absolute and without symbolic links (canonical): each of its parts is what is looked at
/// returns  what is unsafe and how to make it safe; nothing when all is safe. Safe is: owned by root or the effective
///          user, and writable by neither group nor others, where a folder of root with the sticky bit may be.
/// Access control lists are not looked at.
std::optional<std::string> find_unsafe(const std::string& path);

}  // namespace cdmf::ipc::registry
