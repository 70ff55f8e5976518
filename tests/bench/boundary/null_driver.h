#pragma once
// boundary/null_driver.h: a driver whose data path does next to nothing, so that what is left to measure is the
// boundary.
#include "ipc/plugin.h"

namespace cdmf::ipc::bench {

/// Its methods are defined in another file, as a driver's are: neither side of the comparison can inline them away.
class NullDriver final : public Driver {
 public:
  NullDriver(const DriverConfig& config, PluginHost host);

  cdmf_status open(ErrorText& error) override;
  cdmf_status attach(std::uint64_t deadline, cdmf_peer& peer, ErrorText& error) override;
  cdmf_status claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) override;
  cdmf_status commit(const cdmf_loan& loan, std::size_t size, bool flush) override;
  void abort(const cdmf_loan& loan) override;
  cdmf_status flush(cdmf_peer peer, std::uint64_t deadline) override;
  cdmf_status await_space(cdmf_peer peer, std::size_t size, std::uint64_t deadline) override;
  std::size_t receive_burst(cdmf_view* views, std::size_t capacity) override;
  void release_burst() override;
  cdmf_status await_messages(std::uint64_t deadline) override;
  void interrupt() override;
  cdmf_status disconnect(cdmf_peer peer, cdmf_status reason) override;
  void close() override;
  void describe(cdmf_info& info) override;

 private:
  alignas(CDMF_FRAME_ALIGNMENT) std::byte memory_[64]{};
  std::uint64_t count_ = 0;
};

}  // namespace cdmf::ipc::bench
