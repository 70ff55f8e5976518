#pragma once
// endpoint_path.h: which files stand behind an endpoint's name.
#include <string>
#include <string_view>

#include "access.h"
#include "ipc/driver.h"

namespace cdmf::ipc::unix_socket {

/// Where one endpoint is, the same for every process of a user.
struct EndpointPath {
  enum class Kind {
    kOwn,       ///< in a directory of this plugin, which the server makes
    kGiven,     ///< a file that the configuration names
    kAbstract,  ///< a name without a file; no permissions, gone with its socket
  };
  Kind kind = Kind::kOwn;
  std::string directory;  ///< $XDG_RUNTIME_DIR/cdmf, or /tmp/cdmf-<uid> when that variable is not set; empty: abstract
  std::string socket;     ///< <directory>/<name>.sock; "@name" when abstract
  std::string lock;       ///< the same with .lock, flock()ed by the server for as long as it listens; empty: abstract
};

/// The name of an endpoint as a file name: no two endpoints share one. A leading '/' is dropped ("/orders" is
/// "orders"), an endpoint without one gets '='; bytes outside [A-Za-z0-9._-] become %XX.
[[nodiscard]] std::string encode_endpoint(std::string_view endpoint);

/// Throws ConfigError when the path of the socket is longer than the kernel takes.
[[nodiscard]] EndpointPath endpoint_path(std::string_view endpoint);
[[nodiscard]] EndpointPath endpoint_path(std::string_view endpoint, std::string directory);

/// The option `address`: "auto" (a file derived from the endpoint), "abstract" (an abstract name derived from the
/// endpoint and the user), "/path/to/file", or "@name" (that abstract name, for every user the same). Throws
/// ConfigError for anything else and for what is longer than the kernel takes.
[[nodiscard]] EndpointPath endpoint_address(std::string_view endpoint, std::string_view address);

/// Makes the directory (0700) when it is not there, and refuses one that another user owns or may write to: whoever can
/// write there can take the place of the server.
[[nodiscard]] cdmf_status make_directory(const std::string& directory, ErrorText& error);
/// The same check without making it. ENDPOINT_NOT_FOUND when it is not there.
[[nodiscard]] cdmf_status check_directory(const std::string& directory, ErrorText& error);
/// The directory of a given path: it must be there, and nobody but its owner, who must be root or somebody that access
/// admits, may replace files in it (sticky directories are fine).
[[nodiscard]] cdmf_status check_given_directory(const std::string& directory, const Access& access, ErrorText& error);

}  // namespace cdmf::ipc::unix_socket
