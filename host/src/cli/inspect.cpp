// cdmf inspect: what a running endpoint is doing, seen from outside.
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <optional>

#include "cli/commands.h"
#include "cli/fd_io.h"
#include "cli/observation_text.h"
#include "cli/observer.h"
#include "cli/stop_signal.h"

namespace cdmf::ipc::cli {
namespace {

std::uint64_t wall_now_us() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
}

void print(const Observer& observer, const Observation& seen, const Observation* before, bool json) {
  const std::string text = json ? observation_json(observer.type(), observer.endpoint(), seen) + "\n"
                                : observation_text(observer.type(), observer.endpoint(), seen, before, wall_now_us());
  write_all(1, before != nullptr && !json ? "\n" + text : text, "standard output");
}

}  // namespace

int command_inspect(const ProgramOptions& program, const InspectArguments& arguments) {
  if (!arguments.watch) {
    Observer observer(program, arguments.target, arguments.transport, arguments.type);
    print(observer, observer.look(), nullptr, arguments.json);
    return kExitOk;
  }
  std::mutex mutex;
  std::condition_variable stopped;
  bool stop_now = false;
  const StopSignal stop([&] {
    const std::lock_guard lock(mutex);
    stop_now = true;
    stopped.notify_all();
  });
  Observer observer(program, arguments.target, arguments.transport, arguments.type);
  std::optional<Observation> before;
  for (;;) {
    Observation seen = observer.look();
    print(observer, seen, before ? &*before : nullptr, arguments.json);
    before = std::move(seen);
    std::unique_lock lock(mutex);
    if (stopped.wait_for(lock, std::chrono::duration<double>(arguments.interval_seconds), [&] { return stop_now; })) {
      return kExitOk;
    }
  }
}

}  // namespace cdmf::ipc::cli
