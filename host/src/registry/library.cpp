// The only file that knows Boost.DLL. Of it only shared_library and get<>() are used, through the throwing overloads:
// the others of version 1.74 lose the loader's text, bind lazily, or read past the end of stripped libraries.
#include "registry/library.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/stat.h>

#include <vector>  // Boost.DLL 1.74 forgets it.

#include <boost/dll/shared_library.hpp>

#include <cerrno>
#include <exception>
#include <map>
#include <mutex>
#include <string_view>
#include <system_error>
#include <utility>

#include "registry/sanitizer.h"

namespace cdmf::ipc::registry {
namespace {

class LoadedLibrary final : public Library {
 public:
  explicit LoadedLibrary(const std::string& path)
      : library_(path, boost::dll::load_mode::rtld_now | boost::dll::load_mode::rtld_local) {}

  Symbol symbol(const std::string& name) const override {
    Symbol symbol;
    if (!library_.has(name)) return symbol;
    const void* address = &library_.get<const char>(name);

    // The lookup also searches the libraries that this one depends on.
    link_map* own = nullptr;
    void* owner = nullptr;
    void* entry = nullptr;
    Dl_info info{};
    if (::dlinfo(library_.native(), RTLD_DI_LINKMAP, &own) != 0 ||
        ::dladdr1(address, &info, &owner, RTLD_DL_LINKMAP) == 0) {
      return symbol;
    }
    if (owner != own) {
      symbol.defined_in = info.dli_fname != nullptr ? info.dli_fname : "another library";
      return symbol;
    }
    symbol.address = address;
    if (::dladdr1(address, &info, &entry, RTLD_DL_SYMENT) != 0 && entry != nullptr && info.dli_saddr == address) {
      symbol.size_bytes = static_cast<const ElfW(Sym)*>(entry)->st_size;
    }
    return symbol;
  }

 private:
  boost::dll::shared_library library_;
};

using FileId = std::pair<dev_t, ino_t>;

struct Libraries {
  std::mutex mutex;
  std::map<FileId, std::shared_ptr<const Library>> loaded;
};

/// Never destroyed: unloading while the process ends runs into code that other destructors still use.
Libraries& libraries() {
  static auto& instance = *new Libraries;
  return instance;
}

/// The loader's sentence without what Boost.DLL puts around it.
std::string loader_text(std::string_view text) {
  constexpr std::string_view kStart = "(dlerror system message: ";
  const std::size_t start = text.find(kStart);
  if (start == std::string_view::npos) return std::string(text);
  text.remove_prefix(start + kStart.size());
  return std::string(text.substr(0, text.rfind(')')));
}

/// The loader's text may be translated; an unknown one gets no hint.
std::string with_hint(std::string text) {
  const auto has = [&text](const char* words) { return text.find(words) != std::string::npos; };
  if (std::string runtime = explain_missing_runtime(text); !runtime.empty()) {
    text += "; " + runtime;
  } else if (has("undefined symbol")) {
    text += "; it uses something that it does not bring along: link it with -Wl,-z,defs to find out what";
  } else if (has("version `")) {
    text += "; it was built against newer libraries than this machine has";
  } else if (has("cannot open shared object file")) {
    text += "; install the library that it needs, or link the plugin with an rpath to it";
  }
  return text;
}

}  // namespace

LibraryResult load_library(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {nullptr, std::generic_category().message(errno)};
  Libraries& known = libraries();
  const std::lock_guard lock(known.mutex);
  std::shared_ptr<const Library>& library = known.loaded[{status.st_dev, status.st_ino}];
  if (!library) {
    try {
      library = std::make_shared<const LoadedLibrary>(path);
    } catch (const std::exception& error) {
      known.loaded.erase({status.st_dev, status.st_ino});
      return {nullptr, with_hint(loader_text(error.what()))};
    }
  }
  return {library, {}};
}

}  // namespace cdmf::ipc::registry
