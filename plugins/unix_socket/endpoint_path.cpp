#include "endpoint_path.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

namespace cdmf::ipc::unix_socket {
namespace {

constexpr std::size_t kPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;  // With its NUL.

bool is_plain(char byte) {
  return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '.' ||
         byte == '_' || byte == '-';
}

std::string default_directory() {
  // secure_getenv: in a set-user-ID program the caller must not choose where it meets its peers.
  const char* const runtime = secure_getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && runtime[0] == '/') return std::string(runtime) + "/cdmf";
  return "/tmp/cdmf-" + std::to_string(geteuid());
}

}  // namespace

std::string encode_endpoint(std::string_view endpoint) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string name;
  if (endpoint.starts_with('/')) {
    endpoint.remove_prefix(1);
  } else {
    name += '=';
  }
  for (const char byte : endpoint) {
    if (is_plain(byte)) {
      name += byte;
    } else {
      const auto value = static_cast<unsigned char>(byte);
      name += '%';
      name += kDigits[value >> 4];
      name += kDigits[value & 15];
    }
  }
  return name;
}

EndpointPath endpoint_path(std::string_view endpoint, std::string directory) {
  EndpointPath path;
  const std::string base = directory + '/' + encode_endpoint(endpoint);
  path.directory = std::move(directory);
  path.socket = base + ".sock";
  path.lock = base + ".lock";
  if (path.socket.size() > kPathBytesMax) {
    throw ConfigError("the socket's path ", path.socket, " has ", path.socket.size(), " bytes, the limit is ",
                      kPathBytesMax, "; choose a shorter 'endpoint' or a shorter XDG_RUNTIME_DIR");
  }
  return path;
}

EndpointPath endpoint_path(std::string_view endpoint) { return endpoint_path(endpoint, default_directory()); }

EndpointPath endpoint_address(std::string_view endpoint, std::string_view address) {
  if (address == "auto") return endpoint_path(endpoint);
  EndpointPath path;
  if (address == "abstract" || (address.starts_with('@') && address.size() > 1)) {
    path.kind = EndpointPath::Kind::kAbstract;
    path.socket = address == "abstract" ? "@cdmf-" + std::to_string(geteuid()) + "/" + encode_endpoint(endpoint)
                                        : std::string(address);
    // The kernel's name begins with a NUL in place of '@' and has no NUL at its end.
    if (path.socket.size() > kPathBytesMax + 1) {
      throw ConfigError("the abstract address ", path.socket, " has ", path.socket.size(), " bytes, the limit is ",
                        kPathBytesMax + 1, "; choose a shorter ", address == "abstract" ? "'endpoint'" : "'address'");
    }
    return path;
  }
  if (!address.starts_with('/') || address.ends_with('/')) {
    throw ConfigError("address \"", address, "\" is none of: auto, abstract, /path/to/file, @name");
  }
  path.kind = EndpointPath::Kind::kGiven;
  path.socket = address;
  path.lock = path.socket + ".lock";
  const std::size_t slash = path.socket.rfind('/');
  path.directory = slash == 0 ? "/" : path.socket.substr(0, slash);
  if (path.socket.size() > kPathBytesMax) {
    throw ConfigError("the socket's path ", path.socket, " has ", path.socket.size(), " bytes, the limit is ",
                      kPathBytesMax, "; choose a shorter 'address'");
  }
  return path;
}

cdmf_status check_given_directory(const std::string& directory, const Access& access, ErrorText& error) {
  struct stat found {};
  if (stat(directory.c_str(), &found) != 0) {
    const int problem = errno;
    if (problem == ENOENT || problem == ENOTDIR) {
      return error.fail(CDMF_ENDPOINT_NOT_FOUND, problem, directory,
                        ": the folder of 'address' is not there; make it, or correct 'address'");
    }
    return error.fail(problem == EACCES ? CDMF_PERMISSION_DENIED : CDMF_CONNECTION_FAILED, problem, directory,
                      ": the folder of 'address' cannot be looked at");
  }
  if (!S_ISDIR(found.st_mode)) {
    return error.fail(CDMF_ENDPOINT_NOT_FOUND, 0, directory, " is not a folder; correct 'address'");
  }
  if (!access.admits(found.st_uid)) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, directory, " belongs to user ", found.st_uid,
                      ", who could put another socket there; use a folder of this user or of root");
  }
  if ((found.st_mode & 0022) != 0 && (found.st_mode & S_ISVTX) == 0) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, directory,
                      " may be written by others, who could put another socket there; chmod go-w");
  }
  return CDMF_OK;
}

cdmf_status check_directory(const std::string& directory, ErrorText& error) {
  struct stat found {};
  // lstat: a symbolic link in /tmp could be anybody's.
  if (lstat(directory.c_str(), &found) != 0) {
    if (errno == ENOENT) {
      return error.fail(CDMF_ENDPOINT_NOT_FOUND, 0, directory,
                        " does not exist: no server of this user was started yet");
    }
    return error.fail(errno == EACCES ? CDMF_PERMISSION_DENIED : CDMF_CONNECTION_FAILED, errno, directory,
                      " cannot be looked at; check XDG_RUNTIME_DIR and its permissions");
  }
  if (!S_ISDIR(found.st_mode)) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, directory, " is not a directory; remove it or set XDG_RUNTIME_DIR");
  }
  if ((found.st_uid != geteuid() && found.st_uid != 0) || (found.st_mode & 0077) != 0) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, directory, " belongs to user ", found.st_uid,
                      " or is open to others; it must be this user's alone (chown, chmod 0700)");
  }
  return CDMF_OK;
}

cdmf_status make_directory(const std::string& directory, ErrorText& error) {
  if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    const int problem = errno;
    return error.fail(problem == EACCES || problem == EROFS || problem == EPERM ? CDMF_PERMISSION_DENIED
                      : problem == ENOSPC || problem == EDQUOT                  ? CDMF_RESOURCE_EXHAUSTED
                                                                                : CDMF_INVALID_CONFIG,
                      problem, directory,
                      " cannot be made; XDG_RUNTIME_DIR must name an existing directory of this user, or be unset");
  }
  return check_directory(directory, error);
}

}  // namespace cdmf::ipc::unix_socket
