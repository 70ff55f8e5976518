#pragma once
// registry/sanitizer.h: which sanitizers' runtimes are in this process. A runtime must be there from the start: loaded
// late, with a plugin, it ends the process, without a word to those who asked for the plugin.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cdmf::ipc::registry {

/// CDMF_BUILD_… of the runtime that a library of that name is; 0: it is none. "libasan.so.8" is AddressSanitizer's.
std::uint32_t sanitizer_of_library(std::string_view library);

/// CDMF_BUILD_… this program was built with, or was started with through LD_PRELOAD.
std::uint32_t present_sanitizers();

/// What is wrong with loading a library that needs these runtimes, and what to do; empty when all are in the process.
/// libraries  file names as the library asks for them; of two runtimes of one sanitizer (gcc's, clang's) only the one
///            that is loaded will do
std::string find_missing_runtime(const std::vector<std::string>& libraries);

/// The same when the loader missed a symbol of a runtime that the library does not name, as clang's libraries do;
/// empty when its text is about something else.
std::string explain_missing_runtime(std::string_view loader_text);

/// "AddressSanitizer, ThreadSanitizer", or "none".
std::string sanitizer_names(std::uint32_t flags);

}  // namespace cdmf::ipc::registry
