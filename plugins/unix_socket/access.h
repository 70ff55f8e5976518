#pragma once
// access.h: who may be at the other end of a socket, and who may open a server's socket file.
#include <sys/types.h>

#include <string_view>
#include <vector>

#include "ipc/driver.h"

namespace cdmf::ipc::unix_socket {

/// Which processes are talked to is decided by the credentials that the kernel kept of the peer, never by what the peer
/// says: this user, root, and the listed users.
struct Access {
  mode_t mode = 0600;                    ///< of the socket file
  gid_t group = static_cast<gid_t>(-1);  ///< of the socket file; -1: as it comes
  std::vector<uid_t> uids;               ///< besides this user and root

  [[nodiscard]] bool admits(uid_t uid) const noexcept;
};

/// mode   "0600", "0660" or "0666".
/// group  name or number of a group, or empty.
/// uids   numbers of users, separated by commas, or empty.
/// Throws ConfigError.
[[nodiscard]] Access parse_access(std::string_view mode, std::string_view group, std::string_view uids);

/// Who is at the other end, as the kernel knows it: at the time of connect() or listen().
struct PeerIdentity {
  pid_t pid = 0;                       ///< 0: of another name space
  uid_t uid = static_cast<uid_t>(-1);  ///< -1: the kernel did not say
};
[[nodiscard]] PeerIdentity peer_identity(int socket) noexcept;

}  // namespace cdmf::ipc::unix_socket
