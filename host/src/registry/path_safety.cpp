#include "registry/path_safety.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace cdmf::ipc::registry {
namespace {

namespace fs = std::filesystem;

std::string octal(mode_t mode) {
  std::string text;
  for (unsigned shift = 12; shift > 0; shift -= 3) {
    text += static_cast<char>('0' + ((static_cast<unsigned>(mode) >> (shift - 3)) & 7U));
  }
  return text;
}

/// Sticky, and root's: members of the group and others cannot change what is in it.
bool protects_its_content(const struct stat& status) {
  return S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX) != 0 && status.st_uid == 0;
}

std::optional<std::string> find_unsafe_part(const std::string& path, const Trust& trust) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    return '"' + path + "\" cannot be examined: " + std::generic_category().message(errno);
  }
  if (!trust.users.contains(status.st_uid)) {
    return '"' + path + "\" belongs to user " + std::to_string(status.st_uid) + ", who is neither root nor user " +
           std::to_string(::geteuid()) + "; use chown, or move the plugin";
  }
  if (protects_its_content(status)) return std::nullopt;
  const bool others = (status.st_mode & S_IWOTH) != 0 && !trust.everybody;
  const bool group = (status.st_mode & S_IWGRP) != 0 && !trust.everybody && !trust.groups.contains(status.st_gid);
  if (others || group) {
    return '"' + path + "\" is writable by " + (others ? "everybody" : "its group") + " (mode " +
           octal(status.st_mode & 07777U) + "); use chmod go-w";
  }
  return std::nullopt;
}

}  // namespace

Trust trust_in(const std::string& program) {
  Trust trust;
  trust.users = {0, ::geteuid()};
  fs::path part;
  for (const fs::path& name : fs::path(program)) {
    part /= name;
    struct stat status {};
    if (::lstat(part.c_str(), &status) != 0) break;
    trust.users.insert(status.st_uid);
    if (protects_its_content(status)) continue;
    if ((status.st_mode & S_IWGRP) != 0) trust.groups.insert(status.st_gid);
    if ((status.st_mode & S_IWOTH) != 0) trust.everybody = true;
  }
  return trust;
}

const Trust& own_trust() {
  static const Trust trust = [] {
    std::error_code error;
    const fs::path program = fs::read_symlink("/proc/self/exe", error);
    return trust_in(error ? std::string() : program.string());
  }();
  return trust;
}

std::optional<std::string> find_unsafe(const std::string& path, const Trust& trust) {
  fs::path part;
  for (const fs::path& name : fs::path(path)) {
    part /= name;
    if (auto reason = find_unsafe_part(part.string(), trust)) return reason;
  }
  return std::nullopt;
}

}  // namespace cdmf::ipc::registry
