// bench_peers: limits, ours and every peer in interleaved rounds; writes report.json and report.html and prints who
// leads. `./dev bench` builds and runs it.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "cli/bench/machine.h"
#include "cli/bench/machine_limits.h"
#include "peers/subject.h"
#include "report/bootstrap.h"
#include "report/compare.h"
#include "report/page.h"
#include "report/summary.h"
#include "report/svg.h"
#include "spec_figures.h"
#include "typed_rings.h"

namespace {

using namespace cdmf::bench;
using cdmf::ipc::cli::CpuPair;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr const char* kUsage =
    R"(usage: bench_peers [--quick | --full] [--only WORD]... [--fresh] [--compare OLD.json] [--with NEW.json]
                   [--out FOLDER] [--rounds N] [--budget MS] [--readme FOLDER]
  --quick           some 6 minutes, 10 at most (this is what happens without a word)
  --full            every size, longer, more rounds: about an hour
  --only WORD       only what has WORD in "GROUP SUBJECT", as in ping_pong/poll/64B or ucx; several: any of them
  --fresh           each line of a message is written anew before it is sent, not its number alone
  --compare FILE    compares with an earlier report.json. Exit code 4: something of ours became slower
  --with FILE       measures nothing: compares that report.json, or draws it again
  --out FOLDER      where report.json and report.html go (.)
  --rounds N        how often everything is measured; --budget MS: for how long each time
  --readme FOLDER   also writes round_trip.svg and stream.svg there and prints the table of the README
)";

constexpr const char* kFreshMode = ", each line written anew";
bool is_fresh(const Results& results) { return results.mode.find(kFreshMode) != std::string::npos; }

struct Options {
  bool full = false;
  bool fresh = false;
  std::vector<std::string> only;
  std::string compare, with, out = ".", readme;
  int rounds = 0;
  int budget_ms = 0;
};

std::optional<Options> read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool more = i + 1 < argc;
    if (word == "--quick") {
      options.full = false;
    } else if (word == "--full") {
      options.full = true;
    } else if (word == "--fresh") {
      options.fresh = true;
    } else if (word == "--only" && more) {
      options.only.emplace_back(argv[++i]);
    } else if (word == "--compare" && more) {
      options.compare = argv[++i];
    } else if (word == "--with" && more) {
      options.with = argv[++i];
    } else if (word == "--out" && more) {
      options.out = argv[++i];
    } else if (word == "--readme" && more) {
      options.readme = argv[++i];
    } else if (word == "--rounds" && more && std::atoi(argv[i + 1]) > 0) {
      options.rounds = std::atoi(argv[++i]);
    } else if (word == "--budget" && more && std::atoi(argv[i + 1]) > 0) {
      options.budget_ms = std::atoi(argv[++i]);
    } else {
      std::fputs(kUsage, stderr);
      return std::nullopt;
    }
  }
  if (options.fresh && !(options.with.empty() && options.readme.empty())) {
    std::fputs("bench_peers: --fresh is for a measurement that is not the README's: not with --with or --readme\n",
               stderr);
    return std::nullopt;
  }
  return options;
}

/// One group of measurements before it has been measured.
struct Plan {
  Group group;
  milliseconds budget{};
  std::function<double(double line_ns)> limit;    // Measured once a round; 0: none.
  std::vector<std::function<Outcome()>> measure;  // One for each series of the group.
  std::vector<cdmf::ipc::cli::LatencyHistogram> latencies;
};

class Benchmark {
 public:
  Benchmark(const Options& options, const CpuPair& cpus) : options_(options), cpus_(cpus) {
    const auto machine = cdmf::ipc::cli::describe_machine();
    results_.cpu = machine.cpu;
    results_.kernel = machine.kernel;
    results_.compiler = machine.compiler;
    results_.pinning = cpus.note;
    results_.mode = std::string(options.full ? "full" : "quick") + (options.fresh ? kFreshMode : "");
    results_.version = CDMF_BENCH_VERSION;
    char date[40];
    const std::time_t now = std::time(nullptr);
    std::strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
    results_.date = date;
    plan_links();
    plan_rings();
    std::erase_if(plans_, [](const Plan& plan) { return plan.measure.empty(); });
  }

  [[nodiscard]] bool empty() const noexcept { return plans_.empty(); }

  Results run() {
    const int rounds = options_.rounds > 0 ? options_.rounds : options_.full ? 15 : 7;
    const auto time_max = options_.full ? std::chrono::minutes(120) : std::chrono::seconds(500);
    copy_geometry_ = cdmf::ipc::cli::choose_copy_geometry(cpus_, 3, milliseconds(10));
    std::size_t per_round = 0;
    for (const Plan& plan : plans_) per_round += plan.measure.size();
    const auto begin = Clock::now();
    std::size_t done = 0;
    for (int round = 0; round < rounds; ++round) {
      for (Plan& plan : plans_) {
        measure(plan, round);
        done += plan.measure.size();
        const std::chrono::duration<double> passed = Clock::now() - begin;
        const double left = passed.count() * static_cast<double>(per_round * rounds - done) / static_cast<double>(done);
        progress(round, rounds, plan.group.id, left);
      }
      results_.rounds = round + 1;
      const auto passed = Clock::now() - begin;
      if (passed + passed / (round + 1) > time_max) break;  // Another round would end too late.
    }
    progress_end();
    for (Plan& plan : plans_) {
      for (std::size_t i = 0; i < plan.group.series.size(); ++i) {
        plan.group.series[i].latencies = condensed(plan.latencies[i]);
      }
      results_.groups.push_back(std::move(plan.group));
    }
    if (options_.only.empty()) results_.spec = spec_figures(results_, {cpus_, milliseconds(50)});
    return std::move(results_);
  }

 private:
  [[nodiscard]] bool wanted(const std::string& group, const std::string& subject) const {
    const std::string text = group + " " + subject;
    return options_.only.empty() || std::any_of(options_.only.begin(), options_.only.end(),
                                                [&](const auto& word) { return text.find(word) != std::string::npos; });
  }
  [[nodiscard]] milliseconds budget(int quick_ms, int full_ms) const {
    return milliseconds(options_.budget_ms > 0 ? options_.budget_ms : options_.full ? full_ms : quick_ms);
  }

  [[nodiscard]] std::vector<Case> cases() const {
    std::vector<std::size_t> sizes{32, 64, 1024, 4096, 65536, 1048576};
    if (options_.full) sizes = {32, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576};
    std::vector<Case> all;
    for (const std::size_t size : sizes) all.push_back({Pattern::ping_pong, Wait::poll, size});
    for (const std::size_t size : sizes) {
      if (size != 32 || options_.full) all.push_back({Pattern::stream, Wait::poll, size});
    }
    all.push_back({Pattern::paced, Wait::poll, 64});
    all.push_back({Pattern::paced, Wait::block, 64});
    for (const std::size_t size : sizes) {
      if (options_.full || size == 64 || size == 65536) all.push_back({Pattern::ping_pong, Wait::block, size});
      if (options_.full || size == 64) all.push_back({Pattern::stream, Wait::block, size});
    }
    for (const int clients : {4, 16}) all.push_back({Pattern::stream, Wait::block, 64, clients});
    if (options_.fresh) {
      for (Case& each : all) each.writes = cdmf::ipc::cli::Writes::EVERY_LINE;
    }
    return all;
  }

  void plan_links() {
    const std::vector<Subject> subjects = all_subjects();
    for (const Subject& each : subjects) {
      results_.subjects.push_back({each.name, each.label, each.library, each.ours, each.one_process, each.skipped});
    }
    for (const Case& what : cases()) {
      Plan plan;
      plan.group.id = what.text();
      plan.group.pattern = name_of(what.pattern);
      plan.group.wait = name_of(what.wait);
      plan.group.size_bytes = static_cast<double>(what.size_bytes);
      plan.group.clients = what.clients;
      plan.group.unit = what.pattern == Pattern::stream ? Unit::messages_per_s : Unit::round_trip_ns;
      set_limit(plan, what);
      plan.budget = what.pattern == Pattern::paced ? budget(150, 600) : budget(what.clients > 1 ? 60 : 70, 250);
      for (std::size_t i = 0; i < subjects.size(); ++i) {
        const Subject& subject = subjects[i];
        if (!subject.skipped.empty() || !subject.applies(what) || !wanted(plan.group.id, subject.name)) continue;
        results_.subjects[i].settings[plan.group.id] = subject.settings(what);
        const Setting setting{cpus_, plan.budget};
        add(plan, subject.name, [=] { return subject.measure(what, setting); });
      }
      plans_.push_back(std::move(plan));
    }
  }

  void set_limit(Plan& plan, const Case& what) {
    const CpuPair cpus = cpus_;
    if (what.clients > 1) {
      plan.limit = [](double) { return 0.0; };
    } else if (what.pattern == Pattern::stream) {
      plan.group.limit_name = "a bare copy from one processor to the other, no queue and no records";
      plan.limit = [this, cpus, what](double) {
        return cdmf::ipc::cli::copy_bytes_per_second(cpus, copy_geometry_, milliseconds(15)) /
               static_cast<double>(what.size_bytes);
      };
    } else if (what.wait == Wait::block) {
      plan.group.limit_name = "a bare futex there and back, both ends asleep";
      plan.limit = [cpus](double) { return cdmf::ipc::cli::futex_round_trip(cpus, milliseconds(15)).untimed_ns; };
    } else {
      plan.group.limit_name = "a bare cache line there and back";
      plan.limit = [](double line_ns) { return line_ns; };
    }
  }

  void plan_rings() {
    for (const std::size_t bytes : {8, 64}) {
      for (const bool trips : {true, false}) {
        Plan plan;
        plan.group.pattern = trips ? "ring_trip" : "ring_stream";
        plan.group.id = plan.group.pattern + "/" + std::to_string(bytes) + "B";
        plan.group.size_bytes = static_cast<double>(bytes);
        plan.group.unit = trips ? Unit::round_trip_ns : Unit::messages_per_s;
        plan.group.limit_name = trips ? "a bare cache line there and back" : "";
        plan.limit = [trips](double line_ns) { return trips ? line_ns : 0.0; };
        plan.budget = budget(30, 100);
        for (const RingSubject& ring : ring_subjects(bytes)) {
          if (results_.find(ring.name) == nullptr) {
            results_.subjects.push_back({ring.name, ring.label, ring.library, ring.ours});
          }
          if (!wanted(plan.group.id, ring.name)) continue;
          const Setting setting{cpus_, plan.budget};
          add(plan, ring.name, [=] { return trips ? ring.trip(setting) : ring.stream(setting); });
        }
        plans_.push_back(std::move(plan));
      }
    }
  }

  static void add(Plan& plan, const std::string& subject, std::function<Outcome()> measure) {
    plan.group.series.push_back({subject, {}, {}});
    plan.measure.push_back(std::move(measure));
    plan.latencies.emplace_back();
  }

  void measure(Plan& plan, int round) {
    const auto line = [&] { return cdmf::ipc::cli::cache_line_round_trip(cpus_, milliseconds(4)).untimed_ns; };
    double before = line();
    const double limit = plan.limit(before);
    const bool line_is_limit = limit == before;
    const std::size_t count = plan.measure.size();
    for (std::size_t step = 0; step < count; ++step) {
      const std::size_t i = (step + static_cast<std::size_t>(round) * 5) % count;  // Another order each time.
      Sample sample;
      sample.round = round;
      sample.line_before_ns = before;
      try {
        const Outcome outcome = plan.measure[i]();
        sample.value = outcome.value;
        sample.cpu_ns = outcome.cpu_ns_per_message;
        sample.memory_bytes = std::max(0.0, outcome.memory_bytes);
        const auto latency = cdmf::ipc::cli::summarize(outcome.latency);
        sample.p50_ns = static_cast<double>(latency.p50_ns);
        sample.p99_ns = static_cast<double>(latency.p99_ns);
        sample.p999_ns = static_cast<double>(latency.p999_ns);
        sample.max_ns = static_cast<double>(latency.max_ns);
        plan.latencies[i].merge(outcome.latency);
      } catch (const std::exception& error) {
        sample.failed = error.what();
      }
      sample.line_after_ns = before = line();
      sample.limit = line_is_limit ? sample.line_ns() : limit;
      plan.group.series[i].samples.push_back(std::move(sample));
    }
  }

  static void progress(int round, int rounds, const std::string& what, double left_s) {
    if (isatty(STDERR_FILENO) == 0) return;
    std::fprintf(stderr, "\r\033[Kround %d of %d, %s, %d:%02d left", round + 1, rounds, what.c_str(),
                 static_cast<int>(left_s) / 60, static_cast<int>(left_s) % 60);
  }
  static void progress_end() {
    if (isatty(STDERR_FILENO) != 0) std::fputs("\r\033[K", stderr);
  }

  const Options& options_;
  const CpuPair cpus_;
  cdmf::ipc::cli::CopyGeometry copy_geometry_;
  std::vector<Plan> plans_;
  Results results_;
};

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

Results read_results(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::ostringstream text;
  text << file.rdbuf();
  try {
    return Results::from_json(text.str());
  } catch (const std::exception& error) {
    throw std::runtime_error(path + ": " + error.what());
  }
}

int run(const Options& options) {
  std::optional<Results> before;
  if (!options.compare.empty()) before = read_results(options.compare);  // Refused before anything is measured.
  Results results;
  if (!options.with.empty()) results = read_results(options.with);
  const bool fresh = options.with.empty() ? options.fresh : is_fresh(results);
  if (before && is_fresh(*before) != fresh) {
    throw std::runtime_error("nothing to compare: one of the reports is of --fresh, the other is not");
  }
  if (options.with.empty()) {
    const CpuPair cpus = cdmf::ipc::cli::choose_cpu_pair();
    if (!cpus.pinned) throw std::runtime_error("needs two processors; on one, figures would be the scheduler's");
    Benchmark benchmark(options, cpus);
    if (benchmark.empty()) throw std::runtime_error("--only leaves nothing to measure");
    results = benchmark.run();
  }
  const std::filesystem::path out = options.out;
  std::filesystem::create_directories(out);
  if (options.with.empty()) write_file(out / "report.json", results.to_json());
  write_file(out / "report.html", page(results));
  std::fputs(summary_text(results).c_str(), stdout);
  std::printf("written: %s\n", (out / "report.html").c_str());
  if (!options.readme.empty()) {
    const std::filesystem::path folder = options.readme;
    write_file(folder / "round_trip.svg", readme_round_trips(results));
    write_file(folder / "stream.svg", readme_streams(results));
    std::fputs(readme_table(results).c_str(), stdout);
  }
  if (!before) return 0;
  const Comparison comparison = compare(*before, results);
  std::fputs(comparison.text(results).c_str(), stdout);
  return comparison.slower() ? 4 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = read_options(argc, argv);
  if (!options) return 2;
  try {
    return run(*options);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "bench_peers: %s\n", problem.what());
    return 1;
  }
}
