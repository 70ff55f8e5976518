#include "registry/path_safety.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace cdmf::ipc::registry {
namespace {

std::string octal(mode_t mode) {
  std::string text;
  for (unsigned shift = 12; shift > 0; shift -= 3) {
    text += static_cast<char>('0' + ((static_cast<unsigned>(mode) >> (shift - 3)) & 7U));
  }
  return text;
}

std::optional<std::string> find_unsafe_part(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    return '"' + path + "\" cannot be examined: " + std::generic_category().message(errno);
  }
  const uid_t user = ::geteuid();
  if (status.st_uid != 0 && status.st_uid != user) {
    return '"' + path + "\" belongs to user " + std::to_string(status.st_uid) + ", who is neither root nor user " +
           std::to_string(user) + "; use chown, or move the plugin";
  }
  const bool shared_folder = S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX) != 0 && status.st_uid == 0;
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0 && !shared_folder) {
    const bool others = (status.st_mode & S_IWOTH) != 0;
    return '"' + path + "\" is writable by " + (others ? "everybody" : "its group") + " (mode " +
           octal(status.st_mode & 07777U) + "); use chmod go-w";
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> find_unsafe(const std::string& path) {
  std::filesystem::path part;
  for (const std::filesystem::path& name : std::filesystem::path(path)) {
    part /= name;
    if (auto reason = find_unsafe_part(part.string())) return reason;
  }
  return std::nullopt;
}

}  // namespace cdmf::ipc::registry
