// cdmf doctor: watches a running endpoint for a while, and says what is wrong with it and what to change.
#include <algorithm>
#include <chrono>
#include <thread>

#include "cli/commands.h"
#include "cli/diagnosis.h"
#include "cli/fd_io.h"
#include "cli/observer.h"

namespace cdmf::ipc::cli {
namespace {

constexpr int kExitCannotLook = 2;
constexpr std::chrono::milliseconds kBetweenLooks{50};

class CannotLook : public CommandError {
 public:
  using CommandError::CommandError;
  [[nodiscard]] int exit_code() const noexcept override { return kExitCannotLook; }
};

Diagnosis examine(const ProgramOptions& program, const DoctorArguments& arguments, std::string& type,
                  std::string& endpoint) {
  const ParsedValue time = parse_duration(arguments.time);
  if (!time.problem.empty()) throw UsageError("--for: " + time.problem);
  if (time.number <= 0 || time.number > 3'600'000'000'000)
    throw UsageError("--for: must be more than 0 and at most 1h");
  Observer observer(program, arguments.target, arguments.transport, arguments.type);
  const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(time.number);
  std::vector<Observation> seen{observer.look()};
  while (seen.size() < 2 || std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(
        std::min<std::chrono::nanoseconds>(kBetweenLooks, std::chrono::nanoseconds(time.number)));
    seen.push_back(observer.look());
    // An hour of looks at a thousand links is much to keep: what is between the ends is a sample anyway.
    if (seen.size() > 400) seen.erase(seen.begin() + 1 + static_cast<std::ptrdiff_t>(seen.size() / 2));
  }
  type = observer.type();
  endpoint = observer.endpoint();
  return diagnose(seen, {observer.option("ring_buffer_capacity"), observer.option("spin_budget")});
}

}  // namespace

int command_doctor(const ProgramOptions& program, const DoctorArguments& arguments) {
  std::string type;
  std::string endpoint;
  Diagnosis diagnosis;
  try {
    diagnosis = examine(program, arguments, type, endpoint);
  } catch (const CommandError& error) {
    throw CannotLook(error.what());
  }
  write_all(1, diagnosis_text(type, endpoint, diagnosis), "standard output");
  return diagnosis.findings.empty() ? kExitOk : kExitFailure;
}

}  // namespace cdmf::ipc::cli
