#include "registry/sanitizer.h"

#include <dlfcn.h>

#include <cstdio>

#include "ipc/plugin.h"

namespace cdmf::ipc::registry {
namespace {

struct Sanitizer {
  std::uint32_t flag;
  const char* name;
  const char* option;       // What a compiler is told.
  const char* gcc_library;  // Starts of the runtimes' file names.
  const char* clang_library;
  const char* init_symbol;    // Every runtime has it.
  const char* symbol_prefix;  // In the loader's words.
};

constexpr Sanitizer kSanitizers[] = {
    {CDMF_BUILD_ASAN, "AddressSanitizer", "address", "libasan.so", "libclang_rt.asan", "__asan_init", "__asan_"},
    {CDMF_BUILD_TSAN, "ThreadSanitizer", "thread", "libtsan.so", "libclang_rt.tsan", "__tsan_init", "__tsan_"},
    {CDMF_BUILD_MSAN, "MemorySanitizer", "memory", nullptr, "libclang_rt.msan", "__msan_init", "__msan_"}};

bool is_loaded(const std::string& library) {
  void* const handle = ::dlopen(library.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (handle != nullptr) ::dlclose(handle);
  return handle != nullptr;
}

const Sanitizer* find_by_library(std::string_view library) {
  for (const Sanitizer& sanitizer : kSanitizers) {
    if (library.starts_with(sanitizer.clang_library) ||
        (sanitizer.gcc_library != nullptr && library.starts_with(sanitizer.gcc_library))) {
      return &sanitizer;
    }
  }
  return nullptr;
}

/// gcc's runtimes lie where the loader looks, clang's do not.
std::string preload_of(const std::string& library) {
  return "LD_PRELOAD=" + (library.starts_with("libclang_rt.") ? "$(clang -print-file-name=" + library + ")" : library);
}

}  // namespace

std::uint32_t sanitizer_of_library(std::string_view library) {
  const Sanitizer* const sanitizer = find_by_library(library);
  return sanitizer != nullptr ? sanitizer->flag : 0;
}

std::uint32_t present_sanitizers() {
  std::uint32_t flags = sdk::build_flags();
  for (const Sanitizer& sanitizer : kSanitizers) {
    if (::dlsym(RTLD_DEFAULT, sanitizer.init_symbol) != nullptr) flags |= sanitizer.flag;
  }
  return flags;
}

std::string find_missing_runtime(const std::vector<std::string>& libraries) {
  for (const std::string& library : libraries) {
    const Sanitizer* const sanitizer = find_by_library(library);
    if (sanitizer == nullptr || is_loaded(library)) continue;
    const std::string text = std::string("needs the runtime of ") + sanitizer->name + " (" + library + "), ";
    const std::string without = std::string("build the plugin without -fsanitize=") + sanitizer->option;
    // Two sanitizers in one process, or two runtimes of one, do not get along either.
    if (const std::uint32_t present = present_sanitizers(); present != 0) {
      const bool same = (present & sanitizer->flag) != 0;
      return text + "and this process has " + (same ? "another one" : "that of " + sanitizer_names(present)) +
             "; build both with the same compiler and sanitizer, or " + without;
    }
    return text + "which must be in a process from its start; start the program with " + preload_of(library) + ", or " +
           without;
  }
  return {};
}

std::string explain_missing_runtime(std::string_view loader_text) {
  if (loader_text.find("undefined symbol: ") == std::string_view::npos) return {};
  for (const Sanitizer& sanitizer : kSanitizers) {
    if (loader_text.find(std::string("undefined symbol: ") + sanitizer.symbol_prefix) == std::string_view::npos) {
      continue;
    }
    const std::string library = std::string(sanitizer.clang_library) + "-x86_64.so";
    return std::string("it was built with ") + sanitizer.name +
           ", whose runtime must be in a process from its start; start the program with " + preload_of(library) +
           ", or build the plugin without -fsanitize=" + sanitizer.option;
  }
  return {};
}

std::string sanitizer_names(std::uint32_t flags) {
  std::string text;
  for (const Sanitizer& sanitizer : kSanitizers) {
    if ((flags & sanitizer.flag) == 0) continue;
    flags &= ~sanitizer.flag;
    text += (text.empty() ? "" : ", ") + std::string(sanitizer.name);
  }
  if (flags != 0) {
    char number[16];
    std::snprintf(number, sizeof number, "0x%08x", flags);
    text += (text.empty() ? "" : ", ") + std::string("unknown ") + number;
  }
  return text.empty() ? "none" : text;
}

}  // namespace cdmf::ipc::registry
