#pragma once
// segment/access.h: who may be at the other end of a link, and who may open the socket file or the named object behind
// an endpoint.
#include <sys/types.h>

#include <string_view>
#include <vector>

#include "ipc/driver.h"

namespace cdmf::ipc::shm {

/// Which processes are talked to is decided by what the kernel says of them, never by what they say: this user, root,
/// and the listed users.
struct Access {
  mode_t mode = 0600;                    // Of the socket file or the object.
  gid_t group = static_cast<gid_t>(-1);  // Of the same; -1: as it comes.
  std::vector<uid_t> uids;               // Besides this user and root.

  [[nodiscard]] bool admits(uid_t uid) const noexcept;
};

/// mode   "0600", "0660" or "0666".
/// group  name or number of a group, or empty.
/// uids   numbers of users, separated by commas, or empty.
/// Throws ConfigError.
[[nodiscard]] Access parse_access(std::string_view mode, std::string_view group, std::string_view uids);

}  // namespace cdmf::ipc::shm
