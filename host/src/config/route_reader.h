#pragma once
// config/route_reader.h: the `routes` section of a file.
#include <vector>

#include "config/problem.h"
#include "config/yaml_document.h"
#include "ipc/host_config.h"

namespace cdmf::ipc::config {

inline constexpr const char* kRoutesHint = "write 'routes: [{ from: local, to: remote, match: \"orders.*\" }]'";

/// Reads the list and checks it against the transports of the same file. A route with a problem is left out.
std::vector<RouteEntry> read_routes(const YamlNode& list, const std::vector<TransportEntry>& transports,
                                    Problems& problems);

}  // namespace cdmf::ipc::config
