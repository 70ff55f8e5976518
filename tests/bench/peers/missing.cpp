// The peers that this build does without: each says what to install.
#include "peers/subject.h"

namespace cdmf::bench {
namespace {

[[maybe_unused]] std::vector<Subject> missing(const char* name, const char* label, const char* packages) {
  Subject made;
  made.name = name;
  made.label = label;
  made.skipped = std::string("not built in: apt-get install ") + packages + ", then ./dev bench";
  made.applies = [](const Case&) { return false; };
  return {made};
}

}  // namespace

#if !CDMF_BENCH_ICEORYX
std::vector<Subject> iceoryx_subjects() { return missing("iceoryx", "iceoryx", "iceoryx libiceoryx-posh-dev"); }
#endif
#if !CDMF_BENCH_ZEROMQ
std::vector<Subject> zeromq_subjects() { return missing("zeromq", "ZeroMQ ipc", "libzmq3-dev"); }
#endif
#if !CDMF_BENCH_NNG
std::vector<Subject> nng_subjects() { return missing("nng", "nng ipc", "libnng-dev"); }
#endif
#if !CDMF_BENCH_UCX
std::vector<Subject> ucx_subjects() { return missing("ucx", "UCX tag, posix shm", "libucx-dev"); }
#endif
#if !CDMF_BENCH_GRPC
std::vector<Subject> grpc_subjects() { return missing("plain_grpc", "plain gRPC stream", "libgrpc++-dev pkg-config"); }
#endif

}  // namespace cdmf::bench
