#pragma once
// registry/library.h: a loaded shared library. Loaded once per file and process, and never unloaded: threads, static
// objects and thread-local data of its code may live on, and nothing tells when the last one is gone.
#include <cstddef>
#include <memory>
#include <string>

namespace cdmf::ipc::registry {

/// What a name stands for in a library.
struct Symbol {
  const void* address = nullptr;  // Null: there is no such name, or a library it depends on has it (defined_in).
  std::size_t size_bytes = 0;     // As the library's own table says; 0 when it does not say.
  std::string defined_in;         // Path of another library that the lookup ended in.
};

class Library {
 public:
  virtual ~Library() = default;
  /// The symbol of that name in this very library, not in one that it depends on.
  [[nodiscard]] virtual Symbol symbol(const std::string& name) const = 0;
};

struct LibraryResult {
  std::shared_ptr<const Library> library;
  std::string problem;  // When null: the loader's own words, and what to do about them.
};

/// Loads a file, everything bound at once, its names invisible to others. The same file (device and inode) is loaded
/// once, whatever its path. Runs the library's static constructors.
/// path  absolute and canonical
LibraryResult load_library(const std::string& path);

}  // namespace cdmf::ipc::registry
