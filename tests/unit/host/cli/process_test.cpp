#include "cli/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <thread>

namespace cdmf::ipc::cli {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using ReadOutcome = ControlChannel::ReadOutcome;
constexpr auto kWatchdog = 60s;  // Ends a broken test; never a bound on a good one.

TEST(ChildProcess, CallReturnsTheBodysResultAsExitCode) {
  auto child = ChildProcess::call([](ControlChannel&) { return 7; });
  const auto status = child.wait_for(kWatchdog);
  ASSERT_TRUE(status.has_value());
  EXPECT_FALSE(status->signaled);
  EXPECT_EQ(status->value, 7);
  EXPECT_FALSE(status->success());
  EXPECT_EQ(status->text(), "exit code 7");
}

TEST(ChildProcess, CallRunsTheBodyInAnotherProcess) {
  auto child =
      ChildProcess::call([](ControlChannel& control) { return control.send_line(std::to_string(getpid())) ? 0 : 1; });
  std::string line;
  ASSERT_EQ(child.control().read_line(line, kWatchdog), ReadOutcome::line);
  EXPECT_EQ(line, std::to_string(child.pid()));
  EXPECT_NE(line, std::to_string(getpid()));
}

TEST(ChildProcess, ABodyThatThrowsIsAFailureNotAnotherParent) {
  auto child = ChildProcess::call([](ControlChannel&) -> int { throw std::runtime_error("broken"); });
  const auto status = child.wait_for(kWatchdog);
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->value, 125);
}

TEST(ChildProcess, LinesTravelBothWaysWhole) {
  auto child = ChildProcess::call([](ControlChannel& control) {
    std::string line;
    while (control.read_line(line, kWatchdog) == ReadOutcome::line) {
      if (!control.send_line("got " + line)) return 1;
    }
    return 0;
  });
  auto& control = child.control();
  const std::string large(100'000, 'x');
  std::string line;
  ASSERT_TRUE(control.send_line("one"));
  ASSERT_TRUE(control.send_line(""));
  ASSERT_EQ(control.read_line(line, kWatchdog), ReadOutcome::line);
  EXPECT_EQ(line, "got one");
  ASSERT_EQ(control.read_line(line, kWatchdog), ReadOutcome::line);
  EXPECT_EQ(line, "got ");
  ASSERT_TRUE(control.send_line(large));
  ASSERT_EQ(control.read_line(line, kWatchdog), ReadOutcome::line);
  EXPECT_EQ(line, "got " + large);
  control.close();
  const auto status = child.wait_for(kWatchdog);
  ASSERT_TRUE(status.has_value()) << "the child did not notice that its parent's end was closed";
  EXPECT_TRUE(status->success());
}

TEST(ChildProcess, ReadingFromASilentChildTimesOutAndFromADeadOneSaysClosed) {
  auto child = ChildProcess::call([](ControlChannel&) -> int {
    for (;;) pause();
  });
  std::string line;
  const auto begin = Clock::now();
  EXPECT_EQ(child.control().read_line(line, 30ms), ReadOutcome::timed_out);
  EXPECT_GE(Clock::now() - begin, 30ms);
  EXPECT_EQ(child.control().read_line(line, 0ms), ReadOutcome::timed_out);
  EXPECT_EQ(child.wait_for(0ms), std::nullopt);
  EXPECT_EQ(child.wait_for(10ms), std::nullopt);
  const auto status = child.kill();
  EXPECT_TRUE(status.signaled);
  EXPECT_EQ(status.value, SIGKILL);
  EXPECT_EQ(status.text(), "signal 9 (Killed)");
  EXPECT_EQ(child.control().read_line(line, kWatchdog), ReadOutcome::closed);
  EXPECT_FALSE(child.control().send_line("anybody?"));
}

TEST(ChildProcess, LinesSentBeforeTheEndAreStillRead) {
  auto child = ChildProcess::call([](ControlChannel& control) { return control.send_line("last words") ? 0 : 1; });
  ASSERT_TRUE(child.wait_for(kWatchdog).has_value());
  std::string line;
  EXPECT_EQ(child.control().read_line(line, kWatchdog), ReadOutcome::line);
  EXPECT_EQ(line, "last words");
  EXPECT_EQ(child.control().read_line(line, kWatchdog), ReadOutcome::closed);
}

TEST(ChildProcess, DestructionKillsAndReaps) {
  pid_t pid = -1;
  {
    auto child = ChildProcess::call([](ControlChannel&) -> int {
      for (;;) pause();
    });
    pid = child.pid();
    ASSERT_EQ(::kill(pid, 0), 0);
  }
  EXPECT_EQ(::kill(pid, 0), -1);  // Neither running nor a zombie.
  EXPECT_EQ(errno, ESRCH);
}

TEST(ChildProcess, AGrandchildDiesWithItsKilledParent) {
  auto child = ChildProcess::call([](ControlChannel& control) -> int {
    auto grandchild = ChildProcess::call([](ControlChannel&) -> int {
      for (;;) pause();
    });
    control.send_line(std::to_string(grandchild.pid()));
    for (;;) pause();
  });
  std::string line;
  ASSERT_EQ(child.control().read_line(line, kWatchdog), ReadOutcome::line);
  const auto grandchild = static_cast<pid_t>(std::stol(line));
  ASSERT_EQ(::kill(grandchild, 0), 0);
  child.kill();
  const auto deadline = Clock::now() + kWatchdog;
  // Gone, or a zombie that nobody reaps because this container's first process does not.
  const auto still_runs = [&] {
    std::string state;
    if (FILE* file = fopen(("/proc/" + line + "/stat").c_str(), "r")) {
      char text[512] = {};
      const std::size_t got = fread(text, 1, sizeof text - 1, file);
      fclose(file);
      state.assign(text, got);
    }
    const auto end_of_name = state.rfind(") ");
    return end_of_name != std::string::npos && state[end_of_name + 2] != 'Z' && state[end_of_name + 2] != 'X';
  };
  while (still_runs() && Clock::now() < deadline) std::this_thread::yield();
  EXPECT_FALSE(still_runs());
}

TEST(ChildProcess, RunPassesArgumentsAndEnvironmentAndReportsTheExitCode) {
  ASSERT_EQ(setenv("CDMF_PROCESS_TEST", "inherited", 1), 0);
  auto child = ChildProcess::run("/bin/sh",
                                 {"-c", "[ \"$0 $1 $CDMF_PROCESS_TEST\" = 'a b c inherited' ] && exit 5", "a", "b c"});
  unsetenv("CDMF_PROCESS_TEST");
  const auto status = child.wait_for(kWatchdog);
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->text(), "exit code 5");
}

TEST(ChildProcess, RunTellsTheProgramWhereItsChannelIs) {
  // A shell has no recv; reading and writing a socket as a file is the same.
  auto child =
      ChildProcess::run("/bin/sh", {"-c", "read word <&$CDMF_CONTROL_FD; echo \"pong $word\" >&$CDMF_CONTROL_FD"});
  ASSERT_TRUE(child.control().send_line("ping"));
  std::string line;
  ASSERT_EQ(child.control().read_line(line, kWatchdog), ReadOutcome::line);
  EXPECT_EQ(line, "pong ping");
}

TEST(ChildProcess, RunningAMissingProgramThrowsWithItsName) {
  try {
    const auto child = ChildProcess::run("/nonexistent/program", {});
    FAIL() << "a program that does not exist was started as " << child.pid();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), ENOENT);
    EXPECT_NE(std::string(error.what()).find("/nonexistent/program"), std::string::npos);
  }
}

TEST(ControlChannel, FromParentTakesTheChannelOnceAndIgnoresNonsense) {
  auto child = ChildProcess::call([](ControlChannel& control) {
    setenv("CDMF_CONTROL_FD", "987654", 1);
    if (ControlChannel::from_parent()) return 1;  // No such descriptor.
    const int copy = dup(control.fd());
    setenv("CDMF_CONTROL_FD", std::to_string(copy).c_str(), 1);
    auto channel = ControlChannel::from_parent();
    if (!channel || channel->fd() != copy) return 2;
    if (ControlChannel::from_parent()) return 3;  // Taken.
    return channel->send_line("hello") ? 0 : 4;
  });
  std::string line;
  EXPECT_EQ(child.control().read_line(line, kWatchdog), ReadOutcome::line);
  EXPECT_EQ(line, "hello");
  EXPECT_EQ(child.wait_for(kWatchdog)->text(), "exit code 0");
}

TEST(ControlChannel, WithoutAParentThereIsNone) {
  ASSERT_EQ(unsetenv("CDMF_CONTROL_FD"), 0);
  EXPECT_FALSE(ControlChannel::from_parent().has_value());
}

}  // namespace
}  // namespace cdmf::ipc::cli
