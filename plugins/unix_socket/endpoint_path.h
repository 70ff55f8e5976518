#pragma once
// endpoint_path.h: which files stand behind an endpoint's name.
#include <string>
#include <string_view>

#include "ipc/driver.h"

namespace cdmf::ipc::unix_socket {

/// Paths of one endpoint, the same for every process of a user.
struct EndpointPath {
  std::string directory;  ///< $XDG_RUNTIME_DIR/cdmf, or /tmp/cdmf-<uid> when that variable is not set
  std::string socket;     ///< <directory>/<name>.sock
  std::string lock;       ///< <directory>/<name>.lock, flock()ed by the server for as long as it listens
};

/// The name of an endpoint as a file name: no two endpoints share one. A leading '/' is dropped ("/orders" is
/// "orders"), an endpoint without one gets '='; bytes outside [A-Za-z0-9._-] become %XX.
[[nodiscard]] std::string encode_endpoint(std::string_view endpoint);

/// Throws ConfigError when the path of the socket is longer than the kernel takes.
[[nodiscard]] EndpointPath endpoint_path(std::string_view endpoint);
[[nodiscard]] EndpointPath endpoint_path(std::string_view endpoint, std::string directory);

/// Makes the directory (0700) when it is not there, and refuses one that another user owns or may write to: whoever can
/// write there can take the place of the server.
[[nodiscard]] cdmf_status make_directory(const std::string& directory, ErrorText& error);
/// The same check without making it. ENDPOINT_NOT_FOUND when it is not there.
[[nodiscard]] cdmf_status check_directory(const std::string& directory, ErrorText& error);

}  // namespace cdmf::ipc::unix_socket
