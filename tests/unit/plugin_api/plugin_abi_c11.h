#pragma once
// What a C compiler makes of ipc/plugin_abi.h, for comparison with what the C++ compiler makes of it.
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct abi_fact {
  const char* name;  // "sizeof cdmf_view", "cdmf_view.size"
  size_t bytes;
};

/// Ends with a null name.
extern const struct abi_fact kFactsOfC[];

#ifdef __cplusplus
}
#endif
