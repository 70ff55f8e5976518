#pragma once
// tests/unit/plugins/grpc/plugin.h: the plugin as programs load it.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "ipc/transport.h"

namespace cdmf::ipc {

inline const cdmf_plugin& plugin() {
  static const cdmf_plugin* const loaded = [] {
    const std::string path = std::string(std::getenv("CDMF_PLUGIN_PATH")) + "/libcdmf_grpc.so";
    void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    const void* const symbol = library == nullptr ? nullptr : dlsym(library, CDMF_PLUGIN_SYMBOL);
    if (symbol == nullptr) std::printf("%s\n", dlerror()), std::abort();
    return static_cast<const cdmf_plugin*>(symbol);
  }();
  return *loaded;
}

}  // namespace cdmf::ipc
