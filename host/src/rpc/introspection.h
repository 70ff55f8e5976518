#pragma once
// rpc/introspection.h: what "cdmf.introspect" answers.
#include <map>
#include <string>

#include "rpc/stub_core.h"

namespace cdmf::ipc::rpc {

/// One JSON object: health ("serving" | "stopping"), counts, methods. Bytes of names beyond ASCII are escaped singly.
[[nodiscard]] std::string introspection_json(const std::map<std::string, Method, std::less<>>& methods,
                                             const StubStats& stats, bool stopping);

}  // namespace cdmf::ipc::rpc
