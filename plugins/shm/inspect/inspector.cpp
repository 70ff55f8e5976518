#include "inspect/inspector.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "inspect/extension.h"
#include "inspect/look.h"
#include "inspect/object_report.h"
#include "inspect/pool_report.h"
#include "options.h"
#include "segment/endpoint.h"

namespace cdmf::ipc::shm {
namespace {

/// What the kernel says of the server counts, whatever the page says.
void correct(Snapshot& snapshot, const PeerCredentials& server) noexcept {
  snapshot.endpoint.pid = server.pid;
  snapshot.endpoint.uid = server.uid;
}

cdmf_status look_into(const cdmf_config& config, std::uint64_t deadline, Snapshot& snapshot, ErrorText& error) {
  const DriverConfig values(config);
  if (static_cast<RingType>(values.number("ring_type")) == RingType::mpmc) {
    return report_pool(values.endpoint(), snapshot, error);
  }
  const Options options{values};
  if (options.segment == SegmentKind::posix) {
    return report_object(values.endpoint(), snapshot, error);
  }
  std::string path;
  const cdmf_status found = options.address == "auto"
                                ? socket_path(options.endpoint.c_str(), path, error)
                                : check_socket_path(path = options.address, options.access, error);
  if (found != CDMF_OK) return found;
  UniqueFd socket;
  if (const cdmf_status status = connect_endpoint(path, deadline, socket, error); status != CDMF_OK) {
    // Whoever gives nothing but a name does not say of what kind the endpoint is.
    if (status != CDMF_ENDPOINT_NOT_FOUND) return status;
    ErrorText unheard(nullptr);
    const auto is_there = [&](const char* option, auto report) {
      snapshot = {};
      return !values.given(option) && report(values.endpoint(), snapshot, unheard) == CDMF_OK;
    };
    return is_there("segment", report_object) || is_there("ring_type", report_pool) ? CDMF_OK : status;
  }
  PeerCredentials server;
  UniqueFd page;
  if (const cdmf_status status = ask_for_page(socket.get(), deadline, server, page, error); status != CDMF_OK) {
    return status;
  }
  if (const cdmf_status status = read_page(page.get(), snapshot, error); status != CDMF_OK) return status;
  correct(snapshot, server);
  return CDMF_OK;
}

template <typename T>
T* copied(const std::vector<T>& items) {
  if (items.empty()) return nullptr;
  auto copy = std::make_unique<T[]>(items.size());
  std::copy(items.begin(), items.end(), copy.get());
  return copy.release();
}

cdmf_status look(const cdmf_config* config, std::uint64_t deadline, cdmf_endpoint_report* report, cdmf_error* error) {
  return guarded_extension(error, [&]() -> cdmf_status {
    ErrorText text(error);
    Snapshot snapshot;
    if (const cdmf_status status = look_into(*config, deadline, snapshot, text); status != CDMF_OK) return status;
    cdmf_endpoint_report& endpoint = snapshot.endpoint;
    std::unique_ptr<const cdmf_link_report[]> links(copied(snapshot.links));
    endpoint.rings = copied(snapshot.rings);
    endpoint.links = links.release();
    endpoint.link_count = snapshot.links.size();
    endpoint.link_size = sizeof(cdmf_link_report);
    endpoint.ring_count = snapshot.rings.size();
    endpoint.ring_size = sizeof(cdmf_ring_report);
    const std::uint32_t known = std::min<std::uint32_t>(report->struct_size, sizeof endpoint);
    std::memcpy(report, &endpoint, known);
    report->struct_size = known;
    return CDMF_OK;
  });
}

void release(cdmf_endpoint_report* report) {
  delete[] report->links;
  delete[] report->rings;
  report->links = nullptr;
  report->rings = nullptr;
  report->link_count = report->ring_count = 0;
}

}  // namespace

const cdmf_inspect kInspect{sizeof(cdmf_inspect), 0, look, release};

}  // namespace cdmf::ipc::shm
