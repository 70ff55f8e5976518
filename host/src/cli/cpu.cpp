#include "cli/cpu.h"

#include <fstream>
#include <vector>

namespace cdmf::ipc::cli {
namespace {

struct Place {
  int cpu = 0;
  int package = -1;  // -1 where the system does not tell, as in some containers.
  int core = -1;
};

int read_number(const std::string& path) {
  std::ifstream file(path);
  int value = -1;
  return file >> value ? value : -1;
}

std::vector<Place> allowed_places() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  std::vector<Place> places;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return places;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(static_cast<unsigned>(cpu), &allowed)) continue;
    const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    places.push_back({cpu, read_number(topology + "physical_package_id"), read_number(topology + "core_id")});
  }
  return places;
}

// How well two places suit two talking processes: 3 is best.
int suitability(const Place& a, const Place& b) {
  if (a.package != b.package) return 2;
  return a.core != b.core || a.core < 0 ? 3 : 1;
}

}  // namespace

CpuPair choose_cpu_pair() {
  const auto places = allowed_places();
  CpuPair best;
  int best_score = 0;
  for (std::size_t i = 0; i < places.size() && best_score < 3; ++i) {
    for (std::size_t j = i + 1; j < places.size(); ++j) {
      const int score = suitability(places[i], places[j]);
      if (score <= best_score) continue;
      best_score = score;
      best = {places[i].cpu, places[j].cpu, true, {}};
    }
  }
  if (!best.pinned) {
    best.note = "one usable processor: not pinned, both processes share it and figures measure the scheduler";
    return best;
  }
  best.note = "pinned to cpu " + std::to_string(best.first) + " and " + std::to_string(best.second);
  if (best_score == 2) best.note += ", different packages";
  if (best_score == 1) best.note += ", two threads of one core";
  return best;
}

bool pin_to_cpu(int cpu) noexcept {
  if (cpu < 0) return true;
  if (cpu >= CPU_SETSIZE) return false;
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(static_cast<unsigned>(cpu), &only);
  return sched_setaffinity(0, sizeof only, &only) == 0;
}

ScopedPin::ScopedPin(int cpu) noexcept {
  CPU_ZERO(&before_);
  if (cpu < 0 || sched_getaffinity(0, sizeof before_, &before_) != 0) return;
  restore_ = pin_to_cpu(cpu);
}

ScopedPin::~ScopedPin() {
  if (restore_) sched_setaffinity(0, sizeof before_, &before_);
}

}  // namespace cdmf::ipc::cli
