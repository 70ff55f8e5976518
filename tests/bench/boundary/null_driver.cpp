#include "boundary/null_driver.h"

namespace cdmf::ipc::bench {

NullDriver::NullDriver(const DriverConfig& /*config*/, PluginHost /*host*/) {}

cdmf_status NullDriver::open(ErrorText& /*error*/) { return CDMF_OK; }
cdmf_status NullDriver::attach(std::uint64_t /*deadline*/, cdmf_peer& peer, ErrorText& /*error*/) {
  peer = 1;
  return CDMF_OK;
}
cdmf_status NullDriver::claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) {
  loan.memory = memory_;
  loan.size = size;
  loan.peer = peer;
  loan.token = ++count_;
  return CDMF_OK;
}
cdmf_status NullDriver::commit(const cdmf_loan& loan, std::size_t size, bool flush) {
  count_ += loan.token + size + (flush ? 1 : 0);
  return CDMF_OK;
}
void NullDriver::abort(const cdmf_loan& /*loan*/) {}
cdmf_status NullDriver::flush(cdmf_peer /*peer*/, std::uint64_t /*deadline*/) { return CDMF_OK; }
cdmf_status NullDriver::await_space(cdmf_peer /*peer*/, std::size_t /*size*/, std::uint64_t /*deadline*/) {
  return CDMF_OK;
}
std::size_t NullDriver::receive_burst(cdmf_view* views, std::size_t capacity) {
  if (capacity == 0) return 0;
  views[0].frame = memory_;
  views[0].size = sizeof memory_;
  views[0].peer = 1;
  views[0].token = ++count_;
  views[0].kind = CDMF_VIEW_MESSAGE;
  return 1;
}
void NullDriver::release_burst() { ++count_; }
cdmf_status NullDriver::await_messages(std::uint64_t /*deadline*/) { return CDMF_OK; }
void NullDriver::interrupt() {}
cdmf_status NullDriver::disconnect(cdmf_peer /*peer*/, cdmf_status /*reason*/) { return CDMF_OK; }
void NullDriver::close() {}
void NullDriver::describe(cdmf_info& info) { info.frame_size_max = sizeof memory_; }

}  // namespace cdmf::ipc::bench
