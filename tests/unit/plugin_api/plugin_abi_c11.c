// Compiled as strict C11 with warnings as errors: the header must not need C++ or an extension.
#include "plugin_abi_c11.h"

#include "ipc/inspect_abi.h"
#include "ipc/plugin_abi.h"
#include "ipc/put_abi.h"
#include "ipc/sizes_abi.h"
#include "plugin_abi_layout.h"

#define SIZE(structure, expected) {"sizeof " #structure, sizeof(structure)},
#define FIELD(structure, field, expected) {#structure "." #field, offsetof(structure, field)},
const struct abi_fact kFactsOfC[] = {CDMF_ABI_LAYOUT(SIZE, FIELD){NULL, 0}};
