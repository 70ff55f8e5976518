#include "segment/access.h"

#include <grp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <string>

namespace cdmf::ipc::shm {
namespace {

/// A decimal number below 2^32 - 1, which stands for "nobody" in the kernel's interfaces.
bool parse_id(std::string_view text, std::uint32_t& id) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), id);
  return problem == std::errc{} && end == text.data() + text.size() && id != UINT32_MAX;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

gid_t group_id(std::string_view group) {
  std::uint32_t id = 0;
  if (parse_id(group, id)) return id;
  ::group entry{};
  ::group* found = nullptr;
  std::vector<char> memory(16 * 1024);
  const std::string name(group);
  while (getgrnam_r(name.c_str(), &entry, memory.data(), memory.size(), &found) == ERANGE &&
         memory.size() < (std::size_t{1} << 24)) {
    memory.resize(2 * memory.size());
  }
  if (found == nullptr) throw ConfigError("group \"", name, "\" is unknown here; `getent group` lists those that are");
  return found->gr_gid;
}

}  // namespace

bool Access::admits(uid_t uid) const noexcept {
  if (uid == static_cast<uid_t>(-1)) return false;
  return uid == geteuid() || uid == 0 || std::find(uids.begin(), uids.end(), uid) != uids.end();
}

Access parse_access(std::string_view mode, std::string_view group, std::string_view uids) {
  Access access;
  access.mode = mode == "0660" ? 0660 : mode == "0666" ? 0666 : 0600;
  if (!group.empty()) access.group = group_id(group);
  while (!uids.empty()) {
    const std::size_t comma = std::min(uids.find(','), uids.size());
    const std::string_view one = trimmed(uids.substr(0, comma));
    std::uint32_t id = 0;
    if (!parse_id(one, id)) {
      throw ConfigError("allow_uids: \"", one, "\" is no user's number; write them like \"1001,1002\" (`id -u NAME`)");
    }
    access.uids.push_back(id);
    uids.remove_prefix(std::min(comma + 1, uids.size()));
  }
  return access;
}

}  // namespace cdmf::ipc::shm
