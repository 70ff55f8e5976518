#pragma once
// registry/elf_check.h: reads the headers of a library before the loader sees it. The loader's own words for a file
// that is not a library are poor, a truncated one can end the process, and so does a plugin with a sanitizer that this
// program lacks: its runtime stops the process as soon as it is loaded.
#include <string>
#include <vector>

namespace cdmf::ipc::registry {

struct ElfFacts {
  std::string problem;              // Empty: a complete library for this machine.
  std::vector<std::string> needed;  // Libraries that it asks for by name.
};

/// fd is an open regular file. Bytes are read at offsets; the position of fd does not matter. Never trusts a number in
/// the file: each is checked against the file's size.
ElfFacts examine_elf(int fd);

}  // namespace cdmf::ipc::registry
