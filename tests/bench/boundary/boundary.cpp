// boundary/boundary.cpp: one operation of a driver, many times, either through the C table or called directly.
//   bench_boundary table|direct claim|commit|receive_burst|release_burst <times>
// Only the functions named measured_… are of interest: boundary.sh lets callgrind count the instructions inside them.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "boundary/null_driver.h"

using cdmf::ipc::DriverConfig;
using cdmf::ipc::PluginHost;
using cdmf::ipc::TransportDescription;
using cdmf::ipc::bench::NullDriver;

#define MEASURED extern "C" __attribute__((noinline))

MEASURED void measured_table_claim(const cdmf_driver& driver, cdmf_loan* loan, long times) {
  for (; times > 0; --times) driver.ops->claim(driver.self, 1, 64, loan);
}
MEASURED void measured_direct_claim(NullDriver& driver, cdmf_loan* loan, long times) {
  for (; times > 0; --times) driver.NullDriver::claim(1, 64, *loan);
}
MEASURED void measured_table_commit(const cdmf_driver& driver, cdmf_loan* loan, long times) {
  for (; times > 0; --times) driver.ops->commit(driver.self, loan, 64, 1);
}
MEASURED void measured_direct_commit(NullDriver& driver, cdmf_loan* loan, long times) {
  for (; times > 0; --times) driver.NullDriver::commit(*loan, 64, true);
}
MEASURED void measured_table_receive_burst(const cdmf_driver& driver, cdmf_view* views, long times) {
  for (; times > 0; --times) driver.ops->receive_burst(driver.self, views, 32);
}
MEASURED void measured_direct_receive_burst(NullDriver& driver, cdmf_view* views, long times) {
  for (; times > 0; --times) driver.NullDriver::receive_burst(views, 32);
}
MEASURED void measured_table_release_burst(const cdmf_driver& driver, long times) {
  for (; times > 0; --times) driver.ops->release_burst(driver.self);
}
MEASURED void measured_direct_release_burst(NullDriver& driver, long times) {
  for (; times > 0; --times) driver.NullDriver::release_burst();
}

namespace {

constexpr TransportDescription kDescription{.type = "null", .summary = "does nothing"};
constexpr cdmf_plugin kPlugin = cdmf::ipc::make_plugin<NullDriver>(kDescription);

int usage() {
  std::fputs("bench_boundary table|direct claim|commit|receive_burst|release_burst <times>\n", stderr);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return usage();
  const std::string_view way = argv[1];
  const std::string_view operation = argv[2];
  const long times = std::atol(argv[3]);
  cdmf_config config{};
  config.struct_size = sizeof config;
  config.endpoint = "/null";
  cdmf_driver driver{};
  if (kPlugin.create(nullptr, &config, &driver, nullptr) != CDMF_OK) return 1;
  NullDriver direct(DriverConfig(config), PluginHost(nullptr));
  cdmf_loan loan{};
  cdmf_view views[32];
  const bool table = way == "table";
  if (!table && way != "direct") return usage();
  if (operation == "claim") {
    table ? measured_table_claim(driver, &loan, times) : measured_direct_claim(direct, &loan, times);
  } else if (operation == "commit") {
    table ? measured_table_commit(driver, &loan, times) : measured_direct_commit(direct, &loan, times);
  } else if (operation == "receive_burst") {
    table ? measured_table_receive_burst(driver, views, times) : measured_direct_receive_burst(direct, views, times);
  } else if (operation == "release_burst") {
    table ? measured_table_release_burst(driver, times) : measured_direct_release_burst(direct, times);
  } else {
    return usage();
  }
  driver.ops->destroy(driver.self);
  return 0;
}
