#pragma once
// config/read_file.h: a small regular file as a string. Opened once, so that what was checked is what is read.
#include <cstddef>
#include <string>

namespace cdmf::ipc::config {

struct FileText {
  bool ok = false;
  std::string text;    // When ok.
  std::string reason;  // Otherwise: what is wrong, with the system's words.
  std::string hint;
};

/// Reads at most bytes_max bytes; a file with more is refused. Folders, pipes, sockets and devices are refused without
/// being read, and opening one never waits.
FileText read_small_file(const std::string& path, std::size_t bytes_max);

}  // namespace cdmf::ipc::config
