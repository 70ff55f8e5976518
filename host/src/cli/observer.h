#pragma once
// cli/observer.h: looking into a running endpoint through its plugin, as nobody's peer.
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.h"
#include "cli/open_transport.h"
#include "cli/plugin_config.h"
#include "ipc/inspect_abi.h"

namespace cdmf::ipc::cli {

/// What one look saw. The pointers in `endpoint` are null; the rest is here.
struct Observation {
  cdmf_endpoint_report endpoint{};
  std::vector<cdmf_link_report> links;
  std::vector<cdmf_ring_report> rings;

  [[nodiscard]] const cdmf_link_report* link_of(const cdmf_ring_report& ring) const noexcept;
  /// The same ring as one of another look; null when it is not there.
  [[nodiscard]] const cdmf_ring_report* same_ring(const cdmf_ring_report& ring) const noexcept;
};

/// Whom to look at: an entry of a file, or an endpoint by its name.
class Observer {
 public:
  /// target  a file when there is one of that name, otherwise an endpoint
  /// type    empty: of an endpoint, whatever plugin finds it
  /// throws  CommandError: no such file, no plugin that can look, nobody listens; UsageError: the words do not fit.
  Observer(const ProgramOptions& program, const std::string& target, const std::string& transport,
           const std::string& type);
  ~Observer();

  /// throws  CommandError.
  [[nodiscard]] Observation look();

  [[nodiscard]] const std::string& type() const noexcept { return type_; }
  [[nodiscard]] const std::string& endpoint() const noexcept { return endpoint_; }
  /// The value that the file gives an option, or its default.
  [[nodiscard]] std::optional<std::int64_t> option(std::string_view name) const;

 private:
  struct Way;
  void find(TransportRegistry& registry, const std::vector<std::string>& types);

  std::unique_ptr<Host> host_;
  std::unique_ptr<TransportRegistry> registry_;
  std::unique_ptr<Way> way_;
  std::string type_;
  std::string endpoint_;
};

/// throws  CommandError: the status says why not. Copies, whatever sizes the plugin's structures have.
[[nodiscard]] Observation look_through(const cdmf_inspect& inspect, const cdmf_config* config,
                                       std::chrono::nanoseconds patience, const std::string& what);

}  // namespace cdmf::ipc::cli
