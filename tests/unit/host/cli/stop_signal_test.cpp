#include "cli/stop_signal.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "cli/process.h"

namespace cdmf::ipc::cli {
namespace {

constexpr auto kWatchdog = std::chrono::seconds(60);

// Each case runs in a process of its own: signals belong to processes.
std::string end_of(const std::function<int()>& body) {
  auto child = ChildProcess::call([&](ControlChannel&) { return body(); });
  const auto status = child.wait_for(kWatchdog);
  return status ? status->text() : "still running";
}

TEST(StopSignal, CallsOnStopAndWakesWhoWaits) {
  for (const int number : {SIGINT, SIGTERM}) {
    EXPECT_EQ(end_of([number] {
                std::atomic<int> calls{0};
                const StopSignal stop([&] { ++calls; });
                if (stop.number() != 0) return 1;
                kill(getpid(), number);
                stop.wait();
                return stop.number() == number && calls == 1 ? 0 : 2;
              }),
              "exit code 0");
  }
}

TEST(StopSignal, ASecondSignalEndsAProgramThatIsSlowToStop) {
  EXPECT_EQ(end_of([] {
              const StopSignal stop([] {});
              kill(getpid(), SIGTERM);
              stop.wait();
              kill(getpid(), SIGTERM);
              for (;;) pause();
              return 0;
            }),
            "exit code " + std::to_string(128 + SIGTERM));
}

TEST(StopSignal, AfterItsLifeASignalEndsTheProgramAsUsual) {
  EXPECT_EQ(end_of([] {
              {
                const StopSignal stop([] {});
              }
              kill(getpid(), SIGTERM);
              return 0;
            }),
            "signal " + std::to_string(SIGTERM) + " (Terminated)");
}

TEST(StopSignal, EndsWithoutASignal) {
  EXPECT_EQ(end_of([] {
              const StopSignal stop([] {});
              return stop.number();
            }),
            "exit code 0");
}

}  // namespace
}  // namespace cdmf::ipc::cli
