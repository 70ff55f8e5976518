#pragma once
// registry/path_safety.h: could somebody put code into this process by changing this file?
// Those who could change the program itself are trusted anyway, so a plugin may be as open as the program is, and no
// more: a build tree works whatever the umask and whoever owns the folder above it.
#include <sys/types.h>

#include <optional>
#include <set>
#include <string>

namespace cdmf::ipc::registry {

/// Who may be able to change a plugin.
struct Trust {
  std::set<uid_t> users;
  std::set<gid_t> groups;  // Whose members may write.
  bool everybody = false;  // Whether all others may write.
};

/// Root, the effective user, and whoever can change that file or a folder above it.
/// program  absolute and canonical; what cannot be examined adds nobody
Trust trust_in(const std::string& program);
/// trust_in() the running program; found out once.
const Trust& own_trust();

/// Looks at the owner and mode of a file or folder and of each folder above it.
/// path     absolute and without symbolic links (canonical): each of its parts is what is looked at
/// returns  what is unsafe and how to make it safe; nothing when all is safe. A folder of root with the sticky bit is
///          safe though everybody may write there: they cannot touch what is not theirs.
/// Access control lists are not looked at.
std::optional<std::string> find_unsafe(const std::string& path, const Trust& trust);

}  // namespace cdmf::ipc::registry
