// bench_route: a message through a host that routes it, beside the same transports without one.
// The program that measures and the one that answers are pinned to the two CPUs; the host in the middle is not.
#include <exception>
#include <thread>

#include "arguments.h"
#include "ends.h"
#include "ipc/router.h"

namespace {

using namespace cdmf::bench;
using namespace cdmf::ipc;

constexpr std::chrono::milliseconds kTripBudget{100};

/// What programs use, and how the host in the middle connects the two.
std::string yaml(const std::string& wait) {
  return "version: 1\n"
         "transports:\n"
         "  front: { type: shm, endpoint: /cdmf_bench_route_front, shm: { wait: " +
         wait +
         " } }\n"
         "  back: { type: unix_socket, endpoint: /cdmf_bench_route_back }\n"
         "routes:\n"
         "  - { from: front, to: back, both_ways: true }\n";
}

void host_in_the_middle(const std::string& file, const std::function<void()>& ready) {
  RegistryOptions options;
  options.log_level = LogLevel::error;
  const auto host = Host::from_text("bench", file, options);
  if (!host) throw std::runtime_error(host.text());
  const auto router = Router::create(*host.value);
  if (!router) throw std::runtime_error(router.text());
  if (const auto started = router.value->start(); !started) throw std::runtime_error(started.text());
  ready();
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

Measured trip(const cli::CpuPair& cpus, const std::string& file, const char* client, const char* server, bool routed,
              std::size_t size) {
  std::vector<std::function<void(const std::function<void()>&)>> others{[&](const auto& ready) {
    End end(file, server, Role::SERVER);
    ready();
    end.echo(size);
  }};
  if (routed) others.emplace_back([&](const auto& ready) { host_in_the_middle(file, ready); });
  return measure_beside(others, cpus, [&] {
    End end(file, client, Role::CLIENT);
    return end.round_trips(size, kTripBudget, 8);
  });
}

}  // namespace

int main(int argc, char** argv) {
  const auto arguments = read_arguments(argc, argv);
  if (!arguments) return 2;
  const cli::CpuPair cpus = cli::choose_cpu_pair();
  if (!cpus.pinned) {
    std::fprintf(stderr, "bench_route: needs two CPUs; on one, figures would be those of the scheduler\n");
    return 1;
  }
  try {
    Rounds rounds(cpus);
    for (const char* wait : {"futex", "adaptive"}) {
      for (const std::size_t size : {64, 4096}) {
        const std::string file = yaml(wait);
        const std::string words = std::string(wait) + "/" + std::to_string(size) + "B";
        rounds.add({"shm+unix_socket/" + words, Unit::round_trip_ns,
                    [=] { return trip(cpus, file, "front", "back", true, size); },
                    [=] {
                      return trip(cpus, file, "front", "front", false, size).value +
                             trip(cpus, file, "back", "back", false, size).value;
                    }});
      }
    }
    rounds.keep_only(arguments->only);
    if (rounds.empty()) throw std::runtime_error("nothing has '" + arguments->only + "' in its name");
    rounds.run(arguments->rounds);
    std::fputs((arguments->json ? rounds.json("route") : rounds.table()).c_str(), stdout);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "bench_route: %s\n", problem.what());
    return 1;
  }
  return 0;
}
