#pragma once
// cli/open_transport.h: from the words of a command line to a Host and a Transport, or to an error in words.
#include <functional>
#include <memory>
#include <string>

#include "cli/command_error.h"
#include "cli/commands.h"
#include "ipc/host.h"

namespace cdmf::ipc::cli {

/// What a registry needs from the command line. default_level  When neither --log-level nor CDMF_LOG says otherwise.
/// throws  UsageError for a level that is none.
[[nodiscard]] RegistryOptions registry_options(const ProgramOptions& program, LogLevel default_level);

/// Reads and checks the file. throws  CommandError with every problem.
[[nodiscard]] std::unique_ptr<Host> load_host(const ProgramOptions& program, const std::string& file,
                                              LogLevel default_level);

/// The entry of that name; empty = the only one. throws  UsageError that lists the names.
[[nodiscard]] const TransportEntry& choose_entry(const Host& host, const std::string& file, const std::string& name);

/// Descriptor of the entry's plugin, which load_host() has loaded.
[[nodiscard]] const cdmf_plugin& plugin_of(Host& host, const TransportEntry& entry);

/// throws  CommandError (UNSUPPORTED) unless the transport can connect two processes.
void require_two_processes(Host& host, const TransportEntry& entry);

/// Removes what the file says about the role, so that the program's choice holds: a benchmark plays both sides.
void forget_role(const cdmf_plugin& plugin, TransportConfig& config);

/// throws  CommandError "what: CODE: text" unless the result is a success.
template <class T>
void require(const TransportResult<T>& result, const std::string& what) {
  if (!result.success()) throw CommandError(what + ": " + result.text());
}

/// Creates, starts and connects. `prepare`, when given, sets callbacks before anything can arrive.
/// throws  CommandError naming the entry.
[[nodiscard]] std::unique_ptr<Transport> open_transport(Host& host, const TransportEntry& entry, Role role,
                                                        const std::function<void(TransportConfig&)>& adjust,
                                                        const std::function<void(Transport&)>& prepare = {});

}  // namespace cdmf::ipc::cli
