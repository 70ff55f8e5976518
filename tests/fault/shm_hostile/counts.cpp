// Prints how much was tried, after the last test.
#include <cstdio>

#include "shm_hostile/peers.h"

namespace cdmf::ipc::shm::hostile {
namespace {

class Report : public ::testing::Environment {
 public:
  void TearDown() override {
    const Counts& all = counts();
    std::printf(
        "%llu hostile cases, %llu in some other trust or way of waiting; %llu wild writes; %llu links ended; "
        "%llu exchanges of the good pair beside\n",
        static_cast<unsigned long long>(all.cases), static_cast<unsigned long long>(all.runs),
        static_cast<unsigned long long>(all.writes), static_cast<unsigned long long>(all.links_ended),
        static_cast<unsigned long long>(all.good_exchanges));
  }
};
[[maybe_unused]] const auto* const kReport = ::testing::AddGlobalTestEnvironment(new Report);

}  // namespace
}  // namespace cdmf::ipc::shm::hostile
