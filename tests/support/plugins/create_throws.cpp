// A plugin whose driver throws in its constructor: the SDK must turn that into a status before it reaches the host.
#include <stdexcept>

#include "ipc/plugin.h"

namespace {

using namespace cdmf::ipc;

class ThrowingDriver : public Driver {
 public:
  ThrowingDriver(const DriverConfig&, PluginHost) { throw std::runtime_error("no driver today"); }

  cdmf_status open(ErrorText&) override { return CDMF_UNSUPPORTED; }
  cdmf_status attach(std::uint64_t, cdmf_peer&, ErrorText&) override { return CDMF_UNSUPPORTED; }
  cdmf_status claim(cdmf_peer, std::size_t, cdmf_loan&) override { return CDMF_UNSUPPORTED; }
  cdmf_status commit(const cdmf_loan&, std::size_t, bool) override { return CDMF_UNSUPPORTED; }
  void abort(const cdmf_loan&) override {}
  cdmf_status flush(cdmf_peer, std::uint64_t) override { return CDMF_OK; }
  cdmf_status await_space(cdmf_peer, std::size_t, std::uint64_t) override { return CDMF_UNSUPPORTED; }
  std::size_t receive_burst(cdmf_view*, std::size_t) override { return 0; }
  void release_burst() override {}
  cdmf_status await_messages(std::uint64_t) override { return CDMF_INTERRUPTED; }
  void interrupt() override {}
  cdmf_status disconnect(cdmf_peer, cdmf_status) override { return CDMF_NOT_CONNECTED; }
  void close() override {}
  void describe(cdmf_info&) override {}
};

constexpr TransportDescription kDescription{.type = "create_throws",
                                            .vendor = "cdmf tests",
                                            .license = "none",
                                            .summary = "Cannot be made.",
                                            .capabilities = CDMF_CAP_INTER_PROCESS};

}  // namespace

CDMF_EXPORT_TRANSPORT(ThrowingDriver, kDescription)
