#pragma once
// cli/command_error.h: how a command gives up. main.cpp prints the text on standard error and exits with the code.
#include <stdexcept>

namespace cdmf::ipc::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;  // The text on standard error says what failed.
inline constexpr int kExitUsage = 2;    // The command line makes no sense; nothing was started.

/// The command cannot do its work: says what, where and what to do next.
class CommandError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  [[nodiscard]] virtual int exit_code() const noexcept { return kExitFailure; }
};

/// The words of the command line contradict each other or the file they name.
class UsageError : public CommandError {
 public:
  using CommandError::CommandError;
  [[nodiscard]] int exit_code() const noexcept override { return kExitUsage; }
};

}  // namespace cdmf::ipc::cli
