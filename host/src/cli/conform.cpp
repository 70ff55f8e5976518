// cdmf conform: runs the conformance suite on plugins, each test in a process of its own.
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>

#include "cli/commands.h"
#include "cli/conform/report.h"
#include "cli/conform/suite_process.h"
#include "cli/open_transport.h"
#include "cli/process.h"
#include "ipc/property.h"

namespace cdmf::ipc::cli {
namespace {

namespace fs = std::filesystem;
using namespace conform;

/// The suite's program: CDMF_CONFORMANCE_SUITE, or beside this one as a build and an installation have it.
std::string find_suite() {
  if (const char* chosen = std::getenv("CDMF_CONFORMANCE_SUITE"); chosen != nullptr && *chosen != '\0') {
    if (access(chosen, X_OK) == 0) return fs::absolute(chosen).string();
    throw CommandError(std::string("CDMF_CONFORMANCE_SUITE=") + chosen + " is no program that can be run");
  }
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  const fs::path suite = (folder / ".." / CDMF_RELATIVE_SUITE_DIR / "cdmf-conformance").lexically_normal();
  if (access(suite.c_str(), X_OK) == 0) return suite.string();
  throw CommandError("the suite is not here: " + suite.string() +
                     ". Build and install cdmf with its tests (CDMF_BUILD_TESTS=ON, target cdmf_conformance), or set "
                     "CDMF_CONFORMANCE_SUITE");
}

struct Candidate {
  std::string path;  ///< absolute
  const cdmf_plugin* plugin = nullptr;
};

RegistryOptions only_from(const fs::path& folder, const ProgramOptions& program) {
  RegistryOptions options = registry_options(program, LogLevel::warning);
  options.plugin_paths = {folder.string()};
  options.use_environment = false;
  options.use_default_folders = false;
  return options;
}

/// Loads the plugin as a host would. throws  CommandError when it cannot be tested: absent, misnamed, or refused, then
/// with the host's reason. One exit code for all of them, so that a script need not know which it was.
Candidate load_candidate(const std::string& path, const ProgramOptions& program) {
  std::error_code error;
  if (!fs::exists(path, error)) throw CommandError(path + ": no such file");
  const fs::path file = fs::absolute(path).lexically_normal();
  const std::string name = file.filename().string();
  if (!name.starts_with("libcdmf_") || !name.ends_with(".so") || name.size() < 13) {
    throw CommandError(path + ": a transport's file is named libcdmf_<type>.so");
  }
  const std::string type = name.substr(8, name.size() - 11);
  const RegistryOptions options = only_from(file.parent_path(), program);
  // First in a copy of this process: code that runs while a library is loaded may crash it.
  auto trial = ChildProcess::call([&](ControlChannel&) {
    TransportRegistry registry(options);
    return registry.find(type).success() ? 0 : 1;
  });
  const auto end = trial.wait_for(std::chrono::seconds(60));
  if (!end) throw CommandError(path + ": loading it takes more than 60 s");
  if (end->signaled) throw CommandError(path + ": a program that loads it is ended by " + end->text());
  TransportRegistry registry(options);
  const auto found = registry.find(type);
  if (!found) throw CommandError(path + ": " + found.text());
  return {file.string(), found.value};
}

struct Job {
  Column column;
  std::vector<std::string> words;  ///< for the suite
};

/// The words for one entry of a file: the type's options and max_message_size. What the tests choose themselves, such
/// as role, endpoint and time-outs, stays with them.
std::vector<std::string> words_of(const Candidate& candidate, TransportConfig config) {
  forget_role(*candidate.plugin, config);
  for (const cdmf_property& common : common_properties()) {
    if (std::string_view(common.name) != "max_message_size") config.properties.erase(common.name);
  }
  config.properties.emplace("max_message_size", std::to_string(config.max_message_size));
  std::vector<std::string> words{"--plugin=" + candidate.path};
  for (const auto& [name, value] : config.properties) words.push_back("--property=" + name + "=" + value);
  return words;
}

std::vector<Job> jobs_for(const std::vector<Candidate>& candidates, const ProgramOptions& program,
                          const ConformArguments& arguments) {
  std::vector<Job> jobs;
  if (arguments.config.empty()) {
    for (const Candidate& each : candidates) {
      jobs.push_back({{each.plugin->type, each.path + ", default options", {}}, {"--plugin=" + each.path}});
    }
    return jobs;
  }
  RegistryOptions options = registry_options(program, LogLevel::warning);
  for (const Candidate& each : candidates) {
    options.plugin_paths.insert(options.plugin_paths.begin(), fs::path(each.path).parent_path().string());
  }
  const LoadedConfig loaded = read_config_file(arguments.config, options);
  if (!loaded.ok()) {
    std::string text = arguments.config + " has problems:";
    for (const auto& problem : loaded.problems) text += "\n" + problem;
    throw CommandError(text);
  }
  for (const Candidate& each : candidates) {
    std::vector<const TransportEntry*> entries;
    std::string others;
    for (const TransportEntry& entry : loaded.config.transports) {
      others += (others.empty() ? "" : ", ") + entry.name + " (" + entry.type + ")";
      const bool chosen = arguments.transport.empty() || arguments.transport == entry.name;
      if (chosen && entry.type == each.plugin->type) entries.push_back(&entry);
    }
    if (entries.empty()) {
      throw UsageError(arguments.config + " has no transport " +
                       (arguments.transport.empty() ? "" : "'" + arguments.transport + "' ") + "of type " +
                       each.plugin->type + ", the type of " + each.path + "; it has: " + others);
    }
    for (const TransportEntry* entry : entries) {
      const std::string name = entries.size() == 1 ? entry->type : entry->type + "/" + entry->name;
      jobs.push_back({{name, each.path + ", " + entry->place, {}}, words_of(each, entry->config)});
    }
  }
  return jobs;
}

/// A folder for all tests of one run; gone afterwards.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "cdmf-conform-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      throw std::system_error(errno, std::generic_category(), "cannot make a folder " + name);
    }
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// SIGINT and SIGTERM as a descriptor, so that running tests are ended and their folders removed.
class StopRequests {
 public:
  StopRequests() {
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGTERM);
    sigprocmask(SIG_BLOCK, &stops, &before_);
    fd_ = signalfd(-1, &stops, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  ~StopRequests() {
    if (fd_ >= 0) close(fd_);
    sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  StopRequests(const StopRequests&) = delete;
  StopRequests& operator=(const StopRequests&) = delete;
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] bool came() const {
    signalfd_siginfo info{};
    return read(fd_, &info, sizeof info) == sizeof info;
  }

 private:
  int fd_ = -1;
  sigset_t before_{};
};

/// Runs every test of every job, at most `at_once` at the same time. Lines are printed in the order of the tests.
class Run {
 public:
  Run(std::string suite, std::vector<std::string> tests, std::vector<Job>& jobs, const ConformArguments& arguments)
      : suite_(std::move(suite)), tests_(std::move(tests)), jobs_(jobs), arguments_(arguments) {
    for (Job& job : jobs_) job.column.results.resize(tests_.size());
    done_.resize(jobs_.size() * tests_.size());
  }

  void all() {
    std::size_t next = 0;
    while (printed_ < done_.size()) {
      while (next < done_.size() && running_.size() < static_cast<std::size_t>(arguments_.jobs)) start(next++);
      wait();
      std::erase_if(running_, [this](Running& each) { return collect(each); });
      print();
    }
  }

 private:
  struct Running {
    std::size_t index;
    std::unique_ptr<SuiteProcess> process;
  };

  void start(std::size_t index) {
    std::vector<std::string> words = jobs_[index / tests_.size()].words;
    words.push_back("--gtest_filter=" + tests_[index % tests_.size()]);
    words.push_back("--gtest_color=no");
    words.push_back("--gtest_also_run_disabled_tests");
    const auto limit = std::chrono::duration_cast<SuiteProcess::Clock::duration>(
        std::chrono::duration<double>(arguments_.timeout_seconds));
    running_.push_back({index, std::make_unique<SuiteProcess>(suite_, std::move(words), temporary_.path(), limit)});
  }

  void wait() {
    std::vector<pollfd> waited{{stops_.fd(), POLLIN, 0}};
    auto until = SuiteProcess::Clock::time_point::max();
    bool must_look = false;
    for (const Running& each : running_) {
      until = std::min(until, each.process->deadline());
      must_look = must_look || each.process->end_fd() < 0;
      waited.push_back({each.process->end_fd(), POLLIN, 0});
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - SuiteProcess::Clock::now()).count();
    // At least now and then, for systems without pidfds.
    poll(waited.data(), waited.size(), static_cast<int>(std::clamp<long long>(left, 0, must_look ? 5 : 60'000)));
    if (stops_.came()) throw CommandError("interrupted; the running tests were ended");
  }

  bool collect(Running& each) {
    if (!each.process->finished()) return false;
    jobs_[each.index / tests_.size()].column.results[each.index % tests_.size()] = each.process->result();
    done_[each.index] = true;
    return true;
  }

  void print() {
    for (; printed_ < done_.size() && done_[printed_]; ++printed_) {
      const Column& column = jobs_[printed_ / tests_.size()].column;
      const std::size_t test = printed_ % tests_.size();
      if (test == 0) std::printf("%s (%s)\n", column.name.c_str(), column.description.c_str());
      std::printf("%s", line_text(tests_[test], column.results[test]).c_str());
      if (test + 1 == tests_.size()) std::printf("%s\n", total_text(column).c_str());
      std::fflush(stdout);
    }
  }

  const std::string suite_;
  const std::vector<std::string> tests_;
  std::vector<Job>& jobs_;
  const ConformArguments& arguments_;
  TemporaryFolder temporary_;
  StopRequests stops_;
  std::vector<Running> running_;  // After temporary_: its processes end before the folder goes.
  std::vector<bool> done_;
  std::size_t printed_ = 0;
};

void write_junit(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw CommandError(path + ": cannot be written");
}

}  // namespace

int command_conform(const ProgramOptions& program, const ConformArguments& arguments) {
  const std::string suite = find_suite();
  const std::vector<std::string> tests = list_tests(suite, arguments.filter.empty() ? "*" : arguments.filter);
  if (tests.empty()) throw UsageError("--filter " + arguments.filter + " matches no test; --list shows all");
  if (arguments.list) {
    for (const auto& test : tests) std::printf("%s\n", test.c_str());
    return kExitOk;
  }
  if (arguments.plugins.empty()) throw UsageError("conform: which plugin? Name one or more files libcdmf_<type>.so");

  std::vector<Candidate> candidates;
  for (const auto& path : arguments.plugins) candidates.push_back(load_candidate(path, program));
  std::vector<Job> jobs = jobs_for(candidates, program, arguments);
  if (!arguments.junit.empty()) write_junit(arguments.junit, junit_text({}, {}));  // Tells before the tests, not after.
  // What a test leaves behind becomes a child of this program, which can then see and end it.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  Run(suite, tests, jobs, arguments).all();

  std::vector<Column> columns;
  for (Job& job : jobs) columns.push_back(std::move(job.column));
  if (columns.size() > 1) std::printf("%s", matrix_text(tests, columns).c_str());
  if (!arguments.junit.empty()) write_junit(arguments.junit, junit_text(tests, columns));
  return std::all_of(columns.begin(), columns.end(), [](const Column& each) { return count(each).failed == 0; })
             ? kExitOk
             : kExitFailure;
}

}  // namespace cdmf::ipc::cli
