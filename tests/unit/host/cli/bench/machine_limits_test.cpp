// Runs every measurement briefly on two real processes. The figures themselves depend on the machine and its load; what
// is asserted is what no machine can beat, that each call ends, cleans up, and refuses instead of hanging.
#include "cli/bench/machine_limits.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

namespace cdmf::ipc::cli {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

bool has_children() {
  siginfo_t info{};
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

int allowed_count() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  return CPU_COUNT(&allowed);
}

// This process's children, by asking each process in /proc for its parent.
pid_t only_child() {
  DIR* proc = opendir("/proc");
  if (proc == nullptr) return -1;
  pid_t found = -1;
  while (const dirent* entry = readdir(proc)) {
    const long pid = std::strtol(entry->d_name, nullptr, 10);
    if (pid <= 0) continue;
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.rfind("PPid:", 0) == 0 && std::stol(line.substr(5)) == getpid()) found = static_cast<pid_t>(pid);
    }
  }
  closedir(proc);
  return found;
}

class MachineLimits : public testing::Test {
 protected:
  void TearDown() override {
    EXPECT_FALSE(has_children()) << "a measurement left a process behind";
    EXPECT_EQ(allowed_count(), allowed_before_) << "a measurement left its caller pinned";
  }
  const int allowed_before_ = allowed_count();
  const CpuPair cpus_ = choose_cpu_pair();
};

void expect_plausible(const RoundTrips& trips) {
  const auto summary = summarize(trips.timed);
  EXPECT_GT(summary.count, 0u);
  EXPECT_GT(summary.p50_ns, 0u);
  EXPECT_LE(summary.p50_ns, summary.p99_ns);
  EXPECT_LE(summary.p99_ns, summary.max_ns);
  EXPECT_GT(trips.untimed_ns, 5) << "no two processors exchange a line twice within 5 ns";
}

TEST_F(MachineLimits, CacheLineRoundTripIsMeasuredForItsBudget) {
  const auto begin = Clock::now();
  expect_plausible(cache_line_round_trip(cpus_, 30ms));
  EXPECT_GE(Clock::now() - begin, 30ms);
}

TEST_F(MachineLimits, FutexRoundTripIsMeasured) { expect_plausible(futex_round_trip(cpus_, 30ms)); }

TEST_F(MachineLimits, SocketRoundTripIsMeasuredForSmallAndLargeMessages) {
  expect_plausible(socket_round_trip(cpus_, 1, 20ms));
  expect_plausible(socket_round_trip(cpus_, 3'000'000, 20ms));  // Larger than what a socket buffers.
}

TEST_F(MachineLimits, SocketMessageRateIsMeasuredForSmallAndLargeMessages) {
  EXPECT_GT(socket_messages_per_second(cpus_, 64, 30ms), 0);
  EXPECT_GT(socket_messages_per_second(cpus_, 3'000'000, 30ms), 0);
}

TEST_F(MachineLimits, CopyRateIsMeasuredForEveryGeometry) {
  for (const CopyGeometry geometry : copy_geometries()) {
    const double rate = copy_bytes_per_second(cpus_, geometry, 1ms);
    EXPECT_GT(rate, 0) << geometry.text();
    EXPECT_LT(rate, 1e13) << geometry.text() << ": the receiver cannot have read that";
  }
}

TEST_F(MachineLimits, CopyNeedsChunksOfWholePieces) {
  EXPECT_THROW(static_cast<void>(copy_bytes_per_second(cpus_, {0, 2}, 1ms)), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(copy_bytes_per_second(cpus_, {65536, 0}, 1ms)), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(copy_bytes_per_second(cpus_, {10'000, 2}, 1ms)), std::invalid_argument);
}

TEST_F(MachineLimits, TheChosenGeometryIsOneOfThoseTried) {
  const CopyGeometry chosen = choose_copy_geometry(cpus_, 1, 1ms);
  bool known = false;
  for (const CopyGeometry geometry : copy_geometries()) {
    known = known || (geometry.chunk_bytes == chosen.chunk_bytes && geometry.chunk_count == chosen.chunk_count);
  }
  EXPECT_TRUE(known) << chosen.text();
}

TEST_F(MachineLimits, GeometryTextNamesCountAndSize) {
  EXPECT_EQ((CopyGeometry{std::size_t{4} << 20, 2}).text(), "2 x 4 MiB");
  EXPECT_EQ((CopyGeometry{std::size_t{256} << 10, 16}).text(), "16 x 256 KiB");
}

TEST_F(MachineLimits, WorkOnOneProcessorToo) {
  std::thread([] {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(static_cast<unsigned>(cpu), &allowed)) {
        ASSERT_TRUE(pin_to_cpu(cpu));
        break;
      }
    }
    const CpuPair one = choose_cpu_pair();
    ASSERT_FALSE(one.pinned);
    expect_plausible(cache_line_round_trip(one, 20ms));
    expect_plausible(futex_round_trip(one, 20ms));
    expect_plausible(socket_round_trip(one, 64, 20ms));
    EXPECT_GT(socket_messages_per_second(one, 64, 20ms), 0);
    EXPECT_GT(copy_bytes_per_second(one, {std::size_t{256} << 10, 8}, 20ms), 0);
  }).join();
}

// Kills the other process in the middle of `measure`, which would otherwise run for minutes.
template <class Measure>
void expect_error_when_partner_dies(Measure&& measure) {
  std::atomic<bool> done{false};
  std::thread killer([&] {
    while (!done) {
      if (const pid_t pid = only_child(); pid > 0) {
        ::kill(pid, SIGKILL);
        break;
      }
    }
  });
  EXPECT_THROW(measure(), std::runtime_error);
  done = true;
  killer.join();
}

TEST_F(MachineLimits, ADyingPartnerIsAnErrorForEveryMeasurement) {
  expect_error_when_partner_dies([&] { static_cast<void>(cache_line_round_trip(cpus_, 10min)); });
  expect_error_when_partner_dies([&] { static_cast<void>(futex_round_trip(cpus_, 10min)); });
  expect_error_when_partner_dies([&] { static_cast<void>(socket_round_trip(cpus_, 4096, 10min)); });
  expect_error_when_partner_dies([&] { static_cast<void>(socket_messages_per_second(cpus_, 4096, 10min)); });
  expect_error_when_partner_dies([&] {
    static_cast<void>(copy_bytes_per_second(cpus_, {std::size_t{256} << 10, 8}, 10min));
  });
}

}  // namespace
}  // namespace cdmf::ipc::cli
